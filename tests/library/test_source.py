"""What is recorded and copied of the code, with a repository of its own."""

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_hydra._source import Source

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in a Git repository, with a task that is imported."""
    package = tmp_path / "repository" / "src" / "of_the_tests"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "task.py").write_text("def train():\n    return 1\n")
    monkeypatch.syspath_prepend(str(package.parent))
    git(tmp_path / "repository", "init")
    yield package
    for name in [name for name in sys.modules if name.startswith(package.name)]:
        del sys.modules[name]


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def source_of(package: Path) -> Source:
    module: Any = importlib.import_module(f"{package.name}.task")
    return Source(module.train)


def test_what_git_ignores_is_neither_in_the_diff_nor_in_the_copy(
    package: Path, tmp_path: Path
) -> None:
    """Although git may track it: what .gitignore names too late."""
    repository, copy = tmp_path / "repository", tmp_path / "copy"
    committed = [repository / ".env", repository / "keys" / "[a] b.pem", package / "token.txt"]
    removed, untracked = package / "once.txt", package / "never.txt"
    for path in (*committed, removed, untracked):
        path.parent.mkdir(exist_ok=True)
        path.write_text("s3cret\n")
    git(repository, "add", ".")
    git(repository, "rm", "--cached", str(untracked))
    git(repository, "commit", "--message=first")
    ignored = ("__pycache__/", ".env", "keys/", "token.txt", "once.txt", "never.txt")
    (repository / ".gitignore").write_text("\n".join(ignored))
    for path in committed:
        path.write_text("another s3cret\n")
    git(repository, "rm", "--cached", str(removed))
    with (package / "task.py").open("a") as file:
        file.write("# edited\n")

    source = source_of(package)
    assert "+# edited" in source.diff()
    assert "s3cret" not in source.diff()
    provenance = source.provenance()
    assert len(provenance["git_commit"]) == 40 and not provenance["git_clean"]
    copied = source.copy(copy) / package.name
    there = {path for path in copy.rglob("*") if path.is_file() and not path.is_symlink()}
    assert there == {copied / name for name in ("__init__.py", "task.py")}
    # The code may need it, so it is at hand.
    assert (copied / "token.txt").readlink() == package / "token.txt"
    assert (copy / ".env").readlink() == repository / ".env"

    git(repository, "checkout", "--", str(package / "task.py"))
    assert source.diff() == ""


def test_the_copy_has_what_is_not_committed_yet_and_links_to_large_files(
    package: Path, tmp_path: Path
) -> None:
    (package / "new.py").touch(mode=0o700)
    data = package / "data.bin"
    data.write_text("1\n" * 2**20)
    git(tmp_path / "repository", "add", ".")
    data.write_text("2\n" * 2**20)
    # Of a run in the wrong place, which does not make all of it outputs.
    (package.parent / ".hydra").mkdir()
    (package.parent / ".hydra" / "config.yaml").touch()
    source = source_of(package)
    copied = source.copy(tmp_path / "copy") / package.name
    assert {path.name for path in copied.iterdir()} == {
        "__init__.py",
        "task.py",
        "new.py",
        "data.bin",
    }
    assert (copied / "data.bin").readlink() == data
    git(tmp_path / "repository", "commit", "--message=first")
    assert source.diff() == f"src/{package.name}/data.bin differs, and is large\n"
    assert (copied / "new.py").stat().st_mode & 0o700 == 0o700


def test_a_copy_while_another_branch_is_merged(package: Path, tmp_path: Path) -> None:
    """Of a file with a conflict git lists several versions."""
    repository, page = tmp_path / "repository", package.parent / "README.md"
    for branch, start in (("first", ()), ("theirs", ["first"]), ("ours", ["first"])):
        git(repository, "checkout", "-b", branch, *start)
        page.write_text(branch)
        git(repository, "add", ".")
        git(repository, "commit", f"--message={branch}")
    with pytest.raises(subprocess.CalledProcessError):
        git(repository, "merge", "theirs")
    copied = source_of(package).copy(tmp_path / "copy")
    assert "<<<<<<<" in (copied / "README.md").read_text()


@pytest.mark.parametrize("there_is_git", [True, False])
def test_code_finds_its_neighbours_in_the_copy(
    there_is_git: bool, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data beside `src`, and what git ignores inside of the package; the sweep lies in the repository too."""
    repository = tmp_path / "repository"
    (repository / ".gitignore").write_text("data/\noutputs/\n*.bin\n")
    (repository / "pyproject.toml").touch()
    for path in (repository / "data" / "all.csv", package / "tables" / "weights.bin"):
        path.parent.mkdir()
        path.write_text("1,2")
    (package / "tables" / "__init__.py").touch()
    if not there_is_git:
        shutil.rmtree(repository / ".git")
        monkeypatch.setenv("PATH", str(tmp_path))
    to = repository / "outputs" / "sweep" / "source"
    to.mkdir(parents=True)
    place = source_of(package).copy(to)
    task = place / package.name / "task.py"
    assert not task.is_symlink()
    assert (task.resolve().parents[2] / "data" / "all.csv").read_text() == "1,2"
    assert (task.parent / "tables" / "weights.bin").read_text() == "1,2"
    assert not list(to.glob("outputs")) and not list(to.rglob("__pycache__"))


@pytest.mark.parametrize("there_is_git", [True, False])
def test_a_package_outside_of_git_is_copied_without_what_is_hidden(
    there_is_git: bool, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tmp_path / "repository" / ".git")
    (package / ".env").touch()
    if not there_is_git:
        monkeypatch.setenv("PATH", str(tmp_path))
    source = source_of(package)
    copied = source.copy(tmp_path / "copy") / package.name
    own = {path.name for path in copied.iterdir() if not path.is_symlink()}
    assert own == {"__init__.py", "task.py"}
    provenance = source.provenance()
    assert (provenance["git_commit"], provenance["git_clean"], source.diff()) == (None, None, "")
    assert {"python", "hydra-core", "submitit", "hpc-hydra"} <= provenance["versions"].keys()


def test_a_package_that_is_run_is_imported_from_beside_it(package: Path) -> None:
    """With its own folder on the path of a job, its datasets.py stands in for the library of that name."""
    program = (
        "from hpc_hydra._source import Source\nfrom .task import train\nprint(Source(train).roots)"
    )
    (package / "__main__.py").write_text(program)
    command = [sys.executable, "-m", package.name]
    printed = subprocess.run(
        command, cwd=package.parent, check=True, capture_output=True, text=True
    )
    assert printed.stdout.strip() == str([package.parent])


def test_an_installed_package_is_no_source(package: Path, tmp_path: Path) -> None:
    """Nobody edits it; nor, in a notebook, is there a file."""
    packages = tmp_path / "lib" / "site-packages"
    shutil.move(package.parent, packages)
    sys.path.insert(0, str(packages))
    try:
        assert source_of(packages / package.name).package != package.name
    finally:
        sys.path.remove(str(packages))
