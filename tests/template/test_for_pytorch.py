"""The repository for PyTorch: its own tests and its checks pass, on a CPU with Gloo."""

from running import Project


def test_its_tests_and_checks(pytorch_project: Project) -> None:
    for command in (
        ("pytest", "--quiet"),
        ("ruff", "check"),
        ("ruff", "format", "--check"),
        ("mypy",),
    ):
        done = pytorch_project.run("python", "-m", *command)
        assert done.returncode == 0, done.stdout + done.stderr
