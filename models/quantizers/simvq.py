"""SimVQ: frozen random codes under a trained linear map (arXiv 2411.02038)."""

import torch
from torch import Tensor, nn

from models.quantizers.base import (
    Quantized,
    Quantizer,
    full_precision,
    hard_posterior,
    straight_through,
    to_grid,
    to_tokens,
)
from models.quantizers.nearest import nearest_scores
from models.randomness import Progress


class LinearMapQuantizer(Quantizer):
    """SimVQ (Zhu et al. 2024, section 4): nearest of the codes μ_c = W e_c + b, e_c never trained.

    Each token's gradient moves W, and with it every code, used or not: none is left behind.

    Terms, means over tokens and D: `codebook` (sg z_e - μ)², `commitment` (z_e - sg μ)².

    The start draws e_c from N(0, I/D) by the run's seed, and takes the W and b that give the codes
    the mean and covariance of the encoder's vectors: W = (D Σ)^½, b their mean. Centroids
    of k-means could not be had: K D numbers do not fit into the D² of a map, and a least-squares
    map onto them would pair each random code with any centroid and come out near 0. The paper
    starts the map at random.
    """

    frozen_codes: Tensor

    def __init__(self, codebook_size: int, code_dim: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.head_channels = self.code_dim = code_dim
        self.register_buffer("frozen_codes", _random_codes(codebook_size, code_dim, seed=0))
        self.weight = nn.Parameter(torch.eye(code_dim))
        self.bias = nn.Parameter(torch.zeros(code_dim))

    def code_table(self) -> Tensor:
        with torch.autocast(self.weight.device.type, enabled=False):
            return nn.functional.linear(self.frozen_codes, self.weight, self.bias)

    def scores(self, head: Tensor) -> Tensor:
        batch, _, height, width = head.shape
        scores = nearest_scores(to_tokens(full_precision(head)), self.code_table())
        return scores.view(batch, height, width, -1)

    @torch.no_grad()
    def initialise(self, heads: Tensor, progress: Progress) -> None:
        codes = _random_codes(self.codebook_size, self.code_dim, progress.noise.seed)
        self.frozen_codes.copy_(codes)
        vectors = heads.double()
        covariance = vectors.t().cov(correction=0).view(self.weight.shape)
        values, directions = torch.linalg.eigh(covariance)
        scale = (self.code_dim * values.clamp_min(0.0)).sqrt()
        self.weight.copy_(directions * scale @ directions.t())
        self.bias.copy_(vectors.mean(0))

    def forward(self, head: Tensor, progress: Progress | None) -> Quantized:
        with torch.autocast(head.device.type, enabled=False):
            head = full_precision(head)
            z_e, codes = to_tokens(head), self.code_table()
            with torch.no_grad():
                indices = nearest_scores(z_e, codes).argmax(1)
            rows = nn.functional.embedding(indices, codes)
            z_q = to_grid(rows, head)
            return Quantized(
                z_q=straight_through(head, z_q) if self.training else z_q,
                indices=indices.view(head.shape[0], *head.shape[2:]),
                z_e=head.detach(),
                terms={
                    "codebook": (z_e.detach() - rows).square().mean(),
                    "commitment": (z_e - rows.detach()).square().mean(),
                },
                posterior=hard_posterior(indices, self.codebook_size),
                statistics={},
            )


def _random_codes(codebook_size: int, code_dim: int, seed: int) -> Tensor:
    """(K, D) of N(0, I/D), a function of the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(codebook_size, code_dim, generator=generator) * code_dim**-0.5
