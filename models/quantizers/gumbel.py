"""Gumbel-VQVAE: the encoder gives the logits of the codes themselves."""

import torch
from torch import Tensor, nn

from models.quantizers.base import Quantized, Quantizer, full_precision, to_grid
from models.quantizers.gmvq import GUMBEL_TEMPERATURE
from models.quantizers.soft_assignment import (
    divergence_from_uniform,
    posterior_of,
    relaxed_draw,
    required,
)
from models.ramp import RampLike, as_ramp
from models.randomness import Progress


class GumbelQuantizer(Quantizer):
    """Gumbel-softmax (Jang et al. 2017) over K logits a token (Karpathy 2021; Esser et al. 2021).

        l = head    q = softmax(l)    y = softmax((l + g) / gumbel_temperature)
        training    z_q = μ_j, j = argmax(l + g), with the gradient of y M to the logits; or y M
        evaluation  z_q = μ_j, j = argmax l

    hard: the straight-through form, whose decoder sees codes alone; else the soft mixture.
    A table of `gumbel_temperature` without a shape anneals it geometrically.

    There is no vector that is quantized: `z_e` is q M, which the codes are drawn around.
    Term: `divergence` mean_n KL(q(c|x_n) || uniform) = mean_n Σ_c q log(K q), in nats.
    """

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        *,
        hard: bool = True,
        gumbel_temperature: RampLike = GUMBEL_TEMPERATURE,
    ) -> None:
        super().__init__()
        self.gumbel_temperature = as_ramp(gumbel_temperature, "gumbel_temperature", "geometric")
        if self.gumbel_temperature.least <= 0.0:
            raise ValueError("gumbel_temperature must be greater than 0")
        self.head_channels = self.codebook_size = codebook_size
        self.code_dim, self.hard = code_dim, hard
        self.codebook = nn.Parameter(torch.randn(codebook_size, code_dim) * code_dim**-0.5)

    def code_table(self) -> Tensor:
        return self.codebook

    def scores(self, head: Tensor) -> Tensor:
        logits = full_precision(head).permute(0, 2, 3, 1)
        return logits - logits.mean(-1, keepdim=True)

    def initialise(self, heads: Tensor, progress: Progress) -> None:
        """Leaves the codes as they are.

        Which code a token takes is the logits' choice and no distance, so that the heads hold no
        vectors to cluster, and a code near some of them would be chosen no more often.
        """

    def forward(self, head: Tensor, progress: Progress | None) -> Quantized:
        with torch.autocast(head.device.type, enabled=False):
            scores = self.scores(head)
            grid, logits = scores.shape[:3], scores.flatten(0, 2)
            posterior = posterior_of(logits)
            z_q, indices = self._quantize(logits, progress)
            z_e = logits.detach().softmax(1) @ self.codebook.detach()
            return Quantized(
                z_q=to_grid(z_q, head),
                indices=indices.view(grid),
                z_e=to_grid(z_e, head),
                terms={"divergence": divergence_from_uniform(posterior)},
                posterior=posterior,
                statistics={},
            )

    def _quantize(self, logits: Tensor, progress: Progress | None) -> tuple[Tensor, Tensor]:
        """z_q (N, D) and indices (N,); drawn in training only."""
        if not self.training:
            indices = logits.argmax(1)
            return nn.functional.embedding(indices, self.codebook), indices
        given = required(progress)
        temperature = self.gumbel_temperature.at(given.fraction)
        y, indices = relaxed_draw(logits, given.noise, temperature)
        if not self.hard:
            return y @ self.codebook, indices
        # Each code has the gradient of its own tokens; the difference is 0 and leads to the logits.
        soft = y @ self.codebook.detach()
        codes = nn.functional.embedding(indices, self.codebook)
        return codes + (soft - soft.detach()), indices
