"""What Slurm has in its queue."""

import getpass
import subprocess


def states() -> dict[str, str] | None:
    """The state of each of this user's jobs and array elements that wait or run, by job id.

    None where there is no Slurm, or where it does not answer.
    """
    user = f"--user={getpass.getuser()}"
    command = ["squeue", "--noheader", "--array", "--format=%i %T", user]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (line.split() for line in answer.stdout.splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2}
