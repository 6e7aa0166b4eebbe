"""A day with `hpc` on the cluster: submit, look, one fails, log, fix, retry, more epochs, cancel, clean."""

import json
import re
import shutil

from jobs import job_of, record, slurm, wait_until
from running import Ended, Project
from test_another_app import app as app  # a fixture
from test_another_app import sweep

# What PyTorch says of itself on a GPU node for which it has not been built.
CPU_TORCH = """
from types import SimpleNamespace as _Space
__version__ = "2.13.0+cpu"
version = _Space(cuda=None, hip=None)
cuda = _Space(device_count=lambda: 0)
"""
# An app whose launcher is chosen when it is started.
PLAIN = """
import hydra


@hydra.main(version_base="1.3", config_path=None)
def main(config):
    pass


main()
"""
GPUS = ("hydra.launcher.partition=gpu", "hydra.launcher.gres=gpu:2")


def hpc(app: Project, *words: str) -> Ended:
    return app.run("hpc", *words, XDG_STATE_HOME=f"{app.path}/.state")


def submit(app: Project, *overrides: str, name: str) -> None:
    state = {"XDG_STATE_HOME": f"{app.path}/.state"}
    own = Project(app.path, {**app.variables, **state})
    done = sweep(own, *overrides, "hydra.launcher.wait=false", f"hydra.sweep.dir={name}")
    assert done.returncode == 0, done.stderr


def told(app: Project, number: int) -> dict[str, object]:
    """What `hpc status` says of a run of the newest sweep."""
    run: dict[str, object] = json.loads(hpc(app, "status", "--json").stdout)["runs"][number]
    return run


