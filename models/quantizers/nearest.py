"""Nearest-code search as one matrix product, for quantizers of Euclidean distance."""

import torch
from torch import Tensor


def nearest_scores(z: Tensor, codebook: Tensor) -> Tensor:
    """(N, K) scores z·μ - |μ|²/2 of z (N, D) against codebook (K, D), both centred on its mean.

    The largest score is the smallest distance: |z - μ|² = |z|² - 2 score. Centring changes no
    distance and keeps the product from cancelling large terms.
    """
    centre = codebook.mean(0)
    codes = codebook - centre
    return torch.addmm(-0.5 * codes.square().sum(1), z - centre, codes.t())
