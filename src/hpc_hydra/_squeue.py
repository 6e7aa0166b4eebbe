"""What Slurm has in its queue."""

import os

from ._commands import answer

OVER = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "REVOKED", "TIMEOUT",
}  # fmt: skip


def states(uid: int | None = None) -> dict[str, str] | None:
    """The state of each of a user's jobs and array elements, by job id; this user's if none is given.

    Those that have ended are among them for some minutes (Slurm's MinJobAge), with their exit code:
    ``FAILED with exit code 1``. None where there is no Slurm, or where it does not answer.
    """
    queue = ask(
        "--array", "--states=all", f"--user={os.geteuid() if uid is None else uid}",
        "--Format=JobArrayID:40,State:40,exit_code:40",
    )  # fmt: skip
    if queue is None:
        return None
    lines = (line.split() for line in queue.splitlines())
    return {
        job: _shown(state, code) for job, state, code in (line for line in lines if len(line) == 3)
    }


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
