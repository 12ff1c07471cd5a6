"""The noise of GM-VQ around a code, σ_c(x) ε, and what it is worth in nats."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.collectives import global_mean
from models.quantizers.mixture_assignment import logit_features, logit_table
from models.randomness import NORMAL_STREAM, Noise

NoiseKind = Literal["token", "batch_mean", "off"]
SigmaGradient = Literal["full", "zhat_only", "none"]
SMALLEST_VARIANCE = 1e-8
"""Added to every σ²: the gradients of the root and the logarithm are infinite at 0."""


@dataclass(frozen=True)
class MixtureNoise:
    """q(z|x, c) = N(μ_c, σ_c² I), σ_c² = |ẑ - μ_c|² two_sigma2⁻¹ / D (arXiv 2410.10180, eq. 18).

    kind: σ² per token, its mean over the batch, or no noise.
    gradient: what σ carries gradient to, ẑ and codes, ẑ only, or nothing.
    """

    kind: NoiseKind
    gradient: SigmaGradient
    two_sigma2: float

    def add(self, z_c: Tensor, z_hat: Tensor, codes: Tensor, noise: Noise) -> Tensor:
        """z_c + σ ε (N, D), σ² that of the chosen codes (N, D)."""
        if self.kind == "off":
            return z_c
        drawn = noise.normal(NORMAL_STREAM, z_hat.numel() // noise.num_samples)
        epsilon = drawn.view_as(z_hat).to(z_hat)
        return z_c + (self._drawn_variance(z_hat, codes) + SMALLEST_VARIANCE).sqrt() * epsilon

    def component_entropy(
        self, z_hat: Tensor, w: Tensor, codebook: Tensor, indices: Tensor
    ) -> Tensor:
        """(): the mean over tokens of Σ_c q(c|x) h_c, h_c = D/2 log(2πe σ_c²), in nats.

        Differential entropies of q(z|x, c): negative where σ_c² < 0.0585. One σ² for the batch is
        that of the drawn `indices`; else all codes count, at the cost of two (N, K) tensors.
        """
        if self.kind == "batch_mean":
            log_variance = (
                self._drawn_variance(z_hat, codebook[indices]).add(SMALLEST_VARIANCE).log()
            )
        else:
            centre = codebook.detach().mean(0)
            z, codes = z_hat - centre, codebook - centre
            q = (logit_features(z, w) @ logit_table(codes).t()).softmax(1)
            log_variance = (q * self._variances(z, codes).add(SMALLEST_VARIANCE).log()).sum(1)
        return 0.5 * codebook.shape[1] * (math.log(2.0 * math.pi * math.e) + log_variance.mean())

    def _reached(self, z_hat: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The two with the gradient that σ leaves them."""
        return (
            z_hat if self.gradient != "none" else z_hat.detach(),
            codes if self.gradient == "full" else codes.detach(),
        )

    def _drawn_variance(self, z_hat: Tensor, codes: Tensor) -> Tensor:
        """(N, 1), or () where the batch has one."""
        z_hat, codes = self._reached(z_hat, codes)
        variance = (z_hat - codes).square().mean(1, keepdim=True) / self.two_sigma2
        return global_mean(variance.mean()) if self.kind == "batch_mean" else variance

    def _variances(self, z_hat: Tensor, codes: Tensor) -> Tensor:
        """(N, K), of all codes."""
        z_hat, codes = self._reached(z_hat, codes)
        squares = torch.addmm(codes.square().sum(1), z_hat, codes.t(), alpha=-2.0)
        squares = (squares + z_hat.square().sum(1, keepdim=True)).clamp_min(0.0)
        return squares / (codes.shape[1] * self.two_sigma2)
