"""What is minimised: a distortion, the quantizer's weighted terms, a pressure on code usage."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from models import Reconstruction
from models.information import entropy
from models.quantizers import Quantized, Quantizer
from models.quantizers.base import full_precision
from models.ramp import Ramp, RampLike, as_ramp


class Loss(NamedTuple):
    """total: what backward starts from. parts: the detached summands by name, unweighted."""

    total: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module):
    """distortion + Σ weight · term - usage_pressure · H(q̄).

    A subclass states `weights`, by the names of the quantizer's terms, and may replace `distortion`
    or add `terms` of its own. Every weight is a `Ramp` over training. It may own parameters and
    buffers, which are trained and checkpointed with the model.

    usage_pressure u: nats of H(q̄), the entropy of the batch's mean posterior, are worth u each.
    u > 0 spreads usage over the codes (GM-VQ's γβ), u < 0 concentrates it (entropy-constrained VQ).
    """

    def __init__(self, usage_pressure: RampLike | Ramp = 0.0) -> None:
        super().__init__()
        self.usage_pressure = as_ramp(usage_pressure, "usage_pressure")

    def prepare(self, quantizer: Quantizer) -> None:
        """Called once, before training: the place for parameters sized by the codebook."""

    def weights(self, quantized: Quantized) -> Mapping[str, Ramp]:
        """The weight of each of the terms that counts."""
        raise NotImplementedError

    def terms(self, quantized: Quantized) -> dict[str, Tensor]:
        """Named scalars that may have a weight: the quantizer's, and a subclass's own."""
        return quantized.terms

    def distortion(self, pixels: Tensor, x_hat: Tensor) -> Tensor:
        """The reconstruction's part of the loss: the mean squared error on [0, 1]."""
        return (full_precision(x_hat) - pixels).square().mean()

    def forward(self, pixels: Tensor, reconstruction: Reconstruction, fraction: float) -> Loss:
        """pixels (B, 3, H, W) in [0, 1] and their reconstruction to a loss; fraction in [0, 1).

        Raises ValueError where the quantizer lacks a term that has a weight, or where usage is to
        be pressed on an assignment that is hard.
        """
        x_hat, quantized = reconstruction
        distortion = self.distortion(pixels, x_hat)
        total = distortion
        terms = self.terms(quantized)
        for name, weight in self.weights(quantized).items():
            if name not in terms:
                has = ", ".join(terms) or "none"
                raise ValueError(f"the quantizer has no term {name!r}; it has {has}")
            total = total + weight.at(fraction) * terms[name]
        usage_entropy = entropy(quantized.posterior.mean).mean()
        pressure = self.usage_pressure.at(fraction)
        if pressure != 0.0:
            require_soft(quantized, "usage_pressure")
            total = total - pressure * usage_entropy
        parts = {
            "mse": (full_precision(x_hat.detach()) - pixels).square().mean(),
            "usage_entropy": usage_entropy,
            "posterior_entropy": quantized.posterior.entropy,
            **terms,
        }
        return Loss(total, {name: part.detach() for name, part in parts.items()})

    def of_autoencoder(self, pixels: Tensor, x_hat: Tensor) -> Loss:
        """The loss of an autoencoder without a quantizer: the distortion alone."""
        distortion = self.distortion(pixels, x_hat)
        return Loss(distortion, {"mse": (x_hat.detach().float() - pixels).square().mean()})

    def after_step(self, quantized: Quantized) -> None:
        """Called when the optimiser has stepped: the place for moving averages."""


def require_soft(quantized: Quantized, name: str) -> None:
    """Raise ValueError where `name` would press on an assignment that has no gradient."""
    mean = quantized.posterior.mean
    if mean.requires_grad or not quantized.z_q.requires_grad:
        return
    raise ValueError(
        f"{name} needs a soft posterior, and this quantizer assigns by the nearest code; "
        "take gmvq, or another with a posterior"
    )
