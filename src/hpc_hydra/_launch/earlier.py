"""A sweep as earlier commands left it: which of its runs need a new job, and the way back if Slurm takes none."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from .. import _attempt as attempt
from .. import _records as records
from .._files import write_atomically
from .._job.submission import Run, result_path, write_result
from .._recording import LauncherError, refuse_another_sweep

ABOUT_TO_END_S = 30.0


# The jobs that may still give a result; one that has ``just_completed`` may, if it is not visible yet.
UnderWay = Callable[..., set[str]]


class Earlier:
    """What is known of a sweep in ``directory``, with its jobs' files in ``folder``, before a command changes it."""

    def __init__(
        self,
        directory: Path,
        folder: Path,
        overrides: Sequence[str],
        runs: list[Run],
        params: Mapping[str, Any],
        cluster: str,
    ) -> None:
        """Give ``runs`` the jobs that they have by the records.

        Args:
            overrides: of the command.
            params: of the launcher.
            cluster: where that submits to.

        Raises:
            LauncherError: the sweep is another one.
        """
        self.directory, self.folder, self.overrides = directory, folder, overrides
        self.params, self.cluster = params, cluster
        self.sweep = records.read_sweep(directory)  # later without the rows of these runs
        may_change = params["may_change"] or ()
        refuse_another_sweep(directory, self.sweep, overrides, map(vars, runs), may_change)
        numbers = {run.number for run in runs}
        rows = self.sweep.get("runs", [])
        self._rows = {row["number"]: row for row in rows if row["number"] in numbers}
        if self._rows:
            self.sweep["runs"] = [row for row in rows if row["number"] not in numbers]
        self._before = {**self.sweep}
        known = [(run, self._rows[run.number]) for run in runs if run.number in self._rows]
        self._changed = {run.number for run, row in known if row["overrides"] != run.overrides}
        for run, row in known:
            vars(run).update({**row, "overrides": run.overrides})
        if self._changed and params["only_runs"] is not None:
            raise LauncherError("hydra.launcher.may_change is for all runs: without only_runs")
        self._undo: dict[int, Callable[[], object]] = {}  # how what was there of a run comes back

    def make_way(self, runs: list[Run], under_way: UnderWay | None) -> list[Run]:
        """Those of ``runs`` that need a new job, with nothing of an earlier one in their way.

        Args:
            under_way: tells which jobs are; None if the sweep was last somewhere else.
        """
        there = {entry.name for entry in os.scandir(self.folder)}
        left = self._incomplete(runs, there)
        if under_way and any(run.job_id for run in left):
            left = self._without_job(left, runs, under_way, there)
        self._clear(left, there)
        return left

    def _incomplete(self, runs: list[Run], there: set[str]) -> list[Run]:
        """Those of ``runs`` that are to be done, or done again, as if somebody has deleted their directory."""
        # Of a directory that is named otherwise a link is left.
        entries = os.scandir(self.directory)
        kept = {each.name for each in entries if not each.is_symlink() or Path(each).exists()}
        only, redo = self.params["only_runs"], self.params["redo"]
        left = []
        for run in runs:
            if only is not None and run.number not in only:
                continue
            again = redo or run.number not in self._rows or run.number in self._changed
            if again or str(run.number) not in kept or not self._is_complete(run, there):
                left.append(run)
        return left

    def _is_complete(self, run: Run, there: set[str]) -> bool:
        paths = [result_path(self.folder, run.number, rank, True) for rank in range(run.ranks)]
        if all(path.name in there for path in paths):
            return True
        record = records.read(self.directory / str(run.number) / records.RUN)
        if run.ranks > 1 or record.get("state") != "COMPLETED":
            return False
        returned = JobReturn(run.overrides, status=JobStatus.COMPLETED)
        returned.return_value = record["result"]
        write_result(self.folder, run.number, 0, returned)
        return True

    def _without_job(
        self, left: list[Run], runs: list[Run], under_way: UnderWay, there: set[str]
    ) -> list[Run]:
        """Those of the runs ``left`` of ``runs`` whose job is not under way. One that has nothing more to do by the
        records of all its runs, but might take up what is given to a new one, is waited for."""

        def is_over(run: Run) -> bool:
            shown = result_path(self.folder, run.number, 0, True).name  # its record may be deleted
            over = shown in there or f"{run.job_id}_ended" in there
            over = over or attempt.is_superseded(self.folder, run.job_id)
            return over or records.has_ended(self.directory / str(run.number), run.job_id)

        ended = {str(run.job_id) for run in left}
        ended -= {str(run.job_id) for run in runs if run.job_id in ended and not is_over(run)}
        deadline = time.monotonic() + ABOUT_TO_END_S
        while (ending := ended & under_way(just_completed=False)) and time.monotonic() < deadline:
            time.sleep(0.5)
        going = under_way() - (ended - ending)
        if busy := sum(run.job_id in going and run.number in self._changed for run in left):
            raise LauncherError(
                f"{busy} runs are still running with the old values: wait for them, or "
                f"hpc cancel {shlex.quote(str(self.directory))}"
            )
        return [run for run in left if run.job_id not in going]

    def _clear(self, left: list[Run], there: set[str]) -> None:
        """Let the runs that are ``left`` begin, with nothing of an earlier job in their way."""
        results = any(name.startswith("run_") for name in there)  # perhaps without a record
        superseded: set[str] = set()
        for run in left:
            directory = self.directory / str(run.number)
            if self.params["redo"] and directory.exists():
                place = directory.resolve()
                kept = records.claim(self.directory / "earlier" / str(run.number))
                place.replace(kept)
                self._undo[run.number] = partial(kept.replace, place)
            elif run.number in self._changed and (path := directory / records.RUN).exists():
                self._undo[run.number] = partial(write_atomically, path, path.read_bytes())
                records.reopen(directory)
            if run.number not in self._rows and not results:
                continue
            for rank in range(run.ranks):
                for completed in (True, False):
                    result_path(self.folder, run.number, rank, completed).unlink(missing_ok=True)
            # Slurm may have lost a node on which the job goes on, and another command may wait for it.
            if run.job_id and run.job_id not in superseded:
                (self.folder / f"{run.job_id}_attempt").write_text(attempt.SUPERSEDED)
                superseded.add(run.job_id)
            run.job_id = run.log = None
            records.cancelled_path(self.folder, run.number).unlink(missing_ok=True)

    def record(self, runs: list[Run], submission: dict[str, Any] | None = None) -> None:
        """Record the sweep with the jobs of ``runs``, and a ``submission`` if there is a new one."""
        rows, sweep = self._recorded(runs), self.sweep
        records.record_sweep(self.directory, self.cluster, self.overrides, rows, submission, sweep)

    def _recorded(self, runs: list[Run]) -> Iterator[Mapping[str, Any]]:
        """The rows of ``runs``; one that is to have a new job has that of before, until Slurm has taken it, but the values
        with which it goes on."""
        for run in runs:
            row = vars(run) if run.job_id else self._rows.get(run.number, vars(run))
            yield {**row, "overrides": run.overrides} if run.number in self._changed else row

    def take_back(self, refused: list[Run], left: list[Run], runs: list[Run]) -> None:
        """Let the ``refused`` ones of the runs that were ``left`` be what they were before this command."""
        for run in refused:
            self._changed.discard(run.number)
            if run.number in self._undo:
                self._undo[run.number]()
        if len(refused) == len(left) and all(run.number in self._rows for run in left):
            rows, sweep = self._recorded(runs), self._before
            records.record_sweep(
                self.directory, sweep["cluster"], sweep["overrides"], rows, None, sweep
            )
