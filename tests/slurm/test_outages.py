"""Slurm's own daemons and commands fail, or the terminal of the command does: jobs go on."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import Cluster
from faults import Sweep
from jobs import slurm, supervisors_of, wait_until
from running import Project

Traced = Callable[..., Sweep]
GRACEFUL = signal.SIGTERM  # after which the controller has written down what it knows


def end_of(command: str, sweep: Sweep, folder: Path) -> Path:
    """A file that is there when the sweep's first call of one of Slurm's commands has ended."""
    ended, script = folder / "ended", folder / "bin" / command
    script.parent.mkdir()
    call = f'PATH="${{PATH#*:}}" {command} "$@"'
    script.write_text(f"#!/bin/sh\n{call}\ncode=$?\n: >{ended}\nexit $code\n")
    script.chmod(0o755)
    sweep.variables["PATH"] = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    return ended


def test_the_controller_restarts(traced: Traced, cluster: Cluster, tmp_path: Path) -> None:
    """While a sweep is submitted, while it runs, and while a run wants to be requeued."""
    sweep = traced("+setup=hpc_batch", "epochs=60", "seed=0,1", pace=1)
    ended = end_of("sbatch", sweep, tmp_path)
    cluster.kill("slurmctld", number=GRACEFUL)

    def bring_back() -> None:
        wait_until(ended.exists)  # the first, which has given up after nine seconds and more
        cluster.restart("slurmctld")

    restart = threading.Thread(target=bring_back)
    restart.start()
    with sweep.going_on() as process:
        restart.join()
        cluster.kill("slurmctld", number=GRACEFUL)
        first = sweep.steps(0)[-1]
        # The warning, which nobody else brings now.
        os.kill(supervisors_of(sweep.directory)[f"{sweep.job}_0"], signal.SIGUSR2)
        wait_until(lambda: sweep.states[0] == "STOPPED")
        wait_until(lambda: sweep.steps(1)[-1] > first + 3)
        cluster.restart("slurmctld")
        wait_until(lambda: sweep.restarts == [1, 0], process)
        cluster.kill("slurmctld", number=GRACEFUL)
        cluster.restart("slurmctld")
        sweep.set_pace(0)
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert "Unable to contact slurm controller" in output and "trying again" in output
    sweep.tell("controller away: at submission, at a requeue, while waiting", 3)


def test_the_controller_stands_still(traced: Traced, cluster: Cluster, tmp_path: Path) -> None:
    """It takes a job after sbatch has given up: to submit it again would make two of it."""
    sweep = traced("+setup=hpc_batch", "epochs=60", pace=0)
    ended = end_of("squeue", sweep, tmp_path)  # that asks whether Slurm took it
    controller = cluster.process("slurmctld")
    cluster.configure(MessageTimeout=2)
    os.kill(controller, signal.SIGSTOP)
    process = sweep.start()
    try:
        wait_until(ended.exists, process)
    finally:
        os.kill(controller, signal.SIGCONT)
    output = process.communicate(timeout=120)[0]
    cluster.configure(MessageTimeout=10)
    assert process.returncode == 0, output
    queue = slurm(sweep.project, "squeue", "--noheader", "--states=all", "--format=%F %o")
    jobs = [line.split()[0] for line in queue.splitlines() if f" {sweep.directory}/" in line]
    assert jobs == [sweep.job], output


def test_the_accounting_daemon_is_away(traced: Traced, cluster: Cluster) -> None:
    sweep = traced("+setup=hpc_batch", "epochs=20", pace=0)
    cluster.kill("slurmdbd")
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    sweep.tell("slurmdbd away", 1)


@pytest.mark.parametrize(
    ("how", "command"),
    [pytest.param("fail", "exit 1", marks=pytest.mark.long), ("hang", "exec sleep 600")],
)
def test_squeue_and_sacct(how: str, command: str, traced: Traced, tmp_path: Path) -> None:
    """Also in the jobs, which have the PATH of the command that submits them."""
    (tmp_path / "bin").mkdir()
    for name in ("squeue", "sacct"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    sweep = traced(
        "+setup=hpc_batch", "epochs=40", pace=1,
        PATH=f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}",
    )  # fmt: skip
    with sweep.going_on() as process:
        slurm(sweep.project, "scancel", "--signal=USR2", f"{sweep.job}_0")
        wait_until(lambda: sweep.restarts == [1], process)
        sweep.set_pace(0)
        assert process.wait(timeout=120) == 0
    sweep.tell(f"squeue and sacct {how}; a requeue meanwhile", 1)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGHUP, marks=pytest.mark.long)]
)
def test_the_waiting_process_goes(number: signal.Signals, traced: Traced) -> None:
    """HUP is what the login shell's end sends."""
    sweep = traced("+setup=hpc_batch", "epochs=60", "seed=0,1", pace=0.5)
    with sweep.going_on() as process:
        process.send_signal(number)
        process.wait(timeout=120)
    job, begun = sweep.job, sweep.steps(0)[-1]
    table = sweep.project.run("hpc", "status", sweep.directory)
    assert "2 running" in table.stdout
    wait_until(lambda: sweep.steps(0)[-1] > begun + 1)
    sweep.set_pace(0)
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 to submit" in done.stdout
    assert sweep.job == job and sweep.restarts == [0, 0]
    sweep.tell(f"{number.name} to the waiting process; then attached again", 1)


