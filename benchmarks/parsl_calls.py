"""Trivial calls with Parsl, on the workers of one Slurm job, set up as its users do.

    python parsl_calls.py CALLS WORKERS [STRATEGY_PERIOD_S]

Prints the seconds from the start of `parsl.load` to the last result. The calls compose no
configuration and leave no files, which is less than what a Hydra launcher does for a run.
"""

import sys
import time

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SrunLauncher
from parsl.providers import SlurmProvider

calls, workers = map(int, sys.argv[1:3])
# How often Parsl looks whether it needs jobs; its first look is one period after the load.
period = {"strategy_period": float(sys.argv[3])} if len(sys.argv) > 3 else {}


@parsl.python_app
def call(seed: int) -> int:
    """Return a number."""
    return seed


provider = SlurmProvider(
    partition="cpu",
    nodes_per_block=1,
    cores_per_node=workers,
    init_blocks=1,
    max_blocks=1,
    exclusive=False,
    walltime="00:10:00",
    launcher=SrunLauncher(),
    worker_init=f"source {sys.prefix}/bin/activate",
)
executor = HighThroughputExecutor(
    address="127.0.0.1",  # all nodes of the throwaway cluster are on this machine
    max_workers_per_node=workers,
    provider=provider,
)
began = time.monotonic()
with parsl.load(Config(executors=[executor], **period)):
    futures = [call(seed) for seed in range(calls)]
    assert [future.result() for future in futures] == list(range(calls))
    print(time.monotonic() - began)
