"""Which code runs: what is recorded of it, and the copy that jobs import."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .paths import COPIED_FROM, REPOSITORY, SOURCE

PACKAGES = (
    "hydra-core", "hydra-submitit-launcher", "hydra-zen", "numpy", "scikit-learn", "submitit",
    "wandb",
)  # fmt: skip
# An installed package is edited by nobody.
IN_CHECKOUT = "site-packages" not in SOURCE.parts
LARGE_FILE = 1024**2  # bytes; what is larger is data, not source
LARGE_DIFF = 1024**2  # characters


def provenance() -> dict[str, Any]:
    """The repository's commit, what differs from it, and the versions of Python and packages.

    The diff is of the files that git tracks.
    """
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    diff = _git("diff", "HEAD") if status else ""
    if diff and len(diff) > LARGE_DIFF:
        diff = f"{len(diff)} characters, too long to be recorded"
    return {
        "git_commit": commit.strip() if commit else None,
        "git_clean": None if status is None else not status,
        "git_diff": diff or None,
        "versions": _versions(),
    }


def copy_source(to: Path) -> None:
    """Copy what git tracks or would track in the folder that this package is imported from.

    Large files get a link instead.
    """
    for path in _files():
        target = to / path.relative_to(SOURCE)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.stat().st_size > LARGE_FILE:
            target.symlink_to(path)
        else:
            shutil.copy2(path, target)
    (to / COPIED_FROM).write_text(str(REPOSITORY))


def _files() -> list[Path]:
    listed = _git("ls-files", "--cached", "--others", "--exclude-standard", "-z", at=SOURCE)
    if not listed:  # no git, or a copy in a folder that git ignores
        return [path for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return [path for name in listed.split("\0") if name and (path := SOURCE / name).is_file()]


def _git(*arguments: str, at: Path = REPOSITORY) -> str | None:
    try:
        return subprocess.run(
            ["git", "-C", str(at), *arguments],
            capture_output=True, text=True, errors="replace", check=True, timeout=30,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
