"""What a command costs the login node, and Slurm's controller, while it waits for its runs.

The runs are held, so that nothing happens meanwhile; both launchers wait in the same minutes.
"""

from __future__ import annotations

import time

from measuring import (
    HELD,
    OURS,
    SLURM_COMMANDS,
    STOCK,
    Place,
    Process,
    Row,
    goal,
    megabytes,
    tell,
)

RUNS = 1_000
SETTLE_S, WAIT_S = 5, 90
CALLS = 3  # one in 30 s


def measure(place: Place) -> list[Row]:
    app = (place.python, place.app)
    command = (HELD, f"seed=range({RUNS})")
    tell(f"submit {RUNS:,} runs with the stock launcher: takes minutes")
    with place.started(*app, *STOCK, *command, noting=True) as stock_process:
        stock_process.until(lambda: stock_process.returned("sbatch"))
        with place.started(*app, *OURS, *command, noting=True) as our_process:
            our_process.until(lambda: our_process.returned("sbatch"))
            time.sleep(SETTLE_S)
            tell(f"both wait, for {WAIT_S} s")
            waiting = _Waiting(our_process), _Waiting(stock_process)
            time.sleep(WAIT_S)
            (share, calls, peak), (stock_share, stock_calls, stock_peak) = (
                each.so_far() for each in waiting
            )
    place.cancel_all()
    what = f"waiting for {RUNS:,} pending runs"
    return [
        Row(
            f"{what}: share of a core", f"{share:.1%}", f"{stock_share:.1%}",
            goal=goal("≤ 0.6 %", share <= 0.006),
        ),
        Row(
            f"{what}: peak memory", megabytes(peak), megabytes(stock_peak),
            goal=goal("≤ 40 MB", peak <= 40),
        ),
        Row(
            f"{what}: calls of Slurm's commands in {WAIT_S} s", str(calls), str(stock_calls),
            goal=goal(f"≤ {CALLS}", calls <= CALLS),
        ),
    ]  # fmt: skip


class _Waiting:
    """A process that waits from now on."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._usage, self._calls = process.usage(), self._count()

    def _count(self) -> int:
        return sum(len(self._process.returned(name)) for name in SLURM_COMMANDS)

    def so_far(self) -> tuple[float, int, float]:
        """Share of a core, number of calls, and peak memory since the process began."""
        usage = self._process.usage()
        cpu_s, duration = (usage.cpu_s - self._usage.cpu_s, usage.seconds - self._usage.seconds)
        return cpu_s / duration, self._count() - self._calls, usage.peak_mb
