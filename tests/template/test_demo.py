"""`make demo`, twice: on Slurm, then over the first one's remains without Slurm.

It is here that the tests of a repository with the default answers run; the second time they are only collected.
"""

import sys
from pathlib import Path

from cluster import Cluster
from faults import ONE_THREAD
from running import TEMPLATE, run


def test_demo(cluster: Cluster, tmp_path: Path) -> None:
    # The tools are those of these tests, as if make had installed them there.
    tools = (f"ENV={sys.prefix}", f"--old-file={sys.prefix}/.installed")
    command = ("make", "--no-print-directory", "demo", f"CACHE={tmp_path}/cache", *tools)
    repository = tmp_path / "cache" / "demo" / "hpc-experiment"
    for preset, variables in (
        ("hpc_batch", cluster.environment),
        ("local", {"PYTEST_ADDOPTS": "--collect-only"}),
    ):
        own = {"WANDB_MODE": "disabled", **ONE_THREAD, **variables}
        done = run(*command, cwd=TEMPLATE, **own)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (" passed in " in done.stdout) == (preset == "hpc_batch")
        assert f"+setup={preset} " in done.stdout
        assert done.stdout.count("==> 4/4") == 1  # not a second time, on this machine
        assert done.stdout.count("COMPLETED") == 8
        assert f"outputs: {repository}/outputs/" in done.stdout
        assert run("git", "status", "--porcelain", cwd=repository).stdout == ""
