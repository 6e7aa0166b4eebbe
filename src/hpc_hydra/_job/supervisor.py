"""What a job executes on each of its task ranks: its runs, one after another, each in a process of its own.

    python -m hpc_hydra._job.supervisor SUBMISSION FIRST_JOB

This process is forked for each, and has loaded what several of them need: what kills a run, or what it leaves
behind in memory, is nothing to the others. What Slurm signals is passed on. If runs have stopped for that, the
job script learns it from a file, and has the job requeued when all ranks have ended.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from .. import _attempt as attempt
from .. import _metrics as metrics
from .. import _records as records
from .. import _resources as resources
from .. import _signals as signals
from .. import checkpoints
from .._ranks import LOCAL, place
from .._signals import STOPPED, WARNING
from .submission import Work, log_name
from .watch import Watch
from .worker import Load, Todo, fail, flush, forget_chance, load, say, take_place

# Slurm's warning may come a minute early, and before this process starts a job has to set up its environment.
EARLY_S = 120
PR_SET_PDEATHSIG = 1  # of prctl(2)
LEFT_BEHIND_S = 2  # in which what a run has left behind may end


class Supervisor:
    """Of one task rank of a job."""

    def __init__(self, submission: Path, first_job: int) -> None:
        """``first_job`` is the place in the submission of the first job of this job's array."""
        self.folder = submission.parent
        os.environ["SUBMITIT_FOLDER"] = str(self.folder)  # for a task that asks submitit
        os.environ.setdefault("SUBMITIT_EXECUTOR", "slurm")
        self.local = LOCAL in os.environ
        element = 0 if self.local else int(os.environ["SLURM_ARRAY_TASK_ID"])
        of_array = f"{os.environ.get('SLURM_ARRAY_JOB_ID')}_{element}"
        self.job_id = os.environ["SUBMITIT_LOCAL_JOB_ID"] if self.local else of_array
        job = first_job + element
        self.work, self.payload, (runs,) = Work.read(submission, job, job + 1)
        attempt.file = self._word("attempt")
        self.rank, self.ranks, *self.on_node = place()
        alone = len(runs) == 1 and not self.work.shared
        rank = 0 if self.work.shared else self.rank
        self.todo_of_job = [
            Todo(
                self.folder, Path(self.work.sweep_dir, str(number)), number, rank, overrides, self.job_id,
                None if alone else self.folder / log_name(self.job_id, number, rank, alone=False),
            )
            for number, overrides in runs
        ]  # fmt: skip
        self.share = self.todo_of_job
        if self.work.shared:
            self.share = self.todo_of_job[self.rank :: self.ranks]
        # Runs that share a job are dealt: ranks take one after another. Otherwise each has its share.
        self.dealt = self.work.shared and self.work.process_per_run
        self.todo = [] if self.dealt else [*self.share]
        self.deck = iter(self.todo_of_job)
        # What several runs need is loaded ahead, and learned from the first one. A process that is forked cannot use a
        # GPU that has been used before, be it to see what is there.
        self._learning = self.work.process_per_run and len(runs) > 1
        self._loaded: Load | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self.began = time.monotonic()
        self.child = 0
        self.doing: list[Todo] = []  # by the child

    def supervise(self) -> int:
        """Return the exit code, when all runs are over or the job is to end before."""
        if self.local:  # whoever waits knows of submitit's process alone
            _end_with_parent()
            if os.getppid() != int(self.job_id):
                return 1
        for number in signals.SIGNALS:
            signal.signal(number, self._on_signal)
        self._word("starting").unlink(missing_ok=True)
        self._forget_results()
        code = self._work_off()
        # A Python that is about to end has no handlers any more, and its exit code would be that of the signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)
        # Of a task's own code: the job script takes 143 for a TERM that ended this process.
        return self._stop() if code == STOPPED else int(code != 0)

    def _forget_results(self) -> None:
        """Of before the job was requeued, as far as what they are of has to be done again."""
        if not self.work.shared and self.ranks > 1:
            for todo in self.todo:  # its ranks do it together or not at all
                each = [replace(todo, rank=rank).result(True) for rank in range(self.ranks)]
                if not all(path.exists() for path in each):
                    for completed in (True, False):
                        todo.result(completed).unlink(missing_ok=True)
        elif self.rank == 0 and all(todo.is_over() for todo in self.todo_of_job):
            for todo in self.todo_of_job:  # somebody requeued what had ended
                todo.result(completed=False).unlink(missing_ok=True)

    def _left(self) -> list[Todo]:
        return [todo for todo in self.todo if not todo.is_over()]

    def _next(self) -> list[Todo]:
        """What to do now."""
        if not self.work.process_per_run:
            return self._left()
        for todo in self.deck:
            if todo.is_over() or (self.dealt and not self._take(todo)):
                continue
            if not self._end_cancelled(todo):
                return [todo]
        return []

    def _take(self, todo: Todo) -> bool:
        """Whether no other rank has taken this run since the job script began, which removes these files; then it is
        this one's."""
        try:
            self._word(f"run_{todo.number}_taken").open("x").close()
        except FileExistsError:
            return False
        except OSError:  # no room for that
            if todo not in self.share:
                return False
        self.todo.append(todo)
        return True

    def _work_off(self) -> int:
        exit_code = int(any(todo.result(completed=False).exists() for todo in self.todo_of_job))
        if all(todo.is_over() for todo in self.todo_of_job):
            return exit_code
        take_place(self.work, *self.on_node)
        if self._learning:
            # PyTorch's question whether there is a GPU, which many ask at import, then uses none.
            os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
            self._loaded = self._load()
            if not self._loaded:
                return 1
        # What was loaded may have handlers of its own, which its runs are to have.
        self._handlers = {each: signal.signal(each, self._on_signal) for each in signals.SIGNALS}
        together = self.ranks > 1 and not self.work.shared
        while todos := self._next():
            began, kills = time.monotonic(), resources.oom_kills()
            if self._loaded:
                begin, _ = self._loaded
                begin(todos[0])
            code, usage = self._run(todos)
            if not signals.unheard and len(todos) == 1 and self._end_cancelled(todos[0]):
                continue
            no_memory = code == -signal.SIGKILL and resources.oom_kills() > kills
            # Slurm kills the processes of a job one after another, and this one perhaps last.
            killed = code == -signal.SIGKILL and signals.unheard and not no_memory
            if signals.handed_over[0] or -code in signals.unheard or killed:
                return STOPPED
            if code and signals.unheard and together:
                # Of ranks that work together one stops first, and the others fail for want of it.
                for todo in todos:
                    todo.result(completed=False).unlink(missing_ok=True)
                return STOPPED
            exit_code = exit_code or code
            if unfinished := [todo for todo in todos if not todo.is_over()]:
                how = f"exit code {code}" if code >= 0 else f"signal {-code}"
                if -code in set(signal.Signals):  # real-time signals have no names
                    how = signal.Signals(-code).name
                why = f"the process of the run ended with {how}"
                if no_memory:
                    why = resources.out_of_memory(usage)
                self._end(unfinished[0], why, resources.used(usage, time.monotonic() - began))
                self.todo.remove(unfinished[0])  # also if there was no place to record that
                exit_code = 1
        return exit_code

    def _load(self) -> Load | None:
        try:
            return load(self.work, self.payload)
        except (Exception, SystemExit):
            for todo in self.share:
                if not todo.is_over() and (not self.dealt or self._take(todo)):
                    fail(todo)
        return None

    def _run(self, todos: list[Todo]) -> tuple[int, resource.struct_rusage]:
        """The exit code of a process that does ``todos``, negative if it died of a signal, and what it used."""
        for todo in todos:
            say(f"hpc-hydra: run {todo.number} begins on {socket.gethostname()}, {records.now()}")
        memory = getattr(os, "memfd_create", lambda name: os.open(os.devnull, os.O_RDWR))
        with os.fdopen(memory("learned"), "w+b") as learned:
            self.doing = todos
            signals.handed_over[0] = 0
            alarm = signal.getsignal(signal.SIGALRM) or signal.SIG_DFL
            signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)
            child = self.child = os.fork()
            if child == 0:
                self._be_child(todos, learned)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
            watch = Watch()
            status, usage = watch.until_end_of(child)
            self.child, self.doing = 0, []
            code = os.waitstatus_to_exitcode(status)
            # Slurm ends what is left of a job that stops.
            goes_on = self.local or not signals.unheard
            if goes_on and (code < 0 or code == STOPPED):
                _end_left_behind(child)
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarm)
            attempt.hold()
            learned.seek(0)
            self._learn(learned.read().decode().split())
        if len(todos) == 1 and todos[0].rank == 0:
            watch.record(todos[0].directory, todos[0].job_id)
        return code, usage

    def _be_child(self, todos: list[Todo], learned: IO[bytes]) -> None:
        _end_with_parent()
        os.setpgid(0, 0)  # by which what it starts is known
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
        # Once it is learned, this would only copy the memory of what stands there.
        known = set(sys.modules) if self._learning else set()
        try:
            code = self._do(todos)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code != STOPPED:  # else no thread that the task left behind may hold up the requeueing
            with suppress(OSError):
                if known:
                    learned.write("\n".join(set(sys.modules) - known).encode())
                    learned.flush()
            with suppress(Exception):
                threading._shutdown()  # type: ignore[attr-defined]
                atexit._run_exitfuncs()
        flush()
        os._exit(code)  # to take the interpreter down takes as long as a short run

    def _do(self, todos: list[Todo]) -> int:
        if self._loaded:
            forget_chance()
        loaded = self._loaded or self._load()
        if not loaded:
            return 1
        code, (_, do) = 0, loaded
        for todo in todos:
            if (this := do(todo)) == STOPPED:
                return STOPPED
            code = code or this
        return code

    def _learn(self, modules: Iterable[str]) -> None:
        """Load what the first run has loaded, once for all that follow."""
        if self._learning:
            for name in modules:
                with suppress(Exception):
                    import_module(name)
            gc.freeze()
        self._learning = False

    def _on_signal(self, number: int, frame: object) -> None:
        """Also in the process of the runs, as long as these have no handlers of their own."""
        if number != signal.SIGCONT:  # that one asks nobody to stop
            signals.unheard.append(number)
        elif self.child and len(self.doing) == 1 and self._is_cancelled(self.doing[0]):
            number = signal.SIGTERM  # for this run, which may save; the others of the job go on
            signal.signal(signal.SIGALRM, lambda *_: self._pass_on(signal.SIGKILL))
            if not signal.getitimer(signal.ITIMER_REAL)[0]:  # hpc cancel goes on waking
                signal.setitimer(signal.ITIMER_REAL, signals.TERM_GRACE_S + signals.HAND_OVER_S)
        self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        if self.child:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.child, number)

    def _is_cancelled(self, todo: Todo) -> bool:
        """Whether `hpc cancel` has left word that this run, one of several of its job, is to end."""
        return records.cancelled_path(self.folder, todo.number).exists()

    def _end_cancelled(self, todo: Todo) -> bool:
        """Whether that was so; then it is over."""
        cancelled = self._is_cancelled(todo)
        if cancelled and not todo.is_over():
            self._end(todo, records.CANCELLED)
        return cancelled

    def _word(self, what: str) -> Path:
        """A file between the job script and its ranks."""
        return self.folder / f"{self.job_id}_{what}"

    def _stop(self) -> int:
        """Leave word that the runs are to go on; return the exit code, which ends no other rank."""
        warned = WARNING in signals.unheard
        number = WARNING if warned else next(iter(signals.unheard), signal.SIGTERM)
        for todo in self._left():
            if self._end_cancelled(todo):
                continue
            todo.end(signal.Signals(number).name, "STOPPED")
            say(f"hpc-hydra: run {todo.number} stopped")
        if self.local:
            from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE  # slow

            return LOCAL_REQUEUE_RETURN_CODE if warned else 128 + number
        # A warning counts as a time-out near the limit only, since Slurm sends it early to short jobs.
        limit_s = self.work.timeout_min * 60 - self.work.signal_delay_s - EARLY_S
        late = time.monotonic() - self.began > limit_s
        word = ("timeout" if late else "warned") if warned else "stopped"
        try:
            with self._word("stopped").open("a") as file:
                print(word, *self._steps(), file=file)
        except OSError as error:
            say(f"{error}")
            return STOPPED
        return 0

    def _steps(self) -> list[int]:
        """How many steps the runs of the job have come to, all together, if any of them says so."""
        found = [
            metrics.newest_step(todo.directory) if saved is None else saved
            for todo in self.todo_of_job
            for saved in [checkpoints.newest_step(todo.directory)]
        ]
        known = [step for step in found if step is not None]
        return [sum(known)] if known else []

    def _end(self, todo: Todo, error: str, used: dict[str, float] | None = None) -> None:
        """Record why a run is over that could not do so itself."""
        say(f"run {todo.number}: {error}")
        if todo.log:
            with suppress(OSError), todo.log.open("a") as log:
                print(error, file=log)
        todo.end(error, used=used)


def _end_left_behind(group: int) -> None:
    """End what a killed run has started, such as a pool's processes: the cores are others' now."""
    with suppress(ProcessLookupError, PermissionError):  # none of it is left
        for number in (0, signal.SIGTERM, signal.SIGKILL):  # W&B's service ends by itself, after 0
            os.killpg(group, number)
            deadline = time.monotonic() + LEFT_BEHIND_S
            while time.monotonic() < deadline:
                os.killpg(group, 0)
                time.sleep(0.02)


def _end_with_parent() -> None:
    """Nobody would know of a process that outlives the one which has started it."""
    with suppress(AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    # Of Python 3.12, about threads: those of numerical libraries, which are prepared for it.
    warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
    sys.exit(Supervisor(Path(sys.argv[1]), int(sys.argv[2])).supervise())
