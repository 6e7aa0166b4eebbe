"""What a rank's runs have in common is loaded once; then each is a call of the task, in a process forked from
the one that has loaded it."""

from __future__ import annotations

import gc
import inspect
import linecache
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from omegaconf import DictConfig

from .. import _attempt as attempt
from .. import _records as records
from .. import _resources as resources
from .. import _signals as signals
from .._hydra import (
    Composer,
    add_callback,
    begin,
    finish,
    read_copies,
    share_config_store,
    share_parsed,
    value_of,
)
from .._ranks import VISIBLE_GPUS, this_process
from .._recording import RecordCallback
from .submission import Work, log_name, result_path, write_result

# Set where Slurm itself gives each rank GPUs of its own.
GPUS_OF_RANK = ("SLURM_GPUS_PER_TASK", "SLURM_NTASKS_PER_GPU", "SLURM_GPU_BIND")
# What a run would take for its place among others, with which it only shares the job.
ALONE = {
    "0": ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
    "1": (
        "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NNODES", "SLURM_JOB_NUM_NODES",
        "SLURM_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE", "SLURM_STEP_NUM_TASKS",
        "SLURM_STEP_NUM_NODES", "SLURM_STEP_TASKS_PER_NODE",
    ),
}  # fmt: skip


@dataclass
class Todo:
    """A run, as one rank of a job has to do it."""

    folder: Path
    directory: Path  # of the run
    number: int
    rank: int
    overrides: list[str]
    job_id: str
    log: Path | None  # for what it prints, if the log of the job is not its own

    def result(self, completed: bool) -> Path:
        """Where its result is when it is over."""
        return result_path(self.folder, self.number, self.rank, completed)

    def is_over(self) -> bool:
        """Whether it has completed or failed."""
        return self.result(True).exists() or self.result(False).exists()

    def write_result(self, returned: JobReturn | None = None, error: str = "") -> None:
        """Leave the result, and an ``error`` in the record, also that of another rank than the first one, which may
        only learn that its peer is gone."""
        result = (self.folder, self.number, self.rank, returned, error)
        if self.rank == 0 or error in ("", records.CANCELLED):
            return write_result(*result)
        log = self.log or self.folder / log_name(self.job_id, self.number, self.rank, alone=True)
        own = os.path.relpath(log, self.directory.parent)
        failed = {"rank": self.rank, "attempt": attempt.number()}
        run = (self.directory, self.overrides, self.job_id)
        for again in range(3):  # the first rank may just be writing that it begins
            with suppress(OSError):
                records.record_end(*run, error, "FAILED", log=own, failed=failed)
            if not again:  # by the time of its result it is known who failed first
                write_result(*result)
            time.sleep(0.1)

    def end(self, error: str, state: str = "", used: Mapping[str, float] | None = None) -> None:
        """Record that it is over without having completed; or, if ``state`` is STOPPED, not yet over."""
        run = (self.directory, self.overrides, self.job_id)
        try:
            # A rank that failed only because all are to stop takes that back itself.
            recorder = records.rank_that_failed(self.directory) if state == "STOPPED" else 0
            try:
                if self.rank == recorder:
                    records.record_end(*run, error, state, used)
            finally:  # whoever waits reads the record when the result is there
                if state != "STOPPED":
                    self.write_result(error=error)
        except Exception as failure:  # a full disk; an environment that is being changed
            say(f"run {self.number}: no record of its end: {failure}")


def say(text: str) -> None:
    """Print ``text`` to the log of the job, which may lie on a full disk, or be closed by the task."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def take_place(work: Work, local_rank: int, here: int) -> None:
    """Let this process, and those that it forks, have what is their rank's, of those ``here`` on its node."""
    signals.supervised = True
    signals.warning_s = work.signal_delay_s
    if work.shared:
        _take_share(local_rank, here)
    else:
        _use_cpus_of(here)
    records.origin = work.origin


Load = tuple[Callable[[Todo], None], Callable[[Todo], int]]


def load(work: Work, payload: bytes) -> Load:
    """Load what the runs need; return a function that begins one, for a process that is forked then, and the
    function that does one, whose exit code is 0, 1 if it failed, or STOPPED if it is to be done later.

    Args:
        payload: Hydra's context, the task function, the config of the sweep and Hydra's state.
    """
    share_config_store()
    share_parsed()
    # `python -m` looks first into the folder where the command was typed.
    sys.path[:0] = work.roots
    context, task_function, sweep, state = pickle.loads(payload)
    _become_started_module(task_function, work.source)
    Singleton.set_state(state)
    setup_globals()
    if work.source:
        read_copies(context.config_loader, *map(Path, work.source))
    composer = Composer(context.config_loader, sweep)
    add_callback(context, RecordCallback())
    # What is cached here is so for all processes that are forked from this one.
    records.library_version()
    gc.freeze()  # what is loaded now stays: looking for garbage in it takes a third of Hydra's time

    @wraps(task_function)  # which callbacks are told of
    def stoppable(config: Any) -> Any:
        """An app with handlers of its own replaces these for its run."""
        process, ignored = os.getpid(), signals.is_ignoring(config)
        try:
            with signals.ignoring() if ignored else signals.stopping(signals.USUAL_GRACE_S):
                return task_function(config)
        finally:
            if os.getpid() != process:  # a child that the task has forked would go on as the run
                flush()
                os._exit(int(sys.exc_info()[0] is not None))
            _reopen_streams()

    begun: dict[int, tuple[DictConfig, JobReturn | None]] = {}

    def begin_ahead(todo: Todo) -> None:
        """In a process that was just forked all of this would cost three times as much: it copies whatever it
        touches."""
        begun.clear()
        with suppress(Exception):  # which the run raises again, and records
            config = composer.compose(todo.overrides)
            begun[todo.number] = config, begin(config, todo.job_id, todo.number)
        if threading.active_count() > 1:  # perhaps of somebody's logging; a fork has but one
            begun.clear()

    def do(todo: Todo) -> int:
        if work.ranks > 1 and not work.shared:
            with suppress(RuntimeError):  # which a task that asks is told
                this_process(todo.directory).export()
        with printing_to(todo.log) if todo.log else nullcontext():
            try:
                config, first = begun.get(todo.number) or (composer.compose(todo.overrides), None)
                if signals.unheard and not signals.is_ignoring(config):
                    signals.handed_over[0] = 1
                    return signals.STOPPED
                first = first or begin(config, todo.job_id, todo.number)
                returned = finish(config, first, stoppable, context)
                error = ""
                if returned.status is not JobStatus.COMPLETED:
                    error = "".join(traceback.format_exception(value_of(returned)))
                    say(error)
                known = records.read(todo.directory / records.RUN) if todo.rank == 0 else {}
                if known.get("state") == "RUNNING":  # Hydra only warns of what a callback raises
                    error = error or "the end of the run could not be recorded, see its log"
                    todo.end(error)
                else:
                    todo.write_result(returned, error)
            except BaseException as end:
                # Of Hydra or a callback; a CancelledError, which Hydra lets pass; or an exit that says why.
                why = end.code if isinstance(end, SystemExit) else ""
                if isinstance(end, KeyboardInterrupt) or not isinstance(why, str):
                    raise
                fail(todo)
                return 1
        return int(bool(error))

    return begin_ahead, do


