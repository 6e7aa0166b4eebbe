"""What a generated repository asks for when the command line names a number or a type of GPUs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import JobScripts
from running import LIGHT, cookiecutter, environment
from test_generation import DEFAULTS, PROJECT
from test_sites import directives, header

ANSWERS = {
    "gpu_request": "gres=gpu:a100:{n} cpus-per-task={10n} mem={60n}G",
    "gpu_sbatch": "nodes=16 hint=nomultithread debug:time=20",
}
TYPES = {
    "v100": [8, "partition=volta gpus-per-node=v100:{n} cpus-per-task={5n} mem=4000M"],
    "a100_1g.5gb": [7, "gres=gpu:a100_1g.5gb:{n}"],
    "a100": [4, "partition=big gres=gpu:a100:{n}"],  # the usual one
}
PROGRAM = """
import json, sys
from hydra import compose, initialize
from hpc_hydra import job_script
from hpc_experiment import configs
configs.store.add_to_hydra_store()
with initialize(version_base="1.3", config_path=None):
    print(json.dumps([
        job_script(compose("config", line.split(), return_hydra_config=True)) for line in sys.argv[1:]
    ]))
"""
# Of command lines, and of the number of ranks, what the job scripts ask for.
ASKED = {
    "+setup=hpc_gpu": "--partition=gpu --gres=gpu:a100:4 --cpus-per-task=40 --mem=240GB --nodes=16 --ntasks-per-node=1 --time=30",
    "+setup=hpc_gpu hydra.launcher.gpus=1": "--partition=gpu --gres=gpu:a100:1 --cpus-per-task=10 --mem=60GB --nodes=16 --ntasks-per-node=1 --time=30",
    "+setup=hpc_gpu hydra.launcher.tasks_per_node=4": "--partition=gpu --gres=gpu:a100:4 --cpus-per-task=10 --mem=240GB --nodes=16 --ntasks-per-node=4 --time=30",
    "+setup=hpc_gpu_one": "--partition=gpu --gres=gpu:a100:1 --cpus-per-task=10 --mem=60GB --nodes=1 --ntasks-per-node=1 --time=30",
    "+setup=hpc_gpu_one hydra.launcher.gpus=2": "--partition=gpu --gres=gpu:a100:2 --cpus-per-task=20 --mem=120GB --nodes=1 --ntasks-per-node=1 --time=30",
    "+setup=hpc_gpu_packed": "--partition=gpu --gres=gpu:a100:4 --cpus-per-task=10 --mem=240GB --nodes=1 --ntasks-per-node=4 --time=30",
    "+setup=hpc_gpu_packed hydra.launcher.gpus=3": "--partition=gpu --gres=gpu:a100:3 --cpus-per-task=10 --mem=180GB --nodes=1 --ntasks-per-node=3 --time=30",
    "+setup=hpc_debug": "--partition=gpu --gres=gpu:a100:1 --cpus-per-task=10 --mem=60GB --nodes=1 --ntasks-per-node=1 --time=20",
    "+setup=hpc_gpu +gpu=v100": "--partition=volta --gpus-per-node=v100:8 --cpus-per-task=40 --mem=4000M --nodes=16 --ntasks-per-node=1 --time=30",
    "+gpu=v100 +setup=hpc_gpu": "--partition=volta --gpus-per-node=v100:8 --cpus-per-task=40 --mem=4000M --nodes=16 --ntasks-per-node=1 --time=30",
    "+setup=hpc_gpu_one +gpu=v100": "--partition=volta --gpus-per-node=v100:1 --cpus-per-task=5 --mem=4000M --nodes=1 --ntasks-per-node=1 --time=30",
    "+setup=hpc_gpu_packed +gpu=v100": "--partition=volta --gpus-per-node=v100:8 --cpus-per-task=5 --mem=4000M --nodes=1 --ntasks-per-node=8 --time=30",
    "+gpu=a100_1g.5gb +setup=hpc_gpu_packed": "--partition=gpu --gres=gpu:a100_1g.5gb:7 --nodes=1 --ntasks-per-node=7 --time=30",
    "+setup=hpc_debug +gpu=v100": "--partition=volta --gpus-per-node=v100:1 --cpus-per-task=5 --mem=4000M --nodes=1 --ntasks-per-node=1 --time=20",
}  # fmt: skip


def generated(folder: Path, **answers: object) -> Path:
    """With private variables among the answers, as only a file of them can have."""
    context = {**DEFAULTS, "__package": "hpc_experiment", "create_venv": "no", **answers}
    (folder / "replay.json").write_text(json.dumps({"cookiecutter": context}))
    done = cookiecutter("--replay-file", folder / "replay.json", LIGHT, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / PROJECT


def python(repository: Path, *arguments: str) -> str:
    """What Python prints that has the repository's package on its path."""
    return subprocess.check_output(
        [sys.executable, *arguments],
        cwd=repository,
        env=environment({"PYTHONPATH": str(repository / "src")}),
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated(tmp_path_factory.mktemp("gpus"), **ANSWERS, _gpu_types=TYPES)


def test_what_is_asked_for_follows_the_number_and_the_type(repository: Path) -> None:
    scripts = json.loads(python(repository, "-c", PROGRAM, *ASKED))
    asked = {line: header(script) for line, script in zip(ASKED, scripts, strict=True)}
    common = {"--hint=nomultithread"}
    assert asked == {line: directives(text) | common for line, text in ASKED.items()}


def test_the_result_can_be_looked_at(repository: Path) -> None:
    """As the README says."""
    words = "-m hpc_experiment +setup=hpc_gpu_one hydra.launcher.gpus=2 --cfg all -p hydra.launcher"
    printed = python(repository, *words.split(), "--resolve").splitlines()
    assert {"gres: gpu:a100:2", "cpus_per_task: 20", "mem_gb: 120.0"} <= {*printed}


def test_types_are_listed_but_for_the_usual_one(repository: Path) -> None:
    lines = python(repository, "-m", "hpc_experiment", "--help").splitlines()
    assert "gpu: a100_1g.5gb, v100" in lines


def test_a_type_of_gpu_for_a_job_without_gpus_is_refused(repository: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        python(repository, "-c", PROGRAM, "+setup=hpc_batch +gpu=v100")
    assert "choose a launcher that asks for some" in refused.value.stderr


def test_ranks_that_slurm_counts_by_the_gpus(tmp_path: Path) -> None:
    """sbatch refuses `ntasks-per-node` beside `ntasks-per-gpu`; the launcher has to know the ranks anyway."""
    repository = generated(tmp_path, gpu_request="gres=gpu:{n} ntasks-per-gpu=1")
    one, whole, packed = json.loads(
        python(repository, "-c", PROGRAM, "+setup=hpc_gpu_one", "+setup=hpc_gpu", "+setup=hpc_gpu_packed")
    )  # fmt: skip
    for script, ranks in ((one, 1), (whole, 4), (packed, 4)):
        assert "--ntasks-per-gpu=1" in header(script)
        assert "--ntasks-per-node" not in script
        assert f" --ntasks={ranks} " in script.rpartition("\nsrun ")[2]


def test_gpus_that_need_no_request(job_scripts: JobScripts, tmp_path: Path) -> None:
    """Where a partition has them in any case: the ranks are still as many as a node has of them."""
    scripts = job_scripts(generated(tmp_path, gpu_request=""))
    assert "--ntasks-per-node=4" in header(scripts["hpc_gpu_ranks"])
    assert "gpu:" not in scripts["hpc_gpu"]
