"""A W&B run that loses no step, whatever becomes of W&B's service process.

That process writes a file, a *segment* of the W&B run, and Slurm's signals, or a lack of memory, end
it before it has written all that it was told. So each step is noted in a file of our own first, and
what the segments lack is logged again to the next one: that of the requeued run, or one that is opened
at once if only the service was lost.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from . import wandb_log
from .files import write_atomically

log = logging.getLogger(__name__)

INIT_TIMEOUT_S = 30
LOG_TIMEOUT_S = 30  # W&B's service stands still, or its disk does
STOP_TIMEOUT_S = 8  # Slurm waits for nobody
END_TIMEOUT_S = 120
REOPENINGS = 2
NOTED = 10_000  # steps that are kept; W&B has written older ones long ago
ROOM = 65536  # bytes without which W&B is not started


class Segments:
    """The W&B run of ``directory``: making one raises whatever W&B, or the disk, has against it."""

    def __init__(self, directory: Path, options: Mapping[str, Any]) -> None:
        import wandb  # noqa: F401  # before there is a folder for it

        self.directory = directory
        self.options = {**options, "id": _stable_id(directory)}
        self.notes = directory / "wandb" / f"steps-{self.options['id']}.jsonl"
        self.notes.parent.mkdir(exist_ok=True)
        _check_room(directory)
        self.reached = max((step for step, _ in self._noted()), default=-1)
        if self.reached >= 0:
            log.info("W&B: goes on after step %d", self.reached)
        self.lines = 0
        self.reopenings = REOPENINGS
        self.run: Any = None
        self._open()

    def _open(self) -> None:
        import wandb

        wandb_log.remove_empty(self.directory)
        noted = [(step, metrics) for step, metrics in self._noted() if metrics]
        written = wandb_log.steps(self.directory) if noted else set[int]()
        settings = wandb.Settings(
            init_timeout=INIT_TIMEOUT_S,
            quiet=True,
            x_transaction_log_flush_interval=1,  # for who looks at it; and less is lost
        )

        def init() -> Any:
            return wandb.init(
                **self.options, dir=self.directory, resume="allow", reinit="finish_previous",
                settings=settings,
            )  # fmt: skip

        begun = time.monotonic()
        try:
            self.run = _within(2 * INIT_TIMEOUT_S, init)
        except Exception:
            if time.monotonic() > begun + 5:
                raise
            # The service of the runs before in this process may have died since: that shows at once.
            abandon(None)
            self.run = _within(2 * INIT_TIMEOUT_S, init)
        for handler in logging.getLogger("wandb").handlers:
            # Where the disk is full they would print a traceback for each line, and log that too.
            setattr(handler, "handleError", lambda record: None)  # noqa: B010
        for step, metrics in noted:
            if step not in written:
                _within(LOG_TIMEOUT_S, partial(self.run.log, metrics, step=step))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if self.run is None:
            return
        try:
            if step <= self.reached:
                return
            self._note(metrics, step)
            _within(LOG_TIMEOUT_S, lambda: self.run.log(dict(metrics), step=step))
        except (TypeError, ValueError, AttributeError) as error:
            log.warning("W&B does not take step %s: %s", step, error)
        except (ConnectionError, TimeoutError) as error:
            self._reopen(error)
        except OSError as error:  # there is no room for a note, and so none for W&B
            self._give_up(error)
        except Exception as error:
            self._reopen(error)

    def close(self, exit_code: int, timeout: float, stopped: bool) -> None:
        if self.run is None:
            return
        try:
            self._finish(exit_code, timeout, stopped)
        except Exception as error:
            self._reopen(error)
            try:
                self._finish(exit_code, timeout, stopped)
            except Exception as again:
                self._give_up(again)

    def _finish(self, exit_code: int, timeout: float, stopped: bool) -> None:
        if self.run is None:
            return
        if stopped:
            _within(timeout, self.run.mark_preempting)
        _within(timeout, lambda: self.run.finish(exit_code=exit_code))
        self.run = None
        try:
            _check_room(self.directory)
            last = max((step for step, _ in self._noted()), default=-1)
            write_atomically(self.notes, json.dumps([last, {}]) + "\n")  # all is written
        except OSError as error:  # and W&B's service is silent about it
            log.warning("W&B may not have written all: %s", error)

    def _reopen(self, error: Exception) -> None:
        """Go on in a new segment, and with a new service."""
        if self.reopenings == 0:
            self._give_up(error)
            return
        self.reopenings -= 1
        log.warning("W&B is gone, and started again: %s: %s", type(error).__name__, error)
        abandon(self.run)
        self.run = None
        try:
            self._open()
        except Exception as again:
            self._give_up(again)

    def _give_up(self, error: Exception) -> None:
        log.warning("W&B is gone, the run goes on without it: %s: %s", type(error).__name__, error)
        abandon(self.run)
        self.run = None
        with suppress(OSError):
            wandb_log.remove_empty(self.directory)

    def _note(self, metrics: Mapping[str, float], step: int) -> None:
        numbers = {}
        for name, value in metrics.items():
            with suppress(TypeError, ValueError):  # an image, for instance
                numbers[name] = float(value)
        with self.notes.open("ab", buffering=0) as file:
            file.write(b"\n" + json.dumps([int(step), numbers]).encode())
        self.lines += 1
        if self.lines == 2 * NOTED:
            lines = self.notes.read_text().splitlines(keepends=True)
            write_atomically(self.notes, "".join(lines[-NOTED:]))
            self.lines = NOTED

    def _noted(self) -> Iterator[tuple[int, dict[str, float]]]:
        if self.notes.exists():
            for line in self.notes.read_text().splitlines():
                with suppress(ValueError):  # the last one may be cut short
                    step, metrics = json.loads(line)
                    yield step, metrics


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """What ``call`` returns, in a thread that is left behind if it takes longer.

    Raises:
        TimeoutError: it takes longer.
        RuntimeError: it would have ended the process.
        Exception: what it raises.
    """
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # W&B exits the interpreter in places
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        if isinstance(failure[0], Exception):
            raise failure[0]
        raise RuntimeError(repr(failure[0]))
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return outcome[0]


def abandon(run: Any) -> None:
    """Leave nothing of a run that failed: what it captures of the output, and W&B's service, which would
    refuse the next one."""
    try:
        import wandb
    except Exception:
        return
    _kill_service()
    for call in ([run.finish] if run is not None else []) + [wandb.teardown]:
        with suppress(Exception):
            _within(STOP_TIMEOUT_S, call)
    logger = logging.getLogger("wandb")
    for handler in [each for each in logger.handlers if isinstance(each, logging.FileHandler)]:
        logger.removeHandler(handler)


def _kill_service() -> None:
    """A service that stands still would write the same steps later, and never end."""
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                if Path("/proc", child, "comm").read_text().strip() == "wandb-core":
                    os.kill(int(child), signal.SIGKILL)


def _check_room(directory: Path) -> None:
    """W&B's service does not tell when it cannot write.

    Raises:
        OSError: there is no room for W&B's files.
    """
    probe = directory / "wandb" / "probe"
    try:
        write_atomically(probe, bytes(ROOM))
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _stable_id(directory: Path) -> str:
    """The id of this directory's W&B run: made once, so that a requeued run goes on in the same."""
    path = directory / "wandb_id"
    if not path.exists():
        write_atomically(path, uuid.uuid4().hex[:12])
    return path.read_text()
