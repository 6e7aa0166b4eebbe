"""The template added to a repository that exists: all that its user has stays as it is."""

import re
from pathlib import Path

import pytest
from running import TEMPLATE, TOOLS, Ended, cookiecutter, path_with, run

BUILD = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n\n'
MINE = '[project]\nname = "tidal-nets"\nversion = "2.1"\n'


def readme_example() -> str:
    """What README.md says that pyproject.toml must get."""
    block = re.search(r"```toml\n(.*?)```", (TEMPLATE / "README.md").read_text(), re.DOTALL)
    assert block
    return block[1]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's repository with a commit, and a file that is not committed."""
    repository = tmp_path / "tidal-nets"
    contents = {
        "README.md": "mine",
        ".gitignore": "*.nc\n.venv\n",
        "src/yours/__init__.py": "MINE = True\n",
        "tests/test_mine.py": "",
        "pyproject.toml": BUILD + readme_example().replace("[project]\n", MINE),
    }
    for name, text in contents.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(text)
    for command in (["init"], ["add", "--all"], ["commit", "--message", "mine"]):
        assert run("git", *command, cwd=repository).returncode == 0
    (repository / "notes.txt").write_text("not committed")
    return repository


def history(repository: Path) -> str:
    """The commits, and what is staged."""
    log = run("git", "log", "--format=%H", cwd=repository).stdout
    return log + run("git", "ls-files", "--stage", cwd=repository).stdout


def add(repository: Path) -> Ended:
    """Add the template and see that nothing of the user's has changed."""
    files = [path for path in repository.rglob("*") if path.is_file() and ".git" not in path.parts]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    commits = history(repository)
    done = cookiecutter(
        *("--no-input", "--overwrite-if-exists", "--skip-if-file-exists", TEMPLATE),
        *("project_slug=tidal-nets", "create_venv=yes"),
        cwd=repository.parent,
        PATH=path_with(repository.parent / "bin", "git", TOOLS / "uv"),
    )
    assert done.returncode == 0, done.stderr
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files} == before
    assert history(repository) == commits
    assert "It lies in a git repository already: commit it there." in done.stdout
    return done


def test_it_works_beside_what_was_there(repository: Path) -> None:
    done = add(repository)
    assert "is ready" in done.stdout, done.stdout + done.stderr
    python = repository / ".venv" / "bin" / "python"
    one_run = run(python, "-m", "tidal_nets", "lr=0.1", "epochs=1", cwd=repository)
    assert one_run.returncode == 0, one_run.stderr
    assert (next(repository.glob("outputs/*/*")) / "metrics.csv").exists()
    assert run(python, "-c", "import yours", cwd=repository).returncode == 0


def test_a_pyproject_that_lacks_what_is_needed(repository: Path) -> None:
    (repository / "pyproject.toml").write_text(BUILD + MINE)
    done = add(repository)
    assert "Nothing was installed; add to pyproject.toml what the template's README" in done.stdout
    assert not (repository / ".venv").exists()


def test_the_readme_names_what_the_template_needs() -> None:
    (generated,) = TEMPLATE.glob("{{*")
    text = (generated / "pyproject.toml").read_text()
    needed = re.findall(r'"[a-z-]+>=[^"]*"', text)
    assert len(needed) > 10
    assert [requirement for requirement in needed if requirement not in readme_example()] == []
