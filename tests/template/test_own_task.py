"""A user's own task in place of the dummy one: three files change, as the README says, and all tests pass."""

import re
import shutil
from pathlib import Path

import pytest
from faults import ONE_THREAD
from running import TEMPLATE, Project

TASK = '''\
"""The task: add up numbers."""

from pathlib import Path

from hpc_hydra import checkpoints, log_metrics, stop_requested


def train(output_dir: str | Path, numbers: int = 3) -> int | None:
    """The sum of the first ``numbers``."""
    directory = Path(output_dir)
    directory.mkdir(parents=True, exist_ok=True)
    step, total = checkpoints.newest(directory) or (0, 0)
    while step < numbers:
        step, total = step + 1, total + step + 1
        log_metrics({"total": total}, step, directory)
        checkpoints.save(directory, step, (step, total))
        if step < numbers and stop_requested():
            return None
    return int(total)
'''
TEST = """\
from pathlib import Path

from hpc_experiment import task


def test_the_sum(tmp_path: Path) -> None:
    assert task.train(tmp_path, numbers=4) == 10
"""


@pytest.fixture
def own(project: Project, tmp_path: Path) -> Project:
    """A copy to be changed."""
    folder = tmp_path / "hpc-experiment"
    shutil.copytree(project.path, folder, ignore=shutil.ignore_patterns(".*", "outputs"))
    (folder / ".venv").symlink_to(project.path / ".venv")
    return Project(folder, {"PYTHONPATH": f"{folder}/src"})


def test_a_second_command_as_the_page_has_it(own: Project, tmp_path: Path) -> None:
    """The function is imported by the store, so it cannot lie in the module that is started."""
    package, page = own.path / "src" / "hpc_experiment", TEMPLATE / "docs" / "own-task.md"
    example = page.read_text().partition("**A second command**")[2].split("```")[1]
    stored, _, run = example.removeprefix("python").partition("\n\n\n")
    with (package / "task.py").open("a") as file:
        file.write("\n\ndef describe(output_dir: str, runs: int = 3) -> int:\n    return runs\n")
    imported = "from .task import train\n"
    text = (package / "configs.py").read_text()
    both = text.replace(imported, "from .task import describe, train\n")
    (package / "configs.py").write_text(both + stored)
    text = (package / "__main__.py").read_text()
    text = re.sub(r"@hydra\.main.*?\n\n\n", lambda _: run + "\n\n", text, flags=re.DOTALL)
    (package / "describe.py").write_text(text.replace(imported, "from .task import describe\n"))
    words = (
        "hpc_experiment.describe",
        "+setup=local",
        "runs=4,5",
        f"hydra.sweep.dir={tmp_path}/sweep",
    )
    done = own.run("python", "-m", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"runs=\d +COMPLETED .* (\d+) *$", done.stdout, re.MULTILINE) == ["4", "5"]


def test_three_files_change(own: Project, project: Project, tmp_path: Path) -> None:
    package, tests = own.path / "src" / "hpc_experiment", own.path / "tests"
    (package / "task.py").write_text(TASK)
    (tests / "test_task.py").write_text(TEST)
    configs = package / "configs.py"
    text = configs.read_text()
    for before, after in (
        (r' model="\?\?\?",', ""),
        (r', \{"model": "mlp"\}\]', "]"),
        (r"# --- models -.*?(?=# --- where outputs go)", ""),
        (r"import cluster, models", "import cluster"),
    ):
        text, times = re.subn(before, after, text, flags=re.DOTALL)
        assert times == 1, before
    configs.write_text(text)
    (package / "models.py").unlink()

    for check in (("pytest", "-q"), ("ruff", "check")):
        done = own.run(*check, **ONE_THREAD)
        assert done.returncode == 0, done.stdout + done.stderr
    done = own.run(
        "python", "-m", "hpc_experiment", "+setup=local", "numbers=2,4", f"hydra.sweep.dir={tmp_path}/sweep"
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"numbers=\d +COMPLETED .* (\d+) *$", done.stdout, re.MULTILINE) == [
        "3",
        "10",
    ]
    text = (project.path / "README.md").read_text()
    assert all(name in text for name in ("`task.py`", "`configs.py`", "test_task.py"))
