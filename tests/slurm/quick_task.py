"""The task of a user's own in the generated repository: the loop is the template's, but a run needs no library
that takes a second to import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpc_hydra import checkpoints, log_metrics, rank, stop_requested


def train(
    model: Callable[..., Any],
    output_dir: str | Path,
    lr: float = 0.01,
    epochs: int = 30,
    seed: int = 0,
) -> float | None:
    """How far ``model(lr=lr, seed=seed)`` gets."""
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    walk, done = checkpoints.newest(output_dir) or (model(lr=lr, seed=seed), 0)
    for epoch in range(done + 1, epochs + 1):
        walk.partial_fit()
        log_metrics({"place": walk.score()}, epoch, output_dir)
        if rank() == 0:
            checkpoints.save(output_dir, epoch, (walk, epoch))
        if epoch < epochs and stop_requested():
            return None
    place: float = walk.score()
    return place
