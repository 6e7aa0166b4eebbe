"""Waiting for a sweep, no longer waiting, and waiting again."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import Sweep
from jobs import job_of, record, slurm, supervisors_of, wait_until
from running import Project
from test_submission import HELD


def test_ctrl_c_and_again(traced: Callable[..., Sweep]) -> None:
    """The jobs go on, and what is printed then can be typed."""
    sweep = traced("+setup=hpc_batch", "epochs=20", pace=0.5)
    with sweep.going_on() as process:
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 130
    assert "Traceback" not in output
    look, cancel, retry, again = (
        shlex.split(line, comments=True) for line in re.findall(r"^    (.*)$", output, re.MULTILINE)
    )
    job = sweep.job
    assert cancel == ["hpc", "cancel", str(sweep.directory)] and f" scancel {job}\n" in output
    assert "RUNNING" in slurm(sweep.project, "squeue", "--noheader", "--format=%T", f"--jobs={job}")
    assert "RUNNING" in sweep.project.run(*look).stdout
    assert "are under way" in sweep.project.run(*retry).stdout

    second, third = (sweep.project.run(*again) for _ in range(2))
    for done in (second, third):
        assert done.returncode == 0, done.stdout + done.stderr
        assert "0 to submit" in done.stdout
    assert sweep.states == ["COMPLETED"]
    assert sweep.job == job

    changed = sweep.project.run(*again, "lr=0.5")
    assert changed.returncode == 1
    assert "has a sweep of other overrides" in changed.stderr


def test_why_jobs_ended(on_slurm: Project, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Slurm's reasons, from squeue alone, which is asked every half minute at most."""
    calls = tmp_path / "calls"
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f'#!/bin/sh\necho >> {calls}\nexec {shutil.which("squeue")} "$@"\n')
    squeue.chmod(0o755)
    began = time.monotonic()

    def start(name: str, *overrides: str) -> "subprocess.Popen[str]":
        process = on_slurm.start(
            *overrides, f"hydra.sweep.dir={tmp_path / name}",
            PATH=f"{squeue.parent}{os.pathsep}{on_slurm.path}/.venv/bin{os.pathsep}{os.environ['PATH']}",
        )  # fmt: skip
        request.addfinalizer(process.kill)
        return process

    sweeps = {
        "TIMEOUT": start(
            "TIMEOUT", "+setup=hpc_batch", "model._target_=probe_models.slow_mlp", "epochs=999",
            "signal_policy=ignore", "hydra.launcher.timeout_min=1", "hydra.launcher.exclude=node4",
        ),
        "FAILED with exit code 137": start(
            "FAILED with exit code 137", "+setup=hpc_batch",
            "model._target_=probe_models.slow_mlp", "epochs=999", "hydra.launcher.exclude=node4",
        ),
        "CANCELLED": start("CANCELLED", "+setup=hpc_batch", HELD),
        "NODE_FAIL": start(
            "NODE_FAIL", "+setup=hpc_batch", "model._target_=probe_models.slow_mlp", "epochs=999",
            "hydra.launcher.nodelist=node4", "hydra.launcher.additional_parameters.requeue=null",
            "+hydra.launcher.additional_parameters.no_requeue=true",
        ),
    }  # fmt: skip
    wait_until(lambda: job_of(tmp_path / "CANCELLED"), sweeps["CANCELLED"])
    slurm(on_slurm, "scancel", job_of(tmp_path / "CANCELLED"))
    wait_until((tmp_path / "NODE_FAIL" / "0" / "run.json").exists, sweeps["NODE_FAIL"])
    killed = tmp_path / "FAILED with exit code 137"
    wait_until((killed / "0" / "run.json").exists, sweeps["FAILED with exit code 137"])
    os.kill(supervisors_of(killed)[f"{job_of(killed)}_0"], signal.SIGKILL)
    # It comes back by itself: ReturnToService.
    slurm(on_slurm, "scontrol", "update", "NodeName=node4", "State=DOWN", "Reason=test")
    for reason, process in sweeps.items():
        output = process.communicate(timeout=300)[0]
        assert process.returncode == 1, output
        assert f": {reason}" in output
        run = record(tmp_path / reason / "0" / "run.json")
        assert run["error"].startswith(reason)
        assert run["state"] == (reason if reason in ("TIMEOUT", "CANCELLED") else "FAILED")
        log = record(tmp_path / reason / "sweep.json")["runs"][0]["log"]
        assert (f"log: {tmp_path / reason / log}" in output) == (reason != "CANCELLED")
    assert len(calls.read_text().splitlines()) <= len(sweeps) * (
        (time.monotonic() - began) / 30 + 1
    )
