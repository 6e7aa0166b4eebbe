"""What a run does when Slurm signals it: it stops where it can, or it goes on.

Slurm sends USR2 some time before the time limit (`hydra.launcher.signal_delay_s`), and TERM, after
CONT, when it preempts or cancels a job.

`stopping`
    A signal only sets a flag. The task asks `stop_requested` where it can be interrupted, saves and
    returns; then the launcher puts the job back into the queue, and the run goes on from its checkpoint,
    in the same directory. If the task does not return in time, that happens before Slurm's deadline
    without it, and what it did since its last checkpoint is lost. Under the stock launchers it happens
    at once, by a handler of submitit's.

`ignoring`
    A signal does nothing as long as the run lasts, nor to its programs, but for TERM, which ends those.

Handlers that a library installed before the run are called all the same, those that it installs
during the run are its own, and after the run all are as they were before.
"""

from __future__ import annotations

import atexit
import logging
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

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
SAME_SIGNAL_S = 0.1  # in which it has reached all processes of a job

#: Seconds in which Slurm will not yet kill a run; after its warning, those until `warning_s` is nearly over.
USUAL_GRACE_S = {**dict.fromkeys(SIGNALS - {signal.SIGCONT}, TERM_GRACE_S), WARNING: float("inf")}

STOPPED = 75  # exit code of a process whose run is to go on later: EX_TEMPFAIL of sysexits.h

#: Whether a supervisor watches this process, and requeues the job.
supervised = False
#: In such a process: between Slurm's warning and the time limit, which the launcher may have brought nearer than
#: the app's config says, for the sake of a short limit; in seconds.
warning_s = float("inf")
#: In a process that a supervisor has forked: a byte that both see, and which is set when the run is handed over.
handed_over = mmap.mmap(-1, 1)
#: Signals that came while no run was there to hear them.
unheard: list[int] = []
#: Called with the signal's name before a run that was stopped leaves its process.
before_hand_over: list[Callable[[str], None]] = []

#: Whether the run raised something when it was stopped the last time, which is not forgiven twice.
raised_before = False

_current: _StopRequest | None = None
_ignored: Collection[signal.Signals] = ()
_masks = threading.local()


def stop_requested() -> bool:
    """Whether Slurm asked this run to stop. After a True, save a checkpoint and return.

    What the task then returns is dropped, since the run is not over. Always False outside of
    `stopping`, in a notebook for instance.
    """
    return _current is not None and _current.tell()


def signal_of_stop() -> int:
    """The signal that asked this run to stop; 0: none has."""
    return _current.signal or 0 if _current else 0


def request_stop(number: int) -> None:
    """Let this run stop as after the signal ``number``, which another one of its ranks was sent."""
    if _current:
        _current.signal = _current.signal or signal.Signals(number)
        _current.tell()


@contextmanager
def ignoring(*numbers: signal.Signals) -> Iterator[None]:
    """Let the signals ``numbers`` pass inside of the block, by default all that Slurm, its users and its
    sites send; put the handlers back after it. In the main thread only, like `signal.signal`."""
    global _ignored
    before, _ignored = _ignored, numbers or SIGNALS
    try:
        handlers: dict[signal.Signals, Any] = dict.fromkeys(_ignored, signal.SIG_IGN)
        if signal.SIGTERM in handlers:
            # Programs inherit what is ignored, and would outlive their `terminate`.
            handlers[signal.SIGTERM] = lambda *_: None
        with _handlers(handlers):
            yield
    finally:
        _ignored = before


@contextmanager
def stopping(grace_s: Mapping[signal.Signals, float]) -> Iterator[None]:
    """Let signals ask the run inside of the block to stop; put the handlers back after it.

    In the main thread only, like `signal.signal`. A block that `stop_requested` told to stop is left by
    SystemExit. So is one that raises something after a signal, which may have killed a process that it needed; a run that
    did so the last time too has failed, unless it left by SystemExit, or says that the signal has ended a program, by
    CalledProcessError, or a data loader's worker. A block inside of another one takes its place.

    Args:
        grace_s: for each signal the seconds that the run has to return after it.
    """
    global _current
    if "SUBMITIT_EXECUTOR" in os.environ and not supervised:
        yield  # the stock launchers' own handler requeues, at once
        return
    outer, in_time = _current, dict(grace_s)
    if WARNING in grace_s:
        in_time[WARNING] = min(grace_s[WARNING], max(warning_s - HAND_OVER_S, 0))
    with _StopRequest(in_time) as _current:
        try:
            if unheard:
                _current.hand_over(signal.Signals(unheard[0]))
            try:
                yield
            except (Exception, SystemExit) as error:
                time.sleep(SAME_SIGNAL_S)
                # The answer to a signal that the task chose itself, or its trainer: no failure, however often.
                meant = isinstance(error, SystemExit) and not isinstance(error.code, str)
                meant = meant or _current.has_ended_program(error)
                if _current.signal is None or (raised_before and not meant):
                    raise
                log.warning("raised after %s: its stop", _current.signal.name, exc_info=not meant)
                then = "" if meant else f", then {type(error).__name__}: {error}"
                _current.hand_over(_current.signal, then)
            if _current.told and _current.signal:
                _current.hand_over(_current.signal)
        except KeyboardInterrupt:
            _leave("SIGINT")
            raise
        finally:
            _current = outer


