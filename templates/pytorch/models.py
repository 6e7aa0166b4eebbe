"""The models: each function returns a network that gives ten classes for images of 8 x 8 pixels.

PyTorch is imported when a model is made, so that ``--help`` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def mlp(hidden: int = 64, dropout: float = 0.1) -> nn.Module:
    """A perceptron with one layer of ``hidden`` units."""
    from torch import nn

    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 10)
    )


def cnn(width: int = 16, dropout: float = 0.1) -> nn.Module:
    """Two convolutions, of ``width`` and twice as many channels."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * width * 4, 10),
    )  # fmt: skip
