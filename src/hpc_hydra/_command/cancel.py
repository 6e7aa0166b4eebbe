"""`hpc cancel`."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer  # noqa: F401 - of the annotations

from .. import _records as records
from .. import _squeue as squeue
from .._commands import children
from .sweeps import RUNS, SWEEP, YES, agreed, fail, listed, named, run_of

LOOK_EVERY_S = 1.0
WAIT = ("PENDING", "REQUEUED")  # for a job to begin
GIVE_UP_S = 60.0  # a run has 20 s to save, and is killed after 30


def cancel(
    sweep: Annotated[str | None, SWEEP] = None,
    run: Annotated[list[int] | None, RUNS] = None,
    yes: Annotated[bool, YES] = False,
) -> None:
    """End the runs that are under way.

    They save what they can, and `hpc retry` goes on with them.

    \b
    hpc cancel                   all of your newest sweep
    hpc cancel fig1 --run 3      one run, also of a job that it shares with others
    """
    directory = named(sweep)
    record = records.read(directory / records.SWEEP)
    if not record:
        fail(f"{directory} is no sweep with records of its jobs.")
    slurm = record["cluster"] == "slurm"
    if not slurm and record["host"] != socket.gethostname():
        fail(f"The runs of {directory} were started on {record['host']}: type this there.")
    if squeue.is_elsewhere(name := record.get("slurm_cluster")):
        fail(f"The jobs of {directory} are on {name}: type this there.")
    for number in run or []:
        run_of(directory, str(number))
    if slurm and (unnoted := _unnoted(directory)) and not run:
        agreed(f"Cancel {' '.join(unnoted)}, which Slurm took after the command had given up?", yes)
        _scancel(*unnoted)
    going = _going(directory, slurm)
    chosen = [each for each in going if not run or each["number"] in run]
    if not chosen:
        print("Nothing to cancel: none of them is under way.")
        return
    kept = {each["job_id"] for each in going if each not in chosen}
    # These supervisors look for a word; of other jobs Slurm itself kills what does not end.
    told = [each for each in chosen if each["job_id"] in kept or not slurm]
    numbers = [each["number"] for each in chosen]
    agreed(f"Cancel {listed(numbers)} of {directory}?", yes)
    jobs = sorted({each["job_id"] for each in chosen} - kept)
    for each in told:
        records.cancelled_path((directory / each["log"]).parent, each["number"]).touch()
    # Not as it was before the question: others may have begun until it was answered.
    waiting = {each["number"] for each in _going(directory, slurm) if each["state"] in WAIT}
    if slurm and jobs:
        _scancel(*({job.partition("_")[0] for job in jobs} if not run else jobs))
    for job in [] if slurm else jobs:
        with suppress(ProcessLookupError):
            os.kill(int(job), signal.SIGTERM)  # submitit passes it on
    for each in chosen:
        if each["number"] in waiting:  # nobody else would record it; there may be thousands
            records.record_end(
                directory / str(each["number"]), each["overrides"], each["job_id"],
                records.CANCELLED, durable=False,
            )  # fmt: skip
    deadline = time.monotonic() + GIVE_UP_S  # `hpc retry` leaves alone what has not ended
    while left := {each["number"] for each in _going(directory, slurm)} & {*numbers}:
        if time.monotonic() > deadline:
            fail(
                f"{listed(sorted(left))} did not end yet: hpc status tells when. Of a sweep with "
                "process_per_run=false, only a whole job can be cancelled.",
                1,
            )
        others = [each for each in told if each["number"] in left]
        if awake := {each["job_id"] for each in others if each["state"] != "SUSPENDED"}:
            _wake(awake, slurm)
        time.sleep(LOOK_EVERY_S)
    states = {each["number"]: each["state"] for each in records.states(directory)}
    if completed := [number for number in numbers if states[number] == "COMPLETED"]:
        print(f"completed all the same: {listed(completed)}")
    if cancelled := [number for number in numbers if states[number] != "COMPLETED"]:
        print(f"cancelled: {listed(cancelled)}. To go on: hpc retry {shlex.quote(str(directory))}")


def _going(directory: Path, slurm: bool) -> list[dict[str, Any]]:
    return [
        each for each in records.states(directory)
        if each["state"] in records.UNDER_WAY or (each["state"] == "STOPPED" and slurm)
    ]  # fmt: skip


def _unnoted(directory: Path) -> list[str]:
    """The jobs that Slurm took from commands that were ended before they could note them."""
    scripts = [*directory.glob("jobs/.submission_*.sh")]
    if not scripts:
        return []
    from .._launch.job_script import job_of

    return [job for _, job in map(job_of, scripts) if job]


def _scancel(*words: str) -> None:
    try:
        subprocess.run(["scancel", *words], capture_output=True, text=True, check=True)
    except OSError as error:
        fail(f"Slurm's scancel is not here: {error}", 1)
    except subprocess.CalledProcessError as error:
        fail(f"scancel: {error.stderr.strip()}", 1)


def _wake(jobs: set[str], slurm: bool) -> None:
    """Tell the supervisors of ``jobs`` to look; CONT asks no run to stop."""
    if slurm:
        _scancel("--signal=CONT", *jobs)
        return
    for job in jobs:
        for supervisor in children(job):  # submitit does not pass it on
            with suppress(ProcessLookupError):
                os.kill(supervisor, signal.SIGCONT)
