"""Noise that is a function of (seed, step, sample index) and of nothing else.

A generator has a state, and a state depends on how many draws came before: on the batch order, the
number of workers or devices, the chunk size. Counter-based noise has none (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3"): a resumed run, or the same batch spread over several
devices, sees the same numbers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

GUMBEL_STREAM, NORMAL_STREAM, REPLACEMENT_STREAM = 1, 2, 3
DRAW_STREAM = 4
MASK_STREAM, LABEL_STREAM = 5, 6
TIME_STREAM, LATENT_STREAM = 7, 8
INITIALISATION_STEP, EVALUATION_STEP = -1, -2

_GOLDEN_GAMMA = 0x9E3779B97F4A7C15 - 2**64


def _shift_right(x: Tensor, bits: int, width: int) -> Tensor:
    """Logical right shift of a signed tensor of `width` bits."""
    return (x >> bits) & ((1 << (width - bits)) - 1)


def _splitmix64(x: Tensor) -> Tensor:
    """Steele, Lea and Flood 2014: a bijection of 64-bit integers with full avalanche."""
    x = x + _GOLDEN_GAMMA
    x = (x ^ _shift_right(x, 30, 64)) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ _shift_right(x, 27, 64)) * (0x94D049BB133111EB - 2**64)
    return x ^ _shift_right(x, 31, 64)


def _xorshift_(x: Tensor, bits: int, scratch: Tensor) -> None:
    torch.bitwise_right_shift(x, bits, out=scratch)
    x ^= scratch.bitwise_and_((1 << (32 - bits)) - 1)


def _uniform(counter: Tensor, key_a: Tensor, key_b: Tensor) -> Tensor:
    """Hash int32 counters under two int32 keys to floats in (0, 1), 23 bits each.

    With the added half that is the most that float32 holds, so that neither 0 nor 1 occurs.

    Xorshift-multiply rounds with the constants of Wellons' "lowbias32"; the second key enters
    between the rounds, so that two samples never read the same sequence at different offsets.
    """
    x = counter ^ key_a
    scratch = torch.empty_like(x)
    _xorshift_(x, 16, scratch)
    x *= 0x7FEB352D
    x += key_b
    _xorshift_(x, 15, scratch)
    x *= 0x846CA68B - 2**32
    _xorshift_(x, 16, scratch)
    return x.bitwise_right_shift_(9).bitwise_and_(0x7FFFFF).float().add_(0.5).mul_(2.0**-23)


class Noise(NamedTuple):
    """The noise of one batch in one step.

    `sample_indices` is (B,) int64: the place of each sample in the data set, not in the batch.
    `step` is the training step, `INITIALISATION_STEP` or `EVALUATION_STEP`.
    """

    seed: int
    step: int
    sample_indices: Tensor

    @property
    def num_samples(self) -> int:
        return len(self.sample_indices)

    def of_samples(self, start: int, stop: int) -> "Noise":
        """The noise of the samples start..stop of the batch, equal to that part of the whole."""
        return self._replace(sample_indices=self.sample_indices[start:stop])

    def _keys(self, stream: int, of: Tensor) -> tuple[Tensor, Tensor]:
        base = torch.tensor([self.seed, stream], dtype=torch.int64, device=of.device)
        key = _splitmix64(base[0] * 0x10001 + base[1])
        key = _splitmix64(_splitmix64(key + self.step) ^ of)
        return key.to(torch.int32), _shift_right(key, 32, 64).to(torch.int32)

    def uniform(self, stream: int, count: int) -> Tensor:
        """(B, count) float32 in (0, 1): `count` numbers for each sample."""
        key_a, key_b = self._keys(stream, self.sample_indices)
        counter = torch.arange(count, dtype=torch.int32, device=key_a.device)
        return _uniform(counter, key_a[:, None], key_b[:, None])

    def batch_uniform(self, stream: int, count: int) -> Tensor:
        """(count,) float32 in (0, 1) that depend on (seed, step) only."""
        none = torch.full((1,), -1, dtype=torch.int64, device=self.sample_indices.device)
        key_a, key_b = self._keys(stream, none)
        counter = torch.arange(count, dtype=torch.int32, device=none.device)
        return _uniform(counter, key_a, key_b)

    def gumbel(self, stream: int, count: int) -> Tensor:
        """(B, count) float32 standard Gumbel numbers, -log(-log u)."""
        return self.uniform(stream, count).log_().neg_().log_().neg_()

    def normal(self, stream: int, count: int) -> Tensor:
        """(B, count) float32 standard normal numbers (Box and Muller 1958)."""
        u = self.uniform(stream, 2 * count)
        radius = u[:, :count].log().mul_(-2.0).sqrt_()
        return radius * torch.cos(u[:, count:] * (2.0 * torch.pi))


class Progress(NamedTuple):
    """Step `step` of `num_steps`, 0 <= step < num_steps, and the noise of this batch."""

    step: int
    num_steps: int
    noise: Noise

    @property
    def fraction(self) -> float:
        """Share of the training that lies behind, in [0, 1)."""
        return self.step / self.num_steps
