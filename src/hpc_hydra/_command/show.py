"""`hpc show`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer  # noqa: F401 - of the annotations

from .. import _records as records
from .._metrics import read_metrics
from .recorded import submission_of
from .sweeps import JSON, RUN, as_json, run_named, told


def show(words: Annotated[list[str], RUN], json: Annotated[bool, JSON] = False) -> None:
    """All that is known of one run.

    Overrides, config, attempts, source, resources, error.

    \b
    hpc show 3                   run 3 of your newest sweep
    hpc show fig1 3 --json
    """
    directory, run = run_named(words)
    known = _known(directory, run)
    if json:
        as_json(known)
    else:
        _print(known)


def _known(directory: Path, run: dict[str, Any]) -> dict[str, Any]:
    folder = records.folder_of(directory, run["number"])
    submission = submission_of(directory, run)
    last: dict[str, float] = {}
    for values in read_metrics(folder).values():
        last |= values
    config = folder / ".hydra" / "config.yaml"
    return {
        **told(directory, run),
        "metrics": last,
        "directory": str(folder),
        "command": submission.get("command"),
        "versions": submission.get("versions"),
        "source": run.get("source") and str(directory / run["source"]),
        "git_diff": run.get("git_diff") and str(directory / run["git_diff"]),
        "config": config.read_text(encoding="utf-8", errors="replace") if config.exists() else None,
    }


def _print(known: Mapping[str, Any]) -> None:
    rows = {name: value for name, value in known.items() if value not in (None, [], {}, "")}
    long = {name: str(rows.pop(name)) for name in ("config", "error") if name in rows}
    for name, value in rows.items():
        if name in ("format", "library") or (name == "ranks" and value == 1):
            continue
        if name in ("attempts", "before"):
            value = f"\n{'':<12}".join(_line(each) for each in value)
        print(f"{name.replace('_', ' '):<11} {_line(value)}")
    for name, text in long.items():
        print(f"\n{name}:\n{text.strip()}")


def _line(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_line(each)}" for name, each in value.items())
    return shlex.join(map(str, value)) if isinstance(value, list) else str(value)
