"""The throwaway cluster itself, as `make cluster` gives it to a person."""

import re
import signal
import subprocess
import sys
from pathlib import Path

from cluster import Cluster
from jobs import wait_until
from running import TEMPLATE, environment, run

PROGRAM = TEMPLATE / "tests" / "slurm" / "cluster.py"


def processes_below(directory: Path) -> list[str]:
    commands = [path.read_bytes().decode() for path in Path("/proc").glob("[0-9]*/cmdline")]
    return [command for command in commands if str(directory) in command]


def test_a_second_cluster_runs_beside_the_first_and_leaves_nothing(
    cluster: Cluster, tmp_path: Path
) -> None:
    started = run(sys.executable, PROGRAM, "start", cwd=tmp_path)
    assert started.returncode == 0, started.stderr
    match = re.match(r"export SLURM_CONF=(.*)/slurm.conf\n", started.stdout)
    assert match, started.stdout
    directory = Path(match[1])
    try:
        assert directory != cluster.directory
        assert f"cluster.py stop {directory}" in started.stdout
        job = run(
            "srun", "--partition=gpu", "--gres=gpu:2", "printenv", "CUDA_VISIBLE_DEVICES",
            cwd=tmp_path, SLURM_CONF=f"{directory}/slurm.conf",
        )  # fmt: skip
        assert job.stdout == "0,1\n", job.stderr
    finally:
        stopped = run(sys.executable, PROGRAM, "stop", directory, cwd=tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    assert not directory.exists()
    assert processes_below(directory) == []


def test_ctrl_c_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    starting = subprocess.Popen(
        [sys.executable, PROGRAM, "start"], env=environment({"TMPDIR": str(tmp_path)})
    )
    wait_until(lambda: list(tmp_path.glob("slurm-*/mariadbd.log")))
    starting.send_signal(signal.SIGINT)
    assert starting.wait(timeout=60) == 130
    assert list(tmp_path.iterdir()) == []
    assert processes_below(tmp_path) == []


def test_stop_touches_no_other_directory(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    stopped = run(sys.executable, PROGRAM, "stop", tmp_path, cwd=tmp_path)
    assert stopped.returncode != 0
    assert "is not the directory of a cluster" in stopped.stderr
    assert (tmp_path / "precious").exists()
