"""Every preset of the store, a new one included, gives the job script that it says it does."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from {{ cookiecutter.__package }} import cluster, configs
from {{ cookiecutter.__package }}.hpc.sbatch import parse_options

SITE = cluster.GPU_SBATCH + cluster.CPU_SBATCH
PRESETS = [name for group, name in configs.store["setup"]]


def composed(*overrides: str) -> DictConfig:
    with initialize(version_base="1.3", config_path=None):
        return compose("config", list(overrides), return_hydra_config=True)


def job_script(config: DictConfig) -> str:
    context: Any = HydraContext(config_loader=None, callbacks=None)  # type: ignore[arg-type]
    launcher: Any = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=lambda _: None, config=config
    )
    executor = launcher._make_executor()._executor
    return str(executor._make_submission_file_text(executor._submitit_command_str, "id"))


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
    options = parse_options(
        " ".join(line.removeprefix("#SBATCH ") for line in script.splitlines() if "#SBATCH" in line)
    )
    assert options["job_name"] == launcher.name
    assert options["time"] == str(launcher.timeout_min)
    assert options["signal"] == f"USR2@{launcher.signal_delay_s}"
    assert "requeue" in options or "no_requeue" in options
    assert options["output"] == f"{tmp_path}/jobs/%j_0_log.out"
    for field in ("partition", "account", "qos", "constraint", "gres", "comment"):
        assert options.get(field) == launcher[field]
    assert launcher.account == (cluster.ACCOUNT or None) or "account" in SITE
    assert "None" not in script
    assert f"WANDB_MODE={cluster.WANDB_MODE}" in script


@pytest.mark.parametrize(
    ("preset", "gpus", "minutes", "partition"),
    [
        ("hpc_gpu", cluster.GPUS_PER_NODE, 30, cluster.GPU_PARTITION),
        ("hpc_debug", 1, 5, cluster.GPU_PARTITION),
        ("hpc_batch", 0, 180, cluster.CPU_PARTITION),
    ],
)
def test_what_a_preset_asks_for(
    preset: str, gpus: int, minutes: int, partition: str, tmp_path: Path, srun: None
) -> None:
    script = job_script(composed(f"+setup={preset}", f"hydra.sweep.dir='{tmp_path}'"))
    options = parse_options(" ".join(line[8:] for line in script.splitlines() if "#SBATCH" in line))
    site = parse_options(cluster.GPU_SBATCH if gpus else cluster.CPU_SBATCH)
    if "time" not in site or preset == "hpc_debug":
        assert options["time"] == str(minutes)
    assert options.get("partition", "") == site.get("partition", partition)
    request = parse_options(cluster.GPU_REQUEST.replace("{n}", str(gpus)))
    for option, value in request.items():
        assert options.get(option) == (site.get(option, value) if gpus else site.get(option))


def test_a_preset_leaves_other_choices_alone() -> None:
    """One that inherited the main config would reset the model and the learning rate."""
    config = composed("model=logistic", "lr=0.5", "+setup=hpc_gpu", "hydra.launcher.timeout_min=60")
    assert config.model._target_.endswith(".logistic")
    assert config.lr == 0.5
    assert config.hydra.launcher.timeout_min == 60


def test_another_launcher_wins_over_the_preset() -> None:
    config = composed("+setup=hpc_gpu", "hydra/launcher=submitit_slurm")
    assert config.hydra.launcher._target_.startswith("hydra_plugins.hydra_submitit_launcher.")
