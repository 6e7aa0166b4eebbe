"""Where things lie on the machine of whoever runs."""

import re
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[3]
#: The repository if it was installed with `-e`, else the folder that the command is typed in.
REPOSITORY = _CHECKOUT if (_CHECKOUT / "pyproject.toml").exists() else Path.cwd()


def hydra_path(path: str) -> str:
    """``path`` as Hydra takes it: ``$NAME`` becomes an interpolation, so that the variable is read
    when a run is submitted and a missing one is an error; a relative path lies in the repository."""
    path = re.sub(r"^~(?=/|$)", "$HOME", path)
    if not path.startswith(("/", "$")):
        path = str(REPOSITORY / path)
    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", r"${oc.env:\1\2}", path)
