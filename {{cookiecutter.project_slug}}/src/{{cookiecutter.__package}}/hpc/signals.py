"""What a run does when Slurm signals it.

Slurm sends USR2 some time before the time limit (`hydra.launcher.signal_delay_s`), and TERM, after
CONT, when it preempts or cancels a job. Two policies:

``checkpoint``
    USR2, TERM, USR1 and HUP only set a flag. The task asks `stop_requested` where it can be
    interrupted, saves and returns; then the launcher puts the job back into the queue, and the run
    goes on from its checkpoint, in the same directory. If the task does not return in time, that
    happens before Slurm's deadline without it, and what it did since its last checkpoint is lost.

``ignore``
    USR1, USR2, CONT, TERM and HUP do nothing as long as the run lasts, for clusters that send them
    for reasons of their own. The price: nothing is requeued, and a run that is to end before its
    time ends by KILL, 30 s (Slurm's KillWait) after it was asked to.

Handlers that a library installed before the run are called all the same, those that it installs
during the run are its own, and after the run all are as they were before.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any

from . import squeue
from .ranks import rank

log = logging.getLogger(__name__)

# submitit lets a site choose another signal for the warning.
WARNING = signal.Signals["SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")]
# A process that is about to end has nothing left to save, and would be taken for a failed job.
atexit.register(signal.signal, WARNING, signal.SIG_IGN)
SIGNALS = {
    signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT, signal.SIGTERM, signal.SIGHUP, WARNING
}  # fmt: skip

# Requeueing takes a few seconds. Slurm's default KillWait is 30 s, and nothing in the job tells it.
HAND_OVER_S = 10
TERM_GRACE_S = 20

STOPPED = 75  # exit code of a process whose run is to go on later: EX_TEMPFAIL of sysexits.h

#: Whether a supervisor watches this process, and requeues the job. Otherwise submitit's handler does.
supervised = False
#: Signals that came while no run was there to hear them.
unheard: list[int] = []
#: Called with the signal's name before a run that was stopped leaves its process.
before_hand_over: list[Callable[[str], None]] = []

_current: _StopRequest | None = None


class Policy(Enum):
    """See the module's docstring."""

    checkpoint = "checkpoint"
    ignore = "ignore"


def stop_requested() -> bool:
    """Whether Slurm asked this run to stop. After a True, save a checkpoint and return.

    What the task then returns is dropped, since the run is not over. Always False outside of
    `handled`, in a notebook for instance.
    """
    return _current is not None and _current.tell()


@contextmanager
def handled(policy: Policy, warning_s: float) -> Iterator[None]:
    """Handle Slurm's signals by ``policy`` inside of the block; put the handlers back after it.

    Works in the main thread only, like `signal.signal`. A block that `stop_requested` told to stop
    is left by SystemExit.

    Args:
        warning_s: seconds between the warning signal and the time limit.
    """
    global _current
    if Policy(policy) is Policy.ignore:
        with _handlers(dict.fromkeys(SIGNALS, signal.SIG_IGN)):
            yield
        return
    with _StopRequest(warning_s) as _current:
        try:
            if unheard:
                _current.hand_over(signal.Signals(unheard[0]))
            yield
            if _current.told and _current.signal:
                _current.hand_over(_current.signal)
        except KeyboardInterrupt:
            _leave("SIGINT")
            raise
        finally:
            _current = None


def is_ignoring(config: Mapping[str, Any]) -> bool:
    """Whether a run of ``config`` goes on whatever it is sent."""
    return config.get("signal_policy") in (Policy.ignore, Policy.ignore.value)


