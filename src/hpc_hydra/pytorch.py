"""What a run with PyTorch needs on a cluster, on any number of ranks, one included.

    with pytorch.process_group(output_dir) as (process, device):
        net = Net().to(device)
        if process.world_size > 1:
            net = DistributedDataParallel(net)
        if saved := pytorch.newest(output_dir):
            ...
        for step in ...:
            pytorch.seed(seed, step)
            ...
            stop = pytorch.stop_requested()
            pytorch.save(output_dir, step, state, every_s=0 if stop else 600)
            if stop:
                return

PyTorch is imported when one of these is called.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _signals as signals
from . import checkpoints
from ._ranks import Process, gpus_here, rank, this_process

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

SEEN_S = 60  # in which a file system shows a file to all nodes
# A process that CPython before 3.12 forks waits for ever if another thread was just about to take the interpreter's
# lock (gh-112275, mended in late releases of 3.10 and 3.11 too), as one of Gloo's is when a message is over.
FORK_MAY_HANG = sys.version_info < (3, 12)
REST_S = 0.01  # in which such a thread has come to rest, unless many wait for its core


_newest_group: Any


@contextmanager
def process_group(output_dir: str | Path = "") -> Iterator[tuple[Process, torch.device]]:
    """Join the other ranks of this run; leave them at the end of the block, when all have come to it.

    Yields this process's place among them and the device that is its own. Several ranks can then use
    `torch.distributed`, with NCCL for what is on a GPU and Gloo for what is not; a rank alone has no group, unless
    a trainer makes one, which is the trainer's.

    Raises:
        RuntimeError: the ranks do not find each other.
    """
    import torch
    from torch import distributed

    global _newest_group
    process = this_process(output_dir)
    process.export()
    device = _device(process)
    own_group = process.world_size > 1
    if own_group:
        _rest_before_forks()
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend)
        # As its last owner, DDP would wait with the interpreter's lock for a thread of Gloo's, which may want that.
        _newest_group = distributed.group.WORLD
    try:
        yield process, device
        _finish_writing()
        # Rank 0, which the others need, is the last to write.
        total(torch.zeros(1, device=_device_of_messages()))
    finally:
        # Of NCCL it can wait for ever for a rank that has failed: the end of the process ends that too.
        hopeless = device.type != "cpu" and sys.exc_info()[0] is not None
        if own_group and distributed.is_initialized() and not hopeless:
            distributed.destroy_process_group()


@cache
def _rest_before_forks() -> None:
    """For the workers of a `DataLoader`, which are forked at the head of an epoch, after the last one's messages."""
    if FORK_MAY_HANG:
        os.register_at_fork(before=partial(time.sleep, REST_S))


def _device(process: Process) -> torch.device:
    import torch

    if process.local_gpu is None:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        log.warning(
            "PyTorch %s cannot use the GPU that is here, and computes on the CPU: most often its build is for "
            "another driver than that of nvidia-smi",
            torch.__version__,
        )
        return torch.device("cpu")
    device = torch.device("cuda", process.local_gpu)
    torch.cuda.set_device(device)
    if (gpus := len(gpus_here())) > process.local_world_size:
        log.warning(
            "%d ranks on %d GPUs: the others are idle. hydra.launcher.tasks_per_node=%d has a rank for each",
            process.local_world_size, gpus, gpus,
        )  # fmt: skip
    return device


def stop_requested() -> bool:
    """Whether Slurm asked one of the ranks of this run to stop, and so all of them: the same answer on each.

    Every rank has to ask as often as the others do. It takes a message between them, of a tenth of a
    millisecond or so, and does not wait for the GPU, except in a group of a trainer's with NCCL alone.
    """
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        return signals.stop_requested()
    own = torch.tensor(signals.signal_of_stop(), device=_device_of_messages())
    number = _reduced(own, distributed.ReduceOp.MAX)
    if number:
        signals.request_stop(int(number))
    return bool(number)


