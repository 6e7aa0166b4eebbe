"""A repository that was generated once gets the template's news with cruft, and keeps what its user did."""

import json
import os
import re
from pathlib import Path

import pytest
from running import TEMPLATE, TOOLS, Ended, cookiecutter, home, path_with, run

OLD = "7612d3b"  # before cruft was known here
NEWS = "# News of the template.\n"
GIVEN = {"project_name": "Tides", "create_venv": "yes", "output_dir": "$SCRATCH/tides"}


def git(*arguments: str | Path, cwd: Path) -> str:
    done = run("git", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with the working tree on top of the history, tagged `now`, and then one more commit."""
    if run("git", "cat-file", "-e", f"{OLD}^{{commit}}", cwd=TEMPLATE).returncode != 0:
        remedy = f"the history lacks {OLD}: git fetch --unshallow"
        if os.environ.get("CI"):
            pytest.fail(remedy)
        pytest.skip(remedy)
    # By `.git` in its name cookiecutter knows a repository.
    clone = tmp_path_factory.mktemp("template") / "clone.git"
    git("clone", "--quiet", TEMPLATE, clone, cwd=clone.parent)
    there = ("--git-dir", clone / ".git", "--work-tree", TEMPLATE)
    git(*there, "add", "--all", cwd=TEMPLATE)
    git(*there, "commit", "--quiet", "--allow-empty", "--message", "now", cwd=TEMPLATE)
    git("reset", "--quiet", "--hard", cwd=clone)
    git("tag", "now", cwd=clone)
    (generated,) = clone.glob("{{*")
    (package,) = generated.glob("src/{{*")
    for file in (generated / "README.md", package / "task.py"):
        file.write_text(file.read_text() + NEWS)
    (package / "news.py").write_text(NEWS)
    git("add", "--all", cwd=clone)
    git("commit", "--quiet", "--message", "news", cwd=clone)
    return clone


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


@pytest.mark.parametrize("start", ["created from the first template", "created", "linked"])
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
        which = ["-c", "now"] if start == "created" else ["-c", OLD, "--skip", ".git"]
        create = ["create", "-y", *which, "--extra-context", json.dumps(GIVEN), str(template)]
        created = cruft(*create, cwd=tmp_path, user=user)
        assert created.returncode == 0, created.stderr
        if start == "created":
            cd, commit = re.findall(r"^  [12]\. (.*)$", created.stdout, re.MULTILINE)
            assert commit.startswith("git init && git add --all && git commit")
            assert not (project / ".git").exists()
            assert run("bash", "-c", f"{cd} && {commit}", cwd=tmp_path).returncode == 0
        else:
            git("add", "--all", cwd=project)
            git("commit", "--quiet", "--message", "cruft", cwd=project)
        assert ".cruft.json" in git("ls-files", cwd=project)
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
    assert start == "created from the first template" or "Next:" not in updated.stdout

    fresh = tmp_path / "fresh"
    generated = cookiecutter(
        "--no-input", "--output-dir", fresh, template, *given, "create_venv=no", cwd=tmp_path
    )
    assert generated.returncode == 0, generated.stderr
    work(fresh / "tides")
    assert files(project) == files(fresh / "tides")
    assert git("log", "-1", "--format=%s", cwd=project) == "work\n"
    assert ((user / "calls").read_text() if called else "") == called
