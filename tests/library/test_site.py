import os
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from hpc_hydra import Site, SlurmConf
from hpc_hydra import _site as sbatch


def test_options_become_fields_of_the_launcher_where_it_has_them() -> None:
    """Only then does `hydra.launcher.FIELD=` go on working for what a site sets."""
    text = 'qos=normal constraint="a100&80gb" mem=40G cpus-per-task=6 time=1-12 exclusive'
    assert sbatch.launcher_fields(sbatch.parse_options(text)) == {
        "qos": "normal",
        "constraint": "a100&80gb",
        "mem_gb": 40,
        "cpus_per_task": 6,
        "timeout_min": 36 * 60,
        "exclusive": True,
        "additional_parameters": {},
    }


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("gpus-per-node=2", {"gpus_per_node": 2, "additional_parameters": {}}),
        ("gpus-per-node=a100:2", {"additional_parameters": {"gpus_per_node": "a100:2"}}),
        ("mem=4000M", {"additional_parameters": {"mem": "4000M"}}),
        ("partition= requeue=", {"partition": None, "additional_parameters": {"requeue": None}}),
        ("ntasks=4", {"tasks_per_node": None, "additional_parameters": {"ntasks": "4"}}),
    ],
)
def test_values_that_fit_no_field_are_passed_on(text: str, fields: dict[str, Any]) -> None:
    assert sbatch.launcher_fields(sbatch.parse_options(text)) == fields


def test_each_option_goes_where_its_word_says() -> None:
    text = "qos=normal srun:ntasks=1 debug:qos=dev srun:overlap --exclusive"
    assert sbatch.parse_options(text) == {"qos": "normal", "exclusive": True}
    assert sbatch.parse_options(text, "debug") == {"qos": "dev"}
    assert sbatch.srun_arguments(sbatch.parse_options(text, "srun")) == ["--ntasks=1", "--overlap"]


@pytest.mark.parametrize(
    ("time", "minutes"),
    [
        ("30", 30), ("10:00", 10), ("0:30", 1), ("1:00:00", 60), ("20:00:00", 1200),
        ("0-03:00", 180), ("1-12", 2160), ("1-12:00:00", 2160),
    ],
)  # fmt: skip
def test_time_limits(time: str, minutes: int) -> None:
    assert sbatch.minutes(time) == minutes


def test_a_wrong_time_limit_is_named() -> None:
    with pytest.raises(ValueError, match="'an hour' is no time limit"):
        sbatch.minutes("an hour")


def test_a_quotation_that_does_not_end_is_named() -> None:
    """The traceback shows a line of configs.py; what is wrong stands in cluster.py."""
    with pytest.raises(ValueError, match=r'No closing quotation in .*constraint="a100'):
        Site(__file__).slurm("partition=gpu", 'constraint="a100')


