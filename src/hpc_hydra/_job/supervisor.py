"""What a job executes on each of its task ranks: its runs, one after another, in a process of their own.

    python -m hpc_hydra._job.supervisor SUBMISSION FIRST_JOB

This process only watches that one: what kills it costs one run, and the others get a new process. What
Slurm signals is passed on, and the job is requeued when the runs of all ranks have stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import submitit

from .. import _signals as signals
from .. import _squeue as squeue
from .._files import open_own, write_atomically
from .._signals import STOPPED, WARNING
from .submission import KILLED, Work, log_path
from .worker import Todo, say, work_off

# Slurm's warning may come a minute early, and before this process starts a job has to set up its environment.
EARLY_S = 120
# Of the job, by Slurm: files of before are not taken for those of now.
RESTARTS = os.environ.get("SLURM_RESTART_COUNT", "0")


class Supervisor:
    """Of one task rank of a job."""

    def __init__(self, submission: Path, first_job: int) -> None:
        """``first_job`` is the place in the submission of the first job of this job's array."""
        self.folder = submission.parent
        os.environ["SUBMITIT_FOLDER"] = str(self.folder)
        self.job = submitit.JobEnvironment()
        with open_own(submission) as file:
            self.work = Work.read(file)
            self.payload = file.read()
        self.rank = self.job.global_rank
        self.ranks = self.job.num_tasks if self.work.use_srun else 1
        runs = self.work.jobs[first_job + int(self.job.array_task_id or 0)]
        alone = len(runs) == 1 and not self.work.shared
        rank = 0 if self.work.shared else self.rank
        job_id = self.job.job_id
        self.todo_of_job = [
            Todo(
                self.folder, Path(self.work.sweep_dir, str(number)), number, rank, overrides, job_id,
                None if alone else log_path(self.folder, job_id, number, rank, alone=False),
            )
            for number, overrides in runs
        ]  # fmt: skip
        own = slice(self.rank, None, self.ranks) if self.work.shared else slice(None)
        self.todo = self.todo_of_job[own]
        self.began = time.monotonic()
        self.child = 0
        self.asked_at = 0.0

    def supervise(self) -> int:
        """Return the exit code, when all runs are over or the job is to end before."""
        for number in signals.SIGNALS:
            signal.signal(number, self._on_signal)
        self._gone(self.rank).unlink(missing_ok=True)
        self._forget_results()
        code = self._work_off()
        if self.ranks > 1:
            code = self._wait_for_others(code)
        if code == STOPPED:  # for anything but 0 of another rank srun would end the first one
            return self._stop() if self.rank == 0 else 0
        for todo in self._left():
            self._end(todo, f"stopped, since another rank of its job ended with exit code {code}")
        return code if code >= 0 else 128 - code

    def _forget_results(self) -> None:
        """Of before the job was requeued, as far as what they are of has to be done again."""
        if not self.work.shared and self.ranks > 1:
            for todo in self.todo:  # its ranks do it together or not at all
                each = [replace(todo, rank=rank).result(True) for rank in range(self.ranks)]
                if not all(path.exists() for path in each):
                    for completed in (True, False):
                        todo.result(completed).unlink(missing_ok=True)
        elif all(todo.is_over() for todo in self.todo_of_job):  # somebody requeued what had ended
            for todo in self.todo:
                todo.result(completed=False).unlink(missing_ok=True)

    def _left(self) -> list[Todo]:
        return [todo for todo in self.todo if not todo.is_over()]

    def _work_off(self) -> int:
        exit_code = int(any(todo.result(completed=False).exists() for todo in self.todo))
        together = self.ranks > 1 and not self.work.shared
        while left := self._left():
            code = self._run(left)
            if code == STOPPED or -code in signals.unheard:
                return STOPPED
            if code and signals.unheard and together:
                # Of ranks that work together one stops first, and the others fail for want of it.
                for todo in left:
                    todo.result(completed=False).unlink(missing_ok=True)
                return STOPPED
            exit_code = exit_code or code
            if unfinished := self._left():
                how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                self._end(unfinished[0], f"{KILLED} with {how}")
                self.todo.remove(unfinished[0])  # also if there was no place to record that
                exit_code = 1
        return exit_code

    def _run(self, left: list[Todo]) -> int:
        """The exit code of a process that works off ``left``; negative if it died of a signal."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)
        child = self.child = os.fork()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
        if child == 0:
            self._be_child(left)
        status = os.waitpid(child, 0)[1]
        self.child = 0
        return os.waitstatus_to_exitcode(status)

    def _be_child(self, left: list[Todo]) -> None:
        code: int | str | None
        try:
            code = work_off(left, self.work, self.payload, self.job)
        except SystemExit as end:
            code = end.code
        if code == STOPPED:  # no thread that the task left behind may hold up the requeueing
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(STOPPED)
        sys.exit(code)

    def _on_signal(self, number: int, frame: object) -> None:
        """Also in the process of the runs, as long as these have no handlers of their own."""
        if number != signal.SIGCONT:  # that one asks nobody to stop
            self.asked_at = self.asked_at or time.monotonic()
            signals.unheard.append(number)
        if self.child:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.child, number)

    def _gone(self, rank: int) -> Path:
        return self.folder / f"{self.job.job_id}_{rank}_gone_{RESTARTS}"

    def _over(self) -> Path:
        return self.folder / f"{self.job.job_id}_over_{RESTARTS}"

    def _wait_for_others(self, code: int) -> int:
        """Requeueing ends all ranks at once, so the first one does it when the others have saved; and
        these stay, since Slurm may end a job one of whose ranks has left."""
        with suppress(OSError):  # the others then wait as long as they may
            write_atomically(self._gone(self.rank), str(code))
        others = [self._gone(rank) for rank in range(1, self.ranks)]
        if self.rank == 0 and (self.work.shared or code == STOPPED or signals.unheard):
            while not self._is_late(0) and not all(path.exists() for path in others):
                if not self.folder.exists():  # somebody removed the sweep
                    return code
                if self.work.shared and all(todo.is_over() for todo in self.todo_of_job):
                    break
                time.sleep(0.5)
            codes = [code, *(int(path.read_text()) for path in others if path.exists())]
            failed = [each for each in codes if each not in (0, STOPPED)]
            if failed and not self.work.shared:  # on one rank, hence on all
                return failed[0]
            return STOPPED if STOPPED in codes else code
        while self.rank > 0 and signals.unheard and not self._is_late(signals.HAND_OVER_S):
            if self._over().exists():
                break
            time.sleep(0.5)
        return code

    def _is_late(self, seconds: float) -> bool:
        """Whether a run that was asked to stop has been handed over at the latest, ``seconds`` ago."""
        if not signals.unheard:
            return False
        grace: float = signals.TERM_GRACE_S
        if WARNING in signals.unheard:
            grace = max(self.work.signal_delay_s - signals.HAND_OVER_S, 0)
        return time.monotonic() > self.asked_at + grace + 2 + seconds

    def _stop(self) -> int:
        """Requeue the job, unless Slurm does so itself or does not want it any more; return the exit
        code if it is not requeued."""
        number = next(iter(signals.unheard), signal.SIGTERM)
        if WARNING in signals.unheard:
            number = WARNING
        left = [todo for todo in self.todo_of_job if not todo.is_over()]
        for todo in left:
            todo.end(signal.Signals(number).name, "STOPPED")
        # It may have been cancelled or preempted after the warning, and must not come back, or does.
        fate = squeue.fate(self.job.job_id) if self.job.cluster == "slurm" else None
        if fate == "RUNNING" or (number == WARNING and fate in (None, "TIMEOUT")):
            fate = self._requeue()
        if fate not in (None, "REQUEUED"):
            for todo in left:
                if not todo.is_over():
                    self._end(todo, fate)
        with suppress(OSError):
            self._over().touch()  # nobody waits for us any more
        return 128 + number

    def _requeue(self) -> str:
        """End this process, requeued; or return why the runs do not go on."""
        granted = self.work.max_num_timeout - self._count_timeouts()
        if granted < 0:
            return "TIMEOUT: time was over more often than hydra.launcher.max_num_timeout allows"
        refusals = 0
        while True:
            try:
                self.job._requeue(granted)
                sys.exit(STOPPED)
            except (OSError, subprocess.SubprocessError) as error:
                say(f"not requeued: {error}; trying again")
                fate = squeue.fate(self.job.job_id)
                refusals += fate is not None
                if fate not in (None, "RUNNING"):
                    return fate
                if refusals > 1:
                    return f"not requeued: {error}"
                time.sleep(2)

    def _count_timeouts(self) -> int:
        """How often the time of the job was over, by now: a warning says so near the limit."""
        path = self.folder / f"{self.job.job_id}_timeouts"
        number = int(path.read_text()) if path.exists() else 0
        warned_after_s = self.work.timeout_min * 60 - self.work.signal_delay_s - EARLY_S
        if WARNING in signals.unheard and time.monotonic() - self.began > warned_after_s:
            number += 1
            with suppress(OSError):
                write_atomically(path, str(number))
        return number

    def _end(self, todo: Todo, error: str) -> None:
        """Record why a run is over that could not do so itself."""
        say(f"run {todo.number}: {error}")
        if todo.log:
            with suppress(OSError), todo.log.open("a") as log:
                print(error, file=log)
        todo.end(error)


if __name__ == "__main__":
    sys.exit(Supervisor(Path(sys.argv[1]), int(sys.argv[2])).supervise())
