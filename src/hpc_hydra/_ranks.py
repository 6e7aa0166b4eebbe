"""Which of the processes of its job a process is, and how these find one another.

`torch.distributed` and its like need to be told:

    this_process(output_dir).export()
    torch.distributed.init_process_group("gloo")
"""

from __future__ import annotations

import os
import re
import socket
import zlib
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

# Below those that Linux gives to outgoing connections, above those of the usual services.
PORTS = range(20000, 32768)
VISIBLE_GPUS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")

LOCAL = "SUBMITIT_LOCAL_GLOBALID"  # set by submitit's local executor


def rank() -> int:
    """Number of this process among the job's task ranks: 0 for the one that writes, and outside of a job."""
    of_torchrun = ("RANK",) if by_torchrun() else ()
    for variable in (*of_torchrun, LOCAL, "SLURM_PROCID"):
        if variable in os.environ:
            return int(os.environ[variable])
    return 0


def by_torchrun() -> bool:
    """Whether torchrun has started this process, in a job or outside of one."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@dataclass(frozen=True)
class Process:
    """Place of a process among those that work on a run together."""

    rank: int
    world_size: int
    local_rank: int  # among those on its node
    local_world_size: int
    local_gpu: int | None  # its index among the GPUs that the process sees; None: there are none
    master_addr: str  # where rank 0 listens
    master_port: int

    def export(self) -> None:
        """Set the variables that `torch.distributed.init_process_group` reads, for this process and
        those that it starts."""
        for name in (
            "rank", "world_size", "local_rank", "local_world_size", "master_addr", "master_port"
        ):  # fmt: skip
            os.environ[name.upper()] = str(getattr(self, name))


def this_process(output_dir: str | Path = "") -> Process:
    """What srun, submitit's local executor or torchrun tells this process; rank 0 of 1 outside of a job,
    and in a job that several runs share.

    Args:
        output_dir: that of the run. With `+setup=local` the same ranks do one run after another, and a
            rank that is ahead should not meet the others in the run before.

    Raises:
        RuntimeError: the variables contradict each other, or the node of rank 0 has no address.
    """
    own, world_size, local_rank, here = place()
    gpu, gpus = None, len(gpus_here())
    if gpus:
        of_step = 0 if by_torchrun() or LOCAL in os.environ else _number("SLURM_GPUS_ON_NODE")
        # Less than the step has on this node: srun gave each rank its own.
        gpu = 0 if gpus < of_step else local_rank * gpus // here
    address, port = _meeting_point(output_dir) if world_size > 1 else ("127.0.0.1", _free_port())
    return Process(own, world_size, local_rank, here, gpu, address, port)


def place() -> tuple[int, int, int, int]:
    """This process's rank, of how many, and both on its node: as srun, submitit's local executor or torchrun tells it.

    Raises:
        RuntimeError: the variables contradict each other.
    """
    if by_torchrun():  # the inmost one is first: a job may have started it
        local_rank, world_size = _number("LOCAL_RANK"), _number("WORLD_SIZE", 1)
        here = _number("LOCAL_WORLD_SIZE", 1)
    elif LOCAL in os.environ:  # which may be in a job of Slurm
        local_rank = _number("SUBMITIT_LOCAL_LOCALID")
        here = world_size = _number("SUBMITIT_LOCAL_NTASKS", 1)
    else:
        # Those of the step are set by srun: without it, there is one process, whatever the job asked for.
        local_rank, world_size = _number("SLURM_LOCALID"), _number("SLURM_STEP_NUM_TASKS", 1)
        tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1")  # `2(x3),1` stands for 2,2,2,1
        groups = re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks)
        on_nodes = [int(number) for number, times in groups for _ in range(int(times or 1))]
        here = dict(enumerate(on_nodes)).get(_number("SLURM_NODEID"), 0)
    own = rank()
    if not (local_rank <= own < world_size and local_rank < here <= world_size):
        raise RuntimeError(
            f"rank {own} of {world_size}, on its node {local_rank} of {here}: the variables SLURM_*, "
            "SUBMITIT_LOCAL_* or *RANK of this process are not those of one job"
        )
    return own, world_size, local_rank, here


def _number(name: str, default: int = 0) -> int:
    return int(os.environ.get(name, default))


def gpus_here() -> list[str]:
    """The GPUs that this process sees, as in the variables that choose among them."""
    for name in VISIBLE_GPUS:
        if name in os.environ:
            devices = os.environ[name].split(",")
            return list(takewhile(lambda each: each not in ("", "-1", "NoDevFiles"), devices))
    # In a job without the variable it was given none, even if the node has some.
    if "SLURM_JOB_ID" in os.environ:
        return []
    return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def _meeting_point(output_dir: str | Path) -> tuple[str, int]:
    """Address and port of rank 0: the same for all ranks, the port another one for other jobs."""
    if by_torchrun():
        return os.environ["MASTER_ADDR"], _number("MASTER_PORT")
    if LOCAL in os.environ:
        job = _number("SUBMITIT_LOCAL_JOB_ID") + zlib.crc32(str(output_dir).encode())
        return "127.0.0.1", PORTS[job % len(PORTS)]
    # Its elements have ids of their own in an array; jobs with neighbouring ids never share a port.
    port = PORTS[_number("SLURM_JOB_ID") % len(PORTS)]
    nodes = os.environ.get("SLURM_STEP_NODELIST", "")  # `gpu[01-03,7],login1`; the first has rank 0
    first = re.sub(r"\[([^],-]*)[^]]*\]", r"\1", nodes).partition(",")[0]
    with suppress(OSError):  # a node need not be called as its host
        socket.getaddrinfo(first, port)
        return first, port
    # Where srun was called: for a batch job the first node.
    if address := os.environ.get("SLURM_LAUNCH_NODE_IPADDR"):
        return address, port
    raise RuntimeError(
        f"rank 0 cannot be found: SLURM_STEP_NODELIST={nodes} begins with {first or 'nothing'}, which "
        "has no address, and SLURM_LAUNCH_NODE_IPADDR is not set"
    )


def _free_port() -> int:
    """For a process alone, which need not agree on it; other runs on this node get others."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
    return port
