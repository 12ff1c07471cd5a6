"""What the masked prior sees in training."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.priors import TokenShape, build_prior
from models.priors.labels import without_some
from models.priors.masked import MaskedPrior
from models.randomness import Noise

SHAPE = TokenShape((4, 4), codebook_size=5)
NUM = 4000
NOISE = Noise(1, 0, torch.arange(NUM))


def unknown(**options: Any) -> tuple[MaskedPrior, Tensor]:
    prior = build_prior("masked", SHAPE, {"width": 8, "num_layers": 1, "num_heads": 1, **options})
    assert isinstance(prior, MaskedPrior)
    return prior, prior.unknown_in_training(NOISE)


def test_every_sample_has_something_to_guess_and_any_number_of_it() -> None:
    _, masks = unknown(schedule_mix=0.0)
    counts = torch.bincount(masks.sum(1), minlength=17)
    assert counts[0] == 0
    # k is uniform in 1 .. 16: each 250 times, give or take five standard deviations.
    assert (counts[1:] - NUM / 16).abs().max() < 5 * (NUM / 16) ** 0.5
    by_place = masks.float().mean(0)
    assert (by_place - 17 / 32).abs().max() < 5 * 0.5 / NUM**0.5


def test_with_the_schedule_only_the_groups_from_one_on_are_unknown() -> None:
    prior, masks = unknown(schedules=("halton-4",), schedule_mix=1.0)
    possible = torch.stack([prior.groups >= first for first in range(4)])
    matches = (masks[:, None] == possible).all(2)
    assert matches.any(1).all()
    assert matches.sum(0).min() > NUM / 4 - 5 * (NUM / 4) ** 0.5


def test_several_schedules_are_seen_alike() -> None:
    prior, masks = unknown(schedules=("halton-1", "wavefront"), schedule_mix=1.0)
    everything = masks.all(1).float().mean()
    # Always under the first, one time in seven under the second.
    assert float(everything) == pytest.approx(0.5 + 0.5 / 7, abs=0.04)
    assert prior.schedule == "halton-1"


def test_half_and_half() -> None:
    prior, masks = unknown(schedules=("raster",), schedule_mix=0.5)
    possible = torch.stack([prior.groups >= first for first in range(16)])
    share = (masks[:, None] == possible).all(2).any(1).float().mean()
    assert 0.5 < float(share) < 0.65


def test_the_loss_weighs_every_sample_alike() -> None:
    """The mean over samples of the mean cross-entropy of what is unknown."""
    prior, masks = unknown(label_dropout=0.0)
    prior.requires_grad_(requires_grad=False)
    tokens = torch.randint(5, (NUM, 16), generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(NUM, dtype=torch.long)
    logits = prior.logits(
        torch.where(masks, 5, tokens), labels, torch.arange(16).expand(NUM, -1)
    ).double()
    nats = -logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    expected = ((nats * masks).sum(1) / masks.sum(1)).mean()
    assert float(prior.loss(tokens, labels, NOISE)) == pytest.approx(float(expected), rel=1e-5)


def test_a_share_of_the_labels_is_left_out() -> None:
    labels = without_some(torch.zeros(NUM, dtype=torch.long), 10, 0.1, NOISE)
    assert set(labels.tolist()) == {0, 10}
    assert float((labels == 10).float().mean()) == pytest.approx(0.1, abs=0.03)
