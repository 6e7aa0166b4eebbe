"""Each of the signals, at random moments of runs, under both policies."""

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from faults import ALL, Sweep
from jobs import slurm, wait_until
from running import run

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
            name=shape.replace(" ", "_"), SQUEUE_PARTITION="gpu",  # somebody's wish for their own looks
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


def test_a_short_time_limit(traced: Traced) -> None:
    """The warning would come while Python starts, if it came as long before the limit as usual."""
    runs = 24 if ALL else 2
    sweep = traced("+setup=hpc_batch", f"lr=range(1,{runs + 1})", "epochs=3", pace=0)
    done = sweep.repeat("hydra.launcher.timeout_min=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sweep.states == ["COMPLETED"] * runs
    assert "warned 20 s before" in done.stdout


def test_signals_while_runs_start(traced: Traced, tmp_path: Path) -> None:
    """Before Python has handlers, a signal ends it: the job script has the job requeued all the same."""
    seed = random.randrange(10**6)
    print("seed of the moments:", seed)
    moments = random.Random(seed)
    jobs, times = (24, 1000) if ALL else (2, 10)
    sweep = traced("+setup=hpc_batch", f"lr=range(1,{jobs + 1})", "epochs=60", pace=1)
    with sweep.going_on(step=0) as process:
        for _ in range(times):
            time.sleep(moments.uniform(0, 8 / jobs))
            name, number = moments.choice(SIGNALS), moments.randrange(jobs)
            element = f"{sweep.job}_{number}"  # which may not be there just then
            run("scancel", f"--signal={name}", element, cwd=tmp_path, **sweep.project.variables)
        sweep.set_pace(0)
        output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    restarts = slurm(
        sweep.project, "squeue", "--noheader", "--states=all", f"--jobs={sweep.job}", "--Format=RestartCnt"
    )  # fmt: skip
    print("requeued:", sum(map(int, restarts.split())))
    assert sum(map(int, restarts.split())) >= jobs
    assert sweep.states == ["COMPLETED"] * jobs
