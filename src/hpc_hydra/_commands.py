"""What other programs answer, and which there are."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# With which people choose what Slurm's commands show them.
VIEWS = ("SQUEUE_", "SINFO_", "SLURM_TIME_FORMAT")


def answer(*command: str) -> str | None:
    """What ``command`` prints; None if it is not there, fails, or says nothing for half a minute."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(VIEWS)}
    try:
        return subprocess.run(
            command,
            env=plain,
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
            timeout=30,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def local_jobs(folder: Path) -> set[str]:
    """The processes of submitit's that watch jobs on this machine with their files in ``folder``, by whatever path."""
    found = set()
    for process, command in processes():
        path = command.partition(" submitit.local._local ")[2]
        with suppress(OSError):
            if path and folder.samefile(path):
                found.add(str(process))
    return found


def processes() -> Iterator[tuple[int, str]]:
    """The id of each process of this machine, and its command line."""
    if Path("/proc/self").exists():  # images for containers have no ps
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it has just ended
                words = os.fsdecode(path.read_bytes()).rstrip("\0").split("\0")
                yield int(path.parent.name), " ".join(words)
    else:
        for line in (answer("ps", "-ww", "-A", "-o", "pid=,args=") or "").splitlines():
            process, _, command = line.strip().partition(" ")
            yield int(process), command


def children(parent: int | str = "self") -> Iterator[int]:
    """The ids of the processes that ``parent`` has started, or taken over; none where the system does not tell."""
    with suppress(OSError):
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):  # of a thread that has just ended
                yield from map(int, path.read_text().split())
