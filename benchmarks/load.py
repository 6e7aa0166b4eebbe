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
LINEAR = 1.25  # what a run of the most may cost, in runs of fewer
READ_S = 5


@dataclass
class _Sweep:
    runs: int
    submission: Usage
    status: Usage


def measure(place: Place) -> list[Row]:
    place.used(place.python, place.app, *OURS, HELD, WITHOUT_WAITING)  # compiles what it imports
    sweeps = [_submitted(place, runs) for runs in SUBMITTED]
    rows = [
        Row(
            f"{each.runs:,} runs in jobs of {PER_JOB}, submitted",
            f"{seconds(each.submission.seconds)}, {seconds(each.submission.cpu_s)} of CPU time, "
            f"{megabytes(each.submission.peak_mb)}",
        )
        for each in sweeps
    ]
    # Of more runs than the fewest, whose time is that of Python's start.
    _, before, last = (each.submission for each in sweeps)
    few, many = SUBMITTED[-2:]
    for what, a, b in (
        ("CPU time", before.cpu_s, last.cpu_s),
        ("memory", before.peak_mb, last.peak_mb),
    ):
        ratio = b / a * few / many
        rows.append(
            Row(
                f"{what} of one of {many:,} runs, beside one of {few:,}", f"{ratio:.2f}",
                goal=goal(f"≤ {LINEAR}", ratio <= LINEAR),
            )
        )  # fmt: skip
    status = sweeps[-1].status
    rows.append(
        Row(
            f"`hpc status` of {many:,} runs", f"{seconds(status.seconds)}, {megabytes(status.peak_mb)}",
            goal=goal(f"≤ {READ_S} s", status.seconds <= READ_S),
        )
    )  # fmt: skip
    return [*rows, *_to_the_end(place)]


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
