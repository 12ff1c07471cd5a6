"""The numbers and the random weights of a network of a few kilobytes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH = 8
Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class TinyModel:
    """Numbers of the tiny network; `factor` is a power of two."""

    factor: int = 4
    codebook_size: int = 32
    depth: int = 1
    code_dim: int = 4
    native_size: tuple[int, int] = (32, 32)
    seed: int = 0
    prior: bool = False

    @property
    def grid(self) -> tuple[int, ...]:
        """Tokens of a native image."""
        tail = (self.depth,) if self.depth > 1 else ()
        return (*(side // self.factor for side in self.native_size), *tail)


def tiny_weights(model: TinyModel) -> Weights:
    """All weights from one seed."""
    rng = np.random.default_rng(model.seed)

    def conv(out_channels: int, in_channels: int) -> NDArray[np.float32]:
        scale = (4 / (9 * in_channels)) ** 0.5
        return (scale * rng.standard_normal((out_channels, in_channels, 3, 3))).astype(np.float32)

    strides = model.factor.bit_length() - 1
    latent = model.depth * model.code_dim
    weights = {f"encoder.{i}": conv(WIDTH, WIDTH if i else 3) for i in range(strides)}
    weights["encoder.out"] = 3 * conv(latent, WIDTH)
    codes = rng.standard_normal((model.depth, model.codebook_size, model.code_dim))
    weights["codebook"] = codes.astype(np.float32)
    weights["decoder.in"] = conv(3 * model.factor**2, model.code_dim)
    weights["decoder.out"] = 0.5 * conv(3, 3)
    return weights
