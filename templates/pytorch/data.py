"""The data: scikit-learn's digits, which ship with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def digits(valid: bool, device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Images of 8 x 8 pixels from 0 to 1, and their digits: three quarters of all, or those to validate with."""
    import torch
    from sklearn.datasets import load_digits

    images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    images = images.float().reshape(-1, 1, 8, 8) / 16
    chosen = (torch.arange(len(labels)) % 4 == 0) == valid
    return images[chosen].to(device), labels[chosen].to(device)
