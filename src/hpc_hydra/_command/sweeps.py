"""Which sweep is meant, and which run of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import typer

from .. import _records as records

SWEEP = typer.Argument(
    metavar="SWEEP",
    help="Its directory, or a part of it that is unique; by default your newest sweep.",
    show_default=False,
)


def fail(message: str, code: int = 2) -> NoReturn:
    """End the command with ``message``; 2 is for what cannot be done as it was typed."""
    print(message, file=sys.stderr)
    raise typer.Exit(code)


def known() -> list[Path]:
    """The user's sweeps that are still there, the newest first."""
    try:
        lines = records.index().read_text().splitlines()
    except (OSError, RuntimeError):
        lines = []
    directories = dict.fromkeys(Path(line) for line in reversed(lines))
    return [each for each in directories if (each / records.SWEEP).exists()]


def named(text: str | None) -> Path:
    """The directory of the sweep that ``text`` names: itself, or a unique part of that of a sweep of the
    user's. Without a name, the newest one. A run alone is found by its directory.

    Raises:
        typer.Exit: none is, or several are.
    """
    if text is None:
        return records.newest_sweep() or fail("No sweep is known here: name its directory.")
    directory = Path(text).expanduser().absolute()
    if directory.is_dir() and _has_runs(directory):
        return directory
    parts = Path(text).parts
    sweeps = [each for each in known() if text in str(each)]
    found = [each for each in sweeps if each.parts[-len(parts) :] == parts] or sweeps
    if len(found) == 1:
        return found[0]
    if not found:
        fail(f"{text}: no sweep has that in the name of its directory. `hpc ls` lists yours.")
    more = f"\n    and {len(found) - 10} more" if len(found) > 10 else ""
    candidates = "".join(f"\n    {each}" for each in found[:10])
    fail(f"{text} may be each of{candidates}{more}")


def _has_runs(directory: Path) -> bool:
    if any((directory / name).exists() for name in (records.SWEEP, records.RUN)):
        return True
    return any(directory.glob(f"[0-9]*/{records.RUN}"))
