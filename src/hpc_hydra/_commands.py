"""What other programs answer."""

import subprocess


def answer(*command: str) -> str | None:
    """What ``command`` prints; None if it is not there, fails, or says nothing for half a minute."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