def _device_of_messages() -> str:
    """Whose tensors the ranks can send to each other: the CPU's, unless a trainer's group has NCCL alone."""
    from torch import distributed

    group = distributed.get_backend_config() if distributed.is_initialized() else "cpu:"
    return "cpu" if "cpu:" in group else "cuda"


def total(values: torch.Tensor) -> torch.Tensor:
    """The sum of ``values`` over all ranks, each of which has to call this."""
    from torch import distributed

    if not distributed.is_initialized():
        return values
    return _reduced(values.clone(), distributed.ReduceOp.SUM)


_newest_reduced: torch.Tensor


def _reduced(values: torch.Tensor, how: Any) -> torch.Tensor:
    """``values``, with those of all ranks in them."""
    from torch import distributed

    global _newest_reduced
    # A thread of Gloo's has it a little longer; as its last owner it would abort a Python that is about to end.
    _newest_reduced = values
    distributed.all_reduce(values, how)
    return values


def seed(*numbers: int) -> None:
    """Start the random numbers of PyTorch, numpy and `random` anew, other ones for each rank.

    Called for each step, as ``seed(seed, step)``, a run that goes on from there draws what an undisturbed one
    draws, with no state of theirs to save. Called before the parameters are drawn they differ between the
    ranks, to which `DistributedDataParallel` gives those of rank 0.
    """
    import torch

    text = repr((*numbers, rank())).encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    random.seed(number)
    torch.manual_seed(number % 2**63)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(number % 2**32)


_writing: Future[None] | None = None
_saved_s = time.monotonic()


def save(directory: str | Path, step: int, state: Callable[[], Any], every_s: float = 0) -> None:
    """Save what ``state`` returns, as it is after ``step`` steps; rank 0 does, the others do nothing.

    Args:
        state: is called when it is time. Tensors, numbers, texts, and lists and dicts of them.
        every_s: seconds that have to be over since the last one. Such a checkpoint is written while the run
            goes on; with 0 it has been written when this returns.

    Raises:
        TypeError: `newest` would refuse the state.
        OSError: the checkpoint, or the one before it, could not be written.
    """
    global _writing, _saved_s
    if rank() > 0 or time.monotonic() < _saved_s + every_s:
        return
    _finish_writing()
    copy = io.BytesIO()
    _dump(state(), copy)
    # A thread for each: a process that is forked has none of the one before.
    _writing = ThreadPoolExecutor(1, "checkpoint").submit(
        checkpoints.save,
        directory,
        step,
        copy.getbuffer(),
        lambda data, file: file.write(data),
    )
    if not every_s:
        _finish_writing()
    _saved_s = time.monotonic()


def _dump(state: Any, file: io.BytesIO) -> None:
    import torch

    torch.save(state, file)
    file.seek(0)
    try:
        torch.load(file, map_location="meta", weights_only=True)  # without the data
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise TypeError(
            f"the state of a checkpoint has what would not be read again: {found[1] if found else error}. It may "
            "hold tensors, numbers, texts, and lists and dicts of them. float(x) makes a number of one of numpy's, "
            'and hydra_convert="all" in builds(...) lists of Hydra\'s ListConfig'
        ) from None


def _finish_writing() -> None:
    global _writing
    if writing := _writing:
        _writing = None
        writing.result()


def newest(directory: str | Path) -> Any:
    """The state in the newest checkpoint of ``directory`` that is whole; None if there is none. The same one on
    each rank, with its tensors on the CPU, from where `load_state_dict` takes them to where they belong.

    Raises:
        PermissionError: it is somebody else's.
        RuntimeError: a rank does not see the checkpoint that another one sees.
    """
    import torch
    from torch import distributed

    load = partial(torch.load, map_location="cpu", weights_only=True)
    deadline = time.monotonic() + SEEN_S
    while True:
        step, state = checkpoints.newest_with_step(directory, load)
        if not distributed.is_initialized():
            return state
        steps = [0] * distributed.get_world_size()
        distributed.all_gather_object(steps, step)
        if len(set(steps)) == 1:
            return state
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"the ranks see checkpoints of different steps in {directory}: {steps}"
            )
        time.sleep(1)
