"""The metrics of a run: a small file, and its picture."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path

from .hpc.files import write_atomically

log = logging.getLogger(__name__)

Metrics = dict[str, float]


def write_csv(history: Sequence[Metrics], path: Path) -> None:
    """Write a line for each epoch, under the metrics' names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_atomically(path, text.getvalue())


def plot(history: Sequence[Metrics], path: Path) -> None:
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
