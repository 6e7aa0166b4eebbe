"""What Slurm has in its queue."""

import getpass
import subprocess

OVER = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "REVOKED", "TIMEOUT",
}  # fmt: skip


def states() -> dict[str, str] | None:
    """The state of each of this user's jobs and array elements, by job id.

    Those that have ended are among them for some minutes (Slurm's MinJobAge), with their exit code:
    ``FAILED with exit code 1``. None where there is no Slurm, or where it does not answer.
    """
    command = [
        "squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}",
        "--Format=JobArrayID:40,State:40,exit_code:40",
    ]  # fmt: skip
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (line.split() for line in answer.stdout.splitlines())
    return {
        job: _shown(state, code) for job, state, code in (line for line in lines if len(line) == 3)
    }


def is_over(state: str | None) -> bool:
    """Whether a job in this state, or one that Slurm has forgotten (None), will not run again."""
    return state is None or state.partition(" ")[0] in OVER


def _shown(state: str, status: str) -> str:
    """``status`` is that of wait(2)."""
    if state != "FAILED" or not status.isdecimal():
        return state
    code, number = int(status) >> 8, int(status) & 0x7F
    return f"{state} with signal {number}" if number else f"{state} with exit code {code}"
