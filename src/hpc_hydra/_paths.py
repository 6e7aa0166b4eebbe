"""Paths as people write them for everybody: with variables, or relative to their repository."""

import re
from pathlib import Path

VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)


def repository_of(file: str | Path) -> Path:
    """The folder above ``file`` with a `pyproject.toml`; of an installed file, where the command is typed."""
    folders = Path(file).resolve().parents
    return next((each for each in folders if (each / "pyproject.toml").exists()), Path.cwd())


def absolute(path: str, repository: Path) -> str:
    """``path`` with its variables `interpolated`; a relative one lies in ``repository``."""
    path = interpolated(re.sub(r"^~(?=/|$)", "$HOME", path))
    return path if path.startswith(("/", "${")) else f"{repository}/{path}"


def interpolated(text: str) -> str:
    """``text`` with ``$NAME`` as Hydra's interpolation, which is evaluated when a run is submitted and
    is an error if the variable is not set."""
    return VARIABLE.sub(r"${oc.env:\1\2}", text)
