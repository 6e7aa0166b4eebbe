"""The task: train a model on scikit-learn's digits. Replace it with your own.

It is a plain function: Hydra fills its arguments from the command line, a notebook calls it
directly, ``train(models.mlp, output_dir="try", lr=0.1)``. What makes it survive a cluster is in its
loop: load the checkpoint if there is one, save after every epoch, ask whether to stop.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpc_hydra import checkpoints, log_metrics, rank, stop_requested

log = logging.getLogger(__name__)

Model = Callable[..., Any]


def train(
    model: Model, output_dir: str | Path, lr: float = 0.01, epochs: int = 30, seed: int = 0
) -> float | None:
    """Train ``model(lr=lr, seed=seed)``; the result is its accuracy on the validation set, 0 to 1.

    ``output_dir`` gets `metrics.jsonl`, with a line per epoch, and checkpoints, from which a second call
    goes on. Returns None if Slurm asked the run to stop before its last epoch.

    Raises:
        ValueError: ``epochs`` is not positive, or ``output_dir`` has a checkpoint of another run.
    """
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.metrics import log_loss
    from sklearn.model_selection import train_test_split

    if epochs < 1:
        raise ValueError(f"epochs={epochs}: there has to be one at least")
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)

    digits = load_digits()
    x_train, x_valid, y_train, y_valid = train_test_split(
        digits.data / 16, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )

    estimator, done, accuracy = model(lr=lr, seed=seed), 0, 0.0
    if state := checkpoints.newest(output_dir):
        parameters = estimator.get_params()
        estimator, done, accuracy = state
        if estimator.get_params() != parameters:
            raise ValueError(f"{output_dir} has checkpoints of another run: choose another")
        if done > epochs:
            raise ValueError(f"epochs={epochs}: {done} are done already")
        log.info("goes on after epoch %d", done)

    for epoch in range(done + 1, epochs + 1):
        # Seeded by the epoch, so that a resumed run sees the order an uninterrupted one sees.
        order = np.random.default_rng([seed, epoch]).permutation(len(x_train))
        estimator.partial_fit(x_train[order], y_train[order], classes=digits.target_names)
        accuracy = float(estimator.score(x_valid, y_valid))
        metrics = {
            "train_loss": log_loss(y_train, estimator.predict_proba(x_train)),
            "valid_loss": log_loss(y_valid, estimator.predict_proba(x_valid)),
            "valid_accuracy": accuracy,
        }
        log_metrics(metrics, epoch, output_dir)
        log.info("epoch %d: valid_accuracy %.4f", epoch, accuracy)
        if rank() == 0:  # of several processes with the same output_dir, one writes
            # Last, since what comes before its checkpoint is done again if the run is killed.
            checkpoints.save(output_dir, epoch, (estimator, epoch, accuracy))
        if epoch < epochs and stop_requested():
            return None
    return accuracy


if __name__ == "__main__":
    sys.exit("This is the task; type its command: python -m {{ cookiecutter.__package }} --help")
