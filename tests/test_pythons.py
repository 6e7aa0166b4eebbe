"""The generated tests on every Python that is promised and that this machine has."""

import json
import os
import sys
from pathlib import Path

import pytest
from running import TEMPLATE, TOOLS, cookiecutter, run

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
ANSWERS = [pytest.param({}, id="defaults")]


def pythons() -> dict[str, str]:
    """The newest of each version but the tests' own, which the other tests use; uv knows PATH and its own."""
    folders = [*map(str, Path.home().glob(".pyenv/versions/*/bin")), os.environ["PATH"]]
    listed = run(
        *(TOOLS / "uv", "python", "list", "--only-installed", "--output-format", "json"),
        cwd=TEMPLATE,
        PATH=os.pathsep.join(folders),
    )
    found: dict[str, str] = {}
    for python in json.loads(listed.stdout):
        parts = python["version_parts"]
        version = f"{parts['major']}.{parts['minor']}"
        if version in VERSIONS and python["implementation"] == "cpython":
            found.setdefault(version, python["path"])
    found.pop(f"3.{sys.version_info.minor}", None)
    return dict(sorted(found.items()))


@pytest.mark.parametrize("answers", ANSWERS)
@pytest.mark.parametrize("python", [pytest.param(path, id=v) for v, path in pythons().items()])
def test_generated_tests(python: str, answers: dict[str, str], tmp_path: Path) -> None:
    given = [f"{name}={answer}" for name, answer in answers.items()]
    generated = cookiecutter("--no-input", "--output-dir", "new", TEMPLATE, *given, cwd=tmp_path)
    assert generated.returncode == 0, generated.stderr
    (project,) = (tmp_path / "new").iterdir()
    venv, uv = f"{tmp_path}/venv", f"{TOOLS}/uv"
    for command in (
        [uv, "venv", "--quiet", "--python", python, venv],
        [uv, "pip", "install", "--quiet", "--python", venv, "--editable", ".[dev]"],
        [f"{venv}/bin/pytest", "-q"],
    ):
        done = run(*command, cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr
