"""The task: train a model on scikit-learn's digits. Replace it with your own.

It is a plain function: Hydra fills its arguments from the command line, a notebook calls it
directly, ``train(models.mlp, lr=0.01, output_dir="here")``. What makes it survive a cluster is
in its loop: load the checkpoint if there is one, save after every epoch, ask whether to stop.
"""

from __future__ import annotations

import csv
import io
import logging
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .hpc import tracking
from .hpc.files import write_atomically
from .hpc.ranks import rank
from .hpc.signals import stop_requested

log = logging.getLogger(__name__)

Model = Callable[..., Any]
Metrics = dict[str, float]


def train(
    model: Model,
    lr: float = 0.01,
    epochs: int = 30,
    seed: int = 0,
    output_dir: str | Path = "outputs/notebook",
) -> float | None:
    """Train ``model(lr=lr, seed=seed)``; the result is its accuracy on the validation set, 0 to 1.

    The run directory ``output_dir`` gets ``checkpoint.pkl``, from which a second call goes on,
    ``metrics.csv`` with a line per epoch, and ``learning_curve.png``. Returns None if Slurm asked
    the run to stop before its last epoch.
    """
    import numpy as np
    from rich.progress import track
    from sklearn.datasets import load_digits
    from sklearn.metrics import log_loss
    from sklearn.model_selection import train_test_split

    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    checkpoint = output_dir / "checkpoint.pkl"
    main_rank = rank() == 0  # of several processes with the same output_dir, one writes

    digits = load_digits()
    x_train, x_valid, y_train, y_valid = train_test_split(
        digits.data / 16, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )

    estimator, history = model(lr=lr, seed=seed), list[Metrics]()
    if checkpoint.exists():
        estimator, history = pickle.loads(checkpoint.read_bytes())
        log.info("goes on after epoch %d, from %s", len(history), checkpoint)

    on_terminal = sys.stderr.isatty()
    for epoch in track(
        range(len(history), epochs), completed=len(history), total=epochs, description="epochs",
        disable=not (on_terminal and main_rank),
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
        if main_rank:
            write_atomically(checkpoint, pickle.dumps((estimator, history)))
            write_atomically(output_dir / "metrics.csv", to_csv(history))
            tracking.log_metrics(metrics, step=epoch + 1)
            if not on_terminal:
                log.info("epoch %(epoch)d: valid_accuracy %(valid_accuracy).4f", metrics)
        if len(history) < epochs and stop_requested():
            return None

    if main_rank:
        plot(history, output_dir / "learning_curve.png")
    return history[-1]["valid_accuracy"]


def to_csv(history: list[Metrics]) -> str:
    """One line per epoch, under the metrics' names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def plot(history: list[Metrics], path: Path) -> None:
    """Draw the losses and the accuracy over the epochs; a failure is only logged."""
    try:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        losses = figure.add_subplot(xlabel="epoch", ylabel="log loss", yscale="log")
        accuracy = losses.twinx()
        accuracy.set(ylabel="accuracy", ylim=(0, 1))
        epochs = [metrics["epoch"] for metrics in history]
        for axes, name, style in (
            (losses, "train_loss", "C0--"),
            (losses, "valid_loss", "C0-"),
            (accuracy, "valid_accuracy", "C1-"),
        ):
            axes.plot(epochs, [metrics[name] for metrics in history], style, label=name)
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
        figure.savefig(path, dpi=150)
    except Exception:
        log.warning("no plot", exc_info=True)
