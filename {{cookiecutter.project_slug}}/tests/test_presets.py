"""Every preset of the store, a new one included, gives the job script that cluster.py asks for."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from {{ cookiecutter.__package }} import cluster, configs
from {{ cookiecutter.__package }}.hpc import sbatch
from {{ cookiecutter.__package }}.hpc.runs import LauncherError

PRESETS = [name for group, name in configs.store["setup"]]
WITHOUT_FACTS = "hydra/launcher={{ cookiecutter.__package }}_slurm"
# What the launcher asks for whatever the cluster.
ALWAYS = {"job_name", "open_mode", "output", "signal", "nodes", "ntasks_per_node", "time"}


def composed(*overrides: str) -> DictConfig:
    with initialize(version_base="1.3", config_path=None):
        return compose("config", list(overrides), return_hydra_config=True)


def executor_of(config: DictConfig) -> Any:
    context: Any = HydraContext(config_loader=None, callbacks=None)  # type: ignore[arg-type]
    launcher: Any = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=lambda _: None, config=config
    )
    return launcher._make_executor()


def job_script(config: DictConfig) -> str:
    executor = executor_of(config)
    return str(executor._make_submission_file_text(executor._submitit_command_str, "id"))


def options_of(script: str) -> dict[str, str | bool]:
    header = script.partition("\n# setup\n")[0].splitlines()
    lines = [line for line in header if line.startswith("#SBATCH ")]
    return sbatch.parse_options(" ".join(line.removeprefix("#SBATCH ") for line in lines))


@pytest.fixture
def srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit writes no job script where there is no srun."""
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


@pytest.mark.parametrize("name", PRESETS)
def test_preset(name: str, tmp_path: Path, srun: None) -> None:
    config = composed(f"+setup={name}", f"hydra.sweep.dir='{tmp_path}'")
    launcher = config.hydra.launcher
    assert config.hydra.mode is RunMode.MULTIRUN
    if "partition" not in launcher:  # a launcher without Slurm writes no script
        return

    script = job_script(config)
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    options = options_of(script)
    assert options["job_name"] == launcher.name
    assert options["time"] == str(launcher.timeout_min)
    assert options["signal"] == f"USR2@{launcher.signal_delay_s}"
    assert options["output"] == f"{tmp_path}/jobs/%j_0_log.out"
    for field in ("partition", "account", "qos", "constraint", "gres", "comment"):
        assert options.get(field) == launcher[field]
    assert "None" not in script
    assert f"WANDB_MODE={cluster.WANDB_MODE}" in script


def flat(options: dict[str, str | bool]) -> dict[str, Any]:
    """As the launcher has them, in which ``02`` is 2 and ``40G`` is ``40GB``."""
    fields = sbatch.launcher_fields(options)
    return fields.pop("additional_parameters") | fields


# The GPUs that a job gets, and its minutes.
AMOUNTS = {"hpc_gpu": (cluster.GPUS_PER_NODE, 30), "hpc_debug": (1, 5), "hpc_batch": (0, 180)}


@pytest.mark.parametrize("preset", [name for name in AMOUNTS if name in PRESETS])
def test_a_job_asks_for_what_the_cluster_wants_and_nothing_else(
    preset: str, tmp_path: Path, srun: None
) -> None:
    gpus, minutes = AMOUNTS[preset]
    facts = configs.GPU_JOB if gpus and cluster.GPUS_PER_NODE else configs.CPU_JOB
    text = sbatch.with_gpus(facts, gpus)
    wanted = {"time": str(minutes), **sbatch.parse_options(text)}
    if preset == "hpc_debug":
        wanted |= {"time": "5", **sbatch.parse_options(text, "debug")}
    script = job_script(composed(f"+setup={preset}", f"hydra.sweep.dir='{tmp_path}'"))
    options = options_of(script)
    assert set(options) <= ALWAYS | set(wanted)
    if "no_requeue" in wanted:
        del wanted["requeue"]
    asked, fields = flat(options), flat(wanted)
    assert asked.pop("timeout_min") <= fields.pop("timeout_min")
    for name, value in fields.items():
        if "$" not in str(value):
            assert asked.get(name) == value
    srun_line = script.rpartition("\nsrun ")[2]
    for argument in sbatch.srun_arguments(text):
        assert argument in srun_line or f"'{argument}'" in srun_line


