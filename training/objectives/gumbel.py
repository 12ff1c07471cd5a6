"""The objective of Gumbel-VQVAE."""

from collections.abc import Mapping

from models.quantizers import Quantized
from models.ramp import Ramp, RampLike, as_ramp
from training.objectives.base import Objective

DIVERGENCE: RampLike = {"start": 0.0, "end": 6.3e-5, "until": 0.1}


class GumbelVqVae(Objective):
    """Mean squared error + divergence · mean_n KL(q(c|x_n) || uniform).

    The weight is that of the public code (Karpathy 2021), reached here after a tenth of training:
    5e-4 beside a squared error divided by 2 · 0.06327, which is 6.3e-5 beside the error itself.
    """

    def __init__(self, divergence: RampLike = DIVERGENCE, usage_pressure: RampLike = 0.0) -> None:
        super().__init__(usage_pressure)
        self.divergence = as_ramp(divergence, "divergence")

    def weights(self, quantized: Quantized) -> Mapping[str, Ramp]:
        return {"divergence": self.divergence}
