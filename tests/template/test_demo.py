"""`make demo`, twice: on Slurm, then over the first one's remains without Slurm."""

from pathlib import Path

from cluster import Cluster
from running import TEMPLATE, Ended, run


def demo(cache: Path, **variables: str) -> Ended:
    return run("make", "--no-print-directory", "demo", f"CACHE={cache}", cwd=TEMPLATE, **variables)


def test_demo(cluster: Cluster, tmp_path: Path) -> None:
    for preset, variables in (("hpc_batch", cluster.environment), ("local", {})):
        done = demo(tmp_path / "cache", **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"+setup={preset} " in done.stdout
        assert done.stdout.count("==> 4/4") == 1  # not a second time, on this machine
        assert done.stdout.count("COMPLETED") == 8
        assert f"outputs: {tmp_path}/cache/demo/hpc-experiment/outputs/" in done.stdout
