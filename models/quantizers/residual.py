"""Residual quantization: each level quantizes what the levels before it left over."""

from typing import Literal, cast

import torch
from torch import Tensor, nn

from models.quantizers.base import (
    ParameterState,
    Posterior,
    Quantized,
    Quantizer,
    full_precision,
    straight_through,
)
from models.quantizers.vq import VectorQuantizer
from models.quantizers.vq_ema import EmaVectorQuantizer
from models.randomness import Progress

Update = Literal["ema", "gradient"]


DECAY = 0.99


class ResidualQuantizer(Quantizer):
    """`depth` levels of VQ (SoundStream, arXiv 2107.03312, algorithm 1; RQ-VAE, arXiv 2203.01941).

        r_1 = z_e ─► j_d = nearest code of level d to r_d ─► r_(d+1) = r_d - sg μ_d,j ─► z_q = Σ μ

    Each level has `codebook_size` codes of its own, trained as SoundStream does by moving averages
    (`update = "ema"`, with `decay`) or by gradient. Codes unused for `replace_after` steps become
    vectors of that level.

    Terms are those of the levels, summed as in RQ-VAE's equation 6: `commitment` Σ_d mean
    (r_d - sg μ)² and, by gradient, `codebook` Σ_d mean (sg r_d - μ)².

    Raises ValueError where depth is below 2 (that is `vq`), or `decay` is given to a gradient.
    """

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        depth: int,
        *,
        update: Update = "ema",
        decay: float | None = None,
        replace_after: int | None = None,
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth is at least 2, not {depth}; one level is `vq` or `vq_ema`")
        if update == "gradient" and decay is not None:
            raise ValueError("decay belongs to the update by moving averages; leave it out")
        if update not in ("ema", "gradient"):
            raise ValueError(f"update is 'ema' or 'gradient', not {update!r}")
        self.codebook_size, self.depth = codebook_size, depth
        self.head_channels = self.code_dim = code_dim
        self.levels = nn.ModuleList(
            EmaVectorQuantizer(
                codebook_size,
                code_dim,
                decay=DECAY if decay is None else decay,
                replace_after=replace_after,
            )
            if update == "ema"
            else VectorQuantizer(codebook_size, code_dim, replace_after=replace_after)
            for _ in range(depth)
        )

    def _levels(self) -> list[Quantizer]:
        return [cast(Quantizer, level) for level in self.levels]

    def code_table(self) -> Tensor:
        return torch.stack([level.code_table() for level in self._levels()])

    def lookup(self, indices: Tensor) -> Tensor:
        """z_q (B, D, h, w), the sum over levels, of indices (B, h, w, depth)."""
        levels = zip(self._levels(), indices.unbind(-1), strict=True)
        return torch.stack([level.lookup(chosen) for level, chosen in levels]).sum(0)

    def assign(self, head: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, h, w, depth), and margins (B, h, w): the smallest over depth."""
        with torch.autocast(head.device.type, enabled=False):
            residual = full_precision(head)
            tokens, margins = [], []
            for level in self._levels():
                chosen, margin = level.assign(residual)
                residual = residual - level.lookup(chosen)
                tokens.append(chosen)
                margins.append(margin)
            return torch.stack(tokens, dim=-1), torch.stack(margins).amin(0)

    def forward(self, head: Tensor, progress: Progress | None) -> Quantized:
        with torch.autocast(head.device.type, enabled=False):
            head = residual = full_precision(head)
            results: list[Quantized] = []
            for level in self._levels():
                results.append(level(residual, progress))
                residual = residual - level.lookup(results[-1].indices).detach()
            indices = torch.stack([result.indices for result in results], dim=-1)
            z_q = self.lookup(indices)
            return Quantized(
                z_q=straight_through(head, z_q) if self.training else z_q,
                indices=indices,
                z_e=head.detach(),
                terms=_summed([result.terms for result in results]),
                posterior=_stacked([result.posterior for result in results]),
                statistics={},
            )

    @torch.no_grad()
    def initialise(self, heads: Tensor, progress: Progress) -> None:
        """k-means of each level on what the levels before it leave of the vectors."""
        residual = heads
        for place, level in enumerate(self._levels()):
            level.initialise(residual, _of_level(progress, place))
            grid = residual.t()[None, :, :, None]
            residual = residual - level.lookup(level.indices(grid))[0, :, :, 0].t()

    @torch.no_grad()
    def after_step(
        self, quantized: Quantized, progress: Progress, optimiser_state: ParameterState
    ) -> None:
        # All residuals first: a level that has moved leaves others.
        residual, parts = quantized.z_e, list[Quantized]()
        for level, indices in zip(self._levels(), quantized.indices.unbind(-1), strict=True):
            parts.append(quantized._replace(z_e=residual, indices=indices))
            residual = residual - level.lookup(indices)
        for place, (level, part) in enumerate(zip(self._levels(), parts, strict=True)):
            level.after_step(part, _of_level(progress, place), optimiser_state)


def _of_level(progress: Progress, level: int) -> Progress:
    """Noise of the level's own, lest all levels replace codes by residuals of the same tokens."""
    return progress._replace(noise=progress.noise._replace(seed=progress.noise.seed + level))


def _summed(terms: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([each[name] for each in terms]).sum() for name in terms[0]}


def _stacked(posteriors: list[Posterior]) -> Posterior:
    """Means (depth, K), and the mean entropy of a token."""
    entropy = torch.stack([posterior.entropy for posterior in posteriors]).mean()
    return Posterior(torch.stack([posterior.mean for posterior in posteriors]), entropy)
