"""Two attempts at a job that Slurm has started twice: the older one writes nothing any more."""

import subprocess
import sys
from pathlib import Path

import pytest

from hpc_hydra import _records as records
from hpc_hydra._job.submission import Run
from hpc_hydra._launch.local import LocalLauncher

PROGRAM = """
import sys
from pathlib import Path
from hpc_hydra import _attempt, checkpoints, log_metrics
_attempt.file = Path("12_0_attempt")
match sys.argv[1]:
    case "checkpoint": checkpoints.save(Path(), 1, "state")
    case "metrics": log_metrics({"loss": 1}, 1, ".")
print("written")
"""


@pytest.mark.parametrize("what", ["checkpoint", "metrics"])
@pytest.mark.parametrize(
    ("newest", "own", "written"),
    [
        ("2", "1", False),
        ("superseded", "1", False),
        ("1", "1", True),
        ("0", "1", True),  # a network file system may show what it was
        ("", "1", True),  # the disk was full
        (None, "0", True),  # a job of the version before
    ],
)
def test_who_may_write(
    newest: str | None, own: str, written: bool, what: str, tmp_path: Path
) -> None:
    if newest is not None:
        (tmp_path / "12_0_attempt").write_text(newest)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, what], cwd=tmp_path, env={"SLURM_RESTART_COUNT": own},
        capture_output=True, text=True,
    )  # fmt: skip
    files = {path.name for path in tmp_path.iterdir()} - {"12_0_attempt"}
    assert done.returncode == (0 if written else 1), done.stderr
    assert ("written" in done.stdout) == written == any(not name.startswith(".") for name in files)
    assert ("this attempt ends" in done.stderr) != written


def test_a_command_that_waits_for_a_job_of_before(tmp_path: Path) -> None:
    """Another one has submitted the run anew: its record is that of the new job."""
    launcher = LocalLauncher.__new__(LocalLauncher)
    launcher.directory = launcher.folder = tmp_path
    (tmp_path / "0").mkdir()
    records.write(tmp_path / "0" / records.RUN, {"state": "RUNNING", "job_id": "2_0"})
    (tmp_path / "1_0_attempt").write_text("superseded")
    launcher._give_up(Run(0, [], "1_0"), "FAILED with exit code 137")
    assert records.read(tmp_path / "0" / records.RUN)["state"] == "RUNNING"
    launcher._give_up(Run(0, [], "2_0"), "FAILED with exit code 137")
    assert records.read(tmp_path / "0" / records.RUN)["state"] == "FAILED"
