"""Each of the signals, at random moments of runs, under both policies."""

import os
import random
import time
from collections.abc import Callable
from functools import partial

import pytest
from faults import Sweep
from jobs import slurm, wait_until

Traced = Callable[..., Sweep]
SHAPES = {
    "run alone": (),
    "packed job": (
        "seed=0,1,2,3",
        "hydra.launcher.runs_per_job=4",
        "hydra.launcher.tasks_per_node=2",
    ),
    "2 nodes x 2 ranks": ("hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=2"),
}
ALL = os.environ.get("FAULTS") == "all"
SIGNALS = ("USR1", "USR2", "CONT", "TERM", "HUP")
# Two for each shape, which are all five between them; `make faults` sends all five to each.
SOME = {
    "run alone": ("USR1", "TERM"),
    "packed job": ("USR2", "CONT"),
    "2 nodes x 2 ranks": ("HUP", "USR2"),
}


@pytest.mark.parametrize("policy", ["checkpoint", pytest.param("ignore", marks=pytest.mark.long)])
def test_signals(policy: str, traced: Traced) -> None:
    """With the policy `checkpoint`, all but CONT stop the run, whose job is requeued; no rank is killed
    in the middle of a step."""
    seed = random.randrange(10**6)
    print("seed of the moments:", seed)
    moments = random.Random(seed)
    sweeps = {
        shape: traced(
            "+setup=hpc_batch", f"signal_policy={policy}", "epochs=60", *options, pace=3 if ALL else 1,
            name=shape.replace(" ", "_"),
        )
        for shape, options in SHAPES.items()
    }  # fmt: skip
    left = {shape: list(SIGNALS if ALL else SOME[shape]) for shape in SHAPES}
    sent = dict.fromkeys(SHAPES, 0)
    processes = {shape: sweep.start() for shape, sweep in sweeps.items()}
    try:
        for shape, sweep in sweeps.items():
            wait_until(partial(sweep.has_begun, 1, 0), processes[shape])
        while any(left.values()):
            stopped = {shape: sweep.restarts[0] for shape, sweep in sweeps.items()}
            time.sleep(moments.uniform(0, 1))
            for shape, sweep in sweeps.items():
                if left[shape]:
                    name = left[shape].pop()
                    slurm(sweep.project, "scancel", f"--signal={name}", f"{sweep.job}_0")
                    sent[shape] += 1
                    if policy == "ignore" or name == "CONT":
                        del stopped[shape]
                else:
                    del stopped[shape]
            for shape, before in stopped.items():
                wait_until(partial(sweeps[shape].has_restarted, before), processes[shape])
        for sweep in sweeps.values():
            sweep.set_pace(0)
        for process in processes.values():
            output = process.communicate(timeout=180)[0]
            assert process.returncode == 0, output
    finally:
        for process in processes.values():
            process.kill()
    for shape, sweep in sweeps.items():
        for number in sweep.numbers:
            for rank in range(4 if "ranks" in shape else 1):
                assert sweep.steps(number, rank) == sweep.steps(number, rank, "end")
            if policy == "ignore":
                assert sweep.restarts[number] == 0
        sweep.tell(f"signals, policy {policy}: {shape}", sent[shape])
