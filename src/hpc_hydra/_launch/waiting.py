"""Waiting for the runs of a sweep: what is known of them, and what is shown of that."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from .. import _squeue as squeue
from .._files import tail
from .._job.submission import Run, failed_first, log_of_rank, read_result, result_path
from .._records import last_line, said_at_end

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
SHARE_OF_CORE = 0.01  # that looking takes at most, however many runs there are
# Until the next look, though the first one, which finds hundreds of failures, took long.
LONGEST_S = 10
LINE_EVERY_S = 10
BAR = 30  # characters at most
TAIL = 2**16  # bytes of a log


class Watch:
    """Learns from the names of files in the folder of jobs which runs have begun and which are over."""

    def __init__(
        self,
        runs: Iterable[Run],
        folder: Path,
        queue: Queue,
    ) -> None:
        self.folder = folder
        self.queue = queue
        self.open = {run.number: run for run in runs if run.job_id}
        self.running: set[int] = set()
        self.results: dict[int, list[Path]] = {}
        self.failures: list[str] = []
        # Why, by the job script, a job ended without the run's results.
        self.ended: dict[int, str] = {}
        self.over = 0  # how many are

    def close(self, run: Run, error: str) -> None:
        """Wait no longer for a run, which failed if there is an ``error``."""
        if error:
            self.failures.append(f"run {run.number} failed: {last_line(error)}, log: {run.log}")
        self.over += 1
        self.running.discard(run.number)
        del self.open[run.number]

    def look(self) -> None:
        """Look into the folder once."""
        there = {entry.name for entry in os.scandir(self.folder)}
        # The ids of jobs that have files, on Slurm of two parts, and likewise `run_3`: of most runs that wait there is none.
        about: set[str | None] = set()
        for name in there:
            first, _, more = name.partition("_")
            about |= {first, f"{first}_{more.partition('_')[0]}"}
        for number, run in list(self.open.items()):
            has_result = f"run_{number}" in about
            if not has_result and run.job_id not in about:
                continue
            found = self._found(run, there) if has_result else []
            if found and all(found):
                self.results[number] = [self.folder / min(names) for names in found]
                self.close(run, self._blame(run, self.results[number]))
            elif f"{run.job_id}_ended" in there:
                error = self._blame(run, [self.folder / name for names in found for name in names])
                self.ended[number] = error or said_at_end(self.folder / f"{run.job_id}_ended")
            elif f"{run.job_id}_stopped" in there:  # its job waits to be requeued
                self.running.discard(number)
            elif (log_file := self._log(run)).name in there:
                # After a kill Slurm requeues jobs without a word in a file.
                at = self.queue.pending_at(str(run.job_id))
                waits = at and log_file.stat().st_mtime < at
                (self.running.discard if waits else self.running.add)(number)

    def _found(self, run: Run, there: set[str]) -> list[list[str]]:
        """For each rank of a run its results that are there: one, or both for a moment."""
        found = []
        for rank in range(run.ranks):
            paths = (result_path(self.folder, run.number, rank, done) for done in (True, False))
            found.append([path.name for path in paths if path.name in there])
        return found

    def _log(self, run: Run) -> Path:
        return self.folder / str(run.log).rpartition("/")[2]

    def _blame(self, run: Run, results: Sequence[Path]) -> str:
        """The error of the rank that failed first, blank if none has; the run's log is then that of this rank."""
        first = failed_first(results)
        if first is None:
            return ""
        run.log = log_of_rank(str(run.log), int(first.stem.split("_")[2]))
        try:
            return str(read_result(first)["error"])
        except Exception as unreadable:
            return f"its result cannot be read: {unreadable}"

    def explained(self, run: Run, end: str) -> str:
        """Slurm's word for the ``end`` of a job, and the last one in its log; or the error of a rank that could tell it."""
        results = [result_path(self.folder, run.number, rank, False) for rank in range(run.ranks)]
        if error := self._blame(run, [path for path in results if path.exists()]):
            return error
        path = self._log(run)
        if end == squeue.GONE and not path.exists():
            return squeue.NEVER_BEGUN
        text = tail(path, TAIL).strip()
        return f"{end}; its log ends with: {last_line(text)}" if text else end


