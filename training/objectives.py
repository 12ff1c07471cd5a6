"""What is minimised: each objective combines the reconstruction and the quantizer's terms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from models import Reconstruction


class Loss(NamedTuple):
    """total: what backward starts from. parts: the detached summands by name, unweighted."""

    total: Tensor
    parts: dict[str, Tensor]


class Objective(Protocol):
    """pixels (B, 3, H, W) in [0, 1] and their reconstruction to a loss."""

    def __call__(self, pixels: Tensor, reconstruction: Reconstruction) -> Loss: ...


@dataclass(frozen=True)
class VqVae:
    """Mean squared error + codebook · L_codebook + commitment · L_commitment.

    van den Oord et al. 2017, equation 3.
    """

    codebook: float = 1.0
    commitment: float = 0.25

    def __call__(self, pixels: Tensor, reconstruction: Reconstruction) -> Loss:
        terms = reconstruction.quantized.terms
        weights = {"codebook": self.codebook, "commitment": self.commitment}
        return _weighted(pixels, reconstruction, {name: weights[name] for name in terms})


@dataclass(frozen=True)
class Albo:
    """Mean squared error + γ (R + β KL(q̄ || uniform)) (GM-VQ, arXiv 2410.10180, equation 14).

    R is the commitment term, summed over D and averaged over tokens. The paper sums the squared
    error over pixels and R over tokens: its γ is ours times D_x / (h w), 48 for CIFAR-10 at factor
    4.
    """

    gamma: float = 1e-3
    beta: float = 1.0

    def __call__(self, pixels: Tensor, reconstruction: Reconstruction) -> Loss:
        weights = {"commitment": self.gamma, "usage": self.gamma * self.beta}
        return _weighted(pixels, reconstruction, weights)


def _weighted(pixels: Tensor, reconstruction: Reconstruction, weights: Mapping[str, float]) -> Loss:
    terms = reconstruction.quantized.terms
    error = (reconstruction.x_hat.float() - pixels).square().mean()
    total = error
    for name, weight in weights.items():
        total = total + weight * terms[name]
    parts = {name: term.detach() for name, term in terms.items()}
    return Loss(total, {"mse": error.detach(), **parts})


OBJECTIVES: dict[str, Callable[..., Objective]] = {"vqvae": VqVae, "albo": Albo}


def build_objective(name: str, weights: Mapping[str, float]) -> Objective:
    """Raises ValueError naming what is known when the name or a weight is not."""
    if name not in OBJECTIVES:
        raise ValueError(f"no objective is called {name!r}; there are {', '.join(OBJECTIVES)}")
    try:
        return OBJECTIVES[name](**weights)
    except TypeError as error:
        raise ValueError(f"objective {name}: {error}") from error
