"""A scale and a shift that all codes share, so that codes nothing uses move too.

Huh et al. 2023, "Straightening out the straight-through estimator": codes follow the latents'
distribution as a whole instead of one by one.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from models.collectives import global_mean

AffineKind = Literal["off", "learned", "statistics"]
LEAST_SCALE = 1e-3


class Affine(nn.Module):
    """Raw codes μ (K, D) to s μ + b, with s and b (D,)."""

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """s, b (D,)."""
        raise NotImplementedError

    def forward(self, codebook: Tensor) -> Tensor:
        scale, shift = self.scale_and_shift()
        return scale * codebook + shift

    def inverse(self, codes: Tensor) -> Tensor:
        """The raw codes (M, D) of codes; a dimension with |s| < 1e-3 counts as that far from 0."""
        scale, shift = self.scale_and_shift()
        away = torch.where(scale < 0.0, -1.0, 1.0) * scale.abs().clamp_min(LEAST_SCALE)
        return (codes - shift) / away

    def curvature(self, chosen: Tensor) -> dict[str, Tensor]:
        """How fast an error of the codes rises with each parameter, by its name, (D,) each.

        The largest eigenvalue of E [∂(s μ + b)]² in scale and shift of a dimension, or a bound on
        it; E over the raw codes (N, D) that tokens chose, of all processes.
        """
        return {}

    def observe(self, z_e: Tensor, codebook: Tensor) -> None:
        """Called after a training step, with its latents (N, D) and the raw codes."""


class LearnedAffine(Affine):
    """s = 1 + rate · scale, b = rate · shift; both parameters start at 0.

    `rate` multiplies the learning rate of Adam, and that of plain SGD by its square.
    """

    def __init__(self, code_dim: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.scale = nn.Parameter(torch.zeros(code_dim))
        self.shift = nn.Parameter(torch.zeros(code_dim))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        return 1.0 + self.rate * self.scale, self.rate * self.shift

    def curvature(self, chosen: Tensor) -> dict[str, Tensor]:
        largest = self.rate**2 * (1.0 + global_mean(chosen.square().mean(0)))
        return {"scale": largest, "shift": largest}


class StatisticsAffine(Affine):
    """s = √(Var z / (Var μ + 1e-8)), b = E z - s E μ: the codes get the latents' mean and variance.

    Moving averages over training steps, without gradient; variances are biased, those of z over all
    processes. Both start at mean 0 and variance 1, the identity, and lag alike, so that k-means
    codes are left in small steps.
    """

    latent_mean: Tensor
    latent_variance: Tensor
    code_mean: Tensor
    code_variance: Tensor

    def __init__(self, code_dim: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        for of in ("latent", "code"):
            self.register_buffer(f"{of}_mean", torch.zeros(code_dim))
            self.register_buffer(f"{of}_variance", torch.ones(code_dim))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        scale = (self.latent_variance / (self.code_variance + 1e-8)).sqrt()
        return scale, self.latent_mean - scale * self.code_mean

    @torch.no_grad()
    def observe(self, z_e: Tensor, codebook: Tensor) -> None:
        if not self.training:
            return
        mean = global_mean(z_e.mean(0))
        self.latent_mean.lerp_(mean, self.momentum)
        self.latent_variance.lerp_(global_mean((z_e - mean).square().mean(0)), self.momentum)
        self.code_mean.lerp_(codebook.mean(0), self.momentum)
        self.code_variance.lerp_(codebook.var(0, correction=0), self.momentum)


def build_affine(kind: AffineKind, code_dim: int, rate: float) -> Affine | None:
    """The affine map of that kind, None for "off".

    Raises ValueError for another kind and a rate <= 0.
    """
    if kind not in get_args(AffineKind):
        raise ValueError(f"affine must be one of {', '.join(get_args(AffineKind))}, not {kind!r}")
    if rate <= 0.0:
        raise ValueError(f"affine_rate must be greater than 0, not {rate}")
    if kind == "learned":
        return LearnedAffine(code_dim, rate)
    return StatisticsAffine(code_dim) if kind == "statistics" else None
