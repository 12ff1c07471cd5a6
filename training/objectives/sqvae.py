"""The objective of SQ-VAE."""

from collections.abc import Mapping

import torch
from torch import Tensor

from models import Reconstruction
from models.collectives import global_mean
from models.quantizers import Quantized
from models.ramp import Ramp, RampLike, as_ramp
from training.objectives.base import Loss, Objective

MIN_ERROR = 1e-10


class SqVae(Objective):
    """½ log E + (h w / D_x) (discrete · L_discrete + continuous · L_continuous).

    Takida et al. 2022 (arXiv 2205.07547), divided by D_x, the numbers of an image, so that
    gradients are of other objectives' size. E is the squared error of an image, its mean over the
    batch of all processes: D_x/2 log E is the Gaussian log-likelihood at the variance that the
    batch makes most likely. The paper sums the terms over the h w tokens of an image.
    """

    def __init__(
        self,
        discrete: RampLike = 1.0,
        continuous: RampLike = 1.0,
        usage_pressure: RampLike = 0.0,
    ) -> None:
        super().__init__(usage_pressure)
        self.discrete = as_ramp(discrete, "discrete")
        self.continuous = as_ramp(continuous, "continuous")

    def weights(self, quantized: Quantized) -> Mapping[str, Ramp]:
        return {"discrete": self.discrete, "continuous": self.continuous}

    def distortion(self, pixels: Tensor, x_hat: Tensor) -> Tensor:
        """½ log E; below a squared error of 1e-10 a pixel it stays as it is there."""
        error = global_mean(super().distortion(pixels, x_hat)).clamp_min(MIN_ERROR)
        return 0.5 * torch.log(error * pixels[0].numel())

    def forward(self, pixels: Tensor, reconstruction: Reconstruction, fraction: float) -> Loss:
        """As the base; the terms count by tokens an image divided by D_x."""
        quantized = reconstruction.quantized
        share = quantized.z_e[0, 0].numel() / pixels[0].numel()
        scaled = {name: share * term for name, term in quantized.terms.items()}
        reconstruction = reconstruction._replace(quantized=quantized._replace(terms=scaled))
        loss = super().forward(pixels, reconstruction, fraction)
        unscaled = {name: term.detach() for name, term in quantized.terms.items()}
        return loss._replace(parts=loss.parts | unscaled)
