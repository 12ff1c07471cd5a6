"""What an evaluation reports, gathered batch by batch."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Floats = NDArray[np.floating]
SSIM_WINDOW = 7


def psnr(mse: Floats | float) -> Floats:
    """Decibels of squared errors on [0, 1]; infinite at 0."""
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(np.asarray(mse, np.float64))


def ssim(image: Floats, other: Floats) -> float:
    """Structural similarity (Wang et al. 2004) of images (H, W, 3) in [0, 1].

    Uniform 7 x 7 window, mean over channels.
    """
    similarity: Any = structural_similarity(image, other, channel_axis=2, data_range=1.0)
    return float(similarity)


def entropy(probabilities: Floats) -> float:
    """H in nats of (K,) numbers that sum to 1."""
    p = probabilities[probabilities > 0]
    return float(-(p * np.log(p)).sum())


@dataclass
class Reconstructions:
    """Errors of reconstructed images on [0, 1]."""

    squared_error: float = 0.0
    num_values: int = 0
    psnrs: list[float] = field(default_factory=list[float])
    ssims: list[float] = field(default_factory=list[float])

    def add(self, images: Floats, others: Floats) -> None:
        """Add (B, H, W, 3) originals and reconstructions in [0, 1]."""
        error = np.square(images.astype(np.float64) - others)
        self.squared_error += float(error.sum())
        self.num_values += error.size
        self.psnrs += psnr(error.mean(axis=(1, 2, 3))).tolist()
        if min(images.shape[1:3]) >= SSIM_WINDOW:
            self.ssims += [ssim(a, b) for a, b in zip(images, others, strict=True)]

    def summary(self) -> dict[str, float]:
        """mse over all values; psnr and ssim as means over images.

        psnr leaves out images without any error, for which it is infinite.
        """
        result = {"mse": self.squared_error / self.num_values}
        finite = [value for value in self.psnrs if math.isfinite(value)]
        if finite:
            result["psnr"] = float(np.mean(finite))
        if self.ssims:
            result["ssim"] = float(np.mean(self.ssims))
        return result


@dataclass
class Usage:
    """How the codes are used, pooled over everything added: hard by tokens, soft by posteriors.

    With depth > 1 each level has counts (K,) of its own, for a code of one level is none of
    another's. The tokens of a cell, each coded by its level's frequencies, cost Σ_d H_d nats:
    the mean of the levels' entropies is what a token costs, and its exponential the perplexity,
    in [1, K] and the geometric mean of the levels'. It counts nothing twice, and
    depth · log2(perplexity) are the bits of a cell. (That the levels of a cell depend on each other
    would save more; it takes a model of their joint frequencies.)
    """

    codebook_size: int
    depth: int = 1
    counts: NDArray[np.int64] = field(init=False)
    posterior: NDArray[np.float64] = field(init=False)
    posterior_entropy: float = 0.0
    soft_tokens: int = 0

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.depth, self.codebook_size), np.int64)
        self.posterior = np.zeros((self.depth, self.codebook_size), np.float64)

    def add(self, indices: NDArray[np.integer]) -> None:
        """Add tokens of any shape, with depth > 1 the levels on the last axis."""
        for level, tokens in enumerate(indices.reshape(-1, self.depth).T):
            self.counts[level] += np.bincount(tokens, minlength=self.codebook_size)

    def add_soft(self, posterior_mean: Floats, mean_entropy: float, num_tokens: int) -> None:
        """Add a batch's q̄ (K,), or (depth, K), and mean H(q(c|x)) in nats over num_tokens."""
        means = posterior_mean.astype(np.float64).reshape(self.posterior.shape)
        self.posterior += means * num_tokens
        self.posterior_entropy += mean_entropy * num_tokens
        self.soft_tokens += num_tokens

    def summary(self) -> dict[str, float]:
        """perplexity = exp H of the pooled tokens, H a mean over levels; entropies in nats a token.

        bits_per_cell: depth · H / ln 2. used_codes: of all levels, at most depth · K. num_tokens:
        of all levels. mutual_information I(X; Z) = H(q̄) - H(q(c|x)).
        """
        hard = _mean_entropy(self.counts)
        result = {
            "perplexity": math.exp(hard),
            "bits_per_cell": self.depth * hard / math.log(2.0),
            "used_codes": int((self.counts > 0).sum()),
            "num_tokens": int(self.counts.sum()),
        }
        if self.soft_tokens:
            marginal = _mean_entropy(self.posterior)
            conditional = self.posterior_entropy / self.soft_tokens
            result["soft_perplexity"] = math.exp(marginal)
            result["posterior_entropy"] = conditional
            result["mutual_information"] = marginal - conditional
        return result


def _mean_entropy(weights: NDArray[Any]) -> float:
    """H in nats of each row of (depth, K) weights, averaged over rows."""
    return float(np.mean([entropy(row / row.sum()) for row in weights]))
