"""Four readings of the latent regulariser of GM-VQ, E |z - μ_c|² (arXiv 2410.10180, eq. 14).

The paper writes the expectation under q(c) q(z|x), as if code and latent were drawn apart. Read
so, it equals `commit` plus twice the trace of the codes' covariance under q̄, and that part pulls
all codes onto their mean. The paper's own joint posterior q(c|x) q(z|x, c) (equation 7) gives
`commit`, which trains.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from models.quantizers.mixture_assignment import Assignment

Reading = Literal["commit", "commit_hard", "zsoft", "literal"]


@dataclass(frozen=True)
class MixtureSample:
    """z_hat, z (N, D): the encoder's vectors, and what was drawn around the codes.

    posterior_mean (K,): q̄ of the whole batch; codebook (K, D).
    """

    z_hat: Tensor
    z: Tensor
    drawn: Assignment
    posterior_mean: Tensor
    codebook: Tensor
    two_sigma2: float


def commit(sample: MixtureSample) -> Tensor:
    """mean_n Σ_c q(c|x_n) |ẑ_n - μ_c|² / two_sigma2, the expectation under q(c|x) q(z|x, c)."""
    return sample.drawn.distances(sample.z_hat).mean().clamp_min(0.0) / sample.two_sigma2


def commit_hard(sample: MixtureSample) -> Tensor:
    """mean_n |ẑ_n - z_c|² / two_sigma2 of the drawn codes: the same expectation, noisier."""
    distances = (sample.z_hat - sample.drawn.z_c).square().sum(1)
    return distances.mean() / sample.two_sigma2


def zsoft(sample: MixtureSample) -> Tensor:
    """mean_n Σ_c q(c|x_n) |z_n - μ_c|²: `commit` plus twice the codes' spread under q(c|x_n)."""
    return sample.drawn.distances(sample.z).mean().clamp_min(0.0)


def literal(sample: MixtureSample) -> Tensor:
    """mean_n Σ_c q̄_c |z_n - μ_c|²: `commit` plus twice the codes' spread under q̄.

    What the paper prints; it shrinks the codebook until few codes are used.
    """
    mean = sample.posterior_mean @ sample.codebook
    spread = sample.posterior_mean @ (sample.codebook - mean).square().sum(1)
    return (sample.z - mean).square().sum(1).mean() + spread


REGULARISERS: dict[Reading, Callable[[MixtureSample], Tensor]] = {
    "commit": commit,
    "commit_hard": commit_hard,
    "zsoft": zsoft,
    "literal": literal,
}
