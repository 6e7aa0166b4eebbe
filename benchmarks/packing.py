"""Many short runs in one job.

Time is that of the whole command, Python's start and its end included. Ours composes each run and
records it, as the stock launcher does, for which each run is a job of its own; Parsl's calls are
functions, for workers in one job of the same size. Each of these workers does all its calls in one process,
as ours do with `process_per_run=false`: that is compared, too. How long a job took is what Slurm says.

Runs of uneven length are compared with two ideals without any cost: to hand them out in their order as ranks
become free, which is the best without knowing how long each takes; and to know that beforehand.
"""

from __future__ import annotations

import heapq
import random
from datetime import datetime
from pathlib import Path
from statistics import median

from measuring import OURS, STOCK, Place, Row, goal, packed, seconds, tell

RUNS, RANKS = 200, 4
REPEATS = 3  # of all but the stock launcher, which takes minutes
QUICK_PERIOD_S = 0.2
ONE_PROCESS = "hydra.launcher.process_per_run=false"  # for all runs of a rank
SLEEP_S, GPUS = 20, 4
# Log-normal, as the lengths of trials with early stopping are.
UNEVEN_S = [round(min(random.Random(seed).lognormvariate(0, 1.5), 20), 1) for seed in range(64)]


def measure(place: Place) -> list[Row]:
    return [*_short_runs(place), _gpu_runs(place), *_uneven_runs(place)]


def _short_runs(place: Place) -> list[Row]:
    app = (place.python, place.app)
    every = f"seed=range({RUNS})"
    place.used(*app, *OURS, *packed(2, RANKS), "seed=range(2)")  # compiles what it imports
    _parsl(place)
    ours, one_process, parsl, quick_parsl = [], [], [], []
    for turn in range(REPEATS):  # in turns: a machine is not equally quick all the time
        tell(f"{RUNS} runs in one job with ours and with Parsl, {turn + 1} of {REPEATS}")
        place.wait_until_idle()
        ours.append(place.used(*app, *OURS, *packed(RUNS, RANKS), every).seconds)
        place.wait_until_idle()
        one_process.append(
            place.used(*app, *OURS, *packed(RUNS, RANKS), ONE_PROCESS, every).seconds
        )
        parsl.append(_parsl(place))
        quick_parsl.append(_parsl(place, QUICK_PERIOD_S))
        latest = ours[-1], one_process[-1], parsl[-1][0], quick_parsl[-1][0]
        tell("; ".join(map(seconds, latest)))
    tell(f"{RUNS} runs with the stock launcher: takes minutes")
    place.wait_until_idle()
    stock = place.used(*app, *STOCK, every).seconds
    tell(f"{seconds(stock)}; and here, with Hydra's basic launcher")
    place.wait_until_idle()
    basic = place.used(*app, "--multirun", every).seconds

    what = f"{RUNS} runs in one job of {RANKS} ranks"
    own, alike = median(ours), median(one_process)
    rows = [
        Row(
            f"{what}; stock: in {RUNS} jobs", seconds(own), seconds(stock),
            ratio=f"{stock / own:.0f} x", goal=goal("≥ 10 x", stock >= 10 * own),
        )
    ]  # fmt: skip
    for name, measured in (
        ("Parsl", parsl),
        (f"Parsl with `strategy_period={QUICK_PERIOD_S}`", quick_parsl),
    ):
        whole, from_load = map(median, zip(*measured, strict=True))
        rows += [
            Row(
                f"{what}; {name}", seconds(own), others=seconds(whole),
                ratio=f"{whole / own:.1f} x",
                goal=goal("≥ 1 x", whole >= own),
            ),
            Row(
                f"{what} with `process_per_run=false`; {name}", seconds(alike), others=seconds(whole),
                ratio=f"{whole / alike:.1f} x",
                goal=goal("≥ 1 x", whole >= alike),
            ),
            Row(f"{name}: from `parsl.load` to the last result", others=seconds(from_load)),
        ]  # fmt: skip
    return [*rows, Row(f"{RUNS} runs without Slurm, Hydra's basic launcher", others=seconds(basic))]


def _parsl(place: Place, *period: float) -> tuple[float, float]:
    """Seconds of the whole command, and from the start of `parsl.load` to the last result."""
    place.wait_until_idle()
    script = Path(__file__).parent / "parsl_calls.py"
    with place.started(place.python, script, str(RUNS), str(RANKS), *map(str, period)) as process:
        whole = process.end().seconds
        return whole, float(process.output.read_text().split()[-1])


def _gpu_runs(place: Place) -> Row:
    tell(f"{GPUS} runs of {SLEEP_S} s on one GPU each, in one job and in {GPUS}")
    app = (place.python, place.app)
    runs = (f"sleep_s={SLEEP_S}", f"seed=range({GPUS})", "hydra.launcher.partition=gpu")
    one_job = (*packed(GPUS, RANKS), f"hydra.launcher.gres=gpu:{GPUS}")
    place.used(*app, *OURS, *runs, *one_job, "hydra.job.name=ours")
    place.used(*app, *STOCK, *runs, "hydra.launcher.gres=gpu:1", "hydra.job.name=stock")
    ours, stock = _duration(place, "ours"), _duration(place, "stock")
    return Row(
        f"{GPUS} runs of {SLEEP_S} s on one GPU each, from the job's start to its end",
        seconds(ours), f"{seconds(stock)} in {GPUS} jobs", f"{SLEEP_S} s of sleep",
        f"{ours / SLEEP_S:.2f} of the sleep", goal("≤ 30 s", ours <= 30),
    )  # fmt: skip


def _uneven_runs(place: Place) -> list[Row]:
    tell(f"{len(UNEVEN_S)} runs of very different length on {RANKS} ranks")
    lengths = f"sleep_s={','.join(map(str, UNEVEN_S))}"
    place.used(
        place.python,
        place.app,
        *OURS,
        *packed(len(UNEVEN_S), RANKS),
        lengths,
        "hydra.job.name=uneven",
    )
    ours = _duration(place, "uneven")
    free_at = [0.0] * RANKS
    for length in UNEVEN_S:
        heapq.heappush(free_at, heapq.heappop(free_at) + length)
    in_order, known = max(free_at), max(sum(UNEVEN_S) / RANKS, max(UNEVEN_S))
    what = f"{len(UNEVEN_S)} runs of 0 to {max(UNEVEN_S):.0f} s on {RANKS} ranks"
    return [
        Row(
            f"{what}, from the job's start to its end; others: as ranks become free, without any cost",
            seconds(ours), others=seconds(in_order), ratio=f"{ours / in_order:.2f} of that",
            goal=goal("≤ 1.1", ours <= 1.1 * in_order),
        ),
        Row(
            f"{what}; others: if it were known how long each takes",
            seconds(ours), others=seconds(known), ratio=f"{ours / known:.2f} of that",
        ),
    ]  # fmt: skip


def _duration(place: Place, name: str) -> float:
    """Seconds from the first start to the last end of the jobs of this name."""
    place.wait_until_idle()
    # For five minutes the controller knows those that have ended.
    query = ("squeue", "--noheader", f"--name={name}", "--states=all", "--format=%S %e")
    times = [datetime.fromisoformat(each) for each in place.answer(*query).split()]
    return (max(times) - min(times)).total_seconds()
