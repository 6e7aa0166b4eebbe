"""Slurm ends jobs before they are done: time limits, preemption, scancel."""

import time
from collections.abc import Callable
from functools import partial

import pytest
from cluster import Cluster
from faults import Sweep
from jobs import accounting, slurm, wait_until
from running import Project

Traced = Callable[..., Sweep]
PACKED = ("hydra.launcher.runs_per_job=4", "hydra.launcher.tasks_per_node=2")
RANKS = ("hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=2")


def preempt(sweep: Sweep) -> None:
    """A job of a higher partition wants all nodes, for a second."""
    slurm(
        sweep.project, "sbatch", "--partition=preempt", "--nodes=4", "--exclusive", "--time=1",
        f"--output={sweep.directory}/higher", "--wrap=sleep 1",
    )  # fmt: skip


def test_time_limits_until_no_more_are_granted(trace: Traced, generated_on_slurm: Project) -> None:
    """At a limit of less than ten minutes, where submitit alone takes every signal for a time-out: the
    TERM of another does not count. Of the task that the template has."""
    sweep = trace(generated_on_slurm, "+setup=hpc_batch", "epochs=60", pace=4)
    limits = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=30")
    with sweep.going_on(*limits, "hydra.launcher.max_num_timeout=1") as process:
        slurm(sweep.project, "scancel", "--signal=TERM", f"{sweep.job}_0")
        wait_until(lambda: sweep.restarts >= [1], process)
        output = process.communicate(timeout=240)[0]
    assert process.returncode == 1
    assert sweep.states == ["TIMEOUT"]
    # Once for TERM and once for the first time-out, unless the warning came before TERM.
    assert sweep.restarts in ([2], [1])
    assert (sweep.directory / "jobs" / f"{sweep.job}_0_timeouts").read_text() == "2\n"
    assert "run 0 timeout: " in output and "time was over more often" in output
    (row,) = accounting(sweep.project, sweep.job)
    assert row["State"] == "FAILED"
    assert len(list(sweep.directory.glob("0/checkpoint_*.ckpt"))) == 2
    sweep.set_pace(0)
    done = sweep.repeat("hydra.launcher.timeout_min=10")
    assert done.returncode == 0, done.stdout + done.stderr
    sweep.tell("time limit of 1 min, until max_num_timeout; then repeated", 2)


def test_a_run_that_gets_no_further(traced: Traced) -> None:
    """It would go round until `max_num_timeout`. With so short a limit each warning counts as the end of its time, also
    if somebody has lowered it since the job was submitted."""
    sweep = traced("+setup=hpc_batch", "epochs=60")
    limits = (
        "hydra.launcher.timeout_min=60",
        "hydra.launcher.signal_delay_s=20",
        "hydra.launcher.max_num_timeout=9",
    )
    with sweep.going_on(*limits, step=3) as process:
        slurm(sweep.project, "scontrol", "update", f"jobid={sweep.job}_0", "TimeLimit=1")
        sweep.set_pace(300)
        before = sweep.steps(0)[-1]
        wait_until(lambda: sweep.steps(0)[-1] > before, process)
        stuck = sweep.steps(0)[-1]

        def has_begun(times: int) -> bool:
            return sweep.steps(0).count(stuck) == times

        for times in (1, 2):
            wait_until(partial(has_begun, times), process)
            slurm(sweep.project, "scancel", "--signal=USR2", f"{sweep.job}_0")
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert sweep.states == ["TIMEOUT"]
    assert sweep.steps(0, word="end")[-1] == stuck - 1
    assert "no step further than when time was over before" in output
    sweep.set_pace(0)
    ended = sweep.repeat()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    sweep.tell("time limits without progress, until the job script ends it; then repeated", 2, 2)


