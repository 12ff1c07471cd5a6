"""Codes as a Gaussian mixture: what the latents of a diffusion prior are, and their tokens."""

import math

import torch
from torch import Tensor, nn


class LatentMixture(nn.Module):
    """p(x) = Σ_c π_c N(x; e_c, η²), a position's latent, in coordinates in which x has mean 0 and
    variance 1 in each dimension.

    The codes e float32 (K, D), η² `variance` (D,), log π `log_weights` (K,); a vector z of the
    decoder's space is x = (z - `mean`) / `scale`, both (D,).
    """

    codes: Tensor
    variance: Tensor
    log_weights: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, codebook_size: int, code_dim: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(codebook_size, code_dim))
        self.register_buffer("variance", torch.ones(code_dim))
        self.register_buffer("log_weights", torch.full((codebook_size,), -math.log(codebook_size)))
        self.register_buffer("mean", torch.zeros(code_dim))
        self.register_buffer("scale", torch.ones(code_dim))

    @property
    def sigma(self) -> float:
        """σ of the noise in the decoder's space, the same in every dimension."""
        return float((self.variance.sqrt() * self.scale).mean())

    @torch.no_grad()
    def begin(self, codes: Tensor, sigma: float, weights: Tensor) -> None:
        """Take codes (K, D), the noise's σ in their coordinates, and weights (K,) of sum 1."""
        if not sigma > 0:
            raise ValueError(f"the mixture's noise must be positive, not {sigma}")
        codes, weights = codes.double(), weights.double()
        mean = weights @ codes
        spread = weights @ (codes - mean).square()
        scale = (spread + sigma**2).sqrt()
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        self.codes.copy_((codes - mean) / scale)
        self.variance.copy_(sigma**2 / scale.square())
        self.log_weights.copy_(weights.log())

    def log_posterior(self, x: Tensor, kept: Tensor, variance: Tensor) -> Tensor:
        """log p(c | x) (…, K) of x (…, D) = `kept` e_c + √`variance` ε, which broadcast with x.

        At kept 1 and the mixture's own variance these are its responsibilities.
        """
        return self._logits(x, kept, variance).log_softmax(-1)

    def posterior_mean(self, x: Tensor, kept: Tensor, variance: Tensor) -> Tensor:
        """E[e_c | x] (…, D), of a position that knows no other."""
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self.posterior_mean(x, kept, variance)
        return self._logits(x, kept, variance).softmax(-1) @ self.codes

    def responsibility(self, x: Tensor, tokens: Tensor) -> Tensor:
        """log r(c | x) (…) of tokens (…) in latents x (…, D) of time 0."""
        kept = torch.ones_like(self.variance)
        log_r = self.log_posterior(x, kept, self.variance)
        return log_r.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)

    def _logits(self, x: Tensor, kept: Tensor, variance: Tensor) -> Tensor:
        precision = 1.0 / variance
        features = torch.cat([x * kept * precision, (-0.5 * kept**2 * precision).expand_as(x)], -1)
        table = torch.cat([self.codes, self.codes.square()], dim=1)
        return features @ table.t() + self.log_weights
