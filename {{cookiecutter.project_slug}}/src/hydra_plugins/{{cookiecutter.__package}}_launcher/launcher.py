"""The stock submitit launchers, with records, progress, and no result lost.

What differs from them: a run whose task raises fails its job too; one failed run leaves the results
of the others alone; a job that was killed is noticed without accounting, since `squeue` no longer
lists it; runs and jobs are recorded in `sweep.json`; runs on this machine wait for a free core.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import time
from abc import abstractmethod
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra_plugins.hydra_submitit_launcher import submitit_launcher as stock

from {{ cookiecutter.__package }}.hpc import runs, signals, squeue

if TYPE_CHECKING:
    import submitit

log = logging.getLogger(__name__)

QUEUE_EVERY_S = 30


class RunFailed(CompactHydraException):
    """A run of the sweep did not complete."""


class _Launcher(stock.BaseSubmititLauncher):
    """What both launchers do: submit, wait, record, tell."""

    def __call__(self, *args: Any, **kwargs: Any) -> JobReturn:
        """Run in the job. Raises what the task raised, so that the job fails and logs it."""
        job_return: JobReturn = super().__call__(*args, **kwargs)
        if job_return.status is JobStatus.FAILED:
            raise job_return._return_value
        return job_return

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submit a job for each list of overrides, wait for them and print the sweep's table.

        The ``return_value`` of a run that did not complete raises RunFailed.
        """
        assert self.config is not None
        self.directory = Path(self.config.hydra.sweep.dir)
        state = Singleton.get_state()
        calls = [
            (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", state)
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        log.info("runs: %d, outputs in %s", len(calls), self.directory)
        executor = self._make_executor()
        self._record([], calls)
        jobs = self._submit(executor, calls, running=0)
        try:
            self._record(jobs, calls)
            with _Progress(len(calls)) as progress:
                while True:
                    running = [job for job in jobs if not self._is_over(job)]
                    progress.show(jobs, running)
                    if len(jobs) == len(calls) and not running:
                        break
                    if new := self._submit(executor, calls[len(jobs) :], len(running)):
                        jobs += new
                        self._record(jobs, calls)
                    time.sleep(0.5)
        except KeyboardInterrupt:
            self._on_interrupt(jobs)
            sys.exit(130)
        returns = [self._outcome(job, call) for job, call in zip(jobs, calls, strict=True)]
        runs.print_table(self.directory)
        failed = [job_return for job_return in returns if job_return.status is JobStatus.FAILED]
        for job_return in failed:
            job_return.return_value = RunFailed(
                f"{len(failed)} of {len(returns)} runs failed, see the table above."
            )
        return returns

    @abstractmethod
    def _make_executor(self) -> submitit.Executor:
        """With the launcher's parameters."""

    @abstractmethod
    def _submit(
        self, executor: submitit.Executor, calls: Sequence[Any], running: int
    ) -> list[submitit.Job[JobReturn]]:
        """Start as many of ``calls``, in their order, as may run beside the ``running`` jobs."""

    @abstractmethod
    def _is_over(self, job: submitit.Job[JobReturn]) -> bool: ...

    @abstractmethod
    def _on_interrupt(self, jobs: Sequence[submitit.Job[JobReturn]]) -> None: ...

    def _record(self, jobs: Sequence[submitit.Job[JobReturn]], calls: Sequence[Any]) -> None:
        """Record all runs, and the job of those that have one."""
        records = []
        for job, (overrides, _, number, *_) in zip_longest(jobs, calls):
            path = job and os.path.relpath(job.task(0).paths.stdout, self.directory)
            job_id = job and job.job_id
            records.append(
                {"number": number, "overrides": overrides, "job_id": job_id, "log": path}
            )
        runs.record_sweep(self.directory, self._EXECUTOR, records)

    def _outcome(self, job: submitit.Job[JobReturn], call: Any) -> JobReturn:
        """What rank 0 returned if all ranks of the run completed."""
        overrides, _, number, *_ = call
        if _has_results(job):
            error = job.exception()
            if error is None:
                return job.results()[0]
            reason = str(error)
        else:
            reason = f"the job ended without a result; its log ends with: {_last_line(job)}"
        runs.record_end(self.directory / str(number), overrides, job.job_id, reason)
        return JobReturn(overrides=overrides, status=JobStatus.FAILED)


class SlurmLauncher(_Launcher, stock.SlurmLauncher):
    """Submits a sweep as one job array."""

    def _make_executor(self) -> submitit.Executor:
        from ._executor import SlurmExecutor

        parameters = dict(self.params)
        folder = parameters.pop("submitit_folder")
        if re.search(r"[%\\]", folder):
            raise CompactHydraException(
                f"{folder}: sbatch gives % and \\ in the names of logs a meaning; "
                "choose another directory with hydra.sweep.dir="
            )
        return SlurmExecutor(folder, **parameters)

    def _submit(
        self, executor: submitit.Executor, calls: Sequence[Any], running: int
    ) -> list[submitit.Job[JobReturn]]:
        from submitit.core.utils import FailedJobError

        if not calls:
            return []
        try:
            jobs = executor.map_array(self, *zip(*calls, strict=True))
        except FailedJobError as error:
            raise CompactHydraException(f"Slurm did not take the job: {error}") from error
        self._queue = _Queue()
        log.info("submitted as Slurm job %s", jobs[0].job_id.partition("_")[0])
        return jobs

    def _is_over(self, job: submitit.Job[JobReturn]) -> bool:
        return _has_results(job) or self._queue.has_left(job.job_id)

    def _on_interrupt(self, jobs: Sequence[submitit.Job[JobReturn]]) -> None:
        ids = " ".join(sorted({job.job_id.partition("_")[0] for job in jobs}))
        package = runs.__package__.partition(".")[0]
        print(
            "\nNo longer waiting; the jobs go on. "
            f"Look with\n    python -m {package}.hpc.runs {self.directory}\n    squeue --me\n"
            f"Cancel them with\n    scancel {ids}",
            file=sys.stderr,
        )


class LocalLauncher(_Launcher, stock.LocalLauncher):
    """Runs on this machine, at most as many at a time as its cores hold."""

    def _make_executor(self) -> submitit.Executor:
        import submitit

        parameters = dict(self.params)
        executor = submitit.AutoExecutor(parameters.pop("submitit_folder"), cluster="local")
        executor.update_parameters(**parameters)
        return executor

    def _submit(
        self, executor: submitit.Executor, calls: Sequence[Any], running: int
    ) -> list[submitit.Job[JobReturn]]:
        cores_per_run = (self.params["cpus_per_task"] or 1) * self.params["tasks_per_node"]
        # Numerical libraries start a thread for each core of the machine unless told otherwise.
        os.environ.setdefault("OMP_NUM_THREADS", str(self.params["cpus_per_task"] or 1))
        places = max(len(os.sched_getaffinity(0)) // cores_per_run, 1)
        # Ctrl-C is for the waiting process: what it starts inherits that it is ignored.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return [executor.submit(self, *call) for call in calls[: max(places - running, 0)]]
        finally:
            signal.signal(signal.SIGINT, before)

    def _is_over(self, job: submitit.Job[JobReturn]) -> bool:
        return job.done()

    def _on_interrupt(self, jobs: Sequence[submitit.Job[JobReturn]]) -> None:
        running = [job for job in jobs if not job.done()]
        print(f"\nStopping {len(running)} runs; they save what they can.", file=sys.stderr)
        for job in running:
            os.kill(int(job.job_id), signal.SIGTERM)  # submitit passes it on to the run
        deadline = time.monotonic() + signals.TERM_GRACE_S + signals.HAND_OVER_S
        while time.monotonic() < deadline and not all(job.done() for job in running):
            time.sleep(0.1)
        if not all(job.done() for job in running):
            folder = self.params["submitit_folder"]
            print(f"Some go on; end them with\n    pkill -KILL -f {folder}", file=sys.stderr)
        print(
            f"To go on from there, repeat the command with\n    hydra.sweep.dir={self.directory}",
            file=sys.stderr,
        )


class _Queue:
    """Which jobs Slurm still has, asked every QUEUE_EVERY_S seconds."""

    def __init__(self) -> None:
        self._asked = time.monotonic()
        self._answers: list[set[str]] = []

    def has_left(self, job_id: str) -> bool:
        """Whether the job is in neither of the last two answers: one may catch it between two states,
        and a network file system takes its time to show the result of a job that has just ended."""
        if time.monotonic() - self._asked > QUEUE_EVERY_S:
            answer = squeue.states()
            # An outage of Slurm ends no sweep.
            self._answers = [] if answer is None else [*self._answers[-1:], set(answer)]
            self._asked = time.monotonic()
        return len(self._answers) == 2 and not any(job_id in jobs for jobs in self._answers)


class _Progress:
    """A bar on a terminal; elsewhere a line in the log whenever a number changes."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._line = ""
        self._console = Console(stderr=True)
        self._bar = Progress(
            BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
            console=self._console, transient=True, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total)
        self._total = total

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def show(self, jobs: Sequence[Any], unfinished: Sequence[Any]) -> None:
        over = len(jobs) - len(unfinished)
        running = sum(job.task(0).paths.stdout.exists() for job in unfinished)
        line = f"{over} of {self._total} runs over, {running} running"
        self._bar.update(self._task, completed=over, description=line)
        if line != self._line and not self._console.is_terminal:
            log.info(line)
        self._line = line


def _has_results(job: submitit.Job[JobReturn]) -> bool:
    return all(job.task(rank).paths.result_pickle.exists() for rank in range(job.num_tasks))


def _last_line(job: submitit.Job[JobReturn]) -> str:
    path = job.task(0).paths.stdout
    text = path.read_text(errors="replace").strip() if path.exists() else ""
    return text.rpartition("\n")[2] or "(no log)"
