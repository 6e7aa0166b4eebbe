"""What Slurm has in its queue."""

import os
from typing import NamedTuple

from ._commands import answer

OVER = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "REVOKED", "TIMEOUT",
}  # fmt: skip


class Job(NamedTuple):
    """A job or an array element in Slurm's queue."""

    state: str  # of one that has ended with its exit code: ``FAILED with exit code 1``
    start: str  # when it began, or is expected to; blank if Slurm does not say
    nodes: str
    reason: str  # why it waits, or ended


WIDTHS = {
    "JobArrayID": 40, "State": 40, "exit_code": 40, "StartTime": 40, "NodeList": 200, "Reason": 200
}  # fmt: skip


def jobs(uid: int | None = None) -> dict[str, Job] | None:
    """A user's jobs and array elements, by job id; this user's if none is given.

    Those that have ended are among them for some minutes (Slurm's MinJobAge). None where there is no
    Slurm, or where it does not answer.
    """
    queue = ask(
        "--array", "--states=all", f"--user={os.geteuid() if uid is None else uid}",
        f"--Format={','.join(f'{name}:{width}' for name, width in WIDTHS.items())}",
    )  # fmt: skip
    if queue is None:
        return None
    found = {}
    for line in queue.splitlines():
        fields, begin = [], 0
        for width in WIDTHS.values():
            fields.append(line[begin : begin + width].strip())
            begin += width
        job, state, code, start, nodes, reason = (
            "" if field in ("N/A", "n/a", "(null)", "None") else field for field in fields
        )
        if job:
            found[job] = Job(_shown(state, code), start, nodes, reason)
    return found


def states(uid: int | None = None) -> dict[str, str] | None:
    """The state of each of a user's `jobs`."""
    found = jobs(uid)
    return None if found is None else {job_id: job.state for job_id, job in found.items()}


def waits(state: str) -> bool:
    """Whether a job in this state has not begun, or not begun again."""
    return state in ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT")


def ask(*options: str) -> str | None:
    return answer("squeue", "--noheader", *options)


def is_over(state: str | None) -> bool:
    """Whether a job in this state, or one that Slurm has forgotten (None), will not run again."""
    return state is None or state.partition(" ")[0] in OVER


def _shown(state: str, status: str) -> str:
    """``status`` is that of wait(2)."""
    if state != "FAILED" or not status.isdecimal():
        return state
    code, number = int(status) >> 8, int(status) & 0x7F
    return f"{state} with signal {number}" if number else f"{state} with exit code {code}"
