"""What a shell completes beside commands and options: sweeps, runs, and names in their records."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, suppress
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from .. import _records as records
from .._metrics import read_metrics

MOST = 50  # sweeps, the newest
PLAIN = re.compile(r"[\w./,@%+-]+")  # what no shell wants in quotes

Complete = Callable[[typer.Context, str], list[str]]


def _quietly(find: Callable[[typer.Context, str], Iterable[str]]) -> Complete:
    """What ``find`` gives, of which Typer offers that which begins as was typed. What is wrong is no matter
    here: it would be printed into the line that is typed."""

    @wraps(find)
    def found(context: typer.Context, incomplete: str) -> list[str]:
        with suppress(Exception), redirect_stderr(io.StringIO()):
            return [*find(context, incomplete)]
        return []

    return found


@_quietly
def sweeps(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Of the directory of each as much of its end as no other has."""
    paths = records.remembered()
    parts = [path.split("/") for path in paths]
    ends = [["/".join(each[at:]) for at in reversed(range(len(each)))] for each in parts]
    times = Counter(end for of_path in ends for end in of_path)
    found = 0
    for path, of_path in zip(paths, ends, strict=True):
        fitting = (end for end in of_path if times[end] == 1 and end.startswith(incomplete))
        end = next(fitting, "")
        if PLAIN.fullmatch(end) and records.is_sweep(Path(path)):
            yield end
            if (found := found + 1) == MOST:
                return


@_quietly
def runs(context: typer.Context, incomplete: str) -> Iterator[str]:
    """The numbers of those of the sweep that is named, or of the newest."""
    return (str(run["number"]) for run in _sweep(context)[1])


@_quietly
def sweep_and_run(context: typer.Context, incomplete: str) -> Iterator[str]:
    if not context.params.get("words"):
        yield from sweeps(context, incomplete)
    yield from runs(context, incomplete)


@_quietly
def parameters(context: typer.Context, incomplete: str) -> Iterator[str]:
    """What varies in the sweep."""
    from .._results import parameters_of

    rows = [parameters_of(run["overrides"]) for run in _sweep(context)[1]]
    names = dict.fromkeys(name for row in rows for name in row)
    return (name for name in names if len({row.get(name) for row in rows}) > 1)


@_quietly
def metric(context: typer.Context, incomplete: str) -> Iterable[str]:
    """The names in the metrics of the first run that has some."""
    directory, found = _sweep(context)
    series = (read_metrics(directory / str(run["number"])) for run in found)
    return sorted({name for values in next(filter(None, series)).values() for name in values})


def _sweep(context: typer.Context) -> tuple[Path, list[dict[str, Any]]]:
    """The one that was typed before, or the newest, and its runs."""
    from .sweeps import named

    typed = context.params
    words = typed.get("words") or typed.get("sweeps") or [typed.get("sweep") or ""]
    words = [*words, *context.args]  # the latter with an option that lacks its value
    names = (word for word in words if word and word[0] != "-" and "=" not in word)
    name = next(names, None)
    directory = named(name and str(Path(name).expanduser()))
    return directory, records.read_sweep(directory)["runs"]
