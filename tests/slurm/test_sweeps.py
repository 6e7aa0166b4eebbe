"""The presets on a real cluster."""

from pathlib import Path

from jobs import accounting, job_of, job_script, record
from running import Ended, Project


def sweep(project: Project, directory: Path, *overrides: str, **variables: str) -> Ended:
    words = ("-m", "hpc_experiment", *overrides, f"hydra.sweep.dir={directory}")
    return project.run("python", *words, **variables)


def test_hpc_gpu(generated_on_slurm: Project, tmp_path: Path) -> None:
    """Of the task that the template has."""
    done = sweep(
        generated_on_slurm, tmp_path, "+setup=hpc_gpu", "model=mlp", "lr=0.1,0.01", "epochs=2",
        "model._target_=probe_models.telling_mlp",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    job = job_of(tmp_path)
    rows = accounting(generated_on_slurm, job, 2)
    assert [row["JobID"] for row in rows] == [f"{job}_{number}" for number in range(2)]
    for number, row in enumerate(rows):
        assert row["State"] == "COMPLETED"
        assert row["Partition"] == "gpu"
        assert row["Account"] == "lab"
        assert row["JobName"] == "hpc-experiment"
        assert row["Timelimit"] == "00:30:00"
        assert "gres/gpu=4" in row["AllocTRES"]

        run = record(tmp_path / str(number) / "run.json")
        assert run["state"] == "COMPLETED"
        assert f"{run['result']:.4g}" in done.stdout
        log = (tmp_path / record(tmp_path / "sweep.json")["runs"][number]["log"]).read_text()
        assert "GPUs of the run: 0,1,2,3" in log
        assert list(tmp_path.glob(f"{number}/wandb/offline-run-*/*.wandb"))


def test_hpc_debug(on_slurm: Project, tmp_path: Path) -> None:
    done = sweep(
        on_slurm,
        tmp_path,
        "+setup=hpc_debug",
        "epochs=1",
        "model._target_=probe_models.telling_mlp",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    job = job_of(tmp_path)
    (row,) = accounting(on_slurm, job)
    assert (row["State"], row["Partition"], row["Timelimit"]) == ("COMPLETED", "gpu", "00:05:00")
    assert "gres/gpu=1" in row["AllocTRES"]
    log = (tmp_path / "jobs" / f"{job}_0_0_log.out").read_text()
    assert "GPUs of the run: 0\n" in log
    assert "CPUs of the run: 1\n" in log


def test_hpc_batch_with_several_ranks(on_slurm: Project, tmp_path: Path) -> None:
    """The task runs once per rank, and one of them writes."""
    done = sweep(
        on_slurm, tmp_path, "+setup=hpc_batch", "epochs=1", "hydra.launcher.nodes=2",
        "hydra.launcher.tasks_per_node=2", WANDB_MODE="offline",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    job = job_of(tmp_path)
    (row,) = accounting(on_slurm, job)
    assert (row["State"], row["Partition"], row["Timelimit"]) == ("COMPLETED", "cpu", "03:00:00")
    assert "gres" not in row["AllocTRES"] and "node=2" in row["AllocTRES"]
    assert "--requeue" in job_script(on_slurm, job)
    assert sorted(path.name for path in tmp_path.glob("jobs/*_log.out")) == [
        f"{job}_0_{rank}_log.out" for rank in range(4)
    ]
    assert len(list(tmp_path.glob("0/wandb/offline-run-*"))) == 1
    assert record(tmp_path / "0" / "run.json")["restarts"] == 0


def test_a_failed_run_fails_alone(on_slurm: Project, tmp_path: Path) -> None:
    values = ("lr=0.1,-1,0.01", "epochs=1")
    done = sweep(on_slurm, tmp_path, "+setup=hpc_batch", "model=logistic", *values)
    assert done.returncode == 1
    states = [row["State"] for row in accounting(on_slurm, job_of(tmp_path), 3)]
    assert states == ["COMPLETED", "FAILED", "COMPLETED"]
    runs = [record(tmp_path / str(number) / "run.json") for number in range(3)]
    assert [run["state"] for run in runs] == states
    assert runs[0]["result"] > runs[2]["result"] > 0
    assert "lr=-1.0 is negative" in runs[1]["error"]

    log = tmp_path / record(tmp_path / "sweep.json")["runs"][1]["log"]
    assert "lr=-1.0 is negative" in log.read_text()
    assert "run 1 failed: " in done.stdout and f"log: {log}" in done.stdout
    assert "1 of 3 runs did not complete" in done.stderr


def test_a_partition_that_is_not_there_is_complained_of(on_slurm: Project, tmp_path: Path) -> None:
    done = sweep(on_slurm, tmp_path, "+setup=hpc_gpu", "hydra.launcher.partition=nowhere")
    assert done.returncode == 1
    assert "invalid partition specified: nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_stock_launcher_stays_usable(on_slurm: Project, tmp_path: Path) -> None:
    launcher = ("--multirun", "hydra/launcher=submitit_slurm")
    done = sweep(on_slurm, tmp_path, *launcher, "epochs=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert record(tmp_path / "0" / "run.json")["state"] == "COMPLETED"
