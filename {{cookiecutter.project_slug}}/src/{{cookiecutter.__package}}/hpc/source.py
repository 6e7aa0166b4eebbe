"""Which code runs: what is recorded of it, and the copy that jobs import."""

from __future__ import annotations

import importlib.metadata
import os
import platform
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
# Git refuses to look into the repository of somebody else; but whose code runs is trusted anyway.
TRUSTED = ["-c", f"safe.directory={REPOSITORY}"] if SOURCE.is_relative_to(REPOSITORY) else []


def provenance() -> dict[str, Any]:
    """The repository's commit, what differs from it, and the versions of Python and packages.

    The diff is of the files that git tracks and does not ignore.
    """
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    diff = _diff() if status else ""
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

    Large files get a link instead, and so does what git tracks and ignores all the same: the code may
    need it, and it may be a secret.
    """
    ignored = {SOURCE / name for name in _ignored(at=SOURCE) or ()}
    for path in _files():
        target = to / path.relative_to(SOURCE)
        target.parent.mkdir(parents=True, exist_ok=True)
        status = path.stat()
        if status.st_size > LARGE_FILE or path in ignored:
            target.symlink_to(path)
            continue
        # With the permissions that the umask leaves, as cp does it.
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, status.st_mode & 0o777)
        with os.fdopen(descriptor, "wb") as file:
            file.write(path.read_bytes())
    (to / COPIED_FROM).write_text(str(REPOSITORY))


def _files() -> list[Path]:
    listed = _git("ls-files", "--cached", "--others", "--exclude-standard", "-z", at=SOURCE)
    if not listed:  # no git, or a copy in a folder that git ignores
        files = [path for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        return [path for path in files if not path.name.startswith(".")]  # .env and the like
    return [path for name in listed.split("\0") if name and (path := SOURCE / name).is_file()]


def _diff() -> str | None:
    """What differs from the commit, without files that git ignores although it tracks them, such as an
    .env that was committed before .gitignore named it."""
    changed = _git("diff", "HEAD", "--name-only", "--no-renames", "-z", "--", ":/")
    ignored = _ignored("--full-name", "--with-tree=HEAD", "--", ":/")
    if changed is None or ignored is None:
        return None
    without = [f":(top,exclude,literal){name}" for name in changed.split("\0") if name in ignored]
    # No program that would show encrypted files as text.
    plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--submodule=short")
    return _git("diff", "HEAD", *plain, "--", ":/", *without)


def _ignored(*arguments: str, at: Path = REPOSITORY) -> set[str] | None:
    """The names of files that git tracks and ignores; None if it does not say."""
    tracked = ("ls-files", "--cached", "--ignored", "--exclude-standard", "-z")
    listed = _git(*tracked, *arguments, at=at)
    return None if listed is None else set(listed.split("\0")) - {""}


def _git(*arguments: str, at: Path = REPOSITORY) -> str | None:
    try:
        return subprocess.run(
            ["git", "-C", str(at), "--no-optional-locks", *TRUSTED, *arguments],
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
