"""What a prior over token grids is."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.priors.schedules import reveal_groups, reveal_order
from models.randomness import Noise


@dataclass(frozen=True)
class TokenShape:
    """What a prior is over: grids (h, w) or (h, w, depth) of codes in 0 .. codebook_size - 1.

    num_labels: classes that a grid may be drawn of; 0 where there are none.
    code_dim: numbers of the vector that a code stands for; 0 where nothing asks.
    """

    grid: tuple[int, ...]
    codebook_size: int
    num_labels: int = 0
    code_dim: int = 0

    @property
    def num_positions(self) -> int:
        """N, tokens of one grid."""
        return math.prod(self.grid)

    @property
    def unknown(self) -> int:
        """What stands where a token is not known yet: K."""
        return self.codebook_size

    @property
    def no_label(self) -> int:
        """The label of grids without one: num_labels."""
        return self.num_labels


class TokenModel(nn.Module):
    """What is trained on token grids, and says how long a code they take.

    Tokens are int64 (B, N), the grid in raster order and depth last; labels int64 (B,) in
    0 .. num_labels, of which the last stands for no label.

    is_exact: whether `nats` is -log p itself, not a bound that is never below it in the mean.
    schedule: how samples are drawn, by name; num_passes: calls of the network that one takes.
    """

    is_exact = True
    schedule: str

    def __init__(self, shape: TokenShape) -> None:
        super().__init__()
        self.shape = shape

    @property
    def num_passes(self) -> int:
        raise NotImplementedError

    def set_schedule(self, schedule: str) -> None:
        """Draw by this schedule from now on. Raises ValueError for an unknown one."""
        raise NotImplementedError

    def loss(self, tokens: Tensor, labels: Tensor, noise: Noise) -> Tensor:
        """What training minimises, in nats a token: ()."""
        raise NotImplementedError

    def nats(self, tokens: Tensor, labels: Tensor, noise: Noise) -> Tensor:
        """-log p of each grid, float64 (B,), or an estimate by `noise` of a bound on it."""
        raise NotImplementedError


class Prior(TokenModel):
    """p(tokens | label), revealed group by group:

    log p(x) = Σ_g Σ_{i in g} log p(x_i | x of the groups before g, label)

    any_order: whether `logits` means something whichever tokens are known, as in-painting needs.
    """

    any_order = True
    groups: Tensor

    def __init__(self, shape: TokenShape, schedule: str) -> None:
        super().__init__(shape)
        self.set_schedule(schedule)

    def set_schedule(self, schedule: str) -> None:
        self.schedule = schedule
        groups = torch.from_numpy(reveal_groups(schedule, self.shape.grid))
        self.register_buffer("groups", groups, persistent=False)

    @property
    def order(self) -> NDArray[np.int64]:
        """The positions as they are revealed one by one, int64 (N,)."""
        return reveal_order(self.schedule, self.shape.grid)

    @property
    def num_passes(self) -> int:
        """Calls of `logits` that a sample takes."""
        return int(self.groups.max()) + 1

    def begin(self, counts: Tensor, codes: Tensor | None = None) -> None:
        """Take the counts of training tokens, int64 (N, K), before the first step, and the vectors
        that the codes stand for, float32 (K, D), where all levels share them.
        """
        raise NotImplementedError

    def logits(self, tokens: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        """Unnormalised log-probabilities (B, P, K) at `positions` (B, P) int64.

        Tokens that are not known are K.
        """
        raise NotImplementedError

    def nats(self, tokens: Tensor, labels: Tensor, noise: Noise) -> Tensor:
        return -self.log_prob(tokens, labels).sum(1)

    @torch.no_grad()
    def log_prob(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """log p of each token as `Prior` factorises it, nats, float64 (B, N)."""
        result = torch.empty(tokens.shape, dtype=torch.float64, device=tokens.device)
        for group in range(self.num_passes):
            known = torch.where(self.groups < group, tokens, self.shape.unknown)
            (places,) = torch.nonzero(self.groups == group, as_tuple=True)
            logits = self.logits(known, labels, places.expand(len(tokens), -1))
            result[:, places] = chosen_log_prob(logits, tokens[:, places])
        return result


def chosen_log_prob(logits: Tensor, tokens: Tensor) -> Tensor:
    """log softmax of logits (…, K) at tokens (…), float64 (…)."""
    normalised = logits.double().log_softmax(-1)
    return normalised.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
