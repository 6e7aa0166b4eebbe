"""W&B's service is killed, and jobs are stopped while W&B is offline: what its files say afterwards."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from faults import Sweep
from jobs import slurm, supervisors_of, wait_until
from library import wandb_file
from library.wandb_server import received, receiving
from running import Ended, Project, disk

from hpc_hydra import read_metrics

Traced = Callable[..., Sweep]
EPOCHS = 24


@contextmanager
def server(project: Project, home: Path) -> Iterator[Callable[[Path], Ended]]:
    """Like W&B's, for a new user: sends a sweep there with `hpc sync`."""
    with receiving() as known:
        yield lambda sweep: project.run("hpc", "sync", sweep, HOME=str(home), **known)


def steps_of(run: Path) -> list[int]:
    """The steps that the server has of a run, in the order of their lines."""
    return received()[(run / "wandb_id").read_text()]


def service_of(sweep: Path) -> int:
    """W&B's service process of a sweep's only run: that process' child."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = stat.read_text(errors="replace").partition("(")[2].rpartition(") ")
            parents[int(stat.parent.name)] = (name, int(rest.split()[1]))
    supervisor = next(iter(supervisors_of(sweep).values()))
    workers = [process for process, (_, parent) in parents.items() if parent == supervisor]
    (service,) = (
        process for process, (name, parent) in parents.items()
        if name == "wandb-core" and parent in workers
    )  # fmt: skip
    return service


def test_the_service_is_killed(traced: Traced) -> None:
    sweep = traced("+setup=hpc_batch", f"epochs={EPOCHS}", pace=0.5, WANDB_MODE="offline")
    with sweep.going_on(step=5) as process:
        os.kill(service_of(sweep.directory), signal.SIGKILL)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0, output
    run = sweep.directory / "0"
    found = wandb_file.read(run)
    assert wandb_file.steps(run) == list(range(1, EPOCHS + 1))
    assert (len(found["ids"]), found["exits"]) == (1, [0])
    (log,) = run.glob("*.log")
    assert log.read_text().count("W&B is gone") == 1
    for path in (log, *sweep.directory.glob("jobs/*.out")):
        assert "Traceback" not in path.read_text(), path
    sweep.tell("W&B's service killed", 1)


@pytest.mark.long
def test_the_disk_of_its_files_is_full(traced: Traced) -> None:
    sweep = traced("+setup=hpc_batch", "epochs=5", pace=0, WANDB_MODE="offline")
    (sweep.directory / "0").mkdir()
    with disk(sweep.directory / "0" / "wandb", "size=20k"):
        done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "W&B offline: OSError: [Errno 28] No space left on device" in sweep.log(0)
    sweep.tell("the disk of W&B's files full", 1)


def test_offline_across_two_requeues_and_a_kill(traced: Traced, tmp_path: Path) -> None:
    """One by the warning signal, which ends all of the job's processes that do not handle it, and one
    by a requeue, whose TERM ends W&B's service at once. The other run is killed, sent as far as it got, and
    retried. Each step is sent once."""
    sweep = traced(
        "+setup=hpc_batch", "seed=0,1", f"epochs={EPOCHS}", pace=0.5, WANDB_MODE="offline"
    )
    first, killed = sweep.directory / "0", sweep.directory / "1"
    with sweep.going_on(step=5) as process:
        slurm(sweep.project, "scancel", "--signal=KILL", f"{sweep.job}_1")
        slurm(sweep.project, "scancel", "--signal=USR2", f"{sweep.job}_0")
        wait_until(lambda: sweep.restarts[0] == 1, process)
        wait_until(lambda: sweep.has_begun(12, 0), process)
        slurm(sweep.project, "scontrol", "requeue", f"{sweep.job}_0")
        wait_until(lambda: sweep.restarts[0] == 2, process)
        wait_until(lambda: sweep.states[0] == "COMPLETED", process)
    identities, exits = (wandb_file.read(first)[name] for name in ("ids", "exits"))
    assert len(identities) == 1 and exits[-1] == 0
    with server(sweep.project, tmp_path) as sync:
        sent = sync(sweep.directory)
        assert sent.returncode == 0 and sent.stdout == "2 of 2 runs: 2 sent, 0 failed\n", sent
        assert sent.stderr == ""
        assert steps_of(first) == list(range(1, EPOCHS + 1))
        got = steps_of(killed)
        assert got == list(read_metrics(killed)) and 5 <= len(got) < EPOCHS
        assert sync(sweep.directory).stdout == "Nothing to send.\n"
        assert sweep.repeat().returncode == 0
        assert sync(sweep.directory).stdout == "1 of 1 runs: 1 sent, 0 failed\n"
        assert steps_of(killed) == list(range(1, EPOCHS + 1))
    sweep.tell("two requeues with W&B offline; then synced as one W&B run", 2, steps_may_be_lost=1)
