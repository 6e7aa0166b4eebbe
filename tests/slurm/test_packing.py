"""Several runs in one job."""

from pathlib import Path

from jobs import accounting, job_of, record, slurm, wait_until
from running import Project
from test_interruptions import sweeping
from test_sweeps import sweep


def test_runs_share_the_gpus_of_a_job(on_slurm: Project, tmp_path: Path) -> None:
    """And what becomes of one is nothing to the others, not even to those of the same rank."""
    done = sweep(
        on_slurm, tmp_path, "+setup=hpc_gpu_packed", "hydra.launcher.runs_per_job=8",
        "seed=range(8)", "epochs=1", "model._target_=probe_models.mixed",
    )  # fmt: skip
    assert done.returncode == 1
    assert "3 of 8 runs failed" in done.stderr
    job = job_of(tmp_path)
    (row,) = accounting(on_slurm, job)
    assert (row["JobID"], row["State"]) == (f"{job}_0", "FAILED")
    assert "gres/gpu=4" in row["AllocTRES"]

    runs = [record(tmp_path / str(number) / "run.json") for number in range(8)]
    assert [run["state"] for run in runs] == [
        "COMPLETED", *["FAILED"] * 3, *["COMPLETED"] * 4
    ]  # fmt: skip
    assert "ended with SIGKILL" in runs[1]["error"]
    assert "ended with exit code 3" in runs[2]["error"]
    assert "ValueError: seed 3" in runs[3]["error"]
    for number, run in enumerate(record(tmp_path / "sweep.json")["runs"]):
        log = (tmp_path / run["log"]).read_text()
        assert f"GPUs of the run: {number % 4}\n" in log
        assert log.count("CPUs of the run: 1\n") == 1
        assert run["job_id"] == f"{job}_0"
        assert len(list(tmp_path.glob(f"{number}/wandb/offline-run-*"))) == 1
        assert runs[number]["restarts"] == 0


def test_a_packed_job_is_requeued_when_all_its_runs_have_saved(
    on_slurm: Project, tmp_path: Path
) -> None:
    """Complete runs are not repeated, and those that had not begun are done after all."""
    packing = ("hydra.launcher.runs_per_job=4", "hydra.launcher.tasks_per_node=2")
    with sweeping(
        on_slurm, tmp_path, "+setup=hpc_batch", "seed=0,1,2,3", "epochs=14", *packing
    ) as process:
        wait_until((tmp_path / "1" / "metrics.csv").exists, process)
        slurm(on_slurm, "scancel", "--signal=USR2", f"{job_of(tmp_path)}_0")
        wait_until(lambda: record(tmp_path / "0" / "run.json")["restarts"] == 1, process)
        assert process.wait(timeout=120) == 0, process.communicate()[0]
    runs = [record(tmp_path / str(number) / "run.json") for number in range(4)]
    assert [run["state"] for run in runs] == ["COMPLETED"] * 4
    assert [run["restarts"] for run in runs] == [1, 1, 0, 0]
