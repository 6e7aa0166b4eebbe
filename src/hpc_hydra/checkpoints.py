"""Checkpoints: the last two of a run, each whole or not there at all.

    state = checkpoints.newest(output_dir)           # None at the very beginning
    checkpoints.save(output_dir, step, state)

For PyTorch's there is `hpc_hydra.pytorch`.
"""

from __future__ import annotations

import errno
import logging
import pickle
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from . import _attempt as attempt
from . import _metrics as metrics
from ._files import atomically, open_own

log = logging.getLogger(__name__)

KEPT = 2
FULL = (errno.ENOSPC, errno.EDQUOT)
NAME = re.compile(r"checkpoint_(\d+)-([0-9a-f]{8})\.ckpt")


def save(
    directory: str | Path,
    step: int,
    state: Any,
    dump: Callable[[Any, BinaryIO], object] = pickle.dump,
) -> None:
    """Save ``state``, as it is after ``step`` steps, beside the checkpoint before; older ones go, and so do those
    of later steps, which were damaged if the run goes on from before them.

    The file's name has its checksum (CRC-32), as the names of PyTorch Hub's files have theirs.

    Args:
        dump: writes the state into an open file.

    Raises:
        OSError: ``directory`` is missing, not writable or full, or has no room for a line of its metrics that
            waits to be written. The checkpoints in it are as they were.
    """
    attempt.hold()
    directory = Path(directory)
    draft = directory / f".checkpoint_{step}"
    with atomically(draft) as file:
        dump(state, file)
    with draft.open("rb") as written:
        checksum = _checksum(written)
    try:
        metrics.write_kept(directory)
    except OSError as error:
        if error.errno in FULL:  # a run that goes on from here would never write those lines
            draft.unlink()
            raise
    attempt.hold()
    saved = draft.replace(directory / f"checkpoint_{step}-{checksum}.ckpt")
    paths = _paths(directory)
    kept = [saved, *[path for path in paths if _step(path) < step][1 - KEPT :]]
    for path in [*paths, *directory.glob(".*checkpoint_*")]:  # the latter a killed process left
        if path not in kept:
            path.unlink(missing_ok=True)


def newest(directory: str | Path, load: Callable[[BinaryIO], Any] = pickle.load) -> Any:
    """The state in the newest checkpoint of ``directory`` that is whole; None if there is none.

    Args:
        load: reads the state from an open file.

    Raises:
        PermissionError: it is somebody else's, who could have written anything into it.
        Exception: whatever ``load`` raises: the file is whole, so the code must have changed.
    """
    return newest_with_step(directory, load)[1]


def newest_with_step(directory: str | Path, load: Callable[[BinaryIO], Any]) -> tuple[int, Any]:
    """Like `newest`, after the number of steps; 0 and None if there is none."""
    for path in reversed(_paths(directory)):
        try:
            file = open_own(path)
        except FileNotFoundError:  # the first rank has saved since
            return newest_with_step(directory, load)
        with file:
            if f"-{_checksum(file)}." in path.name:
                file.seek(0)
                return _step(path), load(file)
        log.warning("%s is damaged, the checkpoint before it is tried", path)
    return 0, None


def newest_step(directory: str | Path) -> int | None:
    """After how many steps the newest checkpoint of ``directory`` was saved; None if there is none."""
    return max(map(_step, _paths(directory)), default=None)


def _paths(directory: str | Path) -> list[Path]:
    """The checkpoints in ``directory``, by their steps."""
    there = Path(directory).glob("*")
    return sorted(filter(lambda path: NAME.fullmatch(path.name), there), key=_step)


def _step(path: Path) -> int:
    return int(path.name.split("_")[1].split("-")[0])


def _checksum(file: BinaryIO) -> str:
    checksum = 0
    while block := file.read(1024**2):
        checksum = zlib.crc32(block, checksum)
    return f"{checksum:08x}"
