"""What a job executes on each of its task ranks: its runs, one after another, in a process of their own.

    python -m hydra_plugins.{{ cookiecutter.__package }}_launcher._supervisor SUBMISSION FIRST_JOB

This process only watches that one: what kills it costs one run, and the others get a new process. What
Slurm signals is passed on, and the job is requeued when the runs of all ranks have stopped.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from pathlib import Path

import submitit
from submitit.core.job_environment import SignalHandler
from submitit.core.utils import DelayedSubmission
from submitit.helpers import FunctionSequence

from {{ cookiecutter.__package }}.hpc import signals
from {{ cookiecutter.__package }}.hpc.files import write_atomically

from ._files import KILLED, Work, log_path, write_result
from ._worker import REQUEUE, Todo, work_off


class Supervisor:
    """Of one task rank of a job."""

    def __init__(self, submission: Path, first_job: int) -> None:
        """``first_job`` is the place in the submission of the first job of this job's array."""
        self.folder = submission.parent
        os.environ["SUBMITIT_FOLDER"] = str(self.folder)
        self.job = submitit.JobEnvironment()
        with submission.open("rb") as file:
            self.work: Work = pickle.load(file)
            self.payload = file.read()
        self.rank = self.job.global_rank
        self.ranks = self.job.num_tasks if self.work.use_srun else 1
        runs = self.work.jobs[first_job + int(self.job.array_task_id or 0)]
        alone = len(runs) == 1 and not self.work.shared
        rank = self.rank
        if self.work.shared:
            runs, rank = runs[self.rank :: self.ranks], 0
        self.todo = [
            Todo(self.folder, number, rank, overrides, None if alone else self._log(number, rank))
            for number, overrides in runs
        ]
        self.pid = os.getpid()
        self.child = 0
        self.received: list[int] = []
        self.asked_at = 0.0
        paths = self.job.paths
        if paths.submitted_pickle.exists():  # submitit counts in it how often time was over
            call = DelayedSubmission.load(paths.submitted_pickle)
        else:
            call = DelayedSubmission(FunctionSequence())
            call.set_timeout(self.work.timeout_min, self.work.max_num_timeout)
        self.requeueing = SignalHandler(self.job, paths, call)

    def _log(self, number: int, rank: int) -> Path:
        return log_path(self.folder, self.job.job_id, number, rank, alone=False)

    def supervise(self) -> int:
        """Return the exit code, when all runs are over or the job is to end before."""
        for number in signals.IGNORED:
            signal.signal(number, self._on_signal)
        self._gone(self.rank).unlink(missing_ok=True)
        for todo in self.todo:
            todo.result(completed=False).unlink(missing_ok=True)  # of before the job was requeued
        code = self._work_off()
        if self.ranks > 1:
            code = self._wait_for_others(code)
        if code != REQUEUE:
            return code if code >= 0 else 128 - code
        reason = "the first rank did not requeue the job"
        if self.rank == 0:
            try:
                self.requeueing.checkpoint_and_try_requeue(self.received[0])  # ends this process
            except Exception as error:
                reason = str(error)
        for todo in self._left():
            self._note(todo, f"stopped by {signal.Signals(self.received[0]).name}: {reason}")
        return 1

    def _left(self) -> list[Todo]:
        return [todo for todo in self.todo if not todo.is_over()]

    def _work_off(self) -> int:
        exit_code = 0
        while left := self._left():
            code = self._run(left)
            if self.received:
                return code
            exit_code = exit_code or code
            if unfinished := self._left():
                how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                self._note(unfinished[0], f"{KILLED} with {how}")
                exit_code = 1
        return exit_code

    def _run(self, left: list[Todo]) -> int:
        """The exit code of a process that works off ``left``; negative if it died of a signal."""
        child = os.fork()
        if child == 0:
            sys.exit(work_off(left, self.work, self.payload, self.job, self.received))
        self.child = child
        for number in self.received:  # before there was a child
            os.kill(child, number)
        status = os.waitpid(child, 0)[1]
        self.child = 0
        return os.waitstatus_to_exitcode(status)

    def _on_signal(self, number: int, frame: object) -> None:
        """Also in the process of the runs, as long as these have no handlers of their own."""
        if number != signal.SIGCONT:  # that one asks nobody to stop
            self.asked_at = self.asked_at or time.monotonic()
            self.received.append(number)
        if os.getpid() == self.pid:
            if self.child:
                os.kill(self.child, number)
        elif number == signals.WARNING:
            sys.exit(REQUEUE)

    def _gone(self, rank: int) -> Path:
        return self.folder / f"{self.job.job_id}_{rank}_gone"

    def _wait_for_others(self, code: int) -> int:
        """Requeueing ends all ranks at once, so the first one does it when the others have saved; and
        these stay, since Slurm may end a job one of whose ranks has left."""
        write_atomically(self._gone(self.rank), str(code))
        others = [self._gone(rank) for rank in range(1, self.ranks)]
        if self.rank == 0 and (self.work.shared or self.received):
            while not self._is_late(0) and not all(path.exists() for path in others):
                if not self.folder.exists():  # somebody removed the sweep
                    return code
                time.sleep(0.5)
            codes = [int(path.read_text()) for path in others if path.exists()]
            return REQUEUE if REQUEUE in codes and self.received else code
        while self.rank > 0 and self.received and not self._is_late(signals.HAND_OVER_S):
            time.sleep(0.5)
        return code

    def _is_late(self, seconds: float) -> bool:
        """Whether a run that was asked to stop has been handed over at the latest, ``seconds`` ago."""
        if not self.received:
            return False
        grace = signals.TERM_GRACE_S
        if signals.WARNING in self.received:
            grace = max(self.work.signal_delay_s - signals.HAND_OVER_S, 0)
        return time.monotonic() > self.asked_at + grace + 2 + seconds

    def _note(self, todo: Todo, error: str) -> None:
        """Record why a run is over that could not do so itself."""
        write_result(self.folder, todo.number, todo.rank, error=error)
        print(f"run {todo.number}: {error}", file=sys.stderr)
        if todo.log:
            with todo.log.open("a") as log:
                print(error, file=log)
        if todo.rank == 0:
            from {{ cookiecutter.__package }}.hpc import runs

            directory = self.work.sweep_dir / str(todo.number)
            runs.record_end(directory, todo.overrides, self.job.job_id, error)


if __name__ == "__main__":
    sys.exit(Supervisor(Path(sys.argv[1]), int(sys.argv[2])).supervise())
