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

from .hpc import checkpoints, tracking
from .hpc.ranks import rank
from .hpc.signals import stop_requested
from .metrics import Metrics, plot, write_csv

log = logging.getLogger(__name__)

Model = Callable[..., Any]


def train(
    model: Model, output_dir: str | Path, lr: float = 0.01, epochs: int = 30, seed: int = 0
) -> float | None:
    """Train ``model(lr=lr, seed=seed)``; the result is its accuracy on the validation set, 0 to 1.

    ``output_dir`` gets checkpoints, from which a second call goes on, ``metrics.csv`` with a line per
    epoch, and ``learning_curve.png``. Returns None if Slurm asked the run to stop before
    its last epoch.

    Raises:
        ValueError: ``epochs`` is not positive, or ``output_dir`` has a checkpoint of another run.
    """
    import numpy as np
    from rich.progress import track
    from sklearn.datasets import load_digits
    from sklearn.metrics import log_loss
    from sklearn.model_selection import train_test_split

    if epochs < 1:
        raise ValueError(f"epochs={epochs}: there has to be one at least")
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    writes = rank() == 0  # of several processes with the same output_dir, one

    digits = load_digits()
    x_train, x_valid, y_train, y_valid = train_test_split(
        digits.data / 16, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )

    estimator, history = model(lr=lr, seed=seed), list[Metrics]()
    if state := checkpoints.newest(output_dir):
        parameters = estimator.get_params()
        estimator, history = state
        if estimator.get_params() != parameters or len(history) > epochs:
            raise ValueError(f"{output_dir} has checkpoints of another run: choose another")
        log.info("goes on after epoch %d", len(history))

    on_terminal = sys.stderr.isatty()
    for epoch in track(
        range(len(history), epochs), completed=len(history), total=epochs, description="epochs",
        disable=not (on_terminal and writes),
    ):  # fmt: skip
        # Seeded by the epoch, so that a resumed run sees the order an uninterrupted one sees.
        order = np.random.default_rng([seed, epoch]).permutation(len(x_train))
        estimator.partial_fit(x_train[order], y_train[order], classes=digits.target_names)
        metrics = {
            "epoch": epoch + 1,
            "train_loss": float(log_loss(y_train, estimator.predict_proba(x_train))),
            "valid_loss": float(log_loss(y_valid, estimator.predict_proba(x_valid))),
            "valid_accuracy": float(estimator.score(x_valid, y_valid)),
        }
        history.append(metrics)
        if writes:
            tracking.log_metrics(metrics, step=epoch + 1)
            write_csv(history, output_dir / "metrics.csv")
            # Last, since what comes before its checkpoint is done again if the run is killed.
            checkpoints.save(output_dir, epoch + 1, (estimator, history))
            if not on_terminal:
                log.info("epoch %(epoch)d: valid_accuracy %(valid_accuracy).4f", metrics)
        if len(history) < epochs and stop_requested():
            return None

    if writes:
        plot(history, output_dir / "learning_curve.png")
    return history[-1]["valid_accuracy"]
