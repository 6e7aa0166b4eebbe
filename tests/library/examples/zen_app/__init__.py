"""An app in small, as people write them with hydra-zen: a task, its models, a store with presets."""

import os
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf, JobConf
from hydra_zen import ZenField, ZenStore, builds, make_config

from hpc_hydra import RecordCallback, Site, checkpoints, log_metrics, stop_requested


class Policy(Enum):
    checkpoint = "checkpoint"
    ignore = "ignore"


def logistic(lr: float, alpha: float) -> float:
    return lr * alpha


def mlp(lr: float, hidden: int, alpha: float) -> float:
    return lr * alpha + hidden


def free(lr: float, **options: object) -> float:
    return lr


EARLIER: list[float] = []  # of this process


def chance(lr: float) -> float:
    import numpy as np

    EARLIER.append(np.random.random() + 1000 * len(EARLIER))
    return EARLIER[-1]


def train(
    model: Callable[..., float],
    output_dir: str | Path,
    lr: float = 0.1,
    steps: int = 1,
    seed: int = 0,
) -> float | None:
    if lr < 0:
        raise ValueError(f"lr={lr} is negative")
    directory = Path(output_dir)
    done, total = checkpoints.newest(directory) or (0, 0.0)
    for step in range(done + 1, steps + 1):
        total += model(lr=lr) / (step + seed)
        log_metrics({"total": total}, step, directory)
        checkpoints.save(directory, step, (step, total))
        time.sleep(float(os.environ.get("PAUSE_S", 0)))
        if step < steps and stop_requested():
            return None
    return total


store = ZenStore(name="zen_app", deferred_hydra_store=True, overwrite_ok=True)
TrainConf = builds(
    train, populate_full_signature=True, model="???", output_dir="${hydra:runtime.output_dir}"
)
Config = make_config(
    hydra_defaults=["_self_", {"model": "mlp"}],
    signal_policy=ZenField(Policy, Policy.checkpoint),
    bases=(TrainConf,),
)
store(Config, name="config")
store(builds(logistic, zen_partial=True, alpha=1e-4), group="model", name="logistic")
store(builds(mlp, zen_partial=True, hidden=64, alpha=1e-4), group="model", name="mlp")
store(builds(chance, zen_partial=True), group="model", name="chance")
store(builds(free, zen_partial=True), group="model", name="free")
store(HydraConf(job=JobConf(name="zen_app"), callbacks={"record": builds(RecordCallback)}))

site = Site(__file__, "module load python", ".venv", {"WANDB_MODE": "offline"})
store(site.slurm("time=180 partition=cpu mem=4G"), group="hydra/launcher", name="slurm_batch")


def preset(launcher: str) -> dict[str, Any]:
    return {
        "defaults": [
            "_self_",
            {"override /hydra/launcher": launcher},
            {"override /hydra/sweeper": "hpc"},
        ],
        "hydra": {"mode": "MULTIRUN"},
    }


for name, launcher in (("hpc_batch", "slurm_batch"), ("local", "hpc_local")):
    store(preset(launcher), group="setup", name=name, package="_global_")
