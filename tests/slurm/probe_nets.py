"""A network that lets a test look into a run, chosen with `model._target_=probe_nets.traced_cnn`."""

import os
import time
from pathlib import Path
from typing import Any

from hpc_experiment import models
from hydra.core.hydra_config import HydraConfig


def traced_cnn(heavy_mib: int = 0, **parameters: Any) -> Any:
    """The repository's `models.cnn`, without dropout and so the same on any number of ranks.

    It notes when it begins a step, in the run's directory; a step takes as many seconds longer as the file `pace`
    beside that directory says. A checkpoint of it is so heavy that writing it takes its time.
    """
    import torch

    net = models.cnn(**{**parameters, "dropout": 0.0})
    net.register_buffer("steps", torch.zeros((), dtype=torch.int64))
    net.register_buffer("ballast", torch.zeros(heavy_mib * 2**18))
    directory = Path(HydraConfig.get().runtime.output_dir)
    rank = os.environ.get("SLURM_PROCID", "0")

    def trace(*_: Any) -> None:
        if net.training:
            net.steps += 1
            with (directory / f"steps_{rank}").open("a") as file:
                print("begin", int(net.steps), file=file)
            time.sleep(float((directory.parent / "pace").read_text().split()[0]))

    net.register_forward_pre_hook(trace)
    return net
