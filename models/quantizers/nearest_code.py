"""What every VQ-VAE quantizer shares: search, lookup and start, in the space of its codes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from models.quantizers.base import (
    Quantized,
    Quantizer,
    full_precision,
    hard_posterior,
    to_grid,
    to_tokens,
)
from models.quantizers.code_space import CodeSpace
from models.quantizers.kmeans import kmeans
from models.quantizers.nearest import nearest_scores
from models.quantizers.replacement import DeadCodes
from models.randomness import Progress


class NearestCode(Quantizer):
    """A token is the nearest code. A subclass has the raw `codebook` (K, D) and says how it learns.

    Raises ValueError for a `replace_after` below 1.
    """

    codebook: Tensor

    def __init__(
        self, codebook_size: int, code_dim: int, space: CodeSpace, replace_after: int | None
    ) -> None:
        super().__init__()
        self.head_channels = self.code_dim = code_dim
        self.codebook_size = codebook_size
        self.space = space
        self.dead_codes = None if replace_after is None else DeadCodes(codebook_size, replace_after)

    def code_table(self) -> Tensor:
        return self.space(self.codebook)

    def rule(self) -> dict[str, float | str]:
        return self.space.rule()

    def scores(self, head: Tensor) -> Tensor:
        batch, _, height, width = head.shape
        scores = nearest_scores(self._latents(head), self.code_table())
        return scores.view(batch, height, width, -1)

    @torch.no_grad()
    def initialise(self, heads: Tensor, progress: Progress) -> None:
        """k-means centroids as codes; of unit latents, spherical (Dhillon and Modha 2001)."""
        latents = self.space.latents(full_precision(heads))
        centroids = kmeans(latents, self.codebook_size, progress.noise.seed)
        self.codebook.copy_(self.space.raw(centroids))

    def _latents(self, head: Tensor) -> Tensor:
        """z_e (N, D), float32 or wider, as codes are compared with it."""
        return self.space.latents(to_tokens(full_precision(head)))

    @torch.no_grad()
    def _nearest(self, z_e: Tensor) -> Tensor:
        """(N,) int64."""
        return nearest_scores(z_e, self.code_table()).argmax(1)

    def _result(
        self,
        like: Tensor,
        z_e: Tensor,
        indices: Tensor,
        z_q: Tensor,
        terms: Mapping[str, Tensor],
    ) -> Quantized:
        """Of tokens z_e, z_q (N, D) and indices (N,), with B, h, w of the head `like`."""
        return Quantized(
            z_q=to_grid(z_q, like),
            indices=indices.view(like.shape[0], *like.shape[2:]),
            z_e=to_grid(z_e.detach(), like),
            terms=dict(terms),
            posterior=hard_posterior(indices, self.codebook_size),
            statistics=self.space.statistics(),
        )
