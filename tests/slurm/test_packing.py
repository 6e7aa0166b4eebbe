"""Several runs in one job."""

import re
from collections.abc import Callable
from pathlib import Path

from faults import Sweep
from jobs import accounting, job_of, record, wait_until
from running import Project
from test_sweeps import sweep


def test_runs_share_the_gpus_of_a_job(on_slurm: Project, tmp_path: Path) -> None:
    """And what becomes of one is nothing to the others, not even to those of the same rank."""
    done = sweep(
        on_slurm, tmp_path, "+setup=hpc_gpu_packed", "hydra.launcher.runs_per_job=8",
        "seed=range(8)", "epochs=1", "model._target_=probe_models.mixed", WANDB_MODE="offline",
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
    assert "ended with exit code 143" in runs[2]["error"]
    assert "ValueError: seed 3" in runs[3]["error"]
    gpus = set()
    for number, run in enumerate(record(tmp_path / "sweep.json")["runs"]):
        log = (tmp_path / run["log"]).read_text()
        gpus |= set(re.findall("GPUs of the run: (.*)", log))
        assert log.count("CPUs of the run: 1\n") == 1
        assert run["job_id"] == f"{job}_0"
        assert len(list(tmp_path.glob(f"{number}/wandb/offline-run-*"))) == 1
        assert runs[number]["restarts"] == 0
        assert runs[number]["asked"]["tasks_per_node"] == 4
    assert gpus == set("0123")
    assert not list(tmp_path.glob("jobs/*_taken"))


def test_a_rank_that_is_free_takes_the_next_run(traced: Callable[..., Sweep]) -> None:
    """However long the other one takes for its first."""
    sweep = traced(
        "+setup=hpc_batch", "hydra.launcher.runs_per_job=5", "hydra.launcher.tasks_per_node=2",
        "epochs=60,1,2,3,4", pace=0.5,
    )  # fmt: skip
    with sweep.going_on(step=0) as process:
        wait_until(lambda: sweep.states[1:] == ["COMPLETED"] * 4, process)
        assert sweep.states[0] == "RUNNING"
        sweep.set_pace(0)
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert sweep.states == ["COMPLETED"] * 5
