"""What a process makes of the variables that Slurm and submitit set."""

import os
import socket
from collections.abc import Callable

import pytest

from hpc_hydra import Process, this_process
from hpc_hydra import _ranks as ranks
from hpc_hydra._job.worker import ALONE

Variables = dict[str, str | int]
# Of the last of 2 + 1 + 1 ranks.
STEP: Variables = {
    "SLURM_JOB_ID": 12770, "SLURM_PROCID": 3, "SLURM_LOCALID": 0, "SLURM_NODEID": 2,
    "SLURM_STEP_NUM_TASKS": 4, "SLURM_STEP_TASKS_PER_NODE": "2,1(x2)",
    "SLURM_STEP_NODELIST": "gpu[03-04,7]", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.3",
}  # fmt: skip
# Of the second of 2 ranks.
LOCAL: Variables = {
    "SUBMITIT_LOCAL_GLOBALID": 1, "SUBMITIT_LOCAL_LOCALID": 1, "SUBMITIT_LOCAL_NTASKS": 2,
    "SUBMITIT_LOCAL_JOB_ID": 4321, "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Process]:
    """`this_process`, where only these variables are set, and a name has an address if it begins with gpu."""

    def resolve(name: str, port: int) -> None:
        if not name.startswith("gpu"):
            raise socket.gaierror

    def of(variables: Variables, output_dir: str = "") -> Process:
        for name in [*ranks.VISIBLE_GPUS, *os.environ]:
            if name.startswith(("SLURM_", "SUBMITIT_")) or name in ranks.VISIBLE_GPUS:
                monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        return this_process(output_dir)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return of


def test_several_nodes(process: Callable[..., Process]) -> None:
    assert process(STEP) == Process(3, 4, 0, 1, None, "gpu03", 20002)
    first: Variables = {"SLURM_PROCID": 1, "SLURM_LOCALID": 1, "SLURM_NODEID": 0}
    assert process(STEP | first) == Process(1, 4, 1, 2, None, "gpu03", 20002)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu1", "gpu1"), ("gpu-a,gpu-b[1-2]", "gpu-a"), ("gpu[7,9-11],n1", "gpu7"),
        ("gpu[2-3]n[04-06]-ib,x", "gpu2n04-ib"), ("node[1-2]", "10.0.0.3"),
    ],
)  # fmt: skip
def test_the_first_node_and_where_its_name_says_nothing_its_address(
    nodes: str, first: str, process: Callable[..., Process]
) -> None:
    assert process(STEP | {"SLURM_STEP_NODELIST": nodes}).master_addr == first


def test_jobs_do_not_meet(process: Callable[..., Process]) -> None:
    """Not even those of an array, which may run side by side on a node."""
    ports = {process(STEP | {"SLURM_JOB_ID": job}).master_port for job in range(20000, 20300)}
    assert len(ports) == 300
    assert ports <= set(ranks.PORTS)


@pytest.mark.parametrize(
    ("devices", "on_node", "gpus"),
    [
        ("0,1,2,3", 4, [0, 1, 2, 3]),  # all ranks see all
        ("0,1", 2, [0, 0, 1, 1]),
        ("GPU-1,GPU-2", 8, [0, 0, 0, 0]),  # bound by srun
        ("0", 4, [0, 0, 0, 0]),
        ("0", 1, [0, 0, 0, 0]),
        ("", 0, [None] * 4),
        ("NoDevFiles", 0, [None] * 4),
        (None, 0, [None] * 4),
    ],
)
def test_gpus(
    devices: str | None, on_node: int, gpus: list[int | None], process: Callable[..., Process]
) -> None:
    step = STEP | {"SLURM_STEP_TASKS_PER_NODE": 4, "SLURM_NODEID": 0, "SLURM_GPUS_ON_NODE": on_node}
    if devices is not None:
        step["CUDA_VISIBLE_DEVICES"] = devices
    of_rank = [process(step | {"SLURM_PROCID": n, "SLURM_LOCALID": n}) for n in range(4)]
    assert [each.local_gpu for each in of_rank] == gpus


def test_local_ranks_of_two_runs_do_not_meet(process: Callable[..., Process]) -> None:
    """Nor does it count that all this happens in a Slurm job."""
    here = process(STEP | LOCAL, "/sweep/0")
    assert (here.rank, here.world_size, here.local_rank, here.local_world_size) == (1, 2, 1, 2)
    assert (here.local_gpu, here.master_addr) == (None, "127.0.0.1")
    assert here == process(LOCAL, "/sweep/0")
    assert here.master_port != process(LOCAL, "/sweep/1").master_port
    assert process(STEP | LOCAL | {"CUDA_VISIBLE_DEVICES": "0,1"}).local_gpu == 1


@pytest.mark.parametrize("around", [{}, STEP, LOCAL])
def test_torchrun_is_what_has_started_the_process(
    around: Variables, process: Callable[..., Process]
) -> None:
    """Whatever else it is in."""
    own: Variables = {
        "TORCHELASTIC_RUN_ID": "none", "RANK": 5, "WORLD_SIZE": 8, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 4,
        "MASTER_ADDR": "gpu01", "MASTER_PORT": 29400, "CUDA_VISIBLE_DEVICES": "0,1,2,3",
    }  # fmt: skip
    assert process(around | own) == Process(5, 8, 1, 4, 1, "gpu01", 29400)
    assert ranks.rank() == 5


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({}, id="outside of a job"),
        pytest.param(
            {"SLURM_JOB_ID": 1, "SLURM_PROCID": 0, "SLURM_NTASKS": 4, "SLURM_TASKS_PER_NODE": 4},
            id="without srun",
        ),
    ],
)
def test_alone(variables: Variables, process: Callable[..., Process]) -> None:
    alone = process(variables | {"HIP_VISIBLE_DEVICES": "1"})
    assert alone == Process(0, 1, 0, 1, 0, "127.0.0.1", alone.master_port)
    with socket.create_server(("127.0.0.1", alone.master_port)):
        assert this_process().master_port != alone.master_port


def test_runs_that_share_a_job_are_alone(
    process: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    process(STEP)
    for value, names in ALONE.items():
        for name in names:
            if name in os.environ:
                monkeypatch.setenv(name, value)
    alone = this_process()
    assert alone == Process(0, 1, 0, 1, None, "127.0.0.1", alone.master_port)


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"SLURM_PROCID": 4}, "rank 4 of 4"),
        ({"SLURM_LOCALID": 1}, "on its node 1 of 1"),
        ({"SLURM_NODEID": 3}, "on its node 0 of 0"),
        ({"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_LAUNCH_NODE_IPADDR": ""}, "begins with n1,"),
    ],
)
def test_contradictions(
    variables: Variables, complaint: str, process: Callable[..., Process]
) -> None:
    with pytest.raises(RuntimeError, match=complaint):
        process(STEP | variables)


def test_exported_variables_are_those_of_torch(
    process: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {
        "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "gpu03", "MASTER_PORT": "20002",
    }  # fmt: skip
    for name in expected:
        monkeypatch.setenv(name, "of somebody else")  # so that it is put back
    process(STEP).export()
    assert {name: os.environ[name] for name in expected} == expected
