"""The generated repository holds what its README promises of its own checks."""

import pytest
from running import Project


@pytest.mark.parametrize(
    "check",
    [("ruff", "check"), ("ruff", "format", "--check"), ("mypy",), ("pytest", "-q")],
    ids=" ".join,
)
def test_check(project: Project, check: tuple[str, ...]) -> None:
    done = project.run(*check)
    assert done.returncode == 0, done.stdout + done.stderr
