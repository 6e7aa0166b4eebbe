"""Waiting for the runs of a sweep: what is known of them, and what is shown of that."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from {{ cookiecutter.__package }}.hpc import squeue

from ._files import Result, Run, result_path

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
SHARE_OF_CORE = 0.01  # that looking takes at most, however many runs there are
LINE_EVERY_S = 10
QUEUE_EVERY_S = 30


class Watch:
    """Learns from the names of files in the folder of jobs which runs have begun and which are over."""

    def __init__(self, runs: Iterable[Run], folder: Path) -> None:
        self.folder = folder
        self.open = {run.number: run for run in runs if run.job_id}
        self.running: set[int] = set()
        self.results: dict[int, list[Path]] = {}
        self.failures: list[str] = []
        self.refused: dict[int, str] = {}  # why, of runs whose job could not begin them
        self.given_up: dict[int, str] = {}  # why, of runs that left no result
        self._names = {number: self._names_of(run) for number, run in self.open.items()}

    def _names_of(self, run: Run) -> tuple[str, list[tuple[str, str]]]:
        """Of its log, and for each rank of the result that it has if it completes, or fails."""
        results = [
            (
                result_path(self.folder, run.number, rank, True).name,
                result_path(self.folder, run.number, rank, False).name,
            )
            for rank in range(run.ranks)
        ]
        return Path(run.log or "").name, results

    def _error(self, run: Run) -> str:
        try:
            return Result(run.overrides, self.results[run.number]).error
        except Exception as error:
            return f"its result cannot be read: {error}"

    def give_up(self, run: Run, reason: str) -> None:
        """Wait no longer for a run that will leave no result."""
        self.given_up[run.number] = reason
        self._close(run, reason)

    def _close(self, run: Run, error: str) -> None:
        if error:
            last_line = error.strip().rpartition("\n")[2]
            self.failures.append(f"run {run.number} failed: {last_line}, log: {run.log}")
        self.running.discard(run.number)
        del self.open[run.number]

    def look(self) -> None:
        """Look into the folder once."""
        there = {entry.name for entry in os.scandir(self.folder)}
        for number, run in list(self.open.items()):
            log_name, results = self._names[number]
            found = [there.intersection(names) for names in results]
            if all(found):
                self.results[number] = [self.folder / min(names) for names in found]
                error = ""
                if not all(completed in there for completed, _ in results):
                    error = self._error(run)
                self._close(run, error)
            elif f"{run.job_id}_not_begun" in there:
                self.refused[number] = (self.folder / f"{run.job_id}_not_begun").read_text().strip()
            elif log_name in there:
                self.running.add(number)


class Queue:
    """Which jobs Slurm still has, asked every QUEUE_EVERY_S seconds."""

    def __init__(self) -> None:
        self._asked = time.monotonic()
        self._answers: list[dict[str, str]] = []

    def end_of(self, job_id: str) -> str | None:
        """Slurm's word for the end of the job, None if it goes on.

        It has ended if two answers say so: one may catch it between two states, and a network file
        system takes its time to show the result of a job that has just ended.
        """
        if time.monotonic() - self._asked > QUEUE_EVERY_S:
            answer = squeue.states()
            # An outage of Slurm ends no sweep.
            self._answers = [] if answer is None else [*self._answers[-1:], answer]
            self._asked = time.monotonic()
        states = [answer.get(job_id) for answer in self._answers]
        if len(states) < 2 or not all(map(squeue.is_over, states)):
            return None
        return states[-1] or states[0] or "no longer in Slurm's queue"


class View:
    """On a terminal a bar and the newest failures; elsewhere now and then a line in the log."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._on_terminal = console.is_terminal
        self._total = total
        self._began = time.monotonic()
        self._before: int | None = None  # runs that were over when the waiting began
        self._line = ""
        self._written = 0.0

    def __enter__(self) -> View:
        if self._on_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._on_terminal:
            self._live.stop()

    def show(self, watch: Watch) -> None:
        """Show how far the sweep is."""
        failed, running = len(watch.failures), len(watch.running)
        over = len(watch.results) + len(watch.given_up)
        pending = len(watch.open) - running
        line = f"{pending} pending, {running} running, {over - failed} done, {failed} failed"
        if self._before is None:
            self._before = over
        if new := over - self._before:
            seconds = (time.monotonic() - self._began) / new * len(watch.open)
            line += f", {_duration(seconds)} left" if watch.open else ""
        if self._on_terminal:
            self._live.update(self._picture(line, over, watch.failures[-3:]), refresh=True)
        elif line != self._line and time.monotonic() > self._written + LINE_EVERY_S:
            log.info(line)
            self._line, self._written = line, time.monotonic()

    def _picture(self, line: str, over: int, failures: list[str]) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(self._total, over, width=30), f"{over} of {self._total}: {line}")
        return Group(*(Text(failure, style="red") for failure in failures), bar)


def wait(
    watch: Watch,
    view: View,
    end_of: Callable[[str], str | None],
    give_up: Callable[[Run, str], str],
) -> None:
    """Until all runs of ``watch`` are over. One whose job has ended without a result, for the reason
    that ``end_of`` gives, is given up; ``give_up`` records that, and says what is known of it."""
    while True:
        began = time.process_time()  # by the clock it may be much longer, on a busy login node
        # Asked before the look: then what a job left at its end is seen.
        ends = {number: end_of(str(run.job_id)) for number, run in watch.open.items()}
        watch.look()
        for number, run in list(watch.open.items()):
            if reason := watch.refused.get(number) or ends[number]:
                watch.give_up(run, give_up(run, reason))
        view.show(watch)
        if not watch.open:
            return
        time.sleep(max(LOOK_EVERY_S, (time.process_time() - began) / SHARE_OF_CORE))


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 48:
        return f"about {hours // 24} days"
    if hours:
        return f"about {hours} h {minutes} min"
    return f"about {minutes} min" if minutes else "less than a minute"