def steps(app: Project, run: str) -> list[int]:
    lines = (app.path / run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_a_day(app: Project) -> None:
    begin = "+hydra.launcher.additional_parameters.begin="
    submit(app, "x=1,0", "steps=3", "pace=0.2", f"{begin}now+3600", name="out/fig1")
    line = r"x=1 +PENDING +BeginTime, expected .*\d\d:\d\d"
    wait_until(lambda: re.search(line, hpc(app, "status").stdout))
    waiting = hpc(app, "logs", "0")
    assert waiting.returncode == 1 and "has no log yet: it is pending, BeginTime" in waiting.stderr

    slurm(app, "scontrol", "update", f"jobid={job_of(app.path / 'out' / 'fig1')}", "StartTime=now")
    log = hpc(app, "logs", "fig1", "0", "--follow").stdout
    assert re.search(r"^job\| hpc-hydra: run 0 begins on ", log, re.MULTILINE)
    assert steps(app, "out/fig1/0") == [1, 2, 3]
    watched = hpc(app, "status", "--watch")
    assert "run 1 failed: ZeroDivisionError" in watched.stdout, watched.stderr
    log = hpc(app, "logs", "1").stdout
    assert "\nZeroDivisionError" in log and "job| srun: error" in log

    # As another cluster sees it that shares the file system.
    path = app.path / "out" / "fig1" / "sweep.json"
    whole = path.read_text()
    path.write_text(whole.replace('"slurm_cluster": "throwaway"', '"slurm_cluster": "another"'))
    refused = hpc(app, "retry", "--yes")
    assert refused.returncode == 1 and "has jobs on the cluster another" in refused.stderr
    path.write_text(whole)

    # What Slurm does not take stays as it was, and is not what is typed the next time.
    known = record(app.path / "out" / "fig1" / "sweep.json"), told(app, 0), told(app, 1)
    for words in (("steps=9",), ("--redo",), ()):
        refused = hpc(app, "retry", "--yes", *words, "hydra.launcher.partition=wrong")
        assert refused.returncode == 1 and "Slurm did not take the job" in refused.stderr
        assert (
            record(app.path / "out" / "fig1" / "sweep.json"), told(app, 0), told(app, 1)
        ) == known  # fmt: skip
    source = app.path / "app.py"
    source.write_text(source.read_text().replace("/ config.x", "/ (config.x or 2)"))
    done = hpc(app, "retry", "--yes", "hydra.launcher.wait=true", f"{begin}now")
    assert done.returncode == 0 and "2 runs: 2 completed" in done.stdout, done.stderr
    # Though Slurm still shows the job that did it.
    shutil.rmtree(app.path / "out" / "fig1" / "1")
    assert "1 to submit" in hpc(app, "retry", "-y").stdout
    more = hpc(app, "retry", "steps=5", "-y")
    assert more.returncode == 0, more.stderr
    assert steps(app, "out/fig1/0") == [1, 2, 3, 4, 5]
    run = record(app.path / "out" / "fig1" / "0" / "run.json")
    assert [each["overrides"] for each in run["before"]] == [["x=1", "steps=3", "pace=0.2"]]
    again = hpc(app, "rerun", "1", "--here")
    assert again.returncode == 0, again.stderr
    assert "rerun/1" in again.stdout

    cleaned = hpc(app, "clean", "--older-than=0", "--only=checkpoints", "--yes")
    assert cleaned.returncode == 0 and not list(app.path.glob("out/fig1/*/*.ckpt"))
    listed = hpc(app, "ls").stdout
    assert re.search(
        r"app\.py +x=1,0 steps=5 pace=0\.2 +2 completed +value 0\.5 to 1 +\S+/out/fig1", listed
    )


def test_other_values_whose_first_command_came_to_nothing(app: Project) -> None:
    """The next one goes on with them, though Slurm still shows the jobs that had completed before."""
    assert sweep(app, "x=1", "steps=2").returncode == 0
    source = app.path / "app.py"
    whole = source.read_text()
    killed = "import os\nfrom hpc_hydra._job.submission import Work\nWork.write = lambda *_: os._exit(9)\n"
    source.write_text(f"{killed}{whole}")
    assert hpc(app, "retry", "sweep", "steps=4", "--yes").returncode == 9
    source.write_text(whole)
    done = hpc(app, "retry", "sweep", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert steps(app, "sweep/0") == [1, 2, 3, 4]


def test_cancelling_and_requeueing(app: Project) -> None:
    """One run of two that share a job, then the other, while its job waits to go on."""
    folder = app.path / "out" / "two"
    submit(
        app, "x=1,2", "steps=1000", "pace=0.1", "hydra.launcher.runs_per_job=2",
        "hydra.launcher.tasks_per_node=2", name="out/two",
    )  # fmt: skip
    wait_until(lambda: all((folder / name / "metrics.jsonl").exists() for name in "01"))
    done = hpc(app, "cancel", "--run", "0", "--yes")
    assert done.returncode == 0, done.stderr
    assert (told(app, 0)["state"], told(app, 1)["state"]) == ("CANCELLED", "RUNNING")
    saved = steps(app, "out/two/0")
    at = len(steps(app, "out/two/1"))
    wait_until(lambda: len(steps(app, "out/two/1")) > at)
    assert steps(app, "out/two/0") == saved

    slurm(app, "scontrol", "requeuehold", f"{job_of(folder)}_0")
    wait_until(lambda: told(app, 1)["state"] == "REQUEUED")
    assert told(app, 0)["state"] == "CANCELLED"
    assert re.search(r"x=2 +REQUEUED +\w+", hpc(app, "status").stdout)
    done = hpc(app, "cancel", "--yes")
    assert done.returncode == 0, done.stderr
    assert told(app, 1)["state"] == "CANCELLED"
    assert (
        record(folder / "1" / "run.json")["state"] == "CANCELLED"
    )  # when Slurm has forgotten it, too
    assert not slurm(app, "squeue", "--noheader", f"--jobs={job_of(folder)}", "--states=PD,R,CG")

    # Slurm took a job from a command that was gone before it could note that.
    submit(app, "x=1,2", "+hydra.launcher.additional_parameters.hold=true", name="out/unknown")
    folder = app.path / "out" / "unknown"
    job = job_of(folder)
    (folder / "jobs" / f"{job}_submission.sh").rename(folder / "jobs" / ".submission_0_0-2.sh")
    records = record(folder / "sweep.json")
    for run in records["runs"]:
        run["job_id"] = run["log"] = None
    (folder / "sweep.json").write_text(json.dumps(records))
    (folder / "submitted.jsonl").unlink(missing_ok=True)
    assert told(app, 0)["state"] == "NOT SUBMITTED"
    assert hpc(app, "cancel", "--yes").returncode == 0
    assert not slurm(app, "squeue", "--noheader", f"--jobs={job}", "--states=PD,R,CG")


def test_could_a_job_run(app: Project) -> None:
    healthy = hpc(app, "doctor", "app.py", "--job")
    assert healthy.returncode == 0, healthy.stdout
    assert "ok   app.py: to start at " in healthy.stdout
    assert re.search(r"ok   a job has started /.*/bin/python", healthy.stdout)
    for override, complaint in (
        ("hydra.launcher.partition=nope", "the partitions that are up: cpu, gpu, preempt"),
        ("hydra.launcher.python=/nowhere/python", "/nowhere/python does not exist"),
        ('hydra.launcher.python="/home/o\'brien/python"', "No closing quotation in /home/o'brien/"),
    ):
        ill = hpc(app, "doctor", "app.py", override)
        assert ill.returncode == 1 and complaint in ill.stdout
    lost = hpc(app, "doctor", "app.py", "hydra.launcher.setup=[module load x]", "--job")
    assert lost.returncode == 1 and "a setup command failed" in lost.stdout
    (app.path / "torch.py").write_text(CPU_TORCH)
    blind = hpc(app, "doctor", "app.py", *GPUS, "--job")
    assert blind.returncode == 1
    assert (
        "PyTorch 2.13.0+cpu, built for CPUs alone, sees 0 of 2 GPUs\n     -> install a build"
        in blind.stdout
    )
    (app.path / "plain.py").write_text(PLAIN)
    other = hpc(app, "doctor", "plain.py")
    assert other.returncode == 0, other.stdout
    assert (
        "so no job script was tried\n     -> put hydra/launcher=hpc_slurm after it" in other.stdout
    )
    assert not list(app.path.glob(".hpc-doctor-*"))
