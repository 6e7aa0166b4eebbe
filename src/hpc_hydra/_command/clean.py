"""`hpc clean`."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal

from .. import _records as records
from .._files import foreign_owner
from ..checkpoints import NAME
from . import completion
from .ls import below
from .sweeps import JSON, YES, agreed, as_json, fail, looked_at, named

# What the library and Hydra put into a sweep's directory, beside the runs, and into folders there: the directory
# may have been somebody's own before.
OWN = ("multirun.yaml", records.SUBMITTED, records.SWEEP)
INSIDE = {
    "jobs": re.compile(r"lock|\.?(submission|run|\d+)_.*"),
    "earlier": re.compile(r"\d+(_\d+)?"),
    "rerun": re.compile(r"\d+(_\d+)?"),
}
# What they put into a run's directory, and logs; what else is there is the app's, perhaps a checkpoint of its trainer's.
OF_RUN = re.compile(r"run\.json|metrics\.jsonl|wandb(_id)?|\.hydra|.*\.log")


class What(str, Enum):
    """What may go."""

    checkpoints = "checkpoints"
    sources = "sources"
    failed = "failed"


SAYS = {
    What.checkpoints: "checkpoints of completed runs (more epochs would begin anew)",
    What.sources: "copies of the source, of sweeps whose runs are all complete",
    What.failed: "whole sweeps of which no run ever completed, with their logs",
}

Found = tuple[What, Path, list[Path], int]  # in a sweep, with the bytes of it


def clean(
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SWEEP",
            help="Sweeps, or folders of sweeps; by default all of yours.",
            autocompletion=completion.sweeps,
        ),
    ] = None,
    what: Annotated[
        list[What] | None, typer.Option("--only", help="Only this; may be repeated.")
    ] = None,
    older_than: Annotated[
        int,
        typer.Option(
            metavar="DAYS", help="Only sweeps whose last run ended more than so many days ago."
        ),
    ] = 30,
    json: Annotated[bool, JSON] = False,
    yes: Annotated[bool, YES] = False,
) -> None:
    """What takes space and can go, with sizes. Nothing is deleted without a yes.

    Results, metrics, configs and logs stay, but those of failed sweeps: of these no run ever completed, and none has left
    a checkpoint or other files of its own, unless --only failed asks for all. Sweeps with runs under way are left alone.

    \b
    hpc clean                                      what there is, of sweeps older than 30 days
    hpc clean --only checkpoints --older-than 7
    hpc clean outputs/paper --only sources --yes
    """
    before = datetime.now().astimezone() - timedelta(days=older_than)
    found: list[Found] = []
    for sweep, runs in looked_at(dict.fromkeys(_meant(sweeps or []))):
        going_on = any(run["state"] in (*records.UNDER_WAY, "STOPPED") for run in runs)
        if foreign_owner(sweep.stat()) or going_on or _ended(sweep, runs) > before:
            continue
        kinds = what or [*What]
        left = (path for run in runs for path in (sweep / str(run["number"])).glob("*"))
        if not what and not all(OF_RUN.fullmatch(path.name) for path in left):
            kinds.remove(What.failed)  # `hpc retry` might go on from there
        for kind in kinds:
            if paths := _paths(kind, sweep, runs):
                found.append((kind, sweep, paths, sum(map(_size, paths))))
    if json:
        as_json([
            {"what": kind.value, "directory": str(sweep), "bytes": size}
            for kind, sweep, _, size in found
        ])  # fmt: skip
    else:
        _print(found, older_than)
    total = sum(size for _, _, _, size in found)
    if not found or (json and not yes):
        return
    agreed(f"Delete this, {decimal(total)} in all?", yes)
    kept = []
    for _, sweep, paths, size in found:
        try:
            _delete(paths)
        except OSError as error:  # such as of a file that is in use elsewhere
            kept.append(f"{sweep}: {error}")
            total -= size
        above = {folder for path in paths for folder in path.parents}
        for folder in sorted(above - {*sweep.parents}, reverse=True):
            with suppress(OSError):  # it is not empty
                folder.rmdir()
    if not json:
        print(f"deleted: {decimal(total)}")
    if kept:
        fail("\n".join(["not all was deleted:", *kept]), 1)


def _meant(names: Sequence[str]) -> Iterable[Path]:
    if not names:
        return records.known_sweeps()
    found: list[Path] = []
    for name in names:
        folder = Path(name).absolute()
        # One without sweeps is no part of a name: what that finds elsewhere was not meant.
        found += below(folder) if folder.is_dir() else [named(name)]
    return [sweep for sweep in found if (sweep / records.SWEEP).exists()]


def _ended(sweep: Path, runs: Iterable[dict[str, Any]]) -> datetime:
    """When the sweep was submitted last, or the last of its ``runs`` has ended."""
    ends = [datetime.fromisoformat(run["end"]) for run in runs if run.get("end")]
    written = (sweep / records.SWEEP).stat().st_mtime
    return max([datetime.fromtimestamp(written).astimezone(), *ends])


def _paths(kind: What, sweep: Path, runs: Sequence[dict[str, Any]]) -> list[Path]:
    """What of a sweep may go."""
    folders = [sweep / str(run["number"]) for run in runs]
    completed = [run["state"] == "COMPLETED" for run in runs]
    if kind is What.checkpoints:
        done = [folder for folder, is_done in zip(folders, completed, strict=True) if is_done]
        files = (path for folder in done for path in folder.glob("checkpoint_*"))
        return [path for path in files if NAME.fullmatch(path.name)]
    # By the records: a folder of this name may have been there before.
    copies = {each.get("source") for each in records.read(sweep / records.SWEEP)["submissions"]}
    sources = [path for path in sweep.iterdir() if path.name in copies]
    if kind is What.sources:
        return sources if all(completed) else []
    if any(completed) or _ever_completed(sweep):
        return []
    inside = [
        path for name, pattern in INSIDE.items() for path in (sweep / name).glob("*")
        if pattern.fullmatch(path.name)
    ]  # fmt: skip
    # Where runs have other names a link leads to each, by its number.
    links = (folder.readlink() for folder in folders if folder.is_symlink())
    places = [sweep / link for link in links if link.parts and {"/", ".."}.isdisjoint(link.parts)]
    there = [*places, *folders, *sources, *inside, *(sweep / name for name in OWN)]
    return [path for path in there if os.path.lexists(path)]


def _ever_completed(sweep: Path) -> bool:
    """Whether a run of it did before it was done again, or went on with other values, or did in a rerun."""
    for folder in ("*", "earlier/*", "rerun/*"):
        for record in map(records.read, sweep.glob(f"{folder}/{records.RUN}")):
            if "COMPLETED" in [each.get("state") for each in (record, *record.get("before", ()))]:
                return True
    return False


def _size(path: Path) -> int:
    """Bytes on the disk, of a link its own."""
    paths = [path] if path.is_symlink() else [path, *path.rglob("*")]
    return 512 * sum(each.lstat().st_blocks for each in paths)


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _print(found: Sequence[Found], older_than: int) -> None:
    if not found:
        older = f" in sweeps older than {older_than} days; --older-than 0 looks at all"
        print(f"Nothing to clean{older if older_than else ''}.")
    for kind in What:
        rows = [(size, sweep, paths) for what, sweep, paths, size in found if what is kind]
        if rows:
            print(f"{decimal(sum(size for size, _, _ in rows)):>9}  {SAYS[kind]}")
        for size, sweep, paths in sorted(rows, reverse=True):
            print(f"{decimal(size):>19}  {len(paths)} in {sweep}")
