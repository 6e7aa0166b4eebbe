"""From the start of a command until Slurm has its runs.

The jobs are held, so that none takes time from the submission. The stock launcher, which goes on to
wait, is stopped when sbatch has returned, and what it has used is read at that moment; ours is told
not to wait, and measured to its end. The repository's own command is there because it is what its user
types; the plain comparison is that of the trivial app, of which the repository has no part.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median

from measuring import (
    HELD,
    OURS,
    STOCK,
    WITHOUT_WAITING,
    Failed,
    Place,
    Row,
    Usage,
    goal,
    megabytes,
    seconds,
    tell,
)

RUNS, MANY = 1_000, 10_000
REPEATS = 3  # of what takes seconds; the stock launcher takes minutes


def measure(place: Place) -> list[Row]:
    trivial: tuple[str | Path, ...] = (place.python, place.app)
    repository = (place.python, "-m", "hpc_experiment")
    rows = _compared(place, "a trivial app", (*trivial, *OURS), (*trivial, *STOCK))
    rows += _compared(
        place, "the repository", (*repository, "+setup=hpc_batch"), (*repository, *STOCK)
    )
    return [*rows, *_floors(place)]


def _compared(
    place: Place, what: str, ours: tuple[str | Path, ...], stock: tuple[str | Path, ...]
) -> list[Row]:
    tell(f"submit {RUNS:,} runs of {what} with ours")
    _submission(place, 1, *ours, WITHOUT_WAITING)  # compiles what it imports
    few = _typical([_submission(place, RUNS, *ours, WITHOUT_WAITING) for _ in range(REPEATS)])
    start = _start(place)
    tell(f"{seconds(few.seconds)}; a bare app's start {seconds(start)}; {MANY:,} runs")
    many = _submission(place, MANY, *ours, WITHOUT_WAITING)
    tell(f"{seconds(many.seconds)}; {RUNS:,} runs with the stock launcher: takes minutes")
    theirs = _submission(place, RUNS, *stock, waits=True)
    tell(seconds(theirs.seconds))
    ratio = theirs.seconds / few.seconds
    return [
        Row(
            f"{RUNS:,} runs of {what}, until sbatch has returned",
            seconds(few.seconds), seconds(theirs.seconds),
            ratio=f"{ratio:.0f} x", goal=goal("≥ 100 x", ratio >= 100),
        ),
        Row(
            "likewise; others: the start and end of a bare Hydra app, where hydra-core is alone",
            seconds(few.seconds), others=seconds(start),
            ratio=f"{few.seconds / start:.2f} of it", goal=goal("≤ 2", few.seconds <= 2 * start),
        ),
        Row(
            "their CPU time",
            seconds(few.cpu_s), seconds(theirs.cpu_s), ratio=f"{theirs.cpu_s / few.cpu_s:.0f} x",
        ),
        Row(
            "their peak memory",
            megabytes(few.peak_mb), megabytes(theirs.peak_mb),
            ratio=f"{theirs.peak_mb / few.peak_mb:.1f} x",
        ),
        Row(
            f"{MANY:,} runs of {what}",
            seconds(many.seconds), goal=goal("≤ 3 s", many.seconds <= 3),
        ),
        Row(
            "their peak memory", megabytes(many.peak_mb),
            goal=goal("≤ 60 MB", many.peak_mb <= 60),
        ),
        Row(
            f"one of {RUNS:,} runs; of {MANY:,}",
            f"{few.seconds / RUNS * 1000:.2f} ms; {many.seconds / MANY * 1000:.2f} ms",
            f"{theirs.seconds / RUNS * 1000:.0f} ms",
        ),
    ]  # fmt: skip


def _start(place: Place) -> float:
    """Seconds of a bare app with one run of nothing."""
    command = (place.bare, place.app, f"hydra.run.dir={place.fresh()}")
    return median([place.used(*command).seconds for _ in range(REPEATS + 1)][1:])


def _floors(place: Place) -> list[Row]:
    """What submission takes without Hydra, and Hydra without submission."""
    tell("submit with sbatch and with submitit alone")
    array = ("sbatch", "--hold", f"--array=0-{RUNS - 1}", "--wrap=true")
    script = Path(__file__).parent / "map_array.py"
    floors = {
        "a bare `sbatch --array`": array,
        f"submitit's `map_array` of {RUNS:,} calls": (place.python, script, str(RUNS)),
        "`import hydra`": (place.python, "-c", "import hydra"),
    }
    rows = []
    for what, command in floors.items():
        taken = median(place.used(*command).seconds for _ in range(REPEATS))
        rows.append(Row(what, others=seconds(taken)))
        place.cancel_all()
    return rows


def _submission(place: Place, runs: int, *command: str | Path, waits: bool = False) -> Usage:
    sweep = (HELD, f"seed=range({runs})", f"hydra.sweep.dir={place.fresh()}")
    with place.started(*command, *sweep, noting=True) as process:
        if waits:  # one array, of at most 1,000 runs
            process.until(lambda: process.returned("sbatch"))
            used = process.usage()
        else:
            used = process.end()
        used = replace(used, seconds=process.returned("sbatch")[-1])
    submitted = len(place.answer("squeue", "--noheader", "--array").splitlines())
    if submitted != runs:
        raise Failed(f"Slurm has {submitted} of {runs} runs")
    place.cancel_all()
    return used


def _typical(usages: list[Usage]) -> Usage:
    """The one of the median time."""
    return sorted(usages, key=lambda usage: usage.seconds)[len(usages) // 2]
