"""Several runs in one job."""

import re
from pathlib import Path

from jobs import accounting, job_of, record
from running import Project
from test_sweeps import sweep


def test_runs_share_the_gpus_of_a_job(on_slurm: Project, tmp_path: Path) -> None:
    """And what becomes of one is nothing to the others, not even to those of the same rank."""
    done = sweep(
        on_slurm, tmp_path, "+setup=hpc_gpu_packed", "hydra.launcher.runs_per_job=8",
        "seed=range(8)", "epochs=1", "model._target_=probe_models.mixed",
    )  # fmt: skip
    assert done.returncode == 1
    assert "3 of 8 runs did not complete" in done.stderr
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
    gpus = set()
    for number, run in enumerate(record(tmp_path / "sweep.json")["runs"]):
        log = (tmp_path / run["log"]).read_text()
        gpus |= set(re.findall("GPUs of the run: (.*)", log))
        assert log.count("CPUs of the run: 1\n") == 1
        assert run["job_id"] == f"{job}_0"
        assert len(list(tmp_path.glob(f"{number}/wandb/offline-run-*"))) == 1
        assert runs[number]["restarts"] == 0
    assert gpus == set("0123")
    assert not list(tmp_path.glob("jobs/*_taken"))


def test_a_rank_that_is_free_takes_the_next_run(on_slurm: Project, tmp_path: Path) -> None:
    """However long the others take."""
    done = sweep(
        on_slurm, tmp_path, "+setup=hpc_batch", "hydra.launcher.runs_per_job=7",
        "hydra.launcher.tasks_per_node=2", "epochs=12,1,1,1,1,1,1",
        "model._target_=probe_models.slow_mlp",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    first, *others = (record(tmp_path / str(number) / "run.json") for number in range(7))
    assert max(each["end"] for each in others) <= first["end"]
