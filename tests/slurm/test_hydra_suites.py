"""What Hydra expects of a launcher: its own tests, on Slurm; on this machine they are those of its launcher."""

import sys
from pathlib import Path

import pytest
from cluster import Cluster
from running import TEMPLATE, run


@pytest.mark.parametrize("suite", ["TestLauncher", "TestBatches", "TestIntegration"])
def test_suite(cluster: Cluster, tmp_path: Path, suite: str) -> None:
    tests = TEMPLATE / "tests" / "apps" / "test_launcher.py"
    done = run(
        sys.executable, "-m", "pytest", "--noconftest", "-p", "no:cacheprovider",
        f"--rootdir={tmp_path}", f"--basetemp={tmp_path}/suite", f"{tests}::{suite}",
        cwd=tmp_path, TESTED_LAUNCHER="hpc_slurm", **cluster.environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
