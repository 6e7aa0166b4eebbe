"""The task: train a network on scikit-learn's digits. Replace it with your own.

It is a plain function: Hydra fills its arguments, a notebook calls ``train(models.mlp, "try", lr=0.1)``.
It runs on a GPU, on several with a rank for each, on any number of nodes, or without. What makes it
survive a cluster: it loads the checkpoint if there is one, asks whether to stop, saves, seeds each step.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpc_hydra import init_worker, log_metrics, pytorch

from .data import digits

log = logging.getLogger(__name__)

Model = Callable[..., Any]


def train(
    model: Model, output_dir: str | Path, lr: float = 0.003, epochs: int = 20, seed: int = 0,
    batch_size: int = 32, workers: int = 0, compiled: bool = False, save_every_s: float = 60,
) -> float | None:  # fmt: skip
    """Train ``model()``; the result is its accuracy on the validation set, 0 to 1.

    ``output_dir`` gets metrics and checkpoints, from which a second call goes on. Returns None if Slurm
    asked the run to stop before its last step.

    Args:
        batch_size: of each rank; n ranks have n times as many samples to a step.
        workers: processes of each rank that load data; with 0 it is loaded between the steps.
        compiled: by `torch.compile`, which takes a minute and makes large networks faster.
        save_every_s: seconds between checkpoints; one more is saved when the run has to stop.

    Raises:
        ValueError: ``epochs`` is not positive, or ``output_dir`` has a checkpoint of another run.
    """
    import torch
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

    if epochs < 1:
        raise ValueError(f"epochs={epochs}: there has to be one at least")
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    run = {"lr": lr, "seed": seed, "batch_size": batch_size}
    with pytorch.process_group(output_dir) as (process, device):
        rank, ranks, on_gpu = process.rank, process.world_size, device.type == "cuda"
        log.info("rank %d of %d on %s, %d samples a step", rank, ranks, device, ranks * batch_size)
        half = on_gpu and torch.cuda.is_bf16_supported()
        training, (x_valid, y_valid) = TensorDataset(*digits(False)), digits(True, device)
        sampler: DistributedSampler[Any] = DistributedSampler(
            training, ranks, rank, seed=seed, drop_last=True
        )
        if len(sampler) < batch_size:
            raise ValueError(f"batch_size={batch_size}: each rank has {len(sampler)} samples")
        pytorch.seed(seed)
        net = model().to(device)
        optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)
        parts: dict[str, Any] = {"net": net, "optimizer": optimizer, "schedule": schedule}
        step, epoch, seen, accuracy = 0, 0, 0, 0.0  # seen: of this epoch, by all ranks together

        def state() -> dict[str, Any]:
            states = {name: part.state_dict() for name, part in parts.items()}
            return {"run": run, "place": (step, epoch, seen, accuracy), **states}

        if saved := pytorch.newest(output_dir):
            step, epoch, seen, accuracy = saved["place"]
            if saved["run"] != run:
                raise ValueError(f"{output_dir} has checkpoints of another run: choose another")
            if epoch > epochs:
                raise ValueError(f"epochs={epochs}: {epoch} are done already")
            for name, part in parts.items():
                part.load_state_dict(saved[name])
        parallel = DistributedDataParallel(net) if ranks > 1 else net
        forward = torch.compile(parallel) if compiled else parallel

        while epoch < epochs:
            began, first = time.monotonic(), seen
            loss = torch.tensor(0.0, device=device)
            sampler.set_epoch(epoch)
            for x, y in DataLoader(
                training, batch_size, sampler=list(sampler)[seen // ranks :], drop_last=True,
                num_workers=workers, worker_init_fn=init_worker, pin_memory=on_gpu,
            ):  # fmt: skip
                stop = pytorch.stop_requested()
                pytorch.save(output_dir, step, state, every_s=0 if stop else save_every_s)
                if stop:
                    return None
                pytorch.seed(seed, step)  # what a step draws is the same wherever the run goes on
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    loss = torch.nn.functional.cross_entropy(forward(x.to(device)), y.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step, seen = step + 1, seen + ranks * batch_size
            net.eval()
            with torch.no_grad():
                right = net(x_valid[rank::ranks]).argmax(1) == y_valid[rank::ranks]
            net.train()
            accuracy = pytorch.total(right.sum()).item() / len(y_valid)
            metrics = {
                "train_loss": pytorch.total(loss.detach()).item() / ranks,  # of the last step
                "valid_accuracy": accuracy,
                "lr": schedule.get_last_lr()[0],
                "samples_per_s": (seen - first) / (time.monotonic() - began),
            }
            if on_gpu:
                metrics["gpu_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
            epoch, seen = epoch + 1, 0
            schedule.step()
            log_metrics(metrics, epoch, output_dir)
            log.info("epoch %d: valid_accuracy %.4f", epoch, accuracy)
        pytorch.save(output_dir, step, state)
    return accuracy


if __name__ == "__main__":
    sys.exit("This is the task; type its command: python -m {{ cookiecutter.__package }} --help")
