"""Which code runs: what is recorded of it, and the copy that jobs import."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from ._commands import answer

OWN = ("hpc-hydra", "hydra-core", "hydra-submitit-launcher", "hydra-zen", "submitit")
LARGE_FILE = 1024**2  # bytes; what is larger is data, not source
NO_LINK = (".git", "__pycache__")


class Source:
    """The code of an app, where its user edits it."""

    def __init__(
        self, task_function: Callable[..., Any] | None, config_folders: Iterable[Path] = ()
    ) -> None:
        """Of the app with this task function, or of the program; of a notebook there is none."""
        self.root: Path | None = None  # the folder from which the app's module is imported
        self.package = ""  # that of the task, if it is in one
        for name in (getattr(task_function, "__module__", ""), "__main__"):
            module = sys.modules.get(name)
            file = Path(getattr(module, "__file__", None) or "").resolve()
            # An installed package is edited by nobody; nor is the script that starts it.
            if file.suffix != ".py" or "site-packages" in file.parts:
                continue
            spec = getattr(module, "__spec__", None)  # None of `python app.py`
            self.package = spec.parent if spec else ""
            self.root = file.parents[len(self.package.split(".")) if self.package else 0]
            break
        top = _git(self.root, "rev-parse", "--show-toplevel") if self.root else None
        #: Of git; None outside of one.
        self.repository = Path(top.rstrip("\n")) if top else None
        folders = self.root.parents if self.root else ()
        project = next((each for each in folders if (each / "pyproject.toml").exists()), self.root)
        #: What a copy looks like: the repository, or the project.
        self.top = self.repository or project
        #: The folders from which modules are imported, the root first.
        self.roots = [self.root] if self.root else []
        #: The outermost ones that have these, and the config files, in them.
        self.folders = [*self.roots]
        if self.repository:  # a script may have put others on its path, or use a package that is installed from there
            self.roots += sorted(_imported_from(self.repository) - {*self.roots})
            known = {folder for folder in config_folders if folder.is_relative_to(self.repository)}
            known.update(self.roots)
            self.folders = [folder for folder in known if known.isdisjoint(folder.parents)]

    def provenance(self) -> dict[str, Any]:
        """The commit, whether all was committed, and the versions of Python and of what the app needs."""
        commit, status = self._ask("rev-parse", "HEAD"), self._ask("status", "--porcelain")
        return {
            "git_commit": commit.strip() if commit else None,
            "git_clean": None if status is None else not status,
            "versions": self._versions(),
        }

    def diff(self) -> str:
        """What differs from the commit: of files that git tracks and does not ignore, which a file may be
        although it is tracked, such as an .env that was committed before .gitignore named it. Of a large one, whose text
        would take ten times as much memory, only that it does."""
        changed = self._ask("diff", "HEAD", "--name-only", "--no-renames", "-z", "--", ":/")
        everywhere = ("--full-name", "--with-tree=HEAD", "--", ":/")
        ignored = self._listed(self.root, "--cached", "--ignored", *everywhere)
        if not changed or ignored is None or self.repository is None:
            return ""
        names = {*changed.split("\0")} - {""}
        large = {name for name in names - ignored if _is_large(self.repository / name)}
        without = [f":(top,exclude,literal){name}" for name in names & ignored | large]
        # No program that would show encrypted files as text.
        plain = "--no-color --no-ext-diff --no-textconv --no-renames --submodule=short"
        diff = self._ask("diff", "HEAD", *plain.split(), "--", ":/", *without) or ""
        return diff + "".join(f"{name} differs, and is large\n" for name in sorted(large))

    def copy(self, to: Path) -> Path:
        """Copy the files into the new folder ``to``; return what is the root there.

        To the code in it the copy looks like the repository: what else lies beside a copied file, or above
        the folders, has a link there, such as a folder of data, since the code may need it.
        """
        assert self.root and self.top
        place = to / self.root.relative_to(self.top)
        place.mkdir(parents=True, exist_ok=True)
        for path in self.files:
            target = to / path.relative_to(self.top)
            target.parent.mkdir(parents=True, exist_ok=True)
            # With the permissions that the umask leaves, as cp does it.
            mode = path.stat().st_mode & 0o777
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(path.read_bytes())
        around = to.resolve().parents  # a link to one of these would have no end
        for copied, _, _ in os.walk(to):
            folder = self.top / Path(copied).relative_to(to)
            for entry in folder.iterdir():
                if entry.name not in NO_LINK and entry not in around:
                    with suppress(FileExistsError):
                        Path(copied, entry.name).symlink_to(entry)
        return place

    @cached_property
    def files(self) -> list[Path]:
        """What git tracks or would track below the folders, but for large files, and for what it ignores although it
        tracks it, which may be a secret. Of what lies in no git repository, only a package: the folder of a
        script may hold anything."""
        if self.root is None:
            return []
        paths = [
            at / name
            for at in self.folders
            for name in (self._listed(at, "--cached", "--others") or set())
            - (self._listed(at, "--cached", "--ignored") or set())
        ]
        if not paths and self.package:  # no git, or a copy in a folder that git ignores
            top = self.root / self.package.partition(".")[0]
            paths = list(top.rglob("[!.]*"))  # not .env and the like
        # Outputs that git has not been told to ignore.
        sweeps = {path.parent for path in paths if path.name in ("sweep.json", "multirun.yaml")}
        runs = {path.parent.parent for path in paths if path.parent.name == ".hydra"}
        outputs = (sweeps | runs) - {*self.folders}
        kept = (path for path in paths if outputs.isdisjoint(path.parents))
        files = (path for path in kept if path.suffix != ".pyc" and path.is_file())
        return [path for path in files if not _is_large(path)]

    def is_in_repository(self) -> bool:
        """Whether there is one around, also if git cannot read it, or takes too long."""
        folders = (self.root, *self.root.parents) if self.root else ()
        return any((each / ".git").exists() for each in folders)

    def _ask(self, *arguments: str) -> str | None:
        return _git(self.root, *arguments) if self.root and self.repository else None

    def _listed(self, folder: Path | None, *options: str) -> set[str] | None:
        """The names of files in ``folder`` that git lists, of those in conflict once; None if it does not say."""
        command = ("ls-files", "--exclude-standard", "-z", *options)
        listed = _git(folder, *command) if folder and self.repository else None
        return None if listed is None else set(listed.split("\0")) - {""}

    def _versions(self) -> dict[str, str]:
        import importlib.metadata  # slow, and of no use to --help

        names = [*OWN]
        with suppress(importlib.metadata.PackageNotFoundError):
            needed = importlib.metadata.requires(self.package.partition(".")[0] or "none") or []
            names += [re.split(r"[^\w.-]", each)[0] for each in needed if "extra ==" not in each]
        versions = {"python": platform.python_version()}
        for name in names:
            with suppress(importlib.metadata.PackageNotFoundError):
                versions[name] = importlib.metadata.version(name)
        return versions


def _is_large(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > LARGE_FILE


def _imported_from(repository: Path) -> set[Path]:
    """The folders in ``repository`` from which modules were imported."""
    found = set()
    for name, module in [*sys.modules.items()]:
        file = getattr(module, "__file__", None)
        if not file or "site-packages" in file or file.startswith(sys.base_prefix):
            continue
        path = Path(file).resolve()
        if not path.is_relative_to(repository):
            continue
        path = path.parent if path.stem == "__init__" else path.with_suffix("")
        # That of `python -m package` is called __main__, too.
        parts = (getattr(getattr(module, "__spec__", None), "name", None) or name).split(".")
        if path.parts[-len(parts) :] == (*parts,):
            found.add(path.parents[len(parts) - 1])
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    # Git refuses to look into the repository of somebody else; but whose code runs is trusted anyway.
    own = ("-C", str(folder), "--no-optional-locks", "-c", "safe.directory=*")
    return answer("git", *own, *arguments)
