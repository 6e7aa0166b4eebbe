"""Ranks find one another, over TCP and without torch, wherever a run may have several."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jobs import accounting, job_of, record
from running import Project
from test_sweeps import sweep


def meetings(project: Project, directory: Path, *overrides: str) -> list[list[dict[str, Any]]]:
    """Of each run of a sweep with seeds 0, 1, ... the ranks that met, all of which heard the same."""
    done = sweep(project, directory, *overrides, "epochs=1", "model._target_=probe_models.meeting")
    assert done.returncode == 0, done.stdout + done.stderr
    found = []
    for seed, run in enumerate(record(directory / "sweep.json")["runs"]):
        logs = directory.glob(run["log"].replace("_0_log.out", "_*_log.out"))
        heard = [re.findall("^met: (.*)", log.read_text(), re.MULTILINE) for log in logs]
        ranks = json.loads(heard[0][0])
        assert heard == [heard[0]] * len(ranks)
        assert len({each["master_port"] for each in ranks}) == 1
        assert {(each["seed"], each["world_size"]) for each in ranks} == {(seed, len(ranks))}
        found.append(sorted(ranks, key=lambda each: int(each["rank"])))
    return found


def places(ranks: list[dict[str, Any]]) -> list[tuple[int, int, int, int | None]]:
    names = ("rank", "local_rank", "local_world_size", "local_gpu")
    return [tuple(each[name] for name in names) for each in ranks]


def ports(runs: list[list[dict[str, Any]]]) -> set[int]:
    return {ranks[0]["master_port"] for ranks in runs}


def test_two_runs_at_a_time_on_two_nodes_each(on_slurm: Project, tmp_path: Path) -> None:
    """Here all nodes are one machine, so that the same port would be noticed."""
    runs = meetings(
        on_slurm, tmp_path, "+setup=hpc_batch", "seed=0,1", "hydra.launcher.nodes=2",
        "hydra.launcher.tasks_per_node=2",
    )  # fmt: skip
    rows = accounting(on_slurm, job_of(tmp_path), 2)
    assert all("node=2" in row["AllocTRES"] for row in rows)
    records = [record(tmp_path / str(number) / "run.json") for number in (0, 1)]
    assert max(each["start"] for each in records) < min(each["end"] for each in records)
    for ranks in runs:
        assert places(ranks) == [(0, 0, 2, None), (1, 1, 2, None), (2, 0, 2, None), (3, 1, 2, None)]
        assert ranks[0]["master_addr"] == "127.0.0.1"  # the nodes' names have no address
    assert len(ports(runs)) == 2


@pytest.mark.parametrize(
    ("nodes", "srun_args", "gpus"),
    [(1, "[]", [0, 2]), (2, "[]", [0, 2, 0, 2]), (1, "['--gpus-per-task=1']", [0, 0])],
)
def test_with_gpus(
    nodes: int, srun_args: str, gpus: list[int], on_slurm: Project, tmp_path: Path
) -> None:
    """Those of a node are shared by its ranks, or bound to them by srun."""
    (ranks,) = meetings(
        on_slurm, tmp_path, "+setup=hpc_gpu", "hydra.launcher.tasks_per_node=2", "seed=0",
        f"hydra.launcher.nodes={nodes}", f"hydra.launcher.srun_args={srun_args}",
    )  # fmt: skip
    assert places(ranks) == [(n, n % 2, 2, gpu) for n, gpu in enumerate(gpus)]


def test_ranks_of_srun_alone(on_slurm: Project, tmp_path: Path) -> None:
    (ranks,) = meetings(
        on_slurm, tmp_path, "+setup=hpc_batch", "seed=0", "hydra.launcher.cpus_per_task=4",
        "hydra.launcher.srun_args=['--ntasks=4','--cpus-per-task=1']",
    )  # fmt: skip
    assert places(ranks) == [(n, n, 4, None) for n in range(4)]


def test_runs_that_share_a_job_meet_nobody(on_slurm: Project, tmp_path: Path) -> None:
    runs = meetings(on_slurm, tmp_path, "+setup=hpc_gpu_packed", "seed=0,1,2,3")
    assert len(accounting(on_slurm, job_of(tmp_path))) == 1
    assert [places(ranks) for ranks in runs] == [[(0, 0, 1, 0)]] * 4
    assert len(ports(runs)) == 4


def test_local_ranks(quick: Project, tmp_path: Path) -> None:
    """Of two runs, if need be one after the other."""
    runs = meetings(quick, tmp_path, "+setup=local", "seed=0,1", "hydra.launcher.tasks_per_node=2")
    assert [places(ranks) for ranks in runs] == [[(0, 0, 2, None), (1, 1, 2, None)]] * 2
    assert len(ports(runs)) == 2
