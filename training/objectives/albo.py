"""The objective of GM-VQ."""

from collections.abc import Mapping
from dataclasses import replace

from models.quantizers import Quantized
from models.ramp import Ramp, RampLike, as_ramp
from training.objectives.base import Objective


class Albo(Objective):
    """Mean squared error + γ R - u H(q̄) (GM-VQ, arXiv 2410.10180, equation 14).

    The paper writes γ (R + β KL(q̄ || uniform)): with u = γβ that is the same but for a constant.
    Give `beta`, or give `usage_pressure` u itself; with neither, β is 1. R is the commitment term,
    summed over D and averaged over tokens. The paper sums the squared error over pixels and R over
    tokens: its γ is ours times D_x / (h w), 48 for CIFAR-10 at factor 4.

    Raises ValueError when both are given, or a β where γ changes during training.
    """

    def __init__(
        self,
        gamma: RampLike = 1e-3,
        beta: float | None = None,
        usage_pressure: RampLike | None = None,
    ) -> None:
        ramp = as_ramp(gamma, "gamma")
        super().__init__(_pressure(ramp, beta, usage_pressure))
        self.gamma = ramp

    def weights(self, quantized: Quantized) -> Mapping[str, Ramp]:
        return {"commitment": self.gamma}


def _pressure(gamma: Ramp, beta: float | None, usage_pressure: RampLike | None) -> Ramp | RampLike:
    if usage_pressure is None:
        factor = 1.0 if beta is None else beta
        return replace(gamma, start=gamma.start * factor, end=gamma.end * factor)
    if beta is not None:
        raise ValueError("usage_pressure is γβ: give beta or usage_pressure, not both")
    return usage_pressure
