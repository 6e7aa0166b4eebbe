"""`hpc logs`."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import _records as records
from .sweeps import RUN, fail, run_named, run_of

# What a job prints itself: its supervisor, which says when a run begins or stops, and Slurm's commands.
LABEL = r"(?:\d+: )?"  # of srun --label
BEGINS = re.compile(LABEL + r"hpc-hydra: run (\d+) begins ")
STOPS = re.compile(LABEL + r"hpc-hydra: run (\d+) stopped")
OF_RUN = re.compile(LABEL + r"(?:hpc-hydra: )?run (\d+)\b")
OF_JOB = re.compile(LABEL + r"((hpc-hydra|srun|slurmstepd|submitit): |not requeued: |run \d+: )")
LOOK_EVERY_S = 0.5
ASK_EVERY_S = 10.0


def logs(
    words: Annotated[list[str], RUN],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it is over.")] = False,
    rank: Annotated[int, typer.Option(help="Which rank's log, if the run has several.")] = 0,
) -> None:
    """What a run printed.

    Lines of its job, such as those of setup commands and of srun, begin with `job| `.

    \b
    hpc logs 3                   of run 3 of your newest sweep
    hpc logs fig1 3 --follow     until the run is over
    """
    directory, run = run_named(words)
    if not run.get("log"):
        fail(f"run {run['number']} has no log: it is {run['state'].lower()}.", 1)
    path = directory / re.sub(r"_0_log\.out$", f"_{rank}_log.out", run["log"])
    if not path.exists() and not follow:
        waits = f", {run['reason']}" if run.get("reason") else ""
        error = f": {run['error']}" if run.get("error") else ""
        whose = f" of rank {rank}" * (rank != 0)
        fail(
            f"run {run['number']} has no log{whose} yet: it is {run['state'].lower()}{waits}{error}.",
            1,
        )
    alone = f"_run_{run['number']}_" not in path.name
    if not alone:
        for of_rank in sorted(path.parent.glob(f"{run['job_id']}_[0-9]*_log.*")):
            for line in of_rank.read_text(encoding="utf-8", errors="replace").splitlines():
                about = OF_RUN.match(line)
                if not about or int(about[1]) == run["number"]:  # the others have logs of their own
                    _print(line, of_job=True)
    # With stderr_to_stdout=false the other file, when the run is over; that one says when it began.
    err = path.with_suffix(".err")
    for file in (path, err):
        own = not alone or (file is path and err.exists())
        for line in _lines(file, directory, run, follow and file is path):
            own = bool(BEGINS.match(line)) or (own and not STOPS.match(line)) if alone else True
            _print(line, of_job=alone and (not own or bool(OF_JOB.match(line))))


def _print(line: str, of_job: bool) -> None:
    if of_job and sys.stdout.isatty():
        line = typer.style(f"job| {line}", dim=True)
    elif of_job:
        line = f"job| {line}"
    print(line)


def _lines(path: Path, directory: Path, run: dict[str, Any], follow: bool) -> Iterator[str]:
    """Those of the file at ``path``, which grows as long as ``run`` is under way."""
    told, asked, over = 0, 0.0, not follow
    while True:
        # Known before the file is read: then all is read that the run has printed.
        if not over and time.monotonic() > asked + ASK_EVERY_S:
            asked, state = time.monotonic(), run_of(directory, str(run["number"]))["state"]
            over = state not in records.UNDER_WAY
        elif not over:
            over = records.has_ended(directory / str(run["number"]), run["job_id"])
        with suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(told)
            for line in file:  # it may be larger than the memory
                if not over and not line.endswith(b"\n"):
                    break  # the rest of it is to come
                told += len(line)
                yield line.removesuffix(b"\n").decode(errors="replace")
        if over:
            return
        sys.stdout.flush()  # not for each line, of which there may be millions
        time.sleep(LOOK_EVERY_S)
