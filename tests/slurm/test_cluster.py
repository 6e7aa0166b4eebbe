"""The throwaway cluster itself, as `make cluster` gives it to a person."""

import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from cluster import Cluster
from jobs import wait_until
from running import TEMPLATE, environment, run

PROGRAM = TEMPLATE / "tests" / "slurm" / "cluster.py"


def processes_below(directory: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            found.append(path.read_text(errors="replace"))
    return [command for command in found if str(directory) in command]


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


def test_interrupted_while_it_starts_it_leaves_nothing() -> None:
    """By TERM, which acts as Ctrl-C does; INT itself is ignored where tests run in the background."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's are too long for a socket's name
        Path(folder).chmod(0o755)
        starting = subprocess.Popen(
            [sys.executable, PROGRAM, "start"],
            env=environment({"TMPDIR": folder}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_until(lambda: list(Path(folder).glob("slurm-*/mariadbd.log")), starting)
        starting.send_signal(signal.SIGTERM)
        assert starting.wait(timeout=60) == 130
        assert list(Path(folder).iterdir()) == []
        assert processes_below(Path(folder)) == []


def test_stop_touches_no_other_directory(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    stopped = run(sys.executable, PROGRAM, "stop", tmp_path, cwd=tmp_path)
    assert stopped.returncode != 0
    assert "is not the directory of a cluster" in stopped.stderr
    assert (tmp_path / "precious").exists()
