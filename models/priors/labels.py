"""Labels that are left out now and then, so that one network knows both with and without."""

import torch
from torch import Tensor

from models.randomness import LABEL_STREAM, Noise


def without_some(labels: Tensor, no_label: int, share: float, noise: Noise) -> Tensor:
    """Labels (B,), a random `share` of them replaced by `no_label` (Ho and Salimans 2022)."""
    left_out = noise.uniform(LABEL_STREAM, 1)[:, 0] < share
    return torch.where(left_out, no_label, labels)
