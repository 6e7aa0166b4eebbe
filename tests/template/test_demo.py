"""`make demo`, twice: on Slurm, then over the first one's remains without Slurm."""

import sys
from pathlib import Path

from cluster import Cluster
from running import TEMPLATE, Ended, run


def demo(cache: Path, **variables: str) -> Ended:
    """With the tools of these tests' own environment, as if make had installed it, and without the repository's
    tests, which test_generated.py runs: here they are collected."""
    tools = (f"ENV={sys.prefix}", f"--old-file={sys.prefix}/.installed")
    return run(
        "make", "--no-print-directory", "demo", f"CACHE={cache}", *tools,
        cwd=TEMPLATE, PYTEST_ADDOPTS="--collect-only", **variables,
    )  # fmt: skip


def test_demo(cluster: Cluster, tmp_path: Path) -> None:
    for preset, variables in (
        ("hpc_batch", cluster.environment),
        ("local", {"WANDB_MODE": "disabled"}),
    ):
        done = demo(tmp_path / "cache", **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "tests collected" in done.stdout
        assert f"+setup={preset} " in done.stdout
        assert done.stdout.count("==> 4/4") == 1  # not a second time, on this machine
        assert done.stdout.count("COMPLETED") == 8
        assert f"outputs: {tmp_path}/cache/demo/hpc-experiment/outputs/" in done.stdout
