"""What has been compiled in one virtual environment is not compiled again in another one.

python bytecode.py VENV OTHER
"""

import sys
from contextlib import suppress
from pathlib import Path


def share(venv: Path, of: Path) -> None:
    """In ``venv`` there is from now on what Python has compiled of the packages of both: uv has linked the same
    files into them, and Python takes what was compiled of a file with the same time and size."""
    own, theirs = (next(each.glob("lib/*/site-packages")) for each in (venv, of))
    for compiled in theirs.rglob("__pycache__/*.pyc"):
        place = own / compiled.relative_to(theirs)
        if place.parents[1].is_dir() and not place.exists():
            place.parent.mkdir(exist_ok=True)
            with suppress(OSError):  # on another disk, where the times differ as well
                place.hardlink_to(compiled)


if __name__ == "__main__":
    share(*map(Path, sys.argv[1:]))
