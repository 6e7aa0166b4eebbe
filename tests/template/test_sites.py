"""The answers files of public clusters, and what each of these asks of a job and forbids."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import JobScripts
from running import LIGHT, TEMPLATE, cookiecutter
from test_generation import facts

SITES = TEMPLATE / "tests" / "sites"
# What the launcher writes for any cluster.
OWN = {"--job-name", "--open-mode", "--output", "--requeue", "--signal"}
DIRECTIVES = {
    "alex": {
        "hpc_gpu": "--partition=a100 --gres=gpu:a100:8 --nodes=1 --ntasks-per-node=1 --time=1440 --export=NONE",
        "hpc_debug": "--partition=a100 --gres=gpu:a100:1 --nodes=1 --ntasks-per-node=1 --time=5 --export=NONE",
        "hpc_batch": "--nodes=1 --ntasks-per-node=1 --time=180 --export=NONE",
    },
    "archer2": {
        "hpc_gpu": "--partition=gpu --qos=gpu-shd --account=z01 --gpus=4 --time=20",
        "hpc_debug": "--partition=gpu --qos=gpu-shd --account=z01 --gpus=1 --time=5",
        "hpc_batch": "--partition=standard --qos=standard --account=z01 --nodes=1 --ntasks-per-node=1 --time=180",
    },
    "jean-zay": {
        "hpc_gpu": "--account=xyz@v100 --qos=qos_gpu-t3 -C v100-32g --nodes=1 --ntasks-per-node=1 --gres=gpu:4 --cpus-per-task=40 --hint=nomultithread --time=1200",
        "hpc_debug": "--account=xyz@v100 --qos=qos_gpu-dev -C v100-32g --nodes=1 --ntasks-per-node=1 --gres=gpu:1 --cpus-per-task=10 --hint=nomultithread --time=5",
        "hpc_batch": "--account=xyz@cpu --nodes=1 --ntasks-per-node=1 --hint=nomultithread --time=180",
    },
    "leonardo": {
        "hpc_gpu": "--partition=boost_usr_prod --account=myproject --nodes=1 --ntasks-per-node=4 --cpus-per-task=8 --gpus-per-node=4 --gres=gpu:4 --mem=494000 --time=120",
        "hpc_debug": "--partition=boost_usr_prod --account=myproject --qos=boost_qos_dbg --nodes=1 --ntasks-per-node=1 --cpus-per-task=8 --gpus-per-node=1 --gres=gpu:1 --mem=494000 --time=5",
        "hpc_batch": "--partition=dcgp_usr_prod --account=myproject_dcgp --nodes=1 --ntasks-per-node=1 --time=180",
    },
    "lumi": {
        "hpc_gpu": "--partition=standard-g --account=project_465000000 --nodes=1 --ntasks-per-node=8 --gpus-per-node=8 --time=2160",
        "hpc_debug": "--partition=standard-g --account=project_465000000 --nodes=1 --ntasks-per-node=1 --gpus-per-node=1 --time=5",
        "hpc_batch": "--partition=standard --account=project_465000000 --nodes=1 --ntasks-per-node=1 --time=180",
    },
    "mila": {
        "hpc_gpu": "--partition=unkillable --nodes=1 --ntasks-per-node=1 --cpus-per-task=2 --gres=gpu:48gb:1 -C 'dgx&ampere' --mem=10GB --time=180",
        "hpc_debug": "--partition=unkillable --nodes=1 --ntasks-per-node=1 --cpus-per-task=2 --gres=gpu:48gb:1 -C 'dgx&ampere' --mem=10GB --time=5",
        "hpc_batch": "--partition=long-cpu --nodes=1 --ntasks=1 --mem=100Gb --time=10",
    },
    "narval": {
        "hpc_gpu": "--account=def-someuser-gpu --gpus-per-node=a100:4 --nodes=1 --ntasks-per-node=1 --cpus-per-task=24 --mem=16000M --time=180",
        "hpc_debug": "--account=def-someuser-gpu --gpus-per-node=a100:1 --nodes=1 --ntasks-per-node=1 --cpus-per-task=6 --mem=4000M --time=5",
        "hpc_batch": "--account=def-someuser-cpu --nodes=1 --ntasks-per-node=1 --time=15",
    },
    "narval-mig": {
        "hpc_gpu": "--account=def-someuser --gpus-per-node=a100_1g.5gb:1 --nodes=1 --ntasks-per-node=1 --cpus-per-task=1 --mem=15GB --time=180",
        "hpc_debug": "--account=def-someuser --gpus-per-node=a100_1g.5gb:1 --nodes=1 --ntasks-per-node=1 --cpus-per-task=1 --mem=15GB --time=5",
        "hpc_batch": "--account=def-someuser --nodes=1 --ntasks-per-node=1 --mem-per-cpu=1G --time=15",
    },
    "nyu": {
        "hpc_gpu": "--nodes=1 --ntasks-per-node=1 --cpus-per-task=1 --mem=8GB --gres=gpu:1 --time=5",
        "hpc_debug": "--nodes=1 --ntasks-per-node=1 --cpus-per-task=1 --mem=8GB --gres=gpu:1 --time=5",
        "hpc_batch": "--nodes=1 --ntasks-per-node=1 --mem=8GB --time=180",
    },
    "perlmutter": {
        "hpc_gpu": "-A m1234_g -q regular -C 'gpu&hbm80g' --nodes=1 --ntasks-per-node=4 --gpus-per-node=4 --gpu-bind=none --exclusive --time=10",
        "hpc_debug": "-A m1234_g -q debug -C 'gpu&hbm80g' --nodes=1 --ntasks-per-node=1 --gpus-per-node=1 --gpu-bind=none --exclusive --time=5",
        "hpc_batch": "-A m1234 -q regular -C cpu --nodes=1 --ntasks-per-node=1 --exclusive --time=180",
    },
    "puhti": {
        "hpc_gpu": "--partition=gpu --account=project_2000000 --nodes=1 --ntasks-per-node=1 --cpus-per-task=40 --mem=320GB --gres=gpu:v100:4 --time=60",
        "hpc_debug": "--partition=gpu --account=project_2000000 --nodes=1 --ntasks-per-node=1 --cpus-per-task=10 --mem=80GB --gres=gpu:v100:1 --time=5",
        "hpc_batch": "--partition=small --account=project_2000000 --nodes=1 --ntasks-per-node=1 --time=180",
    },
}  # fmt: skip
# What srun starts, where that is no virtual environment's Python.
STARTED = {
    "lumi": ["{repository}/select_gpu", "{repository}/.venv/bin/python"],
    "nyu": [
        "singularity", "exec", "--nv", "--overlay", "/scratch/me/pytorch-example/my_pytorch.ext3:ro",
        "/share/apps/images/cuda12.1.1-cudnn8.9.0-devel-ubuntu22.04.2.sif",
        "/bin/bash", "-c", 'source /ext3/env.sh; exec python "$@"', "bash",
    ],
    "puhti": ["python3"],
}  # fmt: skip
LONG = {"-A ": "--account=", "-C ": "--constraint=", "-q ": "--qos="}


def header(script: str) -> set[str]:
    """The directives of a job script, those apart that the launcher writes for any cluster."""
    lines = (line for line in script.splitlines() if line.startswith("#SBATCH "))
    directives = {" ".join(shlex.split(line)[1:]) for line in lines}
    return {each for each in directives if each.partition("=")[0] not in OWN}


def directives(text: str) -> set[str]:
    """Of a command line."""
    for short, long in LONG.items():
        text = text.replace(short, long)
    return set(shlex.split(text))


@pytest.mark.parametrize("site", sorted(path.stem for path in SITES.iterdir()))
def test_site(site: str, tmp_path: Path, job_scripts: JobScripts) -> None:
    done = cookiecutter("--no-input", "--config-file", SITES / f"{site}.yaml", LIGHT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scripts = job_scripts(tmp_path / "hpc-experiment")
    headers = {name: header(script) for name, script in scripts.items()}
    packed, one = headers.pop("hpc_gpu_packed"), headers.pop("hpc_gpu_one")
    ranks = headers.pop("hpc_gpu_ranks")
    assert headers == {name: directives(text) for name, text in DIRECTIVES[site].items()}
    # A rank for each GPU, and for each rank what a job of one GPU has.
    gpus = facts(tmp_path / "hpc-experiment")["GPUS_PER_NODE"]
    per_rank = {each for each in headers["hpc_debug"] if each.startswith("--cpus-per-task=")}
    if site == "archer2":
        assert f" --ntasks={gpus} --cpus-per-task=1 " in scripts["hpc_gpu_packed"]
    else:
        per_rank.add(f"--ntasks-per-node={gpus}")
    # One GPU has what a debug job has, in the queue and for the time of the others.
    queue = ("--time=", "--qos=")
    assert one == {
        *(each for each in headers["hpc_debug"] if not each.startswith(queue)),
        *(each for each in headers["hpc_gpu"] if each.startswith(queue)),
    }
    own = ("--ntasks-per-node=", "--cpus-per-task=")
    assert packed == per_rank | {each for each in headers["hpc_gpu"] if not each.startswith(own)}
    assert ranks == packed  # of which one run has all
    srun = scripts["hpc_gpu"].rpartition("\nsrun ")[2]
    if site in STARTED:
        repository = str(tmp_path / "hpc-experiment")
        words = [word.format(repository=repository) for word in STARTED[site]]
        assert f" {shlex.join(words)} -u -m " in f" {shlex.join(shlex.split(srun))}"
        assert "/activate" not in scripts["hpc_gpu"]
    if site == "archer2":
        assert " --ntasks=1 --cpus-per-task=1 " in srun
    if site == "alex":
        first, rest = scripts["hpc_gpu"].split("\n", 1)
        assert first == "#!/bin/bash -l"
        assert "\nunset SLURM_EXPORT_ENV\nmodule load python\n" in rest


def test_a_cluster_without_gpus(tmp_path: Path, job_scripts: JobScripts) -> None:
    done = cookiecutter("--no-input", LIGHT, "gpus_per_node=0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scripts = job_scripts(tmp_path / "hpc-experiment")
    assert {name: header(script) for name, script in scripts.items()} == {
        "hpc_batch": directives("--partition=cpu --nodes=1 --ntasks-per-node=1 --time=180"),
        "hpc_debug": directives("--partition=cpu --nodes=1 --ntasks-per-node=1 --time=5"),
    }
    readme = (tmp_path / "hpc-experiment" / "README.md").read_text()
    assert "hpc_gpu" not in readme and "GPU" not in readme
    assert "python -m hpc_experiment +setup=hpc_batch model=mlp" in readme


def test_the_examples_worked_out_in_the_docs(tmp_path: Path, job_scripts: JobScripts) -> None:
    """The answers on the right give the script on the left."""
    text = (TEMPLATE / "docs" / "questions-and-sites.md").read_text()
    pairs = re.findall(r"```bash\n(#SBATCH.*?)```.*?```yaml\n(.*?)```", text, re.DOTALL)
    assert len(pairs) == 2
    for number, (script, answers) in enumerate(pairs):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "site.yaml").write_text(answers)
        done = cookiecutter(
            "--no-input", "--config-file", "site.yaml", LIGHT, "gpus_per_node=1", cwd=folder
        )
        assert done.returncode == 0, done.stderr
        ours = job_scripts(folder / "hpc-experiment")["hpc_gpu"]
        (time,) = re.findall(r"--time=(\d+):(\d+):00\n", script)
        ours = ours.replace(
            f"--time={int(time[0]) * 60 + int(time[1])}\n", f"--time={':'.join(time)}:00\n"
        )
        assert header(ours) == header(script)
        commands = [line for line in script.splitlines() if line.startswith("module ")]
        assert "; ".join(commands) in ours.splitlines()
