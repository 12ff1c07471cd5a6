"""VQ-VAE's options in numpy and float64: which codes there are, and where an inner step leads."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tests.models import oracle
from tests.models.oracle import Array, Indices

Named = Mapping[str, Array]
CODEBOOK, SCALE, SHIFT = "codebook", "space.affine.scale", "space.affine.shift"


def on_sphere(vectors: Array) -> Array:
    return vectors / np.sqrt((vectors**2).sum(1, keepdims=True))


@dataclass(frozen=True)
class CodeOracle:
    """parameters: raw codes (K, D); learned scale and shift (D,), of which `rate` is the factor.

    statistics: mean and variance (D,) of the latents and of the raw codes, by their names.
    """

    parameters: Named
    unit: bool = False
    rate: float = 1.0
    statistics: Named = field(default_factory=dict[str, Array])
    inner_rate: float = 0.0
    momenta: Named = field(default_factory=dict[str, Array])

    def latents(self, z: Array) -> Array:
        return on_sphere(z) if self.unit else z

    def table(self, parameters: Named) -> Array:
        codes = parameters[CODEBOOK]
        if SCALE in parameters:
            scale = 1.0 + self.rate * parameters[SCALE]
            codes = scale * codes + self.rate * parameters[SHIFT]
        if self.statistics:
            of, scale = self.statistics, self.scale()
            codes = scale * codes + (of["latent_mean"] - scale * of["code_mean"])
        return on_sphere(codes) if self.unit else codes

    def scale(self) -> Array | float:
        if SCALE in self.parameters:
            return 1.0 + self.rate * self.parameters[SCALE]
        if not self.statistics:
            return 1.0
        of = self.statistics
        return np.sqrt(of["latent_variance"] / (of["code_variance"] + 1e-8))

    def nearest(self, z: Array) -> Indices:
        return oracle.nearest(self.latents(z), self.table(self.parameters))

    def error(self, parameters: Named, z: Array, indices: Indices) -> float:
        return ((self.table(parameters)[indices] - self.latents(z)) ** 2).mean()

    def gradients(self, of: str, parameters: Named, z: Array, indices: Indices) -> Array:
        """Of the error to one parameter, the latents held."""

        def error(value: Array) -> float:
            return self.error({**parameters, of: value}, z, indices)

        return oracle.numeric_gradient(error, parameters[of])

    def curvature(self, of: str, indices: Indices) -> Array | float:
        """Of codes before the sphere: the inner step is divided by it where it is above 1."""
        if of == CODEBOOK:
            return self.scale() ** 2
        return self.rate**2 * (1.0 + (self.parameters[CODEBOOK][indices] ** 2).mean(0))

    def next_momenta(self, z: Array) -> dict[str, Array]:
        indices = self.nearest(z)
        return {
            name: 0.9 * self.momenta[name]
            + self.gradients(name, self.parameters, z, indices)
            / np.maximum(self.curvature(name, indices), 1.0)
            for name in self.parameters
        }

    def moved(self, z: Array) -> Named:
        """The parameters that z_q is looked up with."""
        if not self.inner_rate:
            return self.parameters
        momenta = self.next_momenta(z)
        return {n: p - self.inner_rate * momenta[n] for n, p in self.parameters.items()}
