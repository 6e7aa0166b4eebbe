"""Weights & Biases: one W&B run for each run of a sweep, through a Hydra callback.

Whether it is on, W&B's own variable `WANDB_MODE` says, as everywhere. Nothing that goes wrong here
ends a run, or holds it up for long: W&B missing, unreachable, killed or without room costs a warning.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from . import signals
from .ranks import rank
from .runs import shown, typed_overrides
from .wandb_run import END_TIMEOUT_S, STOP_TIMEOUT_S, Segments, abandon

log = logging.getLogger(__name__)

_current: Segments | None = None


def log_metrics(metrics: Mapping[str, float], step: int) -> None:
    """Log ``metrics`` to the W&B run of this process, if there is one.

    ``step`` has to be given: it keeps the axis continuous when a requeued run goes on. A step that an
    earlier start of the run has logged is not logged again.
    """
    if _current is not None:
        _current.log(metrics, step)


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
        global _current
        mode = os.environ.get("WANDB_MODE", self.default_mode)
        if mode == "disabled" or rank() > 0:
            return
        modes = ["online", "offline"] if mode == "online" else [mode]
        for mode in modes:
            try:
                _current = Segments(
                    Path(config.hydra.runtime.output_dir), self._options(config, mode)
                )
                signals.before_hand_over.append(self._on_stop)
                return
            except Exception as error:
                log.warning("W&B %s: %s: %s", mode, type(error).__name__, error)
                abandon(None)

    def _options(self, config: DictConfig, mode: Any) -> dict[str, Any]:
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        given, resolved = (OmegaConf.to_container(own, resolve=each) for each in (False, True))
        sweep = Path(config.hydra.sweep.dir) if OmegaConf.select(config, "hydra.job.id") else None
        return {
            "project": self.project,
            "mode": mode,
            "group": "/".join(sweep.parts[-2:]) if sweep else None,
            "name": shown(typed_overrides(config)) or None,
            "config": _without_variables(given, resolved),
        }

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        self._close(0 if job_return.status is JobStatus.COMPLETED else 1, END_TIMEOUT_S)

    def _on_stop(self, reason: str) -> None:
        self._close(1, STOP_TIMEOUT_S, stopped=True)

    def _close(self, exit_code: int, timeout: float, stopped: bool = False) -> None:
        global _current
        current, _current = _current, None
        if self._on_stop in signals.before_hand_over:
            signals.before_hand_over.remove(self._on_stop)
        if current is not None:
            current.close(exit_code, timeout, stopped)


def _without_variables(given: Any, resolved: Any) -> Any:
    """``resolved``, but ``${oc.env:TOKEN}`` as it was ``given``: who sees the config sees no token."""
    if isinstance(given, dict):
        return {key: _without_variables(given[key], resolved[key]) for key in given}
    if isinstance(given, list):
        return [_without_variables(*pair) for pair in zip(given, resolved, strict=True)]
    return given if "${oc.env:" in str(given) else resolved
