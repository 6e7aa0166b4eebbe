"""What Hydra expects of a launcher: its own tests, in the generated repository's environment, and an app
that is not the repository's."""

import re
from pathlib import Path

import pytest
from jobs import accounting, job_of, record
from running import Ended, Project, run

LAUNCHER = "hpc_experiment_slurm"
APP = """\
from dataclasses import dataclass

import hydra
from hydra.core.config_store import ConfigStore


@dataclass
class Config:
    x: int = 1


ConfigStore.instance().store(name="config", node=Config)


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def main(config):
    return 1 / config.x


main()
"""


@pytest.mark.parametrize("suite", ["TestLauncher", "TestBatches", "TestIntegration"])
def test_suite(on_slurm: Project, tmp_path: Path, suite: str) -> None:
    """Without the repository's conftest.py, which hides the cluster."""
    done = on_slurm.run(
        "pytest", "--noconftest", f"--basetemp={tmp_path}/suite",
        f"tests/test_launcher.py::{suite}", TESTED_LAUNCHER=LAUNCHER,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_app(on_slurm: Project, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)

    def sweep(*overrides: str) -> Ended:
        return run(
            f"{on_slurm.path}/.venv/bin/python", "app.py", "--multirun",
            f"hydra/launcher={LAUNCHER}", *overrides, cwd=tmp_path, **on_slurm.environment(),
        )  # fmt: skip

    done = sweep("x=1,0,4", "hydra.sweep.dir=one_fails")
    assert done.returncode == 1
    assert "1 of 3 runs did not complete" in done.stderr
    folder = tmp_path / "one_fails"
    runs = [record(folder / str(number) / "run.json") for number in range(3)]
    assert [(run["state"], run["result"]) for run in runs] == [
        ("COMPLETED", 1), ("FAILED", None), ("COMPLETED", 0.25)
    ]  # fmt: skip
    states = [row["State"] for row in accounting(on_slurm, job_of(folder), 3)]
    assert states == [run["state"] for run in runs]
    rows = re.findall(r" (x=\d) +([A-Z]+) *(\S*)", done.stdout)
    assert rows == [("x=1", "COMPLETED", "1"), ("x=0", "FAILED", ""), ("x=4", "COMPLETED", "0.25")]
    assert "run 1 failed: ZeroDivisionError" in done.stdout

    done = sweep("x=1,4", "hydra.sweep.dir=all_complete")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 runs: 2 completed" in done.stdout