@contextmanager
def _handlers(handlers: Mapping[signal.Signals, Any]) -> Iterator[dict[signal.Signals, Any]]:
    """Install ``handlers``, yield those that stood before, and put these back."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield before
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: not installed from Python, so not ours to restore
                signal.signal(number, handler)


def _leave(reason: str) -> None:
    for callback in list(before_hand_over):  # they take themselves out
        try:
            callback(reason)
        except Exception:
            log.warning("%s failed", callback, exc_info=True)


class _StopRequest:
    """The flag that a signal sets, and a thread that hands the job over if nobody heeds it.

    The thread learns of signals through a pipe (`signal.set_wakeup_fd`), which the interpreter
    writes to even while the main thread is inside of a long C call and runs no Python handler.
    """

    def __init__(self, warning_s: float) -> None:
        asking = SIGNALS - {signal.SIGCONT}
        self.grace_s: dict[signal.Signals, float] = dict.fromkeys(asking, TERM_GRACE_S)
        self.grace_s[WARNING] = max(warning_s - HAND_OVER_S, 0)
        self.signal: signal.Signals | None = None
        self.told = False
        self._handing_over = threading.Lock()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _StopRequest:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._old_wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # CONT keeps its handler, but one that the task installs is taken away again.
        handlers = {signal.SIGCONT: signal.getsignal(signal.SIGCONT) or signal.SIG_DFL}
        self._installed = _handlers(handlers | dict.fromkeys(self.grace_s, self._on_signal))
        self._before = self._installed.__enter__()
        self._thread = threading.Thread(target=self._keep_deadline, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._installed.__exit__(None, None, None)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._writer)  # ends the thread
        self._thread.join(timeout=1)

    def tell(self) -> bool:
        self.told = self.told or self.signal is not None
        return self.told

    def _on_signal(self, number: int, frame: object) -> None:
        # An event loop of the task may have taken the wakeup descriptor: tell the thread from here too.
        os.write(self._writer, bytes([number]))
        self.signal = self.signal or signal.Signals(number)
        before = self._before.get(signal.Signals(number))
        if callable(before) and not _is_submitits(before):
            before(number, frame)

    def hand_over(self, number: signal.Signals) -> None:
        """Leave the process, requeued if Slurm does not do so itself."""
        _leave(number.name)
        if not self._handing_over.acquire(blocking=False):
            time.sleep(60)  # the thread is at it, and ends the process
        self._exit(number)

    def _exit(self, number: signal.Signals) -> None:
        if supervised:
            sys.exit(STOPPED)
        requeue = self._before.get(WARNING)
        if callable(requeue) and (number == WARNING or rank() > 0 or _slurm_runs_job()):
            requeue(number, None)  # raises SystemExit; submitit's own does so on rank 0 only
        if rank() > 0:  # rank 0 requeues, and Slurm ends the others; leaving early might end rank 0
            time.sleep(max(self.grace_s.values()))
        sys.exit(128 + number)

    def _keep_deadline(self) -> None:
        deadline = float("inf")
        while True:
            left = None if deadline == float("inf") else max(deadline - time.monotonic(), 0)
            if not select.select([self._reader], [], [], left)[0]:
                break
            received = os.read(self._reader, 1)
            if not received:
                os.close(self._reader)
                return
            if received[0] not in self.grace_s:
                continue
            number = signal.Signals(received[0])
            if deadline == float("inf"):
                log.warning("%s: the run is asked to stop", number.name)
            self.signal = self.signal or number
            deadline = min(deadline, time.monotonic() + self.grace_s[number])
        assert self.signal is not None
        if (rank() > 0 and not supervised) or not self._handing_over.acquire(blocking=False):
            return
        log.warning("the run did not stop in time: it is handed over from its last checkpoint")
        try:
            self._exit(self.signal)
        except SystemExit as end:
            os._exit(end.code & 0xFF if isinstance(end.code, int) else 1)
        except Exception as error:  # nothing to requeue: the run may as well use what time is left
            log.error("not handed over: %s", error)


def _is_submitits(handler: Callable[..., object]) -> bool:
    """Whether ``handler`` is that of the stock launchers, which would requeue in the middle of a step."""
    return type(getattr(handler, "__self__", None)).__module__.startswith("submitit.")


def _slurm_runs_job() -> bool:
    """Whether Slurm takes this job for running. After a TERM it does so only if somebody else sent it:
    a cancelled job would be revived by requeueing, and a preempted one is requeued by Slurm itself."""
    return "SLURM_JOB_ID" in os.environ and squeue.fate(os.environ["SLURM_JOB_ID"]) == "RUNNING"
