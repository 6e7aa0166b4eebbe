"""What a job script asks Slurm for, from the launcher's config."""

import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize
from omegaconf import DictConfig

from hpc_hydra import _squeue as squeue
from hpc_hydra import job_script
from hpc_hydra._launch.job_script import environment, job_of
from hpc_hydra._recording import LauncherError
from hpc_hydra._site import parse_options

PLAIN = "hydra/launcher=hpc_slurm"


def composed(*overrides: str) -> DictConfig:
    with initialize(version_base="1.3", config_path=None):
        return compose("config", ["hydra.sweep.dir=/sweep", *overrides], return_hydra_config=True)


def script_of(*overrides: str) -> str:
    return job_script(composed(*overrides))


def options_of(script: str) -> dict[str, str | bool]:
    """What its directives say."""
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH ")]
    return parse_options(" ".join(line.removeprefix("#SBATCH ") for line in lines))


def srun_line(script: str) -> str:
    return script.rpartition("\nsrun ")[2]


def test_nothing_of_a_run_that_submits_reaches_its_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a run on this machine, whose place they would take for their own."""
    monkeypatch.setenv("SUBMITIT_LOCAL_GLOBALID", "1")
    assert not [name for name in environment("") if name.startswith("SUBMITIT_")]


def test_it_asks_for_what_is_configured_and_nothing_else() -> None:
    script = script_of("+setup=hpc_batch", "hydra.launcher.qos=long")
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    options = options_of(script)
    assert options.pop("output") == "/sweep/jobs/%j_0_log.out"
    assert options == {
        "job-name": "zen_app", "time": "180", "partition": "cpu", "mem": "4GB", "qos": "long",
        "nodes": "1", "ntasks-per-node": "1", "signal": "USR2@120", "open-mode": "append",
    }  # fmt: skip
    assert "=None" not in script
    assert script.index("module load python") < script.index("source ") < script.index("\nsrun ")
    assert "WANDB_MODE=offline" in script


def test_a_preset_leaves_other_choices_alone() -> None:
    config = composed(
        "model=logistic", "lr=0.5", "+setup=hpc_batch", "hydra.launcher.timeout_min=60"
    )
    assert (config.model._target_.rpartition(".")[2], config.lr) == ("logistic", 0.5)
    assert config.hydra.launcher.timeout_min == 60
    stock = composed("+setup=hpc_batch", "hydra/launcher=submitit_slurm").hydra.launcher
    assert stock._target_.startswith("hydra_plugins.hydra_submitit_launcher.")


def test_lines_can_be_left_out_and_options_moved_to_srun() -> None:
    """Some clusters reject a job whose header says how many tasks or CPUs it has."""
    script = script_of(
        PLAIN, "hydra.launcher.nodes=null", "hydra.launcher.tasks_per_node=null",
        "hydra.launcher.srun_args=['--ntasks=2','--cpus-per-task=3']",
        "+hydra.launcher.additional_parameters.signal=null",
    )  # fmt: skip
    assert set(options_of(script)) == {"job-name", "open-mode", "output", "time"}
    assert " --ntasks=2 --cpus-per-task=3 " in srun_line(script)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("nodelist=node1", "#SBATCH --nodelist=node1"),
        ("exclusive=true", "#SBATCH --exclusive"),
        ("exclusive=user", "#SBATCH --exclusive=user"),
        ("dependency='afterok:7'", "#SBATCH --dependency=afterok:7"),
        ("mail_type=END", "#SBATCH --mail-type=END"),
        ("mail_user=me@example.org", "#SBATCH --mail-user=me@example.org"),
        ("mem_gb=1.5", "#SBATCH --mem=1536MB"),
        ("mem_gb=2", "#SBATCH --mem=2GB"),
        ("exclusive=false", ""),
    ],
)
def test_fields_that_the_stock_launcher_lacks(override: str, line: str) -> None:
    plain = script_of(PLAIN).splitlines()
    script = script_of(PLAIN, f"hydra.launcher.{override}")
    assert [each for each in script.splitlines() if each not in plain] == ([line] if line else [])


def test_an_option_that_sbatch_spells_with_an_underscore() -> None:
    """Two of them, since one stands for a hyphen."""
    script = script_of(PLAIN, "+hydra.launcher.additional_parameters.gpu__cmode=shared")
    assert "#SBATCH --gpu_cmode=shared\n" in script


def test_python_and_srun_can_be_chosen() -> None:
    script = script_of(
        PLAIN, "hydra.launcher.python='container run python'", "hydra.launcher.use_srun=false"
    )
    assert "\nsrun " not in script
    assert "\ncontainer run python -u -m hpc_hydra" in script


@pytest.mark.parametrize(
    ("override", "ranks"),
    [
        ("hydra.launcher.nodes=1", 1),
        ("hydra.launcher.nodes=2", 2),
        ("hydra.launcher.tasks_per_node=3", 3),
        ("hydra.launcher.srun_args=['--ntasks=4']", 4),
        ("+hydra.launcher.additional_parameters.ntasks=5", 5),
    ],
)
@pytest.mark.parametrize("runs_per_job", [1, 8])
def test_a_rank_that_fails_ends_those_that_work_with_it(
    override: str, ranks: int, runs_per_job: int
) -> None:
    """They would wait for it. Where runs share a job, the others go on."""
    script = script_of(PLAIN, override, f"hydra.launcher.runs_per_job={runs_per_job}")
    expected = f"--kill-on-bad-exit={int(runs_per_job == 1)}"
    assert (expected in srun_line(script)) == (ranks > 1)


def test_the_first_line_can_be_chosen() -> None:
    """`module` may exist in login shells only."""
    script = script_of(PLAIN, "hydra.launcher.setup=['#!/bin/bash -l','module load python']")
    assert script.startswith("#!/bin/bash -l\n")
    assert script.count("#!") == 1
    assert "\nmodule load python\n" in script


@pytest.mark.parametrize("name", ["50%j", "a\\\\b"])
def test_a_directory_whose_name_means_something_to_sbatch_is_refused(name: str) -> None:
    """The logs would lie elsewhere."""
    with pytest.raises(LauncherError, match="choose another"):
        script_of(PLAIN, f"hydra.sweep.dir='/x/{name}'")


def test_the_stock_launchers_folder_is_taken() -> None:
    """Many configs have it, as it stands in Hydra's documentation."""
    script = script_of(PLAIN, "hydra.launcher.submitit_folder='${hydra.sweep.dir}/.submitit/%j'")
    assert options_of(script)["output"] == "/sweep/.submitit/%j_0_log.out"


