"""Weights & Biases: one W&B run for each run of a sweep, through a Hydra callback.

Whether it is on, W&B's own variable `WANDB_MODE` says, as everywhere. Nothing that goes wrong here
ends a run: W&B missing, unreachable or killed costs a warning.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from . import signals
from .files import write_atomically
from .ranks import rank
from .runs import shown

log = logging.getLogger(__name__)

INIT_TIMEOUT_S = 30

_run: Any = None


def log_metrics(metrics: Mapping[str, float], step: int) -> None:
    """Log ``metrics`` to the W&B run of this process, if there is one.

    ``step`` has to be given: it keeps the axis continuous when a requeued run goes on.
    """
    global _run
    if _run is None:
        return
    try:
        _run.log(dict(metrics), step=step)
    except Exception as error:
        log.warning("W&B is gone, the run goes on without it: %s", error)
        _run = None


class WandbCallback(Callback):
    """Opens a W&B run before the task and closes it after, on the first rank only.

    Args:
        project: W&B's project.
        default_mode: "online", "offline" or "disabled" where `WANDB_MODE` is not set.
    """

    def __init__(self, project: str, default_mode: str) -> None:
        self.project = project
        self.default_mode = default_mode

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        global _run
        mode = os.environ.get("WANDB_MODE", self.default_mode)
        if mode == "disabled" or rank() > 0:
            return
        modes = ["online", "offline"] if mode == "online" else [mode]
        for mode in modes:
            try:
                _run = self._open(config, mode)
                signals.before_hand_over.append(self._on_stop)
                return
            except Exception as error:
                log.warning("W&B %s: %s: %s", mode, type(error).__name__, error)
                _forget_failed_run()

    def _open(self, config: DictConfig, mode: Any) -> Any:
        import wandb

        directory = Path(config.hydra.runtime.output_dir)
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        resolved: Any = OmegaConf.to_container(own, resolve=True)
        sweep = Path(config.hydra.sweep.dir) if OmegaConf.select(config, "hydra.job.id") else None
        return wandb.init(
            project=self.project,
            mode=mode,
            id=_stable_id(directory),
            resume="allow",
            dir=directory,
            group="/".join(sweep.parts[-2:]) if sweep else None,
            name=shown(config.hydra.overrides.task) or None,
            config=resolved,
            reinit="finish_previous",
            settings=wandb.Settings(
                init_timeout=INIT_TIMEOUT_S,
                quiet=True,
                # Slurm's TERM ends W&B's service at once: what is not in its file by then is lost.
                x_transaction_log_flush_interval=1,
            ),
        )

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        self._close(exit_code=0 if job_return.status is JobStatus.COMPLETED else 1)

    def _on_stop(self, reason: str) -> None:
        if _run is not None:
            _run.mark_preempting()
        self._close(exit_code=1)

    def _close(self, exit_code: int) -> None:
        global _run
        run, _run = _run, None
        if self._on_stop in signals.before_hand_over:
            signals.before_hand_over.remove(self._on_stop)
        if run is None:
            return
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:
            log.warning("W&B did not finish: %s: %s", type(error).__name__, error)


def _forget_failed_run() -> None:
    """W&B's service takes the id of a run that could not be opened for one in use."""
    try:
        import wandb

        wandb.teardown()
    except Exception as error:
        log.debug("W&B: %s", error)


def _stable_id(directory: Path) -> str:
    """The id of this directory's W&B run: made once, so that a requeued run goes on in the same."""
    path = directory / "wandb_id"
    if not path.exists():
        write_atomically(path, uuid.uuid4().hex[:12])
    return path.read_text()
