"""What is submitted, and from where."""

import shutil
from pathlib import Path

from jobs import record, slurm
from running import Project, run
from test_sweeps import sweep

HELD = "+hydra.launcher.additional_parameters.hold=true"


def test_a_limit_takes_part_of_a_sweep(on_slurm: Project, tmp_path: Path) -> None:
    """More runs than an array holds go out as several; what Slurm did not take follows later."""

    def limit(jobs: int) -> None:
        user = ("user", "where", "name=root", "account=lab")
        slurm(on_slurm, "sacctmgr", "-i", "modify", *user, "set", f"MaxSubmitJobs={jobs}")

    command = ("+setup=hpc_batch", "seed=range(1200)", HELD, "hydra.launcher.wait=false")
    limit(700)
    try:
        first = sweep(on_slurm, tmp_path, *command)
    finally:
        limit(-1)
    assert first.returncode == 1 and "Slurm took 600 of 1200 runs" in first.stdout
    assert "Job violates accounting/QOS policy" in first.stdout
    assert "You may have 700 jobs at a time" in first.stdout
    assert "hydra.launcher.runs_per_job=2" in first.stdout
    assert f"repeat the command with hydra.sweep.dir={tmp_path}" in first.stdout
    second = sweep(on_slurm, tmp_path, *command)
    assert second.returncode == 0 and "600 to submit" in second.stdout

    jobs = [str(run["job_id"]) for run in record(tmp_path / "sweep.json")["runs"]]
    assert len(set(jobs)) == 1200
    arrays = sorted({job.partition("_")[0] for job in jobs})
    chosen = f"--jobs={','.join(arrays)}"
    queue = slurm(on_slurm, "squeue", "--noheader", "--array", "--format=%F", chosen)
    assert sorted(queue.split()) == sorted(arrays * 600)
    assert f"scancel {' '.join(arrays)}" in second.stderr
    slurm(on_slurm, "scancel", *arrays)


def test_a_faulty_override_is_found_before_anything_is_submitted(
    on_slurm: Project, tmp_path: Path
) -> None:
    """With the message that the stock launcher gives."""
    overrides = ("model=mlp,logistic", "model.hidden=3", "epochs=1", "--multirun")
    ours = sweep(on_slurm, tmp_path / "ours", "+setup=hpc_batch", *overrides)
    stock = sweep(on_slurm, tmp_path / "stock", "hydra/launcher=submitit_slurm", *overrides)
    assert "Could not override 'model.hidden'" in ours.stderr
    assert ours.stderr == stock.stderr
    assert ours.returncode == stock.returncode == 1
    assert not (tmp_path / "ours" / "jobs").exists()


def test_from_inside_of_a_job(on_slurm: Project, tmp_path: Path) -> None:
    """Nothing of that job reaches the new one, which would take it for its own."""
    command = (
        f"{on_slurm.path}/.venv/bin/python -m hpc_experiment +setup=hpc_batch epochs=1 "
        f"model._target_=probe_models.telling_mlp hydra.sweep.dir={tmp_path}"
    )
    slurm(
        on_slurm, "sbatch", "--wait", "--partition=gpu", "--gres=gpu:2", "--ntasks=4",
        "--cpus-per-task=2", "--mem=1G", f"--output={tmp_path}/outer", f"--wrap={command}",
    )  # fmt: skip
    outer = (tmp_path / "outer").read_text()
    assert record(tmp_path / "0" / "run.json")["state"] == "COMPLETED", outer
    (run,) = record(tmp_path / "sweep.json")["runs"]
    assert "GPUs of the run: None" in (tmp_path / run["log"]).read_text()
    assert len(list((tmp_path / "jobs").glob("*_log.out"))) == 1


def test_jobs_run_the_code_that_was_submitted(on_slurm: Project, tmp_path: Path) -> None:
    """Not what has become of it while they waited."""
    repository, directory = tmp_path / "repository", tmp_path / "sweep"
    shutil.copytree(on_slurm.path, repository, ignore=shutil.ignore_patterns(".*", "outputs"))
    for git in ("init", "add .", "commit --message=first"):
        assert run("git", *git.split(), cwd=repository).returncode == 0
    (repository / ".venv").symlink_to(on_slurm.path / ".venv")
    task = repository / "src" / "hpc_experiment" / "task.py"
    text = task.read_text()
    task.write_text(text.replace("    return place\n", "    return 0.25\n"))

    user = Project(on_slurm.path, {**on_slurm.variables, "PYTHONPATH": f"{repository}/src"})
    command = ("+setup=hpc_batch", "epochs=1", HELD)
    sweep(user, directory, *command, "hydra.launcher.wait=false")
    task.write_text(text.replace("    return place\n", "    return 0.75\n"))
    (job,) = (run["job_id"] for run in record(directory / "sweep.json")["runs"])
    slurm(on_slurm, "scontrol", "release", job.partition("_")[0])
    done = sweep(user, directory, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert record(directory / "0" / "run.json")["result"] == 0.25

    recorded = record(directory / "0" / "run.json")
    assert "+    return 0.25" in (directory / recorded["git_diff"]).read_text()
    assert len(recorded["git_commit"]) == 40
    copied = {
        path.name for path in (directory / recorded["source"] / "src" / "hpc_experiment").iterdir()
    }
    assert copied >= {"task.py", "configs.py"}


WRAPPER = """#!/bin/sh
echo "2026: job 7 of the day"
PATH="${PATH#*:}" sbatch "$@"
echo "see page 12"
exit 3
"""


def test_a_sites_wrapper_and_a_users_profile(on_slurm: Project, tmp_path: Path) -> None:
    """The one says and ends as it likes, the other chooses for commands that are typed by hand: neither for our jobs."""
    wrapper = tmp_path / "bin" / "sbatch"
    wrapper.parent.mkdir()
    wrapper.write_text(WRAPPER)
    wrapper.chmod(0o755)
    path = f"{wrapper.parent}:{on_slurm.environment()['PATH']}"
    profile = {
        "SBATCH_ARRAY_INX": "5-6", "SBATCH_PARTITION": "gpu", "SBATCH_TIMELIMIT": "1", "SBATCH_WAIT": "1",
        "SQUEUE_PARTITION": "preempt", "SLURM_TIME_FORMAT": "relative", "PATH": path,
    }  # fmt: skip
    user = Project(on_slurm.path, {**on_slurm.variables, **profile})
    done = sweep(user, tmp_path / "sweep", "+setup=hpc_batch", "seed=1,2", "epochs=1")
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = {run["job_id"].partition("_")[0] for run in record(tmp_path / "sweep" / "sweep.json")["runs"]}  # fmt: skip
    there = ("--noheader", "--states=all", "--array", f"--jobs={job}", "--format=%i %P %l")
    assert sorted(slurm(on_slurm, "squeue", *there).splitlines()) == [
        f"{job}_0 cpu 3:00:00", f"{job}_1 cpu 3:00:00"
    ]  # fmt: skip


def test_a_refusal_names_what_there_is(on_slurm: Project, tmp_path: Path) -> None:
    """Of partitions and accounts, which are soon misspelled."""
    for name, there in (("partition", "cpu, gpu, preempt"), ("account", "lab, other")):
        wrong = f"hydra.launcher.{name}=wrong"
        done = sweep(on_slurm, tmp_path / name, "+setup=hpc_batch", wrong)
        assert done.returncode == 1
        assert "Slurm did not take the job" in done.stderr and there in done.stderr
