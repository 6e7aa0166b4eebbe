"""What Slurm has in its queue."""

import os
import re
from collections.abc import Iterator
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

from ._commands import answer

OVER = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "REVOKED", "TIMEOUT",
}  # fmt: skip
# Why a job waits that will not begin before somebody has done something about it.
STUCK = re.compile(
    r"(?i)held|NeverSatisfied|NotPermitted|Minutes|Invalid|^Partition\w*(Limit|Down|Inactive|Config)|BadConstraints"
)

WHY = {
    "BadConstraints": "no node has all that the job asks for",
    "JobLaunchFailure": "the node cannot begin it, or cannot write its log",
}

# Of a job that it does not have any more. Of an element that was cancelled as it waited it keeps nothing.
GONE = "no longer in Slurm's queue"
NEVER_BEGUN = f"CANCELLED before it began: {GONE}"


class Job(NamedTuple):
    """A job or an array element in Slurm's queue."""

    state: str  # of one that has ended with its exit code: ``FAILED with exit code 1``
    start: str  # when it began, or is expected to; blank if Slurm does not say
    reason: str  # why it waits, or ended
    script: str  # its path when it was submitted


WIDTHS = {
    "JobArrayID": 30, "State": 20, "exit_code": 10, "StartTime": 20, "Reason": 200, "Command": 500
}  # fmt: skip


def jobs(uid: int | None = None) -> dict[str, Job] | None:
    """A user's jobs and array elements, by job id; this user's if none is given.

    Those that have ended are among them for some minutes (Slurm's MinJobAge). None where there is no
    Slurm, or where it does not answer.
    """
    rows = _rows(uid, *WIDTHS)
    if rows is None:
        return None
    return {
        job: Job(_shown(state, code, why), start, why, script)
        for job, state, code, start, why, script in rows
    }


def states_and_reasons() -> dict[str, tuple[str, str]] | None:
    """The state of each of this user's `jobs`, and why it waits."""
    rows = _rows(None, "JobArrayID", "State", "exit_code", "Reason")
    if rows is None:
        return None
    return {job: (_shown(state, code, why), why) for job, state, code, why in rows}


@cache
def is_of(script: str, folder: Path) -> bool:
    """Whether the job with this ``script`` may be one of those whose files are in ``folder``, by whatever path.

    A cluster that has lost its state gives the ids of its old jobs to new ones. A wrapper of a site's sbatch may have
    submitted a copy with another name, of which nothing can be said.
    """
    path = Path(script)
    try:
        return not path.name.startswith(".submission_") or path.parent.samefile(folder)
    except OSError:  # the folder has been moved
        return True


def _rows(uid: int | None, *columns: str) -> Iterator[list[str]] | None:
    """These of WIDTHS for each job; blank what Slurm does not say."""
    queue = ask(
        "--array", "--states=all", f"--user={os.geteuid() if uid is None else uid}",
        f"--Format={','.join(f'{name}:{WIDTHS[name]}' for name in columns)}",
    )  # fmt: skip
    if queue is None:
        return None
    ends = [0, *accumulate(WIDTHS[name] for name in columns)]
    return (
        ["" if field in ("N/A", "n/a", "(null)", "None") else field for field in fields]
        for line in queue.splitlines()
        if (fields := [line[begin:end].strip() for begin, end in pairwise(ends)])[0]
    )


@cache
def settings() -> dict[str, str]:
    """Those of the cluster whose queue this is; none where Slurm does not say."""
    config = answer("scontrol", "show", "config") or ""
    # The first line is "Configuration data as of 2026-01-31T23:59:59".
    return dict(re.findall(r"^(?:Configuration )?(\w+)(?:\s*=| as of) (\S+)", config, re.MULTILINE))


def cluster() -> str | None:
    """The name of that cluster, if it says it."""
    return settings().get("ClusterName")


def is_elsewhere(name: str | None) -> bool:
    """Whether the cluster of this ``name`` is another one, of which this queue tells nothing."""
    return bool(name) and cluster() not in (None, name)


def waits(state: str) -> bool:
    """Whether a job in this state has not begun, or not begun again."""
    return state in ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT")


def ask(*options: str) -> str | None:
    return answer("squeue", "--noheader", *options)


def is_over(state: str | None) -> bool:
    """Whether a job in this state, or one that Slurm has forgotten (None), will not run again."""
    return state is None or state.partition(" ")[0] in OVER


def _shown(state: str, status: str, reason: str) -> str:
    """``status`` is that of wait(2), or in later Slurms ``CODE:SIGNAL``, as sacct has it."""
    numbers = [int(each) for each in status.split(":") if each.isdecimal()]
    if state != "FAILED" or not numbers:
        return state
    if why := WHY.get(reason):
        return f"{state} with {reason}: {why}"
    code, number = numbers if len(numbers) == 2 else (numbers[0] >> 8, numbers[0] & 0x7F)
    return f"{state} with signal {number}" if number else f"{state} with exit code {code}"