@pytest.mark.parametrize(
    ("venv", "path"),
    [
        ("/a,b/venv", "/a,b/venv"),
        ("$WORK/venv", "/w w/venv"),
        ("${WORK}2/venv", "/w w2/venv"),
        ("~/venv", "/home/me/venv"),
        ('/$(echo)`y`"\\/venv', '/$(echo)`y`"\\/venv'),
    ],
)
def test_a_job_script_names_the_venv_and_runs_nothing_of_its_path(
    venv: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORK", "/w w")
    monkeypatch.setenv("HOME", "/home/me")
    line = OmegaConf.create(Site(__file__, python=venv).setup_lines())[0]
    script = str(line).replace("source", "printf %s", 1)
    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout == (
        f"{path}/bin/activate"
    )


def test_a_repository_whose_own_path_looks_like_a_variable(tmp_path: Path) -> None:
    """It is no answer, so nothing in it stands for anything."""
    repository = tmp_path / "a$HOME b"
    repository.mkdir()
    (repository / "pyproject.toml").touch()
    site = Site(f"{repository}/src/package/configs.py", python=".venv")
    assert OmegaConf.create([site.path("outputs")])[0] == f"{repository}/outputs"
    script = str(OmegaConf.create(site.setup_lines())[0]).replace("source", "printf %s", 1)
    printed = subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout
    assert printed == f"{repository}/.venv/bin/activate"


def test_a_venv_below_an_unset_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORK", raising=False)
    lines = OmegaConf.create(Site(__file__, python="$WORK/venv").setup_lines())
    with pytest.raises(InterpolationResolutionError, match="WORK"):
        print(lines[0])


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("", ["python3"]),
        (".venv", ["{repository}/.venv/bin/python"]),
        ("python3.12", ["python3.12"]),
        ("$WORK/bin/python", ["/work/bin/python"]),
        ("apptainer exec --nv $WORK/x.sif python", ["apptainer", "exec", "--nv", "/work/x.sif", "python"]),
        ("./select_gpu .venv/bin/python -u", ["{repository}/select_gpu", "{repository}/.venv/bin/python", "-u"]),
        ("../select ./a,b python", ["{repository}/../select", "./a,b", "python"]),
        ("bash -c 'source ./e.sh; exec python \"$@\"' bash", ["bash", "-c", 'source ./e.sh; exec python "$@"', "bash"]),
    ],
)  # fmt: skip
def test_what_starts_python(
    python: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container or a wrapper is a command; the Python that submits is never meant."""
    repository = tmp_path / "a b"
    repository.mkdir()
    (repository / "pyproject.toml").touch()
    monkeypatch.setenv("WORK", "/work")
    site = Site(f"{repository}/configs.py", python=python)
    command = str(OmegaConf.create([site.slurm().python])[0])
    assert shlex.split(command) == [word.format(repository=repository) for word in words]
    activated = [line for line in site.setup_lines() if line.startswith("source ")]
    assert len(activated) == (python == ".venv")


def test_shell_commands_reach_the_job_through_hydra_unchanged() -> None:
    """Hydra evaluates ``${`` itself, wherever it finds it."""
    commands = """module() { echo "loaded $1"; }; module ${NAME}/3; echo 'it'"'"'s \\${NAME}'"""
    lines = OmegaConf.create({"setup": Site(__file__, commands).setup_lines()})
    evaluated = OmegaConf.to_container(OmegaConf.create({"setup": list(lines.setup)}), resolve=True)
    assert isinstance(evaluated, dict)
    environment = {"NAME": "python"}

    def output(script: str) -> str:
        return subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True
        ).stdout

    assert output(evaluated["setup"][0]) == output(commands) == "loaded python/3\nit's \\${NAME}\n"


@pytest.mark.parametrize(
    ("own", "printed"), [({}, "offline"), ({"WANDB_MODE": "online"}, "online")]
)
def test_strict_shell_commands_fail_no_job(own: dict[str, str], printed: str) -> None:
    """`set -euo pipefail` is how careful people begin a script. What they export themselves stays."""
    site = Site(__file__, "set -euo pipefail", environment={"WANDB_MODE": "offline"})
    script = "\n".join([*site.setup_lines(), "echo $WANDB_MODE"])
    environment = {"PATH": os.environ["PATH"], **own}
    ended = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, f"{printed}\n"), ended.stderr


def resolved(launcher: SlurmConf, **overrides: Any) -> Any:
    """The fields of a launcher as the job script has them, after ``hydra.launcher.NAME=`` of the command line."""
    config = OmegaConf.create({"hydra": {"launcher": OmegaConf.structured(launcher)}})
    config.hydra.launcher.update({"submitit_folder": "", "name": "", **overrides})
    return SimpleNamespace(**OmegaConf.to_container(config.hydra.launcher, resolve=True))  # type: ignore[arg-type]


def test_facts_become_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORK", "project")
    facts = "account=lab gres=gpu:{n} cpus-per-task={8n} debug:qos=dev requeue srun:overlap"
    site = Site(__file__, "#!/bin/bash -l\nmodule load python")
    whole = resolved(site.slurm("time=30", facts, "account=$WORK", gpus=4, max_num_timeout=20))
    assert (whole.timeout_min, whole.gres, whole.cpus_per_task) == (30, "gpu:4", 32)
    assert (whole.account, whole.max_num_timeout) == ("project", 20)
    assert (whole.srun_args, whole.runs_per_job, whole.qos) == (["--overlap"], 1, None)
    assert whole.setup[:2] == ["#!/bin/bash -l", "module load python"]
    packed = resolved(site.slurm(facts, gpus=4, pack=True))
    assert (packed.runs_per_job, packed.tasks_per_node, packed.cpus_per_task) == (4, 4, 8)
    assert packed.gres == "gpu:4"
    debug = resolved(site.slurm("no-requeue", facts, gpus=1, debug=True))
    assert debug.qos == "dev"
    assert debug.additional_parameters == {"no_requeue": True}


@pytest.mark.parametrize("resource", ["cpus-per-task={10n}", "gpus-per-task={n}"])
def test_what_is_for_each_task_is_shared_out(resource: str) -> None:
    """Four tasks of a job with four GPUs do not want 160 CPUs."""
    launcher = Site(__file__).slurm(f"gres=gpu:{{n}} mem={{60n}}G {resource}", gpus=4)
    field = resource.partition("=")[0].replace("-", "_")
    each = 10 if "10" in resource else 1
    for overrides, number in (
        ({}, 4),
        ({"gpus": 2}, 2),
        ({"tasks_per_node": 4}, 1),
        ({"tasks_per_node": None}, 4),
        ({"tasks_per_node": 3}, 4 / 3),
        ({"tasks_per_node": 1000}, 1 / each),  # one at least
    ):
        job = resolved(launcher, **overrides)
        assert vars(job)[field] == int(each * number), overrides
        assert (job.gres, job.mem_gb) == (f"gpu:{job.gpus}", 60 * job.gpus)


@pytest.mark.parametrize(
    ("options", "cpus"), [("cpus-per-task=40", 10), ("cpus-per-task=8 ntasks-per-node=4", 8)]
)
def test_a_rank_for_each_gpu_has_its_share_of_the_cpus(options: str, cpus: int) -> None:
    """That four ranks ask for 160 CPUs Slurm refuses, unless the example was for each rank."""
    launcher = resolved(
        Site(__file__).slurm(f"gres=gpu:{{n}} {options}", gpus=4, rank_per_gpu=True)
    )
    assert (launcher.tasks_per_node, launcher.cpus_per_task) == (4, cpus)
    assert (launcher.runs_per_job, launcher.gres) == (1, "gpu:4")


def test_what_the_site_wrote_as_a_number_stays() -> None:
    job = resolved(Site(__file__).slurm("gres=gpu:{n} cpus-per-task=8", gpus=4), tasks_per_node=4)
    assert job.cpus_per_task == 8


@pytest.mark.parametrize(
    ("options", "gpus"), [("gres=gpu:a100:{n}", 1), ("gres=gpu:4", None), ("mem=4G", None)]
)
def test_a_request_with_no_number_of_gpus_is_for_one(options: str, gpus: int | None) -> None:
    """`slurm(GPU_JOB, "time=600")` of a new preset must not ask for `gpu:a100:0`."""
    job = resolved(Site(__file__).slurm(options))
    assert job.gpus == gpus
    assert job.gres in ("gpu:a100:1", "gpu:4", None)


@pytest.mark.parametrize("debug", ["", "debug:nodes=2"])
def test_nodes_of_a_sites_example_stay_out_of_jobs_on_one_node(debug: str) -> None:
    """`nodes=16` is easily copied with the rest of the example."""
    facts = f"gres=gpu:{{n}} nodes=16 {debug}"
    site = Site(__file__)
    assert site.slurm(facts, gpus=4).nodes == 16
    assert site.slurm(facts, one_node=True).nodes == 1
    assert site.slurm(facts, gpus=4, pack=True).nodes == 1
    assert site.slurm(facts, debug=True).nodes == (2 if debug else 1)
    assert site.slurm("gres=gpu:{n} nodes=", debug=True).nodes is None


@pytest.mark.parametrize(
    ("options", "pack", "ranks", "header", "on_srun"),
    [
        ("", True, 4, {}, []),
        ("ntasks-per-node=", True, 4, {"ntasks": 4, "ntasks_per_node": None}, []),
        ("nodes= ntasks-per-node= srun:ntasks=1", True, 4, {"ntasks_per_node": None}, ["--ntasks=4"]),
        ("srun:ntasks=1", True, 4, {}, ["--ntasks=4"]),
        ("ntasks=72", True, 4, {"ntasks": 4, "ntasks_per_node": None}, []),
        ("ntasks-per-gpu=1", True, 4, {"ntasks_per_gpu": "1", "ntasks_per_node": None}, ["--ntasks=4"]),
        ("ntasks-per-gpu=1", False, 4, {"ntasks_per_gpu": "1", "ntasks_per_node": None}, ["--ntasks=4"]),
        ("ntasks-per-gpu=2 nodes=3", False, 8, {"ntasks_per_gpu": "2", "ntasks_per_node": None}, ["--ntasks=24"]),
        ("ntasks-per-node={n}", False, 4, {}, []),
    ],
)  # fmt: skip
def test_ranks_are_counted_where_the_site_wants_no_line_for_them(
    options: str, pack: bool, ranks: int, header: dict[str, Any], on_srun: list[str]
) -> None:
    """sbatch refuses `ntasks-per-node` beside `ntasks-per-gpu`, and some sites always."""
    job = resolved(Site(__file__).slurm("gres=gpu:{n}", options, gpus=4, pack=pack))
    assert (job.tasks_per_node, job.runs_per_job) == (ranks, 4 if pack else 1)
    assert (job.additional_parameters, job.srun_args) == (header, on_srun)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ("", 5), ("time=3", 3), ("time=0", 5), ("time=1-0", 5), ("time=", 5),
        ("debug:time=20", 20), ("time=3 debug:time=1:0:0", 60),
    ],
)  # fmt: skip
def test_the_time_of_a_debug_job(options: str, limit: int) -> None:
    """`debug:time=` above five minutes was silently five minutes."""
    assert Site(__file__).slurm(options, debug=True).timeout_min == limit


def test_an_option_of_srun_for_debug_jobs() -> None:
    site = Site(__file__)
    assert site.slurm("srun:overlap debug:srun:label").srun_args == ["--overlap"]
    assert site.slurm("srun:overlap debug:srun:label", debug=True).srun_args == [
        "--overlap", "--label"
    ]  # fmt: skip


def test_an_option_that_sbatch_spells_with_underscores() -> None:
    """Names of plugins' options may; two underscores stand for one of sbatch's own."""
    launcher = Site(__file__).slurm(
        "gpu_cmode=shared gpu-bind=none srun:my_option=1 cpus_per_task=2"
    )
    assert launcher.additional_parameters == {"gpu__cmode": "shared", "gpu_bind": "none"}
    assert (launcher.srun_args, launcher.cpus_per_task) == (["--my_option=1"], 2)


def test_another_type_of_gpu_has_no_place_for_options_of_srun() -> None:
    with pytest.raises(ValueError, match="srun:label: a type of GPU has options of sbatch only"):
        Site(__file__).gpu_type(8, "gres=gpu:v100:{n} srun:label", "gres=gpu:{n}")


@pytest.mark.parametrize(
    ("options", "gpus", "loaded"),
    [
        ("gres=gpu:{n}", None, "cuda"), ("gpus=2", None, "cuda"), ("gres=gpu:a100:1", None, "cuda"),
        ("exclusive", 4, "cuda"), ("mem=4G gres=tmpdisk:10", None, "gcc"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_commands_for_one_kind_of_job(
    options: str, gpus: int | None, loaded: str, shell: str
) -> None:
    commands = "#!/bin/bash -l\nset -eu; on_gpu echo cuda\non_cpu echo gcc; on_gpu export A=a"
    setup = Site(__file__, commands).slurm(options, gpus=gpus).setup or []
    assert setup[0] == "#!/bin/bash -l"
    script = "\n".join([*setup, 'echo "${A:-}"'])
    printed = subprocess.run([shell, "-c", script], capture_output=True, text=True).stdout
    assert printed == f"{loaded}\n{'a' if loaded == 'cuda' else ''}\n"


def test_no_functions_where_none_is_used() -> None:
    assert "on_gpu" not in str(Site(__file__, "module load python").setup_lines())
