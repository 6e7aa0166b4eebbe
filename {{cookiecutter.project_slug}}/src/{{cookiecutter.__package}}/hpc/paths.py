"""Where things lie on the machine of whoever runs."""

import re
from pathlib import Path

#: The folder that this package is imported from.
SOURCE = Path(__file__).resolve().parents[2]
#: In a copy of the source, the repository that it was copied from.
COPIED_FROM = "copied_from"


def _repository() -> Path:
    if (SOURCE / COPIED_FROM).exists():
        return Path((SOURCE / COPIED_FROM).read_text())
    return SOURCE.parent if (SOURCE.parent / "pyproject.toml").exists() else Path.cwd()


#: The repository if it was installed with `-e`, else the folder that the command is typed in.
REPOSITORY = _repository()
VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)


def absolute(path: str) -> str:
    """``path`` with its variables `interpolated`; a relative one lies in the repository."""
    path = interpolated(re.sub(r"^~(?=/|$)", "$HOME", path))
    return path if path.startswith(("/", "${")) else f"{REPOSITORY}/{path}"


def interpolated(text: str) -> str:
    """``text`` with ``$NAME`` as Hydra's interpolation, which is evaluated when a run is submitted and
    is an error if the variable is not set."""
    return VARIABLE.sub(r"${oc.env:\1\2}", text)