class Queue:
    """Which jobs there still are, asked now and then."""

    def __init__(
        self,
        jobs: Collection[str],
        ask: Callable[[], Mapping[str, tuple[str, str]] | None],
        every_s: float,
        gone: str,
    ) -> None:
        """Args:
        jobs: those that are waited for.
        ask: for the state of each job, as Slurm calls it, and why it waits; None: nobody answers.
        gone: what is said of a job that the answer does not have.
        """
        self._jobs, self._ask, self._every_s, self._gone = jobs, ask, every_s, gone
        # How many wait for a reason that does not go away by itself.
        self.stuck: dict[str, int] = {}
        self._asked = time.monotonic()
        self._answered = 0.0  # by the clock that files have their times from
        self._answers: list[dict[str, str]] = []
        self._ends: dict[str | None, str] = {}

    def pending_at(self, job_id: str) -> float:
        """When it was last said that the job waits to begin; 0 if it is not said."""
        waits = self._answers and self._answers[-1].get(job_id) == "PENDING"
        return self._answered if waits else 0

    def ends(self) -> Mapping[str | None, str]:
        """The word for the end of each job that has ended.

        It has ended if two answers say so: one may catch it between two states, and a network file
        system takes its time to show the result of a job that has just ended.
        """
        if time.monotonic() - self._asked > self._every_s:
            self._answered = time.time()
            answer = self._ask()
            # An outage of Slurm ends no sweep.
            known = {job: answer[job] for job in self._jobs if job in answer} if answer else {}
            now = {job: state for job, (state, _) in known.items()}
            self._answers = [] if answer is None else [*self._answers[-1:], now]
            why = (why for state, why in known.values() if squeue.waits(state))
            self.stuck.update(Counter(filter(squeue.STUCK.search, why)))
            self._asked = time.monotonic()
            self._ends = {}
            for job in self._jobs if len(self._answers) == 2 else ():
                before, after = (states.get(job) for states in self._answers)
                if squeue.is_over(before) and squeue.is_over(after):
                    self._ends[job] = after or before or self._gone
        return self._ends


class View:
    """On a terminal a bar, below the failures; elsewhere now and then a line in the log."""

    def __init__(self, total: int) -> None:
        self._total = total
        # Of rich's bar and console a waiting process would take three megabytes more.
        shown = sys.stderr and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = shown or bool(os.environ.get("FORCE_COLOR"))
        self._began: float | None = None
        self._told = 0  # failures
        self._said: set[str] = set()  # why jobs will not begin
        self._written = ("", 0.0)

    def __enter__(self) -> View:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._drawn:
            self._draw("")

    def show(self, watch: Watch) -> None:
        """Show how far the sweep is."""
        failed, running, over = len(watch.failures), len(watch.running), watch.over
        pending = len(watch.open) - running
        line = f"{pending} pending, {running} running, {over - failed} done, {failed} failed"
        before, at = self._written
        for why, jobs in watch.queue.stuck.items():
            if why not in self._said:
                self._said.add(why)
                if self._drawn:
                    self._draw("")
                log.warning("as things are, %d jobs will not begin: %s", jobs, why)
        if self._drawn:
            for failure in watch.failures[self._told :]:
                red = failure if "NO_COLOR" in os.environ else f"\x1b[31m{failure}\x1b[0m"
                self._draw(red, "\n")
            self._told = failed
            self._draw(self._bar(over, running, line))
        elif line != before and time.monotonic() > at + LINE_EVERY_S:
            log.info(line)
            self._written = line, time.monotonic()

    def _bar(self, over: int, running: int, line: str) -> str:
        if self._began is None and (over or running):
            self._began = time.monotonic()
        text = f"{over} of {self._total}: {line}"
        if self._began is not None and over:
            seconds = (time.monotonic() - self._began) / over * (self._total - over)
            text += f", {timedelta(seconds=int(seconds))} to go"
        columns = shutil.get_terminal_size().columns - 1
        width = min(max(columns - len(text) - 1, 0), BAR)
        return f"{'━' * round(width * over / self._total):<{width}} {text}"[:columns]

    @staticmethod
    def _draw(text: str, end: str = "") -> None:
        """Write ``text`` in place of the bar."""
        print(f"\r\x1b[K{text}", end=end, file=sys.stderr, flush=True)


def wait(watch: Watch, view: View, give_up: Callable[[Run, str], None]) -> None:
    """Until all runs of ``watch`` are over. One whose job has ended without a result, for the reason
    that the job script or the queue gives, is given up; ``give_up`` records that."""
    while True:
        began = time.process_time()  # by the clock it may be much longer, on a busy login node
        # Asked before the look: then what a job left at its end is seen.
        ends = watch.queue.ends()
        watch.look()
        for number, run in list(watch.open.items()):
            end = ends.get(run.job_id)
            if reason := watch.ended.get(number) or (end and watch.explained(run, end)):
                give_up(run, reason)
                watch.close(run, reason)
        view.show(watch)
        if not watch.open:
            return
        pause = (time.process_time() - began) / SHARE_OF_CORE
        time.sleep(min(max(LOOK_EVERY_S, pause), LONGEST_S))
