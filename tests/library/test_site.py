import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from hpc_hydra import Site
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
    assert sbatch.srun_arguments(text) == ["--ntasks=1", "--overlap"]


def test_resources_that_go_with_the_number_of_gpus() -> None:
    text = "gres=gpu:a100_1g.5gb:{n} cpus-per-task={10n}"
    assert sbatch.with_gpus(text, 4) == "gres=gpu:a100_1g.5gb:4 cpus-per-task=40"


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


@pytest.mark.parametrize(
    ("venv", "path"),
    [
        ("/a b/venv", "/a b/venv"),
        ("$WORK/venv", "/w w/venv"),
        ("${WORK}2/venv", "/w w2/venv"),
        ("~/venv", "/home/me/venv"),
        ('/$(echo x)`echo y`"\\/venv', '/$(echo x)`echo y`"\\/venv'),
    ],
)
def test_a_job_script_names_the_venv_and_runs_nothing_of_its_path(
    venv: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORK", "/w w")
    monkeypatch.setenv("HOME", "/home/me")
    line = OmegaConf.create(Site(__file__, venv_path=venv).setup_lines())[0]
    script = str(line).replace("source", "printf %s", 1)
    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout == (
        f"{path}/bin/activate"
    )


def test_a_repository_whose_own_path_looks_like_a_variable(tmp_path: Path) -> None:
    """It is no answer, so nothing in it stands for anything."""
    repository = tmp_path / "a$HOME b"
    repository.mkdir()
    (repository / "pyproject.toml").touch()
    site = Site(f"{repository}/src/package/configs.py", venv_path=".venv")
    assert OmegaConf.create([site.path("outputs")])[0] == f"{repository}/outputs"
    script = str(OmegaConf.create(site.setup_lines())[0]).replace("source", "printf %s", 1)
    printed = subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout
    assert printed == f"{repository}/.venv/bin/activate"


def test_a_venv_below_an_unset_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORK", raising=False)
    lines = OmegaConf.create(Site(__file__, venv_path="$WORK/venv").setup_lines())
    with pytest.raises(InterpolationResolutionError, match="WORK"):
        print(lines[0])


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


def test_facts_become_a_launcher() -> None:
    facts = "account=lab gres=gpu:{n} cpus-per-task={8n} debug:qos=dev requeue srun:overlap"
    site = Site(__file__, "#!/bin/bash -l\nmodule load python")
    whole = site.slurm("time=30", facts, "account=$WORK", gpus=4, max_num_timeout=20)
    assert (whole.timeout_min, whole.gres, whole.cpus_per_task) == (30, "gpu:4", 32)
    assert (whole.account, whole.max_num_timeout) == ("${oc.env:WORK}", 20)
    assert (whole.srun_args, whole.runs_per_job, whole.qos) == (["--overlap"], 1, None)
    assert whole.setup is not None and whole.setup[:2] == ["#!/bin/bash -l", "module load python"]
    packed = site.slurm(facts, gpus=4, pack=True)
    assert (packed.runs_per_job, packed.tasks_per_node, packed.cpus_per_task) == (4, 4, 8)
    assert packed.gres == "gpu:4"
    debug = site.slurm("no-requeue", facts, gpus=1, debug=True)
    assert debug.qos == "dev"
    assert debug.additional_parameters == {"no_requeue": True}