def test_a_preset_leaves_other_choices_alone() -> None:
    """One that inherited the main config would reset the model and the learning rate."""
    config = composed(
        "model=logistic", "lr=0.5", "+setup=hpc_batch", "hydra.launcher.timeout_min=60"
    )
    assert config.model._target_.endswith(".logistic")
    assert config.lr == 0.5
    assert config.hydra.launcher.timeout_min == 60


def test_another_launcher_wins_over_the_preset() -> None:
    config = composed("+setup=hpc_batch", "hydra/launcher=submitit_slurm")
    assert config.hydra.launcher._target_.startswith("hydra_plugins.hydra_submitit_launcher.")


def test_lines_can_be_left_out_and_options_moved_to_srun(tmp_path: Path, srun: None) -> None:
    """Some clusters reject a job whose header says how many tasks or CPUs it has."""
    config = composed(
        WITHOUT_FACTS, f"hydra.sweep.dir='{tmp_path}'",
        "hydra.launcher.nodes=null", "hydra.launcher.tasks_per_node=null",
        "hydra.launcher.srun_args=['--ntasks=2','--cpus-per-task=3']",
        "+hydra.launcher.additional_parameters.signal=null",
    )  # fmt: skip
    script = job_script(config)
    assert set(options_of(script)) == {"job_name", "open_mode", "output", "time"}
    assert " --ntasks=2 --cpus-per-task=3 " in script.rpartition("\nsrun ")[2]


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
def test_fields_that_the_stock_launcher_lacks(
    override: str, line: str, tmp_path: Path, srun: None
) -> None:
    directory = f"hydra.sweep.dir='{tmp_path}'"
    plain = job_script(composed(WITHOUT_FACTS, directory)).splitlines()
    script = job_script(composed(WITHOUT_FACTS, directory, f"hydra.launcher.{override}"))
    assert [each for each in script.splitlines() if each not in plain] == ([line] if line else [])


def test_python_and_srun_can_be_chosen(tmp_path: Path, srun: None) -> None:
    directory = f"hydra.sweep.dir='{tmp_path}'"
    options = ("hydra.launcher.python='container run python'", "hydra.launcher.use_srun=false")
    executor = executor_of(composed(WITHOUT_FACTS, directory, *options))
    assert executor.python == "container run python"
    assert "\nsrun " not in executor._make_submission_file_text("true", "id")
    assert executor._num_tasks() == 1


@pytest.mark.parametrize(
    ("override", "ranks"),
    [
        ("hydra.launcher.nodes=2", 2),
        ("hydra.launcher.tasks_per_node=3", 3),
        ("hydra.launcher.srun_args=['--ntasks=4']", 4),
        ("+hydra.launcher.additional_parameters.ntasks=5", 5),
    ],
)
def test_ranks_that_are_waited_for(override: str, ranks: int, tmp_path: Path, srun: None) -> None:
    config = composed(WITHOUT_FACTS, f"hydra.sweep.dir='{tmp_path}'", override)
    assert executor_of(config)._num_tasks() == ranks


def test_the_first_line_of_a_job_script_can_be_chosen(tmp_path: Path, srun: None) -> None:
    """`module` may exist in login shells only."""
    lines = sbatch.setup_lines("#!/bin/bash -l\nmodule load python", "", "offline")
    config = composed(WITHOUT_FACTS, f"hydra.sweep.dir='{tmp_path}'")
    config.hydra.launcher.setup = lines
    script = job_script(config)
    assert script.startswith("#!/bin/bash -l\n")
    assert script.count("#!") == 1
    assert "\nmodule load python\n" in script


def test_a_directory_whose_name_means_something_to_sbatch_is_refused(srun: None) -> None:
    """The logs would lie elsewhere."""
    config = composed(WITHOUT_FACTS, "hydra.sweep.dir='/x/50%j'")
    with pytest.raises(LauncherError, match="choose another directory"):
        executor_of(config)
