"""Runs that are killed at any moment: files are whole, and a repeated command goes on from them."""

import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cluster import Cluster
from faults import Sweep
from jobs import record, runs_of, slurm, supervisors_of, wait_until
from running import Project

Traced = Callable[..., Sweep]
# At a random moment each; `make faults` does it a hundred times.
KILLS = int(os.environ.get("KILLS", 8))
# Of these files, what is torn raises.
READ_ALL = """
import pickle, sys, zlib
from pathlib import Path
sweep = Path(sys.argv[1])
for path in sweep.glob("jobs/run_*.pkl"):
    pickle.loads(path.read_bytes())
for path in sweep.glob("[0-9]*/checkpoint_*.ckpt"):
    assert f"{zlib.crc32(path.read_bytes()):08x}" in path.name, path
    pickle.loads(path.read_bytes())
"""


@pytest.mark.timeout(2400)
def test_at_random_moments(traced: Traced) -> None:
    """Of runs that write checkpoints, metrics and records nearly all the time."""
    epochs = ",".join(str(20 + number) for number in range(KILLS // 4))
    sweep = traced(
        "+setup=hpc_batch", "seed=0,1,2,3", f"epochs={epochs}", f"hydra.launcher.runs_per_job={KILLS}",
        "hydra.launcher.tasks_per_node=4", pace=0.1,
    )  # fmt: skip
    seed = random.randrange(10**6)
    print("seed of the moments:", seed)
    moments = random.Random(seed)
    process = sweep.start()
    killers: dict[int, threading.Thread] = {}
    while process.poll() is None:
        for run in set(runs_of(sweep.directory)) - set(killers):
            while_starting = moments.random() < 0.25
            arguments = (sweep, run, while_starting, moments.uniform(0, 1.5))
            killers[run] = threading.Thread(target=kill_after, args=arguments)
            killers[run].start()
        time.sleep(0.1)
    for killer in killers.values():
        killer.join()
    process.communicate()
    killed = sum("SIGKILL" in str(run.get("error")) for run in sweep.runs)
    for path in sweep.directory.glob("**/*.json"):
        json.loads(path.read_text())
    read = sweep.project.run("python", "-c", READ_ALL, sweep.directory)
    assert read.returncode == 0, read.stderr
    assert killed >= KILLS * 0.6  # the others had completed
    assert set(sweep.states) <= {"COMPLETED", "FAILED"}

    sweep.set_pace(0)
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    sweep.tell("SIGKILL of a run's process at random moments; then repeated", killed, killed)


def kill_after(sweep: Sweep, process: int, while_starting: bool, seconds: float) -> None:
    """Kill the process of a run so long after its start, or after that of its first step."""
    with suppress(OSError):
        while not while_starting:
            log = Path(f"/proc/{process}/fd/1").readlink().name
            if (run := re.search(r"_run_(\d+)_", log)) and sweep.steps(int(run[1])):
                break
            time.sleep(0.1)
    time.sleep(seconds)
    kill(process)


def kill(process: int) -> None:
    with suppress(ProcessLookupError):  # it has completed
        os.kill(process, signal.SIGKILL)


@contextmanager
def memory_enforced(cluster: Cluster, node: str) -> Iterator[None]:
    """Jobs on ``node`` get no more than they asked for: control groups see to it."""

    def start_anew(plugin: str) -> None:
        cluster.configure(TaskPlugin=f"task/{plugin}")
        cluster.kill(node)
        cluster.restart(node)

    if not os.access("/sys/fs/cgroup/memory", os.W_OK):
        pytest.skip("needs control groups, version 1, that it may write")
    start_anew("cgroup")
    try:
        yield
    finally:
        start_anew("none")
        for kind in ("memory", "cpuset", "."):
            for group in sorted(
                Path("/sys/fs/cgroup", kind).glob(f"slurm_{node}/**/"), reverse=True
            ):
                group.rmdir()


def test_out_of_memory(traced: Traced, cluster: Cluster) -> None:
    """Slurm's own control groups end a run: it is told as that, and the other runs of its job go on."""
    sweep = traced(
        "+setup=hpc_batch", "seed=0,1", "epochs=20,21", "hydra.launcher.runs_per_job=4",
        "hydra.launcher.tasks_per_node=2", "hydra.launcher.nodelist=node1", "hydra.launcher.mem_gb=1", pace=1,
    )  # fmt: skip
    with memory_enforced(cluster, "node1"):
        process = sweep.start()
        try:
            wait_until(lambda: sweep.has_begun(3, 0) and sweep.has_begun(3, 1), process)
            (sweep.directory / "0" / "greedy").touch()
            wait_until(lambda: sweep.states[0] == "OUT_OF_MEMORY", process)
            (sweep.directory / "0" / "greedy").unlink()
            sweep.set_pace(0)
            output = process.communicate(timeout=120)[0]
        finally:
            process.kill()
    assert "1 of 4 runs did not complete" in output
    assert "of the 1024 MiB that its job asked for" in output
    assert sweep.states == ["OUT_OF_MEMORY", *["COMPLETED"] * 3]
    (attempt,) = sweep.runs[0]["attempts"]
    assert attempt["state"] == "OUT_OF_MEMORY" and 100 < attempt["max_rss_mib"] < 1024
    assert sweep.runs[0]["asked"]["mem_mib"] == 1024
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 to submit" in done.stdout
    sweep.tell("out of memory: Slurm's control group ends a run; then repeated", 1, 1)


@pytest.mark.long
def test_one_of_several_ranks_is_killed(traced: Traced) -> None:
    """The others, who may wait for it, are ended at once and not at the time limit."""
    sweep = traced(
        "+setup=hpc_batch", "epochs=60", "hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=2", pace=1
    )  # fmt: skip
    with sweep.going_on() as process:
        kill(runs_of(sweep.directory)[-1])
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 1, output
    assert sweep.states == ["FAILED"]
    sweep.set_pace(0)
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    sweep.tell("one of several ranks killed; then repeated", 1, 1)


def test_a_node_dies(traced: Traced, cluster: Cluster) -> None:
    """With its slurmd and all processes of the job: Slurm requeues the job on another node."""
    sweep = traced("+setup=hpc_batch", "epochs=60", pace=1)
    cluster.configure(SlurmdTimeout=5)
    try:
        with sweep.going_on() as process:
            node = slurm(
                sweep.project, "squeue", "--noheader", "--format=%N", f"--jobs={sweep.job}"
            )
            cluster.kill(node.strip())
            assert cluster.kill_jobs_of(node.strip())
            wait_until(lambda: sweep.restarts == [1], process)
            sweep.set_pace(0)
            assert process.wait(timeout=120) == 0
    finally:
        cluster.configure(SlurmdTimeout=300)
    sweep.tell("a node dies with all its processes", 1, 1)


def test_the_command_is_killed_while_it_submits(
    traced: Traced, on_slurm: Project, tmp_path: Path
) -> None:
    """Slurm has the job, and no record says so: the next command finds it, and submits no second one."""
    sweep = traced("+setup=hpc_batch", "epochs=20", "seed=0,1", pace=0.1)
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    # The real one, after which the command is killed.
    sbatch.write_text('#!/bin/sh\nPATH="${PATH#*:}" sbatch "$@" > /dev/null\nkill -KILL $PPID\n')
    sbatch.chmod(0o755)
    sweep.variables["PATH"] = f"{sbatch.parent}{os.pathsep}{os.environ['PATH']}"
    process = sweep.start()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not sweep.job
    del sweep.variables["PATH"]
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 to submit" in done.stdout
    command = f"{sweep.directory}/jobs/"
    jobs = slurm(on_slurm, "squeue", "--noheader", "--states=all", "--format=%F %o")
    assert len({line.split()[0] for line in jobs.splitlines() if command in line}) == 1
    assert record(sweep.directory / "sweep.json")["runs"][1]["job_id"] == f"{sweep.job}_1"
    sweep.tell("the command is killed between sbatch and its record", 1)


def test_sbatch_is_killed_while_it_submits(traced: Traced, tmp_path: Path) -> None:
    """Slurm has the job: it is found, and there is no second one."""
    sweep = traced("+setup=hpc_batch", "epochs=3", pace=0)
    calls, sbatch = tmp_path / "calls", tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(
        f'#!/bin/sh\necho >>{calls}\nPATH="${{PATH#*:}}" sbatch "$@" > /dev/null\nkill -KILL $$\n'
    )
    sbatch.chmod(0o755)
    sweep.variables["PATH"] = f"{sbatch.parent}{os.pathsep}{os.environ['PATH']}"
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exit code -9, and named no job; trying again" in done.stdout + done.stderr
    assert calls.read_text() == "\n"
    sweep.tell("sbatch is killed after Slurm has taken the job", 1)


def test_that_nobody_waits_for(traced: Traced) -> None:
    """A run that is killed with all of its job is shown as lost."""
    sweep = traced("+setup=hpc_batch", "epochs=60", pace=0.5)
    with sweep.going_on():
        pass  # the waiting process is killed
    (supervisor,) = supervisors_of(sweep.directory).values()
    kill(supervisor)
    wait_until(lambda: not slurm(sweep.project, "squeue", "--noheader"))
    shown = sweep.project.run("hpc", "status", sweep.directory)
    assert "LOST" in shown.stdout
