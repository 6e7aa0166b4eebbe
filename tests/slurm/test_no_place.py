"""The directory of a sweep is full, cannot be written, or goes."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import Sweep
from jobs import runs_of, wait_until
from running import Project, disk

Traced = Callable[..., Sweep]


@pytest.mark.parametrize(
    ("options", "reason"),
    [("ro", "Read-only file system"), ("size=32k", "No space left on device")],
)
def test_refused_before_submission(
    options: str, reason: str, traced: Traced, tmp_path: Path
) -> None:
    sweep = traced("+setup=hpc_batch", "epochs=3")
    shutil.rmtree(sweep.directory)
    with disk(sweep.directory, options):
        done = sweep.repeat()
    assert done.returncode == 1
    assert reason in done.stderr and str(sweep.directory) in done.stderr
    assert "Traceback" not in done.stderr
    assert "submitted" not in done.stdout
    sweep.set_pace(0)
    assert sweep.repeat().returncode == 0
    sweep.tell(f"sweep's directory: {reason.lower()}, refused; then repeated", 1)


def test_the_disk_of_a_run_is_full(trace: Traced, generated_on_slurm: Project) -> None:
    """The run fails with the reason in its log, and the others of its job do not."""
    sweep = trace(
        generated_on_slurm,
        "+setup=hpc_batch",
        "seed=0,1",
        "epochs=10",
        "hydra.launcher.runs_per_job=2",
        pace=0.2,
    )
    with disk(sweep.directory / "0", "size=200k"):
        done = sweep.repeat()
        assert done.returncode == 1
        assert "No space left on device" in sweep.log(0)
        assert "1 of 2 runs did not complete" in done.stderr
        assert sweep.states[1] == "COMPLETED"
    sweep.set_pace(0)
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    sweep.tell("disk of a run full; then repeated elsewhere", 1)


@pytest.mark.long
def test_the_disk_of_the_sweep_is_full(traced: Traced) -> None:
    """No run can note what it did: what Slurm says of the job is all there is, and once there is space
    again the command can be repeated."""
    sweep = traced("+setup=hpc_batch", "seed=0,1", "epochs=20", pace=0.5)
    shutil.rmtree(sweep.directory)
    with disk(sweep.directory, "size=10m"):
        sweep.set_pace(0.5)
        with sweep.going_on() as process:
            filler = sweep.directory / "filler"
            subprocess.run(["dd", "if=/dev/zero", f"of={filler}"], capture_output=True)
            output = process.communicate(timeout=180)[0]
        assert process.returncode == 1
        assert "2 of 2 runs did not complete" in output
        assert "Traceback" not in output
        filler.unlink()
        sweep.set_pace(0)
        done = sweep.repeat()
        assert done.returncode == 0, done.stdout + done.stderr
        sweep.tell("disk of the sweep full; then repeated with space", 1, 2)


@pytest.mark.long
def test_the_directory_goes(traced: Traced, tmp_path: Path) -> None:
    sweep = traced("+setup=hpc_batch", "seed=0,1", "epochs=60", pace=0.5)
    with sweep.going_on() as process:
        job = sweep.job
        elsewhere = sweep.directory.rename(tmp_path / "elsewhere")
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert str(sweep.directory) in output and f"scancel {job}" in output
    assert "Traceback" not in output
    wait_until(lambda: not runs_of(sweep.directory))
    shutil.rmtree(sweep.directory, ignore_errors=True)
    elsewhere.rename(sweep.directory)
    sweep.set_pace(0)
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    sweep.tell("sweep's directory goes, and comes back; then repeated", 1, 2)