@pytest.mark.parametrize("gently", [True, pytest.param(False, marks=pytest.mark.long)])
def test_preemption(gently: bool, traced: Traced, cluster: Cluster) -> None:
    """Of a run alone, a packed job, and a run of several ranks, some of which take their time to stop.

    Not gently: with a KILL so soon after the TERM that no step comes to its end.
    """
    sweeps = {
        "run alone": traced("+setup=hpc_batch", "epochs=60", name="alone", pace=1),
        "packed job": traced(
            "+setup=hpc_batch", "epochs=2,60", "seed=0,1", *PACKED, name="packed", pace=1
        ),
        "2 nodes x 2 ranks": traced("+setup=hpc_batch", "epochs=60", *RANKS, name="ranks"),
    }
    alone, packed, ranks = sweeps.values()
    ranks.set_pace(1, of_other_ranks=2)
    processes = [sweep.start() for sweep in sweeps.values()]
    try:
        # The short runs of the packed job have completed, the long ones of both ranks are under way.
        wait_until(lambda: packed.has_begun(1, 2) and packed.has_begun(1, 3))
        wait_until(lambda: alone.has_begun(1, 0) and all(ranks.steps(0, rank) for rank in range(4)))
        if not gently:
            cluster.configure(KillWait=1)  # of which slurmd makes five seconds
            under_way = ((alone, 0), (packed, 2), (packed, 3), (ranks, 0))
            last = [sweep.steps(number)[-1] for sweep, number in under_way]
            for sweep in sweeps.values():
                sweep.set_pace(60)
            wait_until(
                lambda: all(
                    sweep.steps(number)[-1] > before + 1
                    for (sweep, number), before in zip(under_way, last, strict=True)
                )
            )
        preempt(alone)
        wait_until(lambda: alone.restarts == [1] and ranks.restarts == [1])
        wait_until(lambda: packed.restarts == [0, 0, 1, 1])
        for sweep in sweeps.values():
            sweep.set_pace(0)
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        cluster.configure(KillWait=10)
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    for name, sweep in sweeps.items():
        if gently:
            for rank in range(4):
                assert sweep.steps(0, rank) == sweep.steps(0, rank, "end")
            sweep.tell(f"preemption with TERM and requeue: {name}", 1)
        else:
            sweep.tell(f"preemption that kills at once: {name}", 1, 2 if sweep is packed else 1)
            assert sweep.steps_lost()


def test_what_is_not_requeued_says_why(traced: Traced, cluster: Cluster) -> None:
    """By a partition that cancels what it preempts, and where a job may not be requeued at all."""
    slurm_conf = ("PartitionName=cheap", "Nodes=node1", "PreemptMode=CANCEL")
    cheap = "hydra.launcher.partition=cheap"
    options = "hydra.launcher.additional_parameters"
    never = (f"{options}.requeue=null", f"+{options}.no_requeue=true")
    sweeps = [
        traced("+setup=hpc_batch", "epochs=60", *own, name=name, pace=1)
        for name, own in (("cancelled", [cheap]), ("never", never))
    ]
    slurm(sweeps[0].project, "scontrol", "create", *slurm_conf)
    processes = [sweep.start() for sweep in sweeps]
    try:
        wait_until(lambda: all(sweep.has_begun(1, 0) for sweep in sweeps))
        slurm(sweeps[1].project, "scancel", "--signal=TERM", f"{sweeps[1].job}_0")
        wait_until(lambda: sweeps[1].states == ["FAILED"])
        preempt(sweeps[0])
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
        slurm(sweeps[0].project, "scontrol", "delete", slurm_conf[0])
    assert "PREEMPTED, and not requeued here: hpc retry goes on" in outputs[0]
    assert "requeue=true asks for it" in outputs[1]
    for sweep in sweeps:
        sweep.set_pace(0)
        done = sweep.repeat(*(["hydra.launcher.partition=cpu"] if sweep is sweeps[0] else []))
        assert done.returncode == 0, done.stdout + done.stderr


def test_scancel_of_a_run_and_of_the_sweep(traced: Traced) -> None:
    sweep = traced("+setup=hpc_batch", "epochs=60", "seed=0,1,2", pace=1)
    with sweep.going_on() as process:
        slurm(sweep.project, "scancel", f"{sweep.job}_1")
        wait_until(lambda: sweep.states == ["RUNNING", "CANCELLED", "RUNNING"], process)
        slurm(sweep.project, "scancel", sweep.job)
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert sweep.states == ["CANCELLED"] * 3
    assert "run 0 and 2 more cancelled: CANCELLED, after SIGTERM" in output
    time.sleep(8)  # longer than a requeued job would wait
    rows = accounting(sweep.project, sweep.job, 3)
    assert [row["State"].split()[0] for row in rows] == ["CANCELLED"] * 3
    assert sweep.restarts == [0, 0, 0]
    sweep.set_pace(0)
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    sweep.tell("scancel of a run, then of the sweep; then repeated", 2)


def test_scancel_of_what_has_not_begun(traced: Traced) -> None:
    """A pending run, and the sweep of a command that no longer waits, whose table tells it."""
    sweep = traced("+setup=hpc_batch", "epochs=3", "seed=0,1", pace=0)
    hold = "+hydra.launcher.additional_parameters.hold=true"
    sweep.repeat(hold, "hydra.launcher.wait=false")
    slurm(sweep.project, "scancel", sweep.job)
    table = sweep.project.run("hpc", "status", sweep.directory)
    assert table.stdout.count("CANCELLED") == 3  # a row each, and once why
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    sweep.tell("scancel of a pending sweep; then repeated", 1)
