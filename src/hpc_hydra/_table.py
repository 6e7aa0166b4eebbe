"""The table of a sweep, as the command prints it at its end and `hpc status` at any time."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _metrics as metrics
from . import _records as records
from ._results import clock, flat, is_number, shown

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

COLORS = {
    "CANCELLED": "yellow", "COMPLETED": "green", "FAILED": "red", "LOST": "red", "OUT_OF_MEMORY": "red",
    "REQUEUED": "yellow", "RUNNING": "cyan", "STOPPED": "yellow", "SUSPENDED": "yellow",
    "TIMEOUT": "red",
}  # fmt: skip


def console() -> Console:
    """As wide as the terminal; elsewhere wide enough for any table, since a path that is cut is none, and without colours."""
    from rich.console import Console

    here = sys.stdout and sys.stdout.isatty()  # who closes it has none
    return Console(highlight=False) if here else Console(width=1000, highlight=False)


def listing(cells: Mapping[str, Sequence[str | Text]], whole: Collection[str] = ()) -> Table:
    """A table with these columns, of which the ``whole`` ones stand on one line."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    printed = Table(box=box.SIMPLE_HEAD)
    for name in cells:
        # What is cut off may be all that differs.
        printed.add_column(Text(name), no_wrap=name in whole, overflow="fold")
    for row in zip(*cells.values(), strict=True):
        printed.add_row(*(Text(each) if isinstance(each, str) else each for each in row))
    return printed


def print_table(directory: Path, rows: int = 100) -> None:
    """Print the runs of the sweep in ``directory``, and the logs of those that failed; on a terminal what
    may be typed next.

    Of more than ``rows`` runs, completed ones are left out.
    """
    from rich.table import Table

    runs = records.states(directory)
    where = console()
    for part in table(directory, runs, rows):
        where.print(part, soft_wrap=not isinstance(part, Table))  # paths are to be copied
    watched = sys.stdout and sys.stdout.isatty()
    if watched and not any(run["state"] in records.UNDER_WAY for run in runs):
        name = "" if directory == records.newest_sweep() else f" {shlex.quote(str(directory))}"
        commands = []
        if any(run["state"] == "COMPLETED" for run in runs):
            # Of several numbers hpc results has to be told which.
            best = " --best 10" if any(is_number(run.get("result")) for run in runs) else ""
            commands += [f"hpc results{name}{best}", f"hpc report{name}"]
        if any(map(records.early_end, runs)):
            commands.append(f"hpc retry{name}")
        print("next:", "\n      ".join(commands))


def table(directory: Path, runs: Sequence[dict[str, Any]], rows: int) -> list[RenderableType]:
    """``runs`` of the sweep in ``directory``, with more about those that failed, and a summary."""
    from rich.text import Text

    listed = runs if len(runs) <= rows else [run for run in runs if run["state"] != "COMPLETED"]
    parts: list[RenderableType] = []
    common, own = split(runs)
    if common:
        parts.append(Text(f"all runs: {' '.join(common)}"))
    cells: dict[str, list[str | Text]] = {}
    for run in listed[:rows]:
        step = metrics.newest_step(records.folder_of(directory, run["number"]))
        elapsed = records.running_s(run)
        row = {
            "run": str(run["number"]),
            "job": run.get("job_id") or "",
            "overrides": " ".join(own[str(run["number"])]),
            "state": Text(run["state"], COLORS.get(run["state"], "")),
            "waits for": _waits_for(run),
            "step": "" if step is None else str(step),
            "elapsed": "" if elapsed is None else clock(elapsed),
            "node": run.get("host") or "",
            "restarts": str(run.get("restarts") or ""),
            "result": short(run.get("result")),
        }
        for name, cell in row.items():
            cells.setdefault(name, []).append(cell)
    if cells:
        filled = {name: column for name, column in cells.items() if any(column)}
        parts.append(listing(filled, ("run", "state")))
    alike: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if end := records.early_end(run):
            alike.setdefault(end, []).append(run)
    for end, (run, *others) in list(alike.items())[:rows]:
        log_file = directory / (run.get("log") or str(run["number"]))
        log_text = ["no log"] if run.get("log") else []  # of a run by its directory none is known
        log_text = [f"log: {log_file}"] if log_file.exists() else log_text
        more = f" and {len(others)} more" if others else ""
        parts.append(Text(f"run {run['number']}{more} {end}"))
        line = " ".join([*own[str(run["number"])], *log_text])
        parts.append(Text(f"    {line}", overflow="ignore", no_wrap=True))
    if len(listed) > rows:
        parts.append(Text(f"and {len(listed) - rows} more; all of them: --rows={len(runs)}"))
    parts.append(Text(f"{len(runs)} runs: {records.counts(runs)}"))
    if (later := (records.last_submission(directory).get("total") or 0) - len(runs)) > 0:
        parts.append(Text(f"{later} more, of later batches, are not submitted yet"))
    parts.append(Text(f"outputs: {directory}", overflow="ignore", no_wrap=True))
    return parts


def split(runs: Sequence[Mapping[str, Any]]) -> tuple[list[str], dict[str, list[str]]]:
    """The overrides that all ``runs`` have, and those of each run's own, by its number; without Hydra's
    own and the preset. A single run's are its own."""
    overrides = {
        str(run["number"]): [each for each in run.get("overrides", []) if not records.hydras_own(each)]
        for run in runs
    }  # fmt: skip
    shared = set.intersection(*map(set, overrides.values())) if len(runs) > 1 else set()
    common = [each for each in next(iter(overrides.values()), []) if each in shared]
    return common, {
        number: [each for each in own if each not in shared] for number, own in overrides.items()
    }


def short(result: Any) -> str:
    """``result`` in a cell of a table."""
    if isinstance(result, Mapping):
        each = (f"{name[1:]}={shown(value)}" for name, value in flat("", result))
        return records.one_line(", ".join(each))
    return shown(result)


def _waits_for(run: Mapping[str, Any]) -> str:
    words = [run.get("reason") or ""]
    with suppress(ValueError):
        expected = datetime.fromisoformat(run.get("expected") or "")
        today = expected.date() == datetime.now().date()
        words.append(f"expected {expected:{'%H:%M' if today else '%b %d %H:%M'}}")
    return ", ".join(word for word in words if word)