def _become_started_module(task_function: Any, source: tuple[str, str] | None) -> None:
    """What the module of the task has was pickled by value if it is the one that was started. By its name, and its
    file, others find it there: pickle, and the processes of `multiprocessing`."""
    function = inspect.unwrap(getattr(task_function, "func", task_function))
    names = getattr(function, "__globals__", {})
    if names.get("__name__") != "__main__":
        return
    file = Path(names.get("__file__") or "")
    if source and file.is_relative_to(source[0]):
        names["__file__"] = str(Path(source[1], file.relative_to(source[0])))
    # cloudpickle gives code no file but this; tracebacks have lines of it all the same.
    lines = linecache.getlines(str(names.get("__file__")))
    linecache.cache["<dynamic-code>"] = len("".join(lines)), None, lines, "<dynamic-code>"
    module = ModuleType("__main__")
    module.__dict__.update(names)
    if package := names.get("__package__"):  # it was started by `python -m`
        with suppress(Exception):  # then the processes of `multiprocessing` begin with the file
            module.__spec__ = find_spec(f"{package}.{file.stem}")
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module


def fail(todo: Todo) -> None:
    """Record the error that is being handled as the end of a run."""
    error = traceback.format_exc()
    say(error)
    todo.end(error)


def forget_chance() -> None:
    """Runs that are forked from one process would draw the same random numbers, if they set no seed."""
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    torch = sys.modules.get("torch")
    if torch and torch.initial_seed() >= 2**32:  # no seed of the app's own
        torch.seed()


def _take_share(place: int, here: int) -> None:
    """Leave this process the share of rank ``place`` of those ``here`` in the node's GPUs and CPUs, and the look of a
    job's only rank.

    GPUs go by the variables of their libraries, as with `srun --gpus-per-task`; ranks share one if they
    are more than the GPUs. CPUs go by the affinity mask, where that is the job's and nobody else's.
    """
    resources.sharing = here
    if all(os.environ.get(name, "none") == "none" for name in GPUS_OF_RANK):
        for name in VISIBLE_GPUS:
            if devices := [device for device in os.environ.get(name, "").split(",") if device]:
                os.environ[name] = ",".join(share_of(devices, place, here))
    cpus, of_job = sorted(os.sched_getaffinity(0)), int(os.environ.get("SLURM_CPUS_ON_NODE", here))
    if len(cpus) == of_job:
        os.sched_setaffinity(0, share_of(cpus, place, here))
    _use_cpus_of(here)
    for value, names in ALONE.items():
        os.environ.update({name: value for name in names if name in os.environ})


def _use_cpus_of(ranks: int) -> None:
    """Numerical libraries start a thread for each core that they see, joblib a process, which may be more than the
    job's: for one of so many ``ranks`` on this node no more than its own."""
    if of_job := os.environ.get("SLURM_CPUS_ON_NODE"):
        for name in ("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT"):
            os.environ.setdefault(name, str(max(int(of_job) // ranks, 1)))


def share_of(things: list[Any], place: int, places: int) -> list[Any]:
    """Those of ``things`` that belong to ``place``: one at least."""
    first = place * len(things) // places
    return things[first : max((place + 1) * len(things) // places, first + 1)]


def _reopen_streams() -> None:
    """A task may close what others still print to; Python leaves the descriptors open."""
    for descriptor, name in enumerate(("stdout", "stderr"), 1):
        stream = getattr(sys, name)
        with suppress(OSError):  # not so the task
            if stream is None or stream.closed:
                setattr(sys, name, os.fdopen(descriptor, "w", closefd=False))


def flush() -> None:
    """What was printed, as far as there is somebody to read it, and it is not closed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


@contextmanager
def printing_to(path: Path) -> Iterator[None]:
    """Append to ``path`` what the block, and what it starts, prints."""
    flush()
    before = os.dup(1), os.dup(2)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    try:
        yield
    finally:
        flush()
        with suppress(OSError):  # the block has closed what it did not know
            for number, descriptor in enumerate(before, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
