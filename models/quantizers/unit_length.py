"""Codes and latents on the unit sphere: "l2" of Yu et al. 2021 (ViT-VQGAN, section 3.2)."""

from torch import Tensor, nn

EPSILON = 1e-6


def unit_length(vectors: Tensor) -> Tensor:
    """Vectors (N, D) divided by their length, or by 1e-6 where they are shorter than that.

    The nearest of unit codes is the one of the largest cosine. The gradient passes through the
    division, so that only directions learn.
    """
    return nn.functional.normalize(vectors, dim=1, eps=EPSILON)
