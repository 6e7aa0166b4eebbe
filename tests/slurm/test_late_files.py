"""Outputs on a network file system: what one machine has written, others see late.

Two nodes and the waiting command mount the same folder each for itself, by a file system that believes for
some seconds what it has heard: that a file is there or not, how large it is, and what a folder has in it. Locks are
not shared either.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cluster import Cluster
from faults import Sweep
from jobs import slurm, wait_until

Traced = Callable[..., Sweep]
NODES = ("node1", "node2")
LATE_S = 5
OPTIONS = f"cache.attr={LATE_S},cache.entry={LATE_S},cache.negative_entry={LATE_S},cache.readdir=true,allow_other,use_ino"
# In a mount namespace of the node's own.
ON_NODE = 'mergerfs -o "$1" "$2" "$3" && shift 3 && exec "$@"'


@pytest.fixture
def shared(tmp_path: Path, cluster: Cluster) -> Iterator[Path]:
    """The folder as the waiting command has it."""
    if not os.access("/dev/fuse", os.W_OK):
        pytest.skip("needs /dev/fuse")
    server, place = tmp_path / "server", tmp_path / "shared"
    server.mkdir()
    place.mkdir()
    mount = (OPTIONS, str(server), str(place))
    cluster.kill(*NODES)
    for node in NODES:
        cluster.restart(node, within=("unshare", "--mount", "sh", "-c", ON_NODE, "sh", *mount))
    subprocess.run(["mergerfs", "-o", *mount], check=True)
    assert not (place / "late").exists()
    (server / "late").touch()
    assert not (place / "late").exists()
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        for node in NODES:
            space = ("nsenter", "--mount", f"--target={cluster.process(node)}")
            subprocess.run([*space, "umount", "--lazy", place], check=True)
        cluster.kill(*NODES)
        cluster.restart(*NODES)


def on_shared(sweep: Sweep, shared: Path) -> Sweep:
    sweep = replace(sweep, directory=shared / sweep.directory.name)
    sweep.directory.mkdir()
    sweep.set_pace(1)
    return sweep


def test_a_requeued_run_finds_its_newest_checkpoint(traced: Traced, shared: Path) -> None:
    """On the other node, which knew the folder as it was before. Nor does the waiting command miss the end, or take
    the job for lost."""
    sweep = on_shared(
        traced("+setup=hpc_batch", "epochs=60", "hydra.launcher.exclude='node[3-4]'"), shared
    )

    def restarted(restarts: list[int]) -> bool:
        try:
            return sweep.restarts == restarts
        except ValueError:  # of a file that is new, as much as the one before had
            return False

    with sweep.going_on() as process:
        for restarts in ([1], [2]):
            query = ("squeue", "--noheader", "--format=%N", f"--jobs={sweep.job}")
            node = f"NodeName={slurm(sweep.project, *query).strip()}"
            slurm(sweep.project, "scontrol", "update", node, "State=DRAIN", "Reason=test")
            slurm(sweep.project, "scancel", "--signal=USR2", f"{sweep.job}_0")
            wait_until(partial(restarted, restarts), process)
            slurm(sweep.project, "scontrol", "update", node, "State=RESUME")
        sweep.set_pace(0)
        output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    sweep.tell("files that are visible late: requeued from node to node", 2)


@pytest.mark.long
def test_ranks_on_two_nodes(traced: Traced, shared: Path) -> None:
    sweep = on_shared(
        traced(
            "+setup=hpc_batch",
            "epochs=60",
            "hydra.launcher.nodes=2",
            "hydra.launcher.exclude='node[3-4]'",
        ),
        shared,
    )
    with sweep.going_on() as process:
        slurm(sweep.project, "scancel", "--signal=USR2", f"{sweep.job}_0")
        wait_until(lambda: sweep.restarts == [1], process)
        sweep.set_pace(0)
        output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    sweep.tell("files that are visible late: ranks on two nodes", 1)


def test_a_packed_job(traced: Traced, shared: Path) -> None:
    """Its ranks, on two nodes, tell each other by files which of them takes a run."""
    sweep = on_shared(
        traced(
            "+setup=hpc_batch", "seed=0,1,2,3", "epochs=3,4", "hydra.launcher.runs_per_job=8",
            "hydra.launcher.nodes=2", "hydra.launcher.exclude='node[3-4]'",
        ), shared
    )  # fmt: skip
    sweep.set_pace(0)
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(
        len(sweep.steps(number)) == len(set(sweep.steps(number))) for number in sweep.numbers
    )
    sweep.tell("files that are visible late: a packed job on two nodes", 1)