def test_a_job_that_cannot_begin(traced: Traced, on_slurm: Project, tmp_path: Path) -> None:
    """Each says why in the log and in the table, within seconds: the command did not have to ask Slurm,
    which it does after half a minute."""
    gone, empty = tmp_path / "gone", tmp_path / "empty"
    gone.mkdir()
    made = on_slurm.run("python", "-m", "venv", "--without-pip", empty)
    assert made.returncode == 0, made.stderr
    calls = tmp_path / "calls"
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\necho >> {calls}\nexit 1\n")
    squeue.chmod(0o755)
    path = {"PATH": f"{squeue.parent}{os.pathsep}{os.environ['PATH']}"}
    setup = "hydra.launcher.setup"
    german = tmp_path / "german"  # in another encoding than UTF-8
    german.write_bytes(b"#!/bin/sh\necho 'f\xfcr immer fort'\nexit 1\n")
    german.chmod(0o755)
    cases = {
        "a setup command failed with exit code 1: source '/nowhere/bin/activate'": (
            f"{setup}=[\"source '/nowhere/bin/activate'\"]"
        ),
        "a setup command failed with exit code 127: module load cuda": (
            f"{setup}=['module load cuda']"
        ),
        "the setup commands ended the job": f"{setup}=['exit 3']",
        f"{empty}/bin/python does not start, or lacks": f"hydra.launcher.python={empty}/bin/python",
        f"{german} does not start, or lacks what the runs need: f": f"hydra.launcher.python={german}",
        f"the working directory is gone: {gone}": f"{setup}=['rmdir {gone}']",
    }
    sweeps = [
        traced("+setup=hpc_batch", "epochs=3", override, name=f"case{number}", pace=0, **path)
        for number, override in enumerate(cases.values())
    ]
    places = [gone if "directory" in reason else on_slurm.path for reason in cases]
    processes = [sweep.start(cwd=place) for sweep, place in zip(sweeps, places, strict=True)]
    for reason, sweep, process in zip(cases, sweeps, processes, strict=True):
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 1, output
        assert f"run 0 failed: {reason}" in output
        assert reason in sweep.log(0)
        assert sweep.runs[0]["error"].startswith(reason)
        sweep.overrides = ("+setup=hpc_batch", "epochs=3")  # what hydra.* is may change
        sweep.variables.pop("PATH")
        done = sweep.repeat()
        assert done.returncode == 0, done.stdout + done.stderr
        sweep.tell("a job cannot begin, for six reasons; then repeated", 1)
    assert not calls.exists()
