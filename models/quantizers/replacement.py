"""Replacement of codes that nothing has used for a while."""

import torch
from torch import Tensor, nn

from models.collectives import gathered
from models.quantizers.base import ParameterState
from models.randomness import REPLACEMENT_STREAM, Progress


class DeadCodes(nn.Module):
    """Counts the steps since each code was last used, and moves idle ones onto batch vectors.

    The rule of vqtorch (Huh et al. 2023): a code unused for `patience` steps becomes a random
    vector v of the batch plus rho |v| N(0, I). In the last `quiet` share of training nothing moves,
    since each replacement disturbs the decoder.

    Raises ValueError for a patience below 1.
    """

    idle: Tensor

    def __init__(
        self, codebook_size: int, patience: int, rho: float = 0.01, quiet: float = 0.1
    ) -> None:
        super().__init__()
        if patience < 1:
            raise ValueError(f"replace_after is a number of steps, at least 1, not {patience}")
        self.patience, self.rho, self.quiet = patience, rho, quiet
        self.register_buffer("idle", torch.zeros(codebook_size, dtype=torch.int64))

    def forward(self, counts: Tensor, vectors: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
        """Dead codes (M,) and their replacements (M, D).

        Of the whole batch's counts (K,), and of this process's share of its vectors (N, D).
        """
        self.idle = torch.where(counts > 0, torch.zeros_like(self.idle), self.idle + 1)
        dead = (self.idle >= self.patience).nonzero().squeeze(1)
        if progress.fraction >= 1.0 - self.quiet:
            dead = dead[:0]
        self.idle[dead] = 0
        return dead, self._replacements(len(dead), vectors, progress)

    def _replacements(self, num: int, vectors: Tensor, progress: Progress) -> Tensor:
        dim = vectors.shape[1]
        if num == 0:
            return vectors[:0]
        # All processes meet here, since all see the same counts.
        vectors = gathered(vectors)
        u = progress.noise.batch_uniform(REPLACEMENT_STREAM, num * (1 + 2 * dim))
        chosen = vectors[(u[:num] * len(vectors)).long()]
        radius = u[num : num * (1 + dim)].log().mul(-2.0).sqrt()
        normal = radius * torch.cos(2.0 * torch.pi * u[num * (1 + dim) :])
        return chosen + self.rho * chosen.norm(dim=1, keepdim=True) * normal.view(num, dim)


def forget_rows(state: ParameterState, parameter: Tensor, rows: Tensor) -> None:
    """Zero the optimiser's moments of `rows` of `parameter`: they belong to codes that are gone."""
    for moment in state.get(parameter, {}).values():
        if moment.shape == parameter.shape:
            moment[rows] = 0
