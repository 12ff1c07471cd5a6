"""The k-means start of a codebook."""

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

NUM_LLOYD_ITERATIONS = 15


def kmeans(vectors: Tensor, codebook_size: int, seed: int) -> Tensor:
    """Cluster vectors (N, D) into (K, D) centroids: k-means++ start, then Lloyd iterations.

    A function of vectors and seed. Raises ValueError when there are fewer vectors than codes.
    """
    if len(vectors) < codebook_size:
        raise ValueError(
            f"k-means needs at least {codebook_size} vectors and got {len(vectors)}; "
            "raise the batch size or lower codebook_size"
        )
    data = vectors.detach().double().cpu().numpy()
    rng = np.random.default_rng(seed)
    start = _plus_plus(data, codebook_size, rng)
    centroids, _ = kmeans2(data, start, iter=NUM_LLOYD_ITERATIONS, minit="matrix", missing="warn")
    return torch.from_numpy(centroids).to(vectors)


def _plus_plus(data: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    """Arthur and Vassilvitskii 2007: each start is drawn with probability proportional to D².

    scipy's own "++" walks over all chosen centres anew for each further one, which is quadratic in
    K.
    """
    chosen = np.empty((num, data.shape[1]))
    chosen[0] = data[rng.integers(len(data))]
    nearest = np.full(len(data), np.inf)
    for k in range(1, num):
        np.minimum(nearest, ((data - chosen[k - 1]) ** 2).sum(1), out=nearest)
        cumulative = np.cumsum(nearest)
        pick = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
        chosen[k] = data[min(pick, len(data) - 1)]
    return chosen
