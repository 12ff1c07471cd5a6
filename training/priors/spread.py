"""How far a diffusion prior's guesses are off, step by step, on training images."""

import numpy as np
import torch

from models.priors import DiffusionPrior
from training.priors.measure import evaluation_noise
from training.priors.tokens import TokenPart
from training.progress import with_bar

_IMAGES = 24
"""For each step; each has N vectors."""


def measure_spread(prior: DiffusionPrior, train: TokenPart) -> None:
    """Set the `spread` that the prior's steps and its bound go by; without labels, as the bits are.

    Every step has other images, beginning with the first.
    """
    prior.eval()
    device, steps = prior.spread.device, len(prior.spread)
    for number in with_bar("spread of the steps", range(1, steps + 1), steps):
        places = np.arange((number - 1) * _IMAGES, number * _IMAGES) % len(train)
        tokens = torch.from_numpy(train.tokens[places].astype(np.int64)).to(device)
        labels = torch.full((_IMAGES,), prior.shape.no_label, device=device)
        noise = evaluation_noise(number * _IMAGES, labels)._replace(seed=2)
        prior.measure_spread(number, tokens, labels, noise)
