"""A repository that was generated once gets the template's news with cruft, and keeps what its user did."""

import json
import re
from pathlib import Path

import pytest
from running import TOOLS, Ended, cookiecutter, home, path_with, run
from test_generation import commit, published
from test_requirement import requirement

NEWS = "# News of the template.\n"
GIVEN = {"project_name": "Tides", "create_venv": "yes", "output_dir": "$SCRATCH/tides"}


def git(*arguments: str | Path, cwd: Path) -> str:
    done = run("git", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as it is in the working tree, tagged `now`, and then one more commit."""
    repository = published(tmp_path_factory.mktemp("template"))
    git("tag", "now", cwd=repository)
    (generated,) = repository.glob("{{*")
    (package,) = generated.glob("src/{{*")
    for file in (generated / "README.md", package / "task.py"):
        file.write_text(file.read_text() + NEWS)
    (package / "news.py").write_text(NEWS)
    commit(repository, "news")
    return repository


def cruft(*arguments: str | Path, cwd: Path, user: Path) -> Ended:
    """The command; a venv is made by a uv that writes down that it was called."""
    if not user.exists():
        user.mkdir()
        path_with(user / "bin", "git", "mkdir")
        (user / "bin" / "uv").write_text(f"#!/bin/sh\necho $1 >>{user}/calls\nmkdir -p .venv/bin\n")
        (user / "bin" / "uv").chmod(0o755)
    return run(TOOLS / "cruft", *arguments, cwd=cwd, **home(user), PATH=str(user / "bin"))


def work(project: Path) -> None:
    """What a user does to the repository."""
    readme, task = project / "README.md", next(project.glob("src/*/task.py"))
    readme.write_text(readme.read_text().replace("# Tides\n", "# Tides of the North Sea\n"))
    task.write_text(task.read_text().replace("epochs: int = 30", "epochs: int = 40"))
    (task.parent / "mine.py").write_text("MINE = True\n")


def files(project: Path) -> dict[str, bytes]:
    """What git would commit, but for cruft's own file."""
    names = git("ls-files", "--cached", "--others", "--exclude-standard", cwd=project).splitlines()
    return {name: (project / name).read_bytes() for name in names if name != ".cruft.json"}


@pytest.mark.parametrize("start", ["created", "linked"])
def test_update(start: str, template: Path, tmp_path: Path) -> None:
    """Afterwards it is as if the user had worked on what the newest template generates."""
    project, user = tmp_path / "tides", tmp_path / "user"
    given = [f"{name}={answer}" for name, answer in GIVEN.items()]
    if start == "linked":
        asked = ["--no-input", "--checkout", "now", f"file://{template}", *given, "create_venv=no"]
        assert cookiecutter(*asked, cwd=tmp_path).returncode == 0
        link = ["link", "-y", "-c", "now", "--extra-context", json.dumps(GIVEN), str(template)]
        linked = cruft(*link, cwd=project, user=user)
        assert linked.returncode == 0, linked.stderr
        git("add", ".cruft.json", cwd=project)
        git("commit", "--quiet", "--message", "cruft", cwd=project)
    else:
        given_as_json = ["--extra-context", json.dumps(GIVEN)]
        create = ["create", "-y", "-c", "now", *given_as_json, str(template)]
        created = cruft(*create, cwd=tmp_path, user=user)
        assert created.returncode == 0, created.stderr
        cd, commit_ = re.findall(r"^  [12]\. (.*)$", created.stdout, re.MULTILINE)
        assert commit_.startswith("git init && git add --all && git commit")
        assert not (project / ".git").exists()
        assert run("bash", "-c", f"{cd} && {commit_}", cwd=tmp_path).returncode == 0
        assert ".cruft.json" in git("ls-files", cwd=project)
    now = git("rev-parse", "now", cwd=template).strip()
    assert requirement(project) == f"hpc-hydra[results,wandb] @ git+file://{template}@{now}"
    called = (user / "calls").read_text() if (user / "calls").exists() else ""
    assert called == ("venv\npip\n" if start == "created" else "")

    work(project)
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--message", "work", cwd=project)
    if start == "created":
        difference = cruft("diff", cwd=project, user=user)
        assert difference.returncode == 0, difference.stderr
        names = re.findall("^diff --git .* .*/(.*)$", difference.stdout, re.MULTILINE)
        assert sorted(names) == ["README.md", "task.py"]
        assert "Next:" not in difference.stdout
    updated = cruft("update", "--skip-apply-ask", cwd=project, user=user)
    assert updated.returncode == 0, updated.stdout + updated.stderr
    assert "Next:" not in updated.stdout

    fresh = tmp_path / "fresh"
    words = ["--no-input", "--output-dir", str(fresh), f"file://{template}"]
    generated = cookiecutter(*words, *given, "create_venv=no", cwd=tmp_path)
    assert generated.returncode == 0, generated.stderr
    newest = git("rev-parse", "HEAD", cwd=template).strip()
    assert requirement(project) == f"hpc-hydra[results,wandb] @ git+file://{template}@{newest}"
    work(fresh / "tides")
    assert files(project) == files(fresh / "tides")
    assert git("log", "-1", "--format=%s", cwd=project) == "work\n"
    assert ((user / "calls").read_text() if called else "") == called
