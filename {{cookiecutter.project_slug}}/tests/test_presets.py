"""Every preset of the store, a new one included, gives the job script that cluster.py asks for."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hpc_hydra import job_script
from hydra import compose, initialize
from hydra.types import RunMode
from omegaconf import DictConfig

from {{ cookiecutter.__package }} import cluster, configs

# What a job of the first presets gets: its facts, and the GPUs of a node.
JOBS = {
    "hpc_gpu": (configs.GPU_JOB, cluster.GPUS_PER_NODE),
    "hpc_gpu_ranks": (configs.GPU_JOB, cluster.GPUS_PER_NODE),
    "hpc_gpu_one": (configs.GPU_JOB, 1),
    "hpc_debug": (configs.GPU_JOB if cluster.GPUS_PER_NODE else configs.CPU_JOB, 1),
    "hpc_batch": (configs.CPU_JOB, 0),
}
COMPARED = ("account", "constraint", "gpus", "gpus-per-node", "gres", "partition", "qos")


def composed(*overrides: str) -> DictConfig:
    with initialize(version_base="1.3", config_path=None):
        return compose("config", list(overrides), return_hydra_config=True)


def options(text: str) -> dict[str, str]:
    """Of sbatch; the later ones win."""
    pairs = (word.lstrip("-").partition("=") for word in shlex.split(text))
    return {name.replace("_", "-"): value for name, _, value in pairs}


@pytest.mark.parametrize("name", [name for _, name in configs.store["setup"]])
def test_preset(name: str, tmp_path: Path) -> None:
    config = composed(f"+setup={name}", f"hydra.sweep.dir='{tmp_path}'")
    assert config.hydra.mode is RunMode.MULTIRUN
    if "partition" not in config.hydra.launcher:  # a launcher without Slurm writes no script
        return
    script = job_script(config)
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert f"WANDB_MODE={cluster.WANDB_MODE}" in script
    header = script.partition("\n# setup\n")[0].replace("#SBATCH", "").partition("\n")[2]
    asked = options("\n".join(line for line in header.splitlines() if "--" in line))
    assert asked["job-name"] == config.hydra.launcher.name
    assert asked["output"] == f"{tmp_path}/jobs/%j_0_log.out"
    if name not in JOBS:
        return
    facts, gpus = JOBS[name]
    wanted = options(re.sub(r"\{(\d*)n\}", lambda each: str(int(each[1] or 1) * gpus), facts))
    if name == "hpc_debug":
        wanted |= {key[6:]: text for key, text in wanted.items() if key.startswith("debug:")}
    for option in COMPARED:
        if "$" not in wanted.get(option, ""):  # a variable of whoever submits
            assert asked.get(option, "") == wanted.get(option, "")


def test_a_preset_leaves_other_choices_alone() -> None:
    """One that inherited the main config would reset them."""
    config = composed("signal_policy=ignore", "+setup=hpc_batch", "hydra.launcher.timeout_min=60")
    assert (config.signal_policy.name, config.hydra.launcher.timeout_min) == ("ignore", 60)
