"""Which of a job's attempts may write: Slurm starts a job elsewhere whose node it cannot reach, and that node may
go on, with the same job id and the same directories."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

SUPERSEDED = "superseded"

#: Where the job script of each attempt writes its number, Slurm's restart count; None outside of a job.
file: Path | None = None


def number() -> int:
    """That of this process's attempt: how often Slurm had restarted the job."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def is_over() -> bool:
    """Whether a later attempt has begun, or the runs have been given to another job.

    What cannot be read, or is older, says nothing: a network file system shows the newest late.
    """
    if file is None:
        return False
    with suppress(OSError, ValueError):
        newest = file.read_text().strip()
        return newest == SUPERSEDED or int(newest) > number()
    return False


def is_superseded(folder: Path, job_id: str | None) -> bool:
    """Whether the runs of a job, with its files in ``folder``, have been taken from it."""
    with suppress(OSError):
        return (folder / f"{job_id}_attempt").read_text() == SUPERSEDED
    return False


def hold() -> None:
    """End this process if its attempt is over, before it writes what the newer one is writing."""
    if is_over():
        with suppress(OSError):
            print("Slurm has started this job elsewhere: this attempt ends", file=sys.stderr)
            sys.stderr.flush()
        os._exit(1)
