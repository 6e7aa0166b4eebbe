"""A job goes on where Slurm has lost it, and once more elsewhere."""

from collections.abc import Callable

from cluster import Cluster
from faults import Sweep
from jobs import record, runs_of, slurm, wait_until

Traced = Callable[..., Sweep]


def test_a_node_is_cut_off_and_goes_on(traced: Traced, cluster: Cluster) -> None:
    """Slurm starts its job on another node: the old attempt ends before it writes anything into the new one's
    files, and its job script lets the job be."""
    sweep = traced("+setup=hpc_batch", "epochs=60", pace=1)
    cluster.configure(SlurmdTimeout=5)
    try:
        with sweep.going_on() as process:
            query = ("squeue", "--noheader", f"--jobs={sweep.job}", "--format=%N")
            node = slurm(sweep.project, *query).strip()
            (cut_off,) = runs_of(sweep.directory)
            sweep.set_pace(600)  # it is within a step until the other one has begun
            began = sweep.steps(0)[-1]
            wait_until(lambda: sweep.steps(0)[-1] > began)
            cluster.kill(node)
            wait_until(lambda: sweep.restarts == [1], process)
            assert cut_off in runs_of(sweep.directory)
            sweep.set_pace(1)
            wait_until(lambda: cut_off not in runs_of(sweep.directory), process)
            sweep.set_pace(0)
            output = process.communicate(timeout=120)[0]
            assert process.returncode == 0, output
    finally:
        cluster.configure(SlurmdTimeout=300)
    assert "this attempt ends" in sweep.log(0)
    assert record(sweep.directory / "0" / "run.json")["restarts"] == 1
    sweep.tell("a node is cut off and goes on, while its job runs elsewhere", 1, 1)
    assert sweep.restarts == [1]


def test_a_command_is_repeated_while_a_lost_node_goes_on(traced: Traced, cluster: Cluster) -> None:
    """Its job is not to be requeued, so the repeated command submits another one."""
    requeue = "hydra.launcher.additional_parameters"
    sweep = traced(
        "+setup=hpc_batch",
        "epochs=60",
        f"{requeue}.requeue=null",
        f"+{requeue}.no_requeue=true",
        pace=1,
    )
    cluster.configure(SlurmdTimeout=5)
    try:
        with sweep.going_on() as process:
            first = sweep.job
            query = ("squeue", "--noheader", f"--jobs={first}", "--format=%N")
            (cut_off,) = runs_of(sweep.directory)
            sweep.set_pace(600)
            began = sweep.steps(0)[-1]
            wait_until(lambda: sweep.steps(0)[-1] > began)
            cluster.kill(slurm(sweep.project, *query).strip())
            output = process.communicate(timeout=120)[0]
            assert process.returncode == 1 and "NODE_FAIL" in output
        with sweep.going_on() as process:
            wait_until(lambda: sweep.job != first, process)
            sweep.set_pace(1)
            wait_until(lambda: cut_off not in runs_of(sweep.directory), process)
        sweep.set_pace(0)
        done = sweep.repeat()
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        cluster.configure(SlurmdTimeout=300)
    sweep.tell("a node is cut off and goes on, while a repeated command runs elsewhere", 1, 1)


def test_a_job_is_requeued_whose_run_was_given_to_another_one(traced: Traced) -> None:
    """By somebody, or by a node that comes back: it ends before it begins, and the other one goes on."""
    sweep = traced("+setup=hpc_batch", "epochs=60", pace=0.5)
    with sweep.going_on() as process:
        first, log = sweep.job, sweep.runs[0]["job_id"]
        slurm(sweep.project, "scancel", first)
        assert process.wait(timeout=60) == 1
    before = sweep.steps(0)[-1]
    with sweep.going_on(step=before + 1):
        slurm(sweep.project, "scontrol", "requeue", f"{first}_0")
        told = sweep.directory / "jobs" / f"{log}_0_log.out"
        wait_until(lambda: "given to another one" in told.read_text())
        assert len(runs_of(sweep.directory)) == 1
    sweep.set_pace(0)
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    assert sweep.job != first and sweep.restarts == [1]
    sweep.tell("a job is requeued whose run was given to another one", 1)
