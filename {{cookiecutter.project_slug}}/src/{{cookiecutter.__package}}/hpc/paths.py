"""Where things lie on the machine of whoever runs."""

import re
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[3]
#: The repository if it was installed with `-e`, else the folder that the command is typed in.
REPOSITORY = _CHECKOUT if (_CHECKOUT / "pyproject.toml").exists() else Path.cwd()
VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)


def absolute(path: str) -> str:
    """``path`` with its variables `interpolated`; a relative one lies in the repository."""
    path = interpolated(re.sub(r"^~(?=/|$)", "$HOME", path))
    return path if path.startswith(("/", "${")) else f"{REPOSITORY}/{path}"


def interpolated(text: str) -> str:
    """``text`` with ``$NAME`` as Hydra's interpolation, which is evaluated when a run is submitted and
    is an error if the variable is not set."""
    return VARIABLE.sub(r"${oc.env:\1\2}", text)