def test_jobs_of_another_cluster_are_refused() -> None:
    """They would be reported as failed, and submitted again."""
    with pytest.raises(LauncherError, match="export SLURM_CLUSTERS=NAME"):
        script_of(PLAIN, "+hydra.launcher.additional_parameters.clusters=other")


@pytest.mark.parametrize("others", [["+setup=hpc_batch"], [PLAIN, "hydra.launcher.gres='gpu:1'"]])
def test_a_number_of_gpus_from_which_nothing_follows_is_refused(others: list[str]) -> None:
    """The runs would have another number of them than was typed."""
    with pytest.raises(LauncherError, match="asks for no GPUs by that number"):
        script_of(*others, "hydra.launcher.gpus=2")


@pytest.mark.parametrize("launcher", ["hpc_local", "submitit_slurm"])
def test_a_launcher_of_another_kind_writes_none(launcher: str) -> None:
    with pytest.raises(ValueError, match="Launcher writes no job script"):
        script_of(f"hydra/launcher={launcher}")


def test_a_job_of_another_sweep_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its script has the same name, in a folder that may be gone."""
    script = tmp_path / "jobs" / ".submission_0_0-1.sh"
    monkeypatch.setattr(squeue, "ask", lambda *_: f"7 {tmp_path}/gone/jobs/{script.name}\n")
    assert job_of(script) == (True, None)
