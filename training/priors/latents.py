"""Samples of a diffusion prior in numpy, from steps in ONNX or in PyTorch, and their tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqtok.priors.uniforms import uniforms

Latents = NDArray[np.float32]
Step = Callable[[Latents, Latents, NDArray[np.int32], Latents], Latents]
"""x_s (n, N, D) of x_t (n, N, D), times (n, 2) t and s, labels (n,), normal numbers (n, N, D)."""
_BATCH = 50


@dataclass(frozen=True)
class Walk:
    """num_steps of step_size each lead from time num_steps · step_size to 0; `shape` (N, D)."""

    num_steps: int
    step_size: float
    shape: tuple[int, int]


@dataclass(frozen=True, eq=False)
class CodeMixture:
    """As `models.priors.mixture.LatentMixture`: codes (K, D), variance (D,), log_weights (K,)."""

    codes: NDArray[np.float64]
    variance: NDArray[np.float64]
    log_weights: NDArray[np.float64]

    def log_responsibilities(self, latents: NDArray[np.floating]) -> NDArray[np.float64]:
        """log r(c | x) + a constant of each position, (…, K) of latents (…, D) of time 0."""
        precise = self.codes / self.variance
        own = self.log_weights - 0.5 * (self.codes * precise).sum(1)
        return latents.astype(np.float64) @ precise.T + own

    def likeliest(self, latents: NDArray[np.floating]) -> NDArray[np.int32]:
        """The token of largest responsibility, (…) of latents (…, D)."""
        return self.log_responsibilities(latents).argmax(-1).astype(np.int32)

    def drawn(
        self, latents: NDArray[np.floating], tosses: NDArray[np.float64]
    ) -> NDArray[np.int32]:
        """Tokens drawn by responsibility at numbers in [0, 1) (…): those that the bits are of."""
        log_r = self.log_responsibilities(latents)
        cumulative = np.exp(log_r - log_r.max(-1, keepdims=True)).cumsum(-1)
        above = cumulative / cumulative[..., -1:] > tosses[..., None]
        return above.argmax(-1).astype(np.int32)


def draw_latents(
    step: Step, walk: Walk, seed: int, indices: Sequence[int], labels: NDArray[np.int32]
) -> Latents:
    """Latents x_0 (n, N, D) of the samples with these numbers: a function of the seed and the
    number, whatever the company, as far as `step` is. `labels` (n,).
    """
    parts = [
        _walked(step, walk, seed, indices[start : start + _BATCH], labels[start : start + _BATCH])
        for start in range(0, len(indices), _BATCH)
    ]
    return np.concatenate(parts)


def token_tosses(walk: Walk, seed: int, indices: Sequence[int]) -> NDArray[np.float64]:
    """Numbers in [0, 1), (n, N), that `draw_latents` has not used."""
    used, num = _num_normals(walk), walk.shape[0]
    return np.stack([uniforms(seed, index, used + num)[used:] for index in indices])


def _walked(
    step: Step, walk: Walk, seed: int, indices: Sequence[int], labels: NDArray[np.int32]
) -> Latents:
    noise = np.stack([_normals(seed, index, _num_normals(walk)) for index in indices])
    noise = noise[:, : (walk.num_steps + 1) * walk.shape[0] * walk.shape[1]]
    noise = noise.reshape(len(indices), walk.num_steps + 1, *walk.shape)
    x = noise[:, 0]
    for number in range(walk.num_steps, 0, -1):
        times = np.array([number, number - 1]) * walk.step_size
        rows = np.tile(times.astype(np.float32), (len(indices), 1))
        x = step(x, rows, labels, np.ascontiguousarray(noise[:, number]))
    return x


def _num_normals(walk: Walk) -> int:
    """An even number, as they come in pairs."""
    return -(-(walk.num_steps + 1) * walk.shape[0] * walk.shape[1] // 2) * 2


def _normals(seed: int, index: int, count: int) -> Latents:
    """Standard normal numbers (count,) of a sample (Box and Muller 1958)."""
    radius, angle = uniforms(seed, index, count).reshape(2, -1)
    # Of 1 - u, which is never 0.
    radius = np.sqrt(-2.0 * np.log1p(-radius))
    pair = np.concatenate([radius * np.cos(2 * np.pi * angle), radius * np.sin(2 * np.pi * angle)])
    return pair.astype(np.float32)
