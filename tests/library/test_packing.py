"""What of a node a rank leaves to the runs that it works off."""

import os
from pathlib import Path

import pytest

from hpc_hydra import _records as records
from hpc_hydra import _resources as resources
from hpc_hydra import _signals as signals
from hpc_hydra._job import worker
from hpc_hydra._job.submission import Work
from hpc_hydra._ranks import VISIBLE_GPUS, place


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """CPUs that the process was bound to; those of the job are 8."""
    cpus: list[int] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(
        os, "sched_setaffinity", lambda process, own: cpus.extend(own), raising=False
    )
    for name in os.environ:
        if name.startswith(("SLURM_", "OMP_", "LOKY_")) or name in VISIBLE_GPUS:
            monkeypatch.delenv(name)
    for name in ("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT", *VISIBLE_GPUS):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "8")
    monkeypatch.setattr(resources, "sharing", 1)  # so that it is put back
    return cpus


@pytest.mark.parametrize(
    ("rank", "ranks", "nodes", "use_srun", "gpus", "cpus"),
    [
        (2, 4, 1, True, "2", [4, 5]),
        (1, 2, 1, True, "2,3", [4, 5, 6, 7]),
        (3, 8, 1, True, "1", [3]),
        (0, 3, 1, True, "0", [0, 1]),
        (1, 4, 2, True, "2,3", [4, 5, 6, 7]),
        (15, 16, 1, True, "3", [7]),
        (0, 4, 1, False, "0,1,2,3", [*range(8)]),  # one rank, whatever the job asked for
    ],
)
def test_share_of_a_node(
    rank: int, ranks: int, nodes: int, use_srun: bool, gpus: str, cpus: list[int],
    taken: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    for module, name in ((signals, "supervised"), (signals, "warning_s"), (records, "origin")):
        monkeypatch.setattr(module, name, getattr(module, name))  # so that it is put back
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setenv("SLURM_GPU_BIND", "none")
    monkeypatch.setenv("SLURM_PROCID", str(rank))
    monkeypatch.setenv("SLURM_NTASKS", str(ranks))
    if use_srun:
        here = ranks // nodes
        monkeypatch.setenv("SLURM_STEP_NUM_TASKS", str(ranks))
        monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", f"{here}(x{nodes})")
        monkeypatch.setenv("SLURM_NODEID", str(rank // here))
        monkeypatch.setenv("SLURM_LOCALID", str(rank % here))
    worker.take_place(Work(str(tmp_path), True, ranks, 60, 60, {}, None), *place()[2:])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == gpus
    assert taken == cpus
    assert os.environ["OMP_NUM_THREADS"] == str(max(8 // (ranks // nodes if use_srun else 1), 1))
    assert (os.environ["SLURM_PROCID"], os.environ["SLURM_NTASKS"]) == ("0", "1")


def test_gpus_that_slurm_has_shared_out(taken: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("SLURM_GPUS_PER_TASK", "2")
    worker._take_share(1, 4)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_cpus_of_others_are_not_taken(taken: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Slurm does not bind jobs to CPUs, each sees all of the node."""
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4")
    worker._take_share(1, 4)
    assert taken == []
    assert os.environ["OMP_NUM_THREADS"] == os.environ["LOKY_MAX_CPU_COUNT"] == "1"
