"""The VQ-VAE's objective."""

from collections.abc import Mapping

from models.quantizers import Quantized
from models.ramp import Ramp, RampLike, as_ramp
from training.objectives.base import Objective


class VqVae(Objective):
    """Mean squared error + codebook · L_codebook + commitment · L_commitment.

    van den Oord et al. 2017, equation 3. Quantizers without one of the terms are trained on the
    other.
    """

    def __init__(
        self,
        codebook: RampLike = 1.0,
        commitment: RampLike = 0.25,
        usage_pressure: RampLike = 0.0,
    ) -> None:
        super().__init__(usage_pressure)
        self.codebook = as_ramp(codebook, "codebook")
        self.commitment = as_ramp(commitment, "commitment")

    def weights(self, quantized: Quantized) -> Mapping[str, Ramp]:
        known = {"codebook": self.codebook, "commitment": self.commitment}
        return {name: weight for name, weight in known.items() if name in quantized.terms}
