"""`hpc status`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from .. import _records as records
from .sweeps import JSON, SWEEP, as_json, named, told

LOOK_EVERY_S = 10  # at the records, and into Slurm's queue


def status(
    sweep: Annotated[str | None, SWEEP] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until all are over.")] = False,
    rows: Annotated[
        int, typer.Option(min=0, help="At most so many; completed ones are left out first.")
    ] = 100,
    json: Annotated[bool, JSON] = False,
) -> None:
    """The runs of a sweep: state, step, result, log.

    And why one waits, and when Slurm expects to start it.

    \b
    hpc status                   of your newest sweep
    hpc status fig1 --watch      of that in .../fig1, until its runs are over
    hpc status --json | jq '.runs[] | select(.state == "FAILED") | .number'
    """
    from .. import _table

    directory = named(sweep)
    if json:
        runs = [told(directory, run) for run in records.states(directory)]
        overrides = records.read(directory / records.SWEEP).get("overrides")
        as_json({"directory": str(directory), "overrides": overrides, "runs": runs})
    elif watch:
        _watch(directory, rows)
    else:
        _table.print_table(directory, rows)


def _watch(directory: Path, rows: int) -> None:
    from rich.console import Group
    from rich.live import Live

    from .. import _table

    where, before = _table.console(), ""
    with Live(console=where, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            runs = records.states(directory)
            if not any(run["state"] in records.UNDER_WAY for run in runs):
                break
            if where.is_terminal and not where.is_dumb_terminal:
                live.update(Group(*_table.table(directory, runs, rows)), refresh=True)
            elif (line := records.counts(runs)) != before:
                print(line, flush=True)
                before = line
            time.sleep(LOOK_EVERY_S)
        live.update("", refresh=where.is_terminal)
    _table.print_table(directory, rows)
