"""Beside what a user would write by hand: a job script with `srun python` in it, submitted as an array.

What a job costs is the time from before the first line of its script to after the last one: the script's
interpreter is a shell that notes both.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from statistics import median

from measuring import OURS, Place, Row, goal, seconds, tell

JOBS, PARALLEL, SLEEP_S = 8, 2, 1
REPEATS = 3
RUNS, EPOCHS = 4, 3
TIMED = """\
#!/bin/sh
began=$(date +%s.%N)
/bin/bash "$@"
status=$?
echo $began $(date +%s.%N) >> {notes}
exit $status
"""
SCRIPT = """\
#!{shell}
#SBATCH --array=0-{last}%{parallel}
#SBATCH --output={folder}/%a.log
{setup}
srun --unbuffered {command}
"""


def measure(place: Place) -> list[Row]:
    return [_job(place), _to_the_table(place)]


def _job(place: Place) -> Row:
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(REPEATS):  # in turns: a machine is not equally quick all the time
        tell(f"{JOBS} jobs of ours and by hand, {turn + 1} of {REPEATS}")
        shell, notes = _timed_shell(place)
        place.used(
            place.python, place.app, *OURS, f"seed=range({JOBS})", f"sleep_s={SLEEP_S}",
            f"hydra.launcher.array_parallelism={PARALLEL}",
            f"hydra.launcher.setup=['#!{shell}']", f"hydra.sweep.dir={place.fresh()}",
        )  # fmt: skip
        ours += _durations(place, notes)
        shell, notes = _timed_shell(place)
        command = (place.python, "-u", place.app, "seed=$SLURM_ARRAY_TASK_ID", f"sleep_s={SLEEP_S}")
        _by_hand(place, JOBS, *command, shell=shell, parallel=PARALLEL)
        theirs += _durations(place, notes)
        tell(f"{seconds(median(ours))}; {seconds(median(theirs))}")
    own, other = median(ours), median(theirs)
    return Row(
        f"a job of one run of {SLEEP_S} s, from before its script to after it; others: `srun python` by hand",
        seconds(own), others=seconds(other), ratio=f"{own - other:+.2f} s",
        goal=goal("≤ 1 s more", own - other <= 1),
    )  # fmt: skip


def _to_the_table(place: Place) -> Row:
    task = (place.python, "-m", "hpc_experiment", f"epochs={EPOCHS}")
    ours, theirs = [], []
    place.used(*task, f"hydra.run.dir={place.fresh()}")  # compiles what it imports
    for turn in range(REPEATS):
        tell(f"{RUNS} runs of {EPOCHS} epochs with ours and by hand, {turn + 1} of {REPEATS}")
        place.wait_until_idle()
        ours.append(place.used(*task, "+setup=hpc_batch", f"seed=range({RUNS})").seconds)
        place.wait_until_idle()
        theirs.append(_by_hand(place, RUNS, *task, "seed=$SLURM_ARRAY_TASK_ID"))
        tell(f"{seconds(ours[-1])}; {seconds(theirs[-1])}")
    own, other = median(ours), median(theirs)
    return Row(
        f"{RUNS} runs of {EPOCHS} epochs, from the command to the table; others: `sbatch --wait` of an array",
        seconds(own), others=seconds(other), ratio=f"{own / other:.2f} of it",
        goal=goal("≤ 1", own <= other),
    )  # fmt: skip


def _by_hand(
    place: Place,
    jobs: int,
    *command: str | Path,
    shell: Path | str = "/bin/bash",
    parallel: int | None = None,
) -> float:
    """Seconds until an array of ``jobs`` is over, each of which executes ``command``."""
    folder = place.fresh()
    folder.mkdir()
    words = [*map(str, command), f"hydra.run.dir={folder}/$SLURM_ARRAY_TASK_ID"]
    script = folder / "job.sh"
    script.write_text(
        SCRIPT.format(
            shell=shell, last=jobs - 1, parallel=parallel or jobs, folder=folder,
            setup="export WANDB_MODE=offline", command=" ".join(words),
        )
    )  # fmt: skip
    return place.used("sbatch", "--wait", script).seconds


def _timed_shell(place: Place) -> tuple[Path, Path]:
    """An interpreter of scripts, and where it notes when it began and ended."""
    folder = place.fresh()
    folder.mkdir()
    shell, notes = folder / "shell", folder / "notes"
    shell.write_text(TIMED.format(notes=shlex.quote(str(notes))))
    shell.chmod(0o755)
    return shell, notes


def _durations(place: Place, notes: Path) -> list[float]:
    place.wait_until_idle()
    pairs = (map(float, line.split()) for line in notes.read_text().splitlines())
    return [end - began for began, end in pairs]
