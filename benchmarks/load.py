"""Sweeps of many runs: submitted, read by `hpc status`, and run to their end.

The runs are those of the trivial app, several to a job. What is submitted is held; what runs to its end is
watched by the command that waits for it, with the view as a terminal shows it.
"""

from __future__ import annotations

from dataclasses import dataclass

from measuring import (
    HELD,
    OURS,
    WITHOUT_WAITING,
    Failed,
    Place,
    Row,
    Usage,
    goal,
    megabytes,
    packed,
    seconds,
    tell,
)

SUBMITTED = (1_000, 10_000, 100_000)
PER_JOB, RANKS = 20, 2
TO_THE_END, OF_A_JOB = 10_000, 500
LINEAR = 1.5  # what each of the most may cost, as a multiple of each of fewer
READ_S = 5


@dataclass
class _Sweep:
    runs: int
    submission: Usage
    status: Usage


def measure(place: Place) -> list[Row]:
    place.used(place.python, place.app, *OURS, HELD, WITHOUT_WAITING)  # compiles what it imports
    place.cancel_all()
    sweeps = [_submitted(place, runs) for runs in SUBMITTED]
    rows = [
        Row(
            f"{each.runs:,} runs in jobs of {PER_JOB}, submitted",
            f"{seconds(each.submission.seconds)}, {seconds(each.submission.cpu_s)} of CPU time, "
            f"{megabytes(each.submission.peak_mb)}",
        )
        for each in sweeps
    ]
    first, second, last = sweeps  # the first tells what Python's start takes
    cpu = [_of_each(first, each, "cpu_s") * 1e6 for each in (second, last)]
    memory = [_of_each(first, each, "peak_mb") * 1e3 for each in (second, last)]
    for what, unit, (before, each) in (("CPU time", "µs", cpu), ("memory", "KB", memory)):
        rows.append(
            Row(
                f"{what} of each further run, up to {second.runs:,} and up to {last.runs:,}",
                f"{before:.1f} {unit}; {each:.1f} {unit}", ratio=f"{each / before:.2f} of it",
                goal=goal(f"≤ {LINEAR}", each <= LINEAR * before),
            )
        )  # fmt: skip
    status = last.status
    rows.append(
        Row(
            f"`hpc status` of {last.runs:,} runs", f"{seconds(status.seconds)}, {megabytes(status.peak_mb)}",
            goal=goal(f"≤ {READ_S} s", status.seconds <= READ_S),
        )
    )  # fmt: skip
    return [*rows, *_to_the_end(place)]


def _of_each(first: _Sweep, sweep: _Sweep, used: str) -> float:
    """What a submission has ``used`` for each run more than that of the ``first``."""
    more: float = getattr(sweep.submission, used) - getattr(first.submission, used)
    return more / (sweep.runs - first.runs)


def _submitted(place: Place, runs: int) -> _Sweep:
    tell(f"submit {runs:,} runs in jobs of {PER_JOB}")
    directory = place.fresh()
    submission = place.used(
        place.python, place.app, *OURS, *packed(PER_JOB, RANKS), HELD, WITHOUT_WAITING,
        f"seed=range({runs})", f"hydra.sweep.dir={directory}",
    )  # fmt: skip
    jobs = len(place.answer("squeue", "--noheader", "--array").splitlines())
    if jobs != runs // PER_JOB:
        raise Failed(f"Slurm has {jobs} of {runs // PER_JOB} jobs")
    status = place.used(place.python, "-m", "hpc_hydra", "status", directory)
    tell(f"{seconds(submission.seconds)}; hpc status {seconds(status.seconds)}")
    place.cancel_all()
    return _Sweep(runs, submission, status)


def _to_the_end(place: Place) -> list[Row]:
    tell(f"{TO_THE_END:,} runs to their end, in {TO_THE_END // OF_A_JOB} jobs: takes minutes")
    directory = place.fresh()
    used = place.used(
        place.python, place.app, *OURS, *packed(OF_A_JOB, RANKS),
        f"seed=range({TO_THE_END})", f"hydra.sweep.dir={directory}",
        variables={"FORCE_COLOR": "1"},  # the view draws as on a terminal
    )  # fmt: skip
    tell(seconds(used.seconds))
    status = place.used(place.python, "-m", "hpc_hydra", "status", directory)
    return [
        Row(
            f"{TO_THE_END:,} runs to their end, in {TO_THE_END // OF_A_JOB} jobs of {RANKS} ranks",
            seconds(used.seconds), ratio=f"{TO_THE_END / used.seconds:.0f} runs a second",
        ),
        Row(
            "the command that submits them, waits and prints their table",
            f"{seconds(used.cpu_s)} of CPU time, {used.cpu_s / used.seconds:.1%} of a core, "
            f"{megabytes(used.peak_mb)}",
        ),
        Row(
            f"`hpc status` of {TO_THE_END:,} runs that are over",
            f"{seconds(status.seconds)}, {megabytes(status.peak_mb)}",
            goal=goal(f"≤ {READ_S} s", status.seconds <= READ_S),
        ),
    ]  # fmt: skip
