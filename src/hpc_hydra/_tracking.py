"""Weights & Biases: one W&B run for each run of a sweep, through a Hydra callback.

Whether it is on, W&B's own variable `WANDB_MODE` says, as everywhere. Nothing that goes wrong here
ends a run, or holds it up for long: W&B missing, unreachable, killed or without room costs a warning.

W&B's service process writes a folder for each start of a run, a *segment*, and `wandb sync` makes one
W&B run of all with the same id. Slurm's signals, or a lack of memory, end that process before it has
written all that it was told. So only a segment whose service ended by itself counts; the next start sets
another one aside, and tells W&B from `metrics.jsonl` what it lacks: each step is sent once.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from . import _metrics
from . import _signals as signals
from ._commands import children
from ._files import write_atomically
from ._overrides import typed_overrides
from ._ranks import rank
from ._records import mapped, shown

INIT_TIMEOUT_S = 30
LOG_TIMEOUT_S = 30  # W&B's service stands still, or its disk does
STOP_TIMEOUT_S = 6  # Slurm waits for nobody
LOST_TIMEOUT_S = 3
END_TIMEOUT_S = 120
STATE = "whole.json"  # the last step of the segments that count, and their names
ROOM = 65536  # bytes without which W&B is not started: its service does not tell if it cannot write


class WandbCallback(Callback):
    """Opens a W&B run before the task and closes it after, on the first rank only.

    Args:
        project: W&B's project.
        default_mode: "online", "offline" or "disabled" where `WANDB_MODE` is not set.
    """

    def __init__(self, project: str, default_mode: str = "offline") -> None:
        self.project = project
        self.default_mode = default_mode
        self._run: TrackedRun | None = None

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        mode = os.environ.get("WANDB_MODE", self.default_mode)
        if mode != "disabled" and rank() == 0:
            directory = Path(config.hydra.runtime.output_dir)
            self._run = TrackedRun(directory, mode, self.options(config))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if self._run is not None:
            self._run.close(0 if job_return.status is JobStatus.COMPLETED else 1)
            self._run = None

    def options(self, config: DictConfig) -> dict[str, Any]:
        """What the W&B run is told of the run with this ``config``."""
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        literal = OmegaConf.create(mapped(OmegaConf.to_container(own), _literal))
        sweep = Path(config.hydra.sweep.dir) if OmegaConf.select(config, "hydra.job.id") else None
        return {
            "project": self.project,
            "group": "/".join(sweep.parts[-2:]) if sweep else None,
            "name": shown(typed_overrides(config)) or None,
            "config": OmegaConf.to_container(literal, resolve=True),
        }


class TrackedRun:
    """The W&B run of ``directory``, open from here on. It raises nothing but what W&B has against a step."""

    def __init__(self, directory: Path, mode: str, options: Mapping[str, Any]) -> None:
        self.directory = directory
        self.folder = directory / "wandb"
        self.modes = ["online", "offline"] if mode == "online" else [mode]
        self.options = options
        self.run: Any = None  # None: it could not be opened, or is lost
        self.state: dict[str, Any] = {}
        self._open()
        if self.run is not None:
            _metrics.listeners.append(self.tell)
            signals.before_hand_over.append(self.stop)

    def tell(self, metrics: Mapping[str, Any], step: int) -> None:
        if self.run is None or step <= self.known:  # a resumed run repeats some
            return
        try:
            self._log(metrics, step)
        except (TypeError, ValueError):  # of the metrics, not of W&B
            raise
        except Exception as error:
            self._lose("W&B is gone, and is started again at the end of the run", error)

    def stop(self, reason: str) -> None:
        self.close(1, stopped=True)

    def close(self, exit_code: int, stopped: bool = False) -> None:
        if self.tell not in _metrics.listeners:  # it was stopped, or never opened
            return
        _metrics.listeners.remove(self.tell)
        signals.before_hand_over.remove(self.stop)
        with suppress(OSError):  # what it lacks, W&B is told from there
            _metrics.write_kept(self.directory)
        for _ in range(1 if stopped else 2):
            if self.run is None and not stopped:
                self._open()
            if self.run is None:
                return
            try:
                return self._finish(exit_code, stopped)
            except Exception as error:
                self._lose("W&B is gone at the end", error)

    def _open(self) -> None:
        """Start W&B, and tell it what it lacks."""
        for mode in self.modes:
            try:
                return self._start(mode)
            except Exception as error:
                self._lose(f"W&B {mode}", error)

    def _start(self, mode: str) -> None:
        import wandb  # before there is a folder for it

        identity = _stable_id(self.directory)
        self.folder.mkdir(exist_ok=True)
        self._set_aside()
        self._save(" " * ROOM)
        self.unwritten = _metrics.unwritten
        with suppress(Exception):  # of a dead service that the task has used
            _within(LOST_TIMEOUT_S, _teardown)
        settings = wandb.Settings(
            init_timeout=INIT_TIMEOUT_S, quiet=True, x_transaction_log_flush_interval=1
        )
        options: dict[str, Any] = {
            **self.options, "id": identity, "mode": mode, "dir": self.directory,
            "resume": "allow", "reinit": "finish_previous", "settings": settings,
        }  # fmt: skip
        self.run = _within(2 * INIT_TIMEOUT_S, lambda: wandb.init(**options))
        metrics = _metrics.read_metrics(self.directory)
        if mode != "online" and self.state["online"]:  # its server has nearly all of these
            self.state["step"] = max([self.state["step"], *metrics])
        self.state["online"] = mode == "online"
        self._save()
        told = max(self.state["step"], self.run.starting_step - 1)
        self.known = self.last = max([told, *metrics])
        for step, values in metrics.items():
            if step > told:
                self._log(values, step)

    def _log(self, metrics: Mapping[str, Any], step: int) -> None:
        _within(LOG_TIMEOUT_S, lambda: self.run.log(dict(metrics), step=step))
        self.last = max(self.last, step)

    def _finish(self, exit_code: int, stopped: bool) -> None:
        def finish() -> None:
            if stopped:
                self.run.mark_preempting()
            self.run.finish(exit_code=exit_code)
            _teardown()

        _within(STOP_TIMEOUT_S if stopped else END_TIMEOUT_S, finish)
        if self.unwritten != _metrics.unwritten:
            raise OSError("there was no room for some of its files")
        segments = [*self.state["segments"], Path(self.run.dir).parent.name]
        self.state = {"step": self.last, "segments": segments, "online": False}
        self._save()

    def _set_aside(self) -> None:
        """Move the segments that do not count to where `wandb sync` looks for none."""
        self.state = {"step": -1, "segments": [], "online": False}
        with suppress(FileNotFoundError):
            self.state = json.loads((self.folder / STATE).read_text())
        for segment in self.folder.glob("offline-run-*"):
            if segment.name in self.state["segments"]:
                continue
            if (sent := last_sent(segment)) is not None:
                self.state["step"] = max(self.state["step"], sent)
                self.state["segments"].append(segment.name)
            else:
                aside = self.folder / "incomplete"
                aside.mkdir(exist_ok=True)
                segment.rename(aside / f"{segment.name}-{uuid.uuid4().hex[:4]}")

    def _save(self, padding: str = "") -> None:
        write_atomically(self.folder / STATE, json.dumps(self.state) + padding)

    def _lose(self, what: str, error: Exception) -> None:
        """Leave nothing of a W&B run that failed: neither what it captures of the output, nor its
        service, which would write the same steps later, and refuse the next run."""
        _metrics.warn(what, error)
        run, self.run = self.run, None
        _kill_service()
        for call in (lambda: run.finish(), _teardown):
            with suppress(Exception):
                _within(LOST_TIMEOUT_S, call)


def last_sent(segment: Path) -> int | None:
    """The last step that `wandb sync` has sent of ``segment``, as it notes there; None: it has not."""
    if any(segment.glob("*.synced")):
        with suppress(OSError, ValueError):
            summary = json.loads((segment / "files" / "wandb-summary.json").read_text())
            return int(summary.get("_step", -1))
    return None


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """What ``call`` returns or raises, in a thread that is left behind if it takes longer.

    Raises:
        TimeoutError: it takes longer.
        RuntimeError: it would have ended the process, as W&B does in places.
    """
    outcome: Future[Any] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            plain = isinstance(error, Exception)
            outcome.set_exception(error if plain else RuntimeError(repr(error)))

    threading.Thread(target=work, daemon=True).start()
    if not wait([outcome], seconds).done:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return outcome.result()


def _teardown() -> None:
    """End W&B's service, and wait for it: it writes the rest of its file after `finish` has returned."""
    import wandb

    wandb.teardown()


def _kill_service() -> None:
    for child in children():
        with suppress(OSError):
            if Path(f"/proc/{child}/comm").read_text().strip() == "wandb-core":
                os.kill(child, signal.SIGKILL)
                _within(LOST_TIMEOUT_S, partial(os.waitpid, child, 0))  # W&B does not


def _stable_id(directory: Path) -> str:
    """The id of this directory's W&B run: made once, so that a requeued run goes on in the same."""
    path = directory / "wandb_id"
    if not path.exists():
        write_atomically(path, uuid.uuid4().hex[:12])
    return path.read_text()


def _literal(value: Any) -> Any:
    """``${oc.env:TOKEN}`` as a text: who sees the config sees no token."""
    return value.replace("${", r"\${") if "${oc.env:" in str(value) else value
