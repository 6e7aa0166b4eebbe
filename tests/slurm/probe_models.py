"""Models that let a test look into a run, chosen with `model._target_=probe_models.NAME`.

Their numbers are those of the generated repository's `models.mlp`.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from sklearn.neural_network import MLPClassifier


class SlowMLP(MLPClassifier):
    """Half a second slower per epoch, so that there is something to interrupt."""

    def partial_fit(self, *args: Any, **kwargs: Any) -> Any:
        """Sleep, then learn."""
        time.sleep(0.5)
        return super().partial_fit(*args, **kwargs)


def slow_mlp(lr: float, seed: int, hidden: int, alpha: float) -> SlowMLP:
    """An estimator that takes its time."""
    return SlowMLP((hidden,), learning_rate_init=lr, alpha=alpha, random_state=seed)


def telling_mlp(lr: float, seed: int, hidden: int, alpha: float) -> MLPClassifier:
    """Prints which GPUs the run sees."""
    print("GPUs of the run:", os.environ.get("CUDA_VISIBLE_DEVICES"))
    return MLPClassifier((hidden,), learning_rate_init=lr, alpha=alpha, random_state=seed)


def mixed(lr: float, seed: int, hidden: int, alpha: float) -> MLPClassifier:
    """Prints which GPUs and CPUs the run sees, and comes to an end of its own by its seed."""
    print("GPUs of the run:", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    print("CPUs of the run:", os.environ.get("OMP_NUM_THREADS"), flush=True)
    if seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 2:
        sys.exit(143)  # as a shell has it that a program was ended by TERM
    if seed == 3:
        raise ValueError("seed 3")
    return MLPClassifier((hidden,), learning_rate_init=lr, alpha=alpha, random_state=seed)


class TracedMLP(MLPClassifier):
    """Notes when it begins and ends a step, in the run's directory; a step takes as many seconds longer
    as the file `pace` beside that directory says, for the first rank and for the others. Where a
    file `greedy` is, it takes a gigabyte."""

    steps = 0

    def partial_fit(self, *args: Any, **kwargs: Any) -> Any:
        """Sleep, then learn."""
        directory = Path(HydraConfig.get().runtime.output_dir)
        rank = int(os.environ.get("SLURM_PROCID", 0))
        self.steps += 1
        with (directory / f"steps_{rank}").open("a") as trace:
            print("begin", self.steps, file=trace, flush=True)
            pace = (directory.parent / "pace").read_text().split()
            if (directory / "greedy").exists():
                os.urandom(1024**3)
            time.sleep(float(pace[min(rank, 1)]))
            learned = super().partial_fit(*args, **kwargs)
            print("end", self.steps, file=trace, flush=True)
        return learned


def traced_mlp(lr: float, seed: int, hidden: int, alpha: float) -> TracedMLP:
    """An estimator that leaves a trace."""
    return TracedMLP((hidden,), learning_rate_init=lr, alpha=alpha, random_state=seed)


def meeting(lr: float, seed: int, hidden: int, alpha: float) -> MLPClassifier:
    """The ranks meet over TCP, as those of torch do, and each prints what rank 0 heard from all."""
    from hpc_hydra import this_process

    process = this_process(f"run of seed {seed}")
    process.export()
    address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    own = json.dumps({**vars(process), "seed": seed})
    if process.rank == 0:
        with socket.create_server(("", address[1])) as listener:
            listener.settimeout(60)
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
    return MLPClassifier((hidden,), learning_rate_init=lr, alpha=alpha, random_state=seed)


def connection(address: tuple[str, int]) -> socket.socket:
    """To whom may not listen yet."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(address, timeout=60)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def noted(
    lr: float, seed: int, hidden: int, alpha: float, note: Any = "", secret: str = ""
) -> MLPClassifier:
    """Prints the note that it got, and whether the secret is the token that the environment has."""
    print("note:", json.dumps(note if isinstance(note, str) else list(note)))
    print("has the token:", secret == os.environ.get("HF_TOKEN"))
    return MLPClassifier((hidden,), learning_rate_init=lr, alpha=alpha, random_state=seed)
