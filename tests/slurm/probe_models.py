"""Models that let a test look into a run, chosen with `model._target_=probe_models.NAME`.

Their numbers are those of the repository's own `models.mlp`.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from hpc_experiment import models
from hydra.core.hydra_config import HydraConfig


class Probe:
    """Does what its model does."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def partial_fit(self, *args: Any, **kwargs: Any) -> None:
        self.model.partial_fit(*args, **kwargs)

    def score(self, *args: Any) -> Any:
        return self.model.score(*args)

    def predict_proba(self, x: Any) -> Any:
        return self.model.predict_proba(x)

    def get_params(self) -> Any:
        return self.model.get_params()


class Slow(Probe):
    """Half a second slower per epoch, so that there is something to interrupt."""

    def partial_fit(self, *args: Any, **kwargs: Any) -> None:
        """Sleep, then learn."""
        time.sleep(0.5)
        super().partial_fit(*args, **kwargs)


def slow_mlp(**parameters: Any) -> Slow:
    """An estimator that takes its time."""
    return Slow(models.mlp(**parameters))


def telling_mlp(**parameters: Any) -> Any:
    """Prints which GPUs and CPUs the run sees."""
    print("GPUs of the run:", os.environ.get("CUDA_VISIBLE_DEVICES"))
    print("CPUs of the run:", os.environ.get("OMP_NUM_THREADS"))
    return models.mlp(**parameters)


def mixed(seed: int, **parameters: Any) -> Any:
    """Prints which GPUs and CPUs the run sees, and comes to an end of its own by its seed."""
    print("GPUs of the run:", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    print("CPUs of the run:", os.environ.get("OMP_NUM_THREADS"), flush=True)
    if seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 2:
        sys.exit(143)  # as a shell has it that a program was ended by TERM
    if seed == 3:
        raise ValueError("seed 3")
    return models.mlp(seed=seed, **parameters)


class Traced(Probe):
    """Notes when it begins and ends a step, in the run's directory; a step takes as many seconds longer
    as the file `pace` beside that directory says, for the first rank and for the others. Where a
    file `greedy` is, it takes a gigabyte. TRACES: another folder in place of the sweep's."""

    steps = 0

    def partial_fit(self, *args: Any, **kwargs: Any) -> None:
        """Sleep, then learn."""
        directory = Path(HydraConfig.get().runtime.output_dir)
        if traces := os.environ.get("TRACES"):
            directory = Path(traces, directory.name)
            directory.mkdir(exist_ok=True)
        rank = int(os.environ.get("SLURM_PROCID", 0))
        self.steps += 1
        with (directory / f"steps_{rank}").open("a") as trace:
            print("begin", self.steps, file=trace, flush=True)
            if (directory / "greedy").exists():
                bytes([1]) * 1024**3
            pause(directory.parent / "pace", rank)
            super().partial_fit(*args, **kwargs)
            print("end", self.steps, file=trace, flush=True)


def pause(pace: Path, rank: int) -> None:
    """As many seconds as the file says for that rank; less where it says so meanwhile."""
    began, seconds = time.monotonic(), float("inf")
    while True:
        seconds = min(seconds, float(pace.read_text().split()[min(rank, 1)]))
        left = began + seconds - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 0.2))


def traced_mlp(**parameters: Any) -> Traced:
    """An estimator that leaves a trace."""
    return Traced(models.mlp(**parameters))


def meeting(seed: int, **parameters: Any) -> Any:
    """The ranks meet over TCP, as those of torch do, and each prints what rank 0 heard from all."""
    from hpc_hydra import this_process

    process = this_process(f"run of seed {seed}")
    process.export()
    address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    own = json.dumps({**vars(process), "seed": seed})
    if process.rank == 0:
        with socket.create_server(("", address[1])) as listener:
            listener.settimeout(120)
            others = [listener.accept()[0] for _ in range(process.world_size - 1)]
            heard = ", ".join([own, *(other.makefile().readline().strip() for other in others)])
            for other in others:
                other.sendall(f"{heard}\n".encode())
            time.sleep(3)  # with the port, which no other run may want meanwhile
    else:
        to_first = connection(address)
        to_first.sendall(f"{own}\n".encode())
        heard = to_first.makefile().readline().strip()
    print(f"met: [{heard}]", flush=True)
    return models.mlp(seed=seed, **parameters)


def connection(address: tuple[str, int]) -> socket.socket:
    """To whom may not listen yet."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return socket.create_connection(address, timeout=60)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def noted(note: Any = "", secret: str = "", **parameters: Any) -> Any:
    """Prints the note that it got, and whether the secret is the token that the environment has."""
    print("note:", json.dumps(note if isinstance(note, str) else list(note)))
    print("has the token:", secret == os.environ.get("HF_TOKEN"))
    return models.mlp(**parameters)
