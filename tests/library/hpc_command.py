"""Type `hpc`, as somebody does who has no Hydra in mind."""

import os
import subprocess
import sys
from pathlib import Path

from .using import Ended


def hpc(*words: str | Path, cwd: Path | None = None, **variables: str) -> Ended:
    """Not on a terminal: nobody answers its questions."""
    return subprocess.run(
        [sys.executable, "-m", "hpc_hydra", *map(str, words)],
        cwd=cwd, env={**os.environ, **variables}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
