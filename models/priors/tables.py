"""Priors that know no neighbours: tables of how often codes stand where. They need no training."""

import math

import torch
from torch import Tensor

from models.priors.base import Prior, TokenShape
from models.randomness import Noise


class TablePrior(Prior):
    """p(x) = Π_i table[i, x_i]; labels are looked over. `log_table` is float32 (N, K)."""

    log_table: Tensor

    def __init__(self, shape: TokenShape) -> None:
        super().__init__(shape, "halton-1")
        uniform = torch.full(
            (shape.num_positions, shape.codebook_size), -math.log(shape.codebook_size)
        )
        self.register_buffer("log_table", uniform)

    def begin(self, counts: Tensor, codes: Tensor | None = None) -> None:
        self.log_table = self._probabilities(counts.double()).log().float()

    def _probabilities(self, counts: Tensor) -> Tensor:
        """The table of counts float64 (N, K); its rows sum to one."""
        raise NotImplementedError

    def logits(self, tokens: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        return self.log_table[positions]

    def loss(self, tokens: Tensor, labels: Tensor, noise: Noise) -> Tensor:
        return -self.log_prob(tokens, labels).mean()


class UniformPrior(TablePrior):
    """Every code as likely as another: what the GM-VQ paper's own model of tokens is."""

    def _probabilities(self, counts: Tensor) -> Tensor:
        return torch.full_like(counts, 1.0 / counts.shape[1])


class MarginalPrior(TablePrior):
    """Codes as often as they stand anywhere (of one level, where there are several).

    One half is added to every count (Krichevsky and Trofimov 1981).
    """

    def _probabilities(self, counts: Tensor) -> Tensor:
        return marginal(counts, self.shape).expand_as(counts)


class PositionPrior(TablePrior):
    """Codes as often as they stand at that position.

    back_off: how many tokens the marginal counts for at each position. Positions of a small
    training set are seen too seldom to say much of rare codes.
    """

    def __init__(self, shape: TokenShape, back_off: float = 1.0) -> None:
        super().__init__(shape)
        if not back_off > 0:
            raise ValueError(f"back_off is {back_off}, and must be positive")
        self.back_off = back_off

    def _probabilities(self, counts: Tensor) -> Tensor:
        added = counts + self.back_off * marginal(counts, self.shape)
        return added / added.sum(1, keepdim=True)


def marginal(counts: Tensor, shape: TokenShape) -> Tensor:
    """Share of each code in counts (N, K), of the same level in all places: float64 (N, K)."""
    depth = shape.grid[2] if len(shape.grid) > 2 else 1
    by_level = counts.double().reshape(-1, depth, counts.shape[1]).sum(0) + 0.5
    shares = by_level / by_level.sum(1, keepdim=True)
    return shares.repeat(counts.shape[0] // depth, 1)
