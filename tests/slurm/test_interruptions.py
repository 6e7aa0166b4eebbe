"""What Slurm does to jobs, and what is left of the run."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from jobs import accounting, job_of, process_of, record, slurm, wait_until
from running import Project

EPOCHS = 50  # of half a second


@pytest.fixture(scope="module")
def uninterrupted(project: Project, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The metrics of a run that nothing stops."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    call = f"task.train(models.mlp, epochs={EPOCHS}, output_dir='{folder}')"
    done = project.run("python", "-c", f"from hpc_experiment import models, task; {call}")
    assert done.returncode == 0, done.stderr
    return (folder / "metrics.csv").read_text()


@contextmanager
def sweeping(
    project: Project, directory: Path, *overrides: str
) -> Iterator["subprocess.Popen[str]"]:
    """A sweep of one slow run, up to its first epoch."""
    process = project.start(
        f"epochs={EPOCHS}", *overrides, "model._target_=probe_models.slow_mlp",
        f"hydra.sweep.dir={directory}",
    )  # fmt: skip
    try:
        wait_until((directory / "0" / "metrics.csv").exists, process)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_time_limit(on_slurm: Project, tmp_path: Path, uninterrupted: str) -> None:
    limits = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=40")
    with sweeping(on_slurm, tmp_path, "+setup=hpc_debug", *limits) as process:
        run = tmp_path / "0" / "run.json"
        wait_until(lambda: record(run)["state"] == "STOPPED", process)
        assert record(run)["error"] == "SIGUSR2"
        assert process.wait(timeout=120) == 0, process.communicate()[0]
    assert record(run)["state"] == "COMPLETED"
    restarts = record(run)["restarts"]
    assert restarts >= 1  # Slurm warns up to a minute early, so there may be two
    assert (tmp_path / "0" / "metrics.csv").read_text() == uninterrupted
    (row,) = accounting(on_slurm, job_of(tmp_path))
    assert row["State"] == "COMPLETED"
    # W&B may not have been there yet when a warning came.
    assert 2 <= len(list(tmp_path.glob("0/wandb/offline-run-*"))) <= 1 + restarts


def test_preemption(on_slurm: Project, tmp_path: Path, uninterrupted: str) -> None:
    with sweeping(on_slurm, tmp_path, "+setup=hpc_gpu") as process:
        run = tmp_path / "0" / "run.json"
        slurm(
            on_slurm, "sbatch", "--partition=preempt", "--nodes=4", "--exclusive", "--time=1",
            f"--output={tmp_path}/higher", "--wrap=sleep 1",
        )  # fmt: skip
        wait_until(lambda: record(run)["state"] == "STOPPED", process)
        assert record(run)["error"] == "SIGTERM"
        assert process.wait(timeout=120) == 0, process.communicate()[0]
    assert record(run)["state"] == "COMPLETED"
    assert record(run)["restarts"] == 1
    assert (tmp_path / "0" / "metrics.csv").read_text() == uninterrupted


def test_ignoring_all_signals(on_slurm: Project, tmp_path: Path, uninterrupted: str) -> None:
    with sweeping(on_slurm, tmp_path, "+setup=hpc_batch", "signal_policy=ignore") as process:
        for number in ("USR1", "USR2", "CONT", "TERM", "HUP"):
            slurm(on_slurm, "scancel", f"--signal={number}", job_of(tmp_path))
        assert process.wait(timeout=120) == 0, process.communicate()[0]
    assert record(tmp_path / "0" / "run.json")["restarts"] == 0
    assert (tmp_path / "0" / "metrics.csv").read_text() == uninterrupted


def test_a_cancelled_job_is_not_requeued(on_slurm: Project, tmp_path: Path) -> None:
    """Slurm sends the same TERM as when it preempts."""
    with sweeping(on_slurm, tmp_path, "+setup=hpc_gpu") as process:
        slurm(on_slurm, "scancel", job_of(tmp_path))
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 1
    assert "run 0 stopped: SIGTERM; not requeued: CANCELLED" in output
    (row,) = accounting(on_slurm, job_of(tmp_path))
    assert row["State"].startswith("CANCELLED")
    assert (tmp_path / "0" / "checkpoint.pkl").exists()


def test_a_killed_run_that_nobody_waits_for_is_shown_as_lost(
    on_slurm: Project, tmp_path: Path
) -> None:
    with sweeping(on_slurm, tmp_path, "+setup=hpc_batch"):
        pass  # the waiting process is killed
    os.kill(process_of(tmp_path), signal.SIGKILL)
    wait_until(lambda: not slurm(on_slurm, "squeue", "--noheader"))
    shown = on_slurm.run("python", "-m", "hpc_experiment.hpc.runs", tmp_path)
    assert "LOST" in shown.stdout