def init_worker(*_: object) -> None:
    """Leave Slurm's signals, which reach all processes of a job, to the process of the run: for those that
    it starts, as `DataLoader(worker_init_fn=hpc_hydra.init_worker)`."""
    for number in SIGNALS - {signal.SIGCONT}:
        signal.signal(number, signal.SIG_IGN)


def _before_fork() -> None:
    """A signal waits until the new process is ready for it: Python would drop it, or tell the run."""
    waiting = SIGNALS if _current or _ignored else ()
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, waiting)


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _in_forked() -> None:
    """Slurm's signals are for the run, and not for what it forks. But `multiprocessing.Pool` ends its processes by
    TERM, and waits for them: a handler of Python's would not do, since it is not called while a lock is waited for."""
    if _current:
        signal.set_wakeup_fd(-1)
        for number in _current.grace_s.keys() - {signal.SIGTERM}:
            signal.signal(number, signal.SIG_IGN)
    if signal.SIGTERM in (_current.grace_s if _current else _ignored):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_forked)


def is_ignoring(config: Mapping[str, Any]) -> bool:
    """Whether a run of ``config`` goes on whatever it is sent: by convention its ``signal_policy``."""
    policy = config.get("signal_policy")
    return getattr(policy, "value", policy) == "ignore"


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

    def __init__(self, grace_s: Mapping[signal.Signals, float]) -> None:
        self.grace_s = grace_s
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
        with suppress(OSError):
            os.close(self._writer)  # ends the thread
        self._thread.join(timeout=1)

    def tell(self) -> bool:
        self.told = self.told or self.signal is not None
        return self.told

    def has_ended_program(self, error: BaseException) -> bool:
        """Whether ``error`` says that the signal has, or a shell that had called it; or a worker of PyTorch's loader."""
        code = error.returncode if isinstance(error, subprocess.CalledProcessError) else 0
        ended = (-code if code < 0 else code - 128) in SIGNALS
        return self.signal is not None and (
            ended or str(error).startswith("DataLoader worker (pid")
        )

    def _on_signal(self, number: int, frame: object) -> None:
        # An event loop of the task may have taken the wakeup descriptor: tell the thread from here too.
        self.signal = self.signal or signal.Signals(number)
        with suppress(OSError):
            os.write(self._writer, bytes([number]))
        before = self._before.get(signal.Signals(number))
        while isinstance(owner := getattr(before, "__self__", None), _StopRequest):
            before = owner._before.get(signal.Signals(number))  # of a block around this one
        if callable(before):
            before(number, frame)

    def hand_over(self, number: signal.Signals, what: str = "") -> None:
        """Leave the process; a supervisor has its job requeued, if Slurm does not do so itself."""
        _leave(number.name + what)
        if not self._handing_over.acquire(blocking=False):
            time.sleep(60)  # the thread is at it, and ends the process
        handed_over[0] = 1
        sys.exit(STOPPED if supervised else 128 + number)

    def _keep_deadline(self) -> None:
        deadline = float("inf")
        while True:
            left = None if deadline == float("inf") else max(deadline - time.monotonic(), 0)
            try:
                if not select.select([self._reader], [], [], left)[0]:
                    break
                received = os.read(self._reader, 1)
            except OSError:  # the task has closed what it did not know
                return
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
        if self._handing_over.acquire(blocking=False):
            log.warning("the run did not stop in time: it is handed over from its last checkpoint")
            handed_over[0] = 1
            os._exit(STOPPED if supervised or self.signal is None else 128 + self.signal)
