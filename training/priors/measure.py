"""How many bits a prior needs for tokens that it has not seen."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import Noise
from models.priors import Prior, TokenModel
from models.randomness import EVALUATION_STEP
from training.priors.tokens import TokenPart
from training.progress import with_bar

_BATCH = 100


@dataclass(frozen=True)
class ScheduleBits:
    """What one schedule needs: mean bits an image, its standard error, calls of the network."""

    schedule: str
    bits_per_image: float
    standard_error: float
    passes: int


def bits_of_images(
    prior: TokenModel, part: TokenPart, *, labelled: bool, description: str = "bits"
) -> NDArray[np.float64]:
    """-log2 p of each grid, float64 (n,); given its label, or without one. Where the prior is not
    `is_exact`, an estimate whose mean is at least that.
    """
    prior.eval()
    device = next(prior.buffers()).device
    bits = np.empty(len(part))
    starts = range(0, len(part), _BATCH)
    for start in with_bar(description, starts, len(starts)):
        rows = slice(start, start + _BATCH)
        tokens = torch.from_numpy(part.tokens[rows].astype(np.int64)).to(device)
        labels = torch.from_numpy(part.labels[rows]).to(device)
        if not labelled:
            labels = torch.full_like(labels, prior.shape.no_label)
        nats = prior.nats(tokens, labels, evaluation_noise(start, labels))
        bits[rows] = nats.cpu().numpy() / math.log(2.0)
    return bits


def evaluation_noise(start: int, labels: Tensor) -> Noise:
    """The noise that held-out images from number `start` on are measured with, for each label."""
    places = torch.arange(start, start + len(labels), device=labels.device)
    return Noise(0, EVALUATION_STEP, places)


def first(part: TokenPart, count: int) -> TokenPart:
    """The first images of a part."""
    return TokenPart(part.tokens[:count], part.labels[:count])


def choose_schedule(
    prior: Prior, schedules: tuple[str, ...], part: TokenPart
) -> list[ScheduleBits]:
    """Set the schedule of fewest passes among those within one standard error of the best.

    The error is that of the paired difference to the best. Gives the figures of all of them.
    """
    measured: dict[str, NDArray[np.float64]] = {}
    passes: dict[str, int] = {}
    for schedule in schedules:
        prior.set_schedule(schedule)
        measured[schedule] = bits_of_images(prior, part, labelled=False, description=schedule)
        passes[schedule] = prior.num_passes
    best = min(measured, key=lambda name: measured[name].mean())
    near = [
        name
        for name, bits in measured.items()
        if (bits - measured[best]).mean() <= standard_error(bits - measured[best])
    ]
    prior.set_schedule(min(near, key=lambda name: (passes[name], measured[name].mean())))
    return [
        ScheduleBits(name, float(bits.mean()), standard_error(bits), passes[name])
        for name, bits in measured.items()
    ]


def one_by_one(prior: Prior, part: TokenPart) -> ScheduleBits:
    """What images would take if each token were drawn by itself, given all before it in the Halton
    order; the prior keeps the schedule that it has.
    """
    kept = prior.schedule
    (found,) = choose_schedule(prior, (f"halton-{prior.shape.num_positions}",), part)
    prior.set_schedule(kept)
    return found


def standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean of independent values (n,); 0 of a single one."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
