"""`hpc ls`."""

from __future__ import annotations

import math
import os
import shlex
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import _records as records
from .._results import flat, is_number, names_of
from .._table import console, listing, short
from .recorded import place_of_app
from .sweeps import JSON, as_json, fail, looked_at

HEADINGS = ("start", "app", "overrides", "runs", "results", "directory")
FOLDED = 30  # columns; what a sweep varies may be longer, and takes more lines then


def ls(
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="Sweeps below it, at any depth; by default yours, wherever they are.",
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 20,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Your sweeps, of all repositories, the newest first.

    \b
    hpc                          the same
    hpc ls outputs/paper         sweeps below this folder, those of others too
    hpc ls --json | jq -r '.[0].directory'
    """
    if directory is None:
        sweeps = list(records.known_sweeps())
    elif directory.is_dir():
        sweeps = below(directory.absolute())
        sweeps.sort(key=lambda each: (each / records.SWEEP).stat().st_mtime, reverse=True)
    else:
        fail(f"{directory} is no directory.")
    found = [_summary(sweep, runs) for sweep, runs in looked_at(sweeps[:rows])]
    if json:
        as_json(found)
        return
    if not found:
        print(f"No sweeps below {directory}." if directory else "No sweeps yet.")
        return
    _print(found)
    if len(sweeps) > rows:
        print(f"and {len(sweeps) - rows} more; all of them: --rows={len(sweeps)}")


def below(directory: Path) -> list[Path]:
    """The sweeps in ``directory``, itself included; in a sweep none is looked for."""
    found = []
    for folder, folders, files in os.walk(directory):
        if records.SWEEP in files:
            found.append(Path(folder))
            folders.clear()
        folders[:] = [each for each in folders if not each.startswith(".")]
    return found


def _app(command: str) -> str:
    words = shlex.split(command)[1:]
    return Path(words[place_of_app(words)]).name if words else ""


def _summary(sweep: Path, runs: list[dict[str, Any]]) -> dict[str, Any]:
    record = records.read(sweep / records.SWEEP)
    submissions = record.get("submissions") or [{}]
    results: dict[str, list[float]] = {}
    for run in runs:
        for name, value in flat("result", run.get("result")):
            if is_number(value) and math.isfinite(value):
                results.setdefault(name, []).append(value)
    return {
        "start": record["start"],
        "app": _app(submissions[-1].get("command", "")),
        "overrides": records.shown(record["overrides"]),
        "runs": len(runs),
        "states": records.counts(runs),
        "results": {name: [min(values), max(values)] for name, values in results.items()},
        "directory": str(sweep),
    }


def _print(sweeps: list[dict[str, Any]]) -> None:
    where, directories = console(), [sweep["directory"] for sweep in sweeps]
    # A terminal has no room for what all have in common.
    names = names_of(directories) if where.is_terminal else {each: each for each in directories}
    rows = []
    for sweep in sweeps:
        results = ", ".join(
            " ".join([*name.split(".")[1:], " to ".join(dict.fromkeys(map(short, ends)))])
            for name, ends in islice(sweep["results"].items(), 2)
        )  # fmt: skip
        start = f"{datetime.fromisoformat(sweep['start']):%b %d %H:%M}"
        name = names[sweep["directory"]]
        rows.append((start, sweep["app"], sweep["overrides"], sweep["states"], results, name))
    cells = dict(zip(HEADINGS, zip(*rows, strict=True), strict=True))
    widths = {name: max(map(len, (name, *column))) + 3 for name, column in cells.items()}
    if sum(widths.values()) - max(widths["overrides"] - FOLDED, 0) < where.width:
        where.print(listing(cells, {*HEADINGS} - {"overrides"}))  # the directory is to be copied
    else:
        for start, app, overrides, states, results, name in rows:
            print("  ".join(filter(None, (start, app, states, results))))
            print(f"    {overrides}\n    {name}")
    if above := directories[0].removesuffix(names[directories[0]]):
        print(f"directories in {above}")
