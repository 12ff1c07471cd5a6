"""The objective of GM-VQ."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor

from models.quantizers import Quantized
from models.ramp import Ramp, RampLike, as_ramp
from training.objectives.base import Objective

Form = Literal["printed", "product", "coupled"]
FORMS: tuple[Form, ...] = ("printed", "product", "coupled")


class Albo(Objective):
    """Mean squared error + γ R - u H(q̄) (GM-VQ, arXiv 2410.10180, equation 14).

    The paper writes γ (R + β KL(q̄ || uniform)): with u = γβ that is the same but for a constant.
    Give `beta`, or give `usage_pressure` u itself; with neither, β is 1. R is the commitment term,
    summed over D and averaged over tokens. The paper sums the squared error over pixels and R over
    tokens: its γ is ours times D_x / (h w), 48 for CIFAR-10 at factor 4.

    form, with h = Σ_c q(c|x) h(q(z|x, c)), the quantizer's `component_entropy`:
    "printed": as above, the paper's. No lower bound of log p(x), whatever the paper says: it leaves
    out h, which is negative where σ_c² < 0.0585, and with the coupled R also I(x; c).
    "product": γ (R + β (KL(q̄ || uniform) - h)), minus a bound but for constants where R is the
    "literal" regulariser.
    "coupled": γ (R + β (mean_n KL(q(c|x_n) || uniform) - h)), the same for "commit" and
    "commit_hard". It holds no pressure on usage.
    β is 2 σ_z² of the bounded model (`training.objectives.bounds`), and γβ is 2 σ_x² over the
    number of pixel values a token. γ (R - β h) alone is smallest at σ_c² = σ_z²: the noise stays.

    Raises ValueError when β and u are both given, for an unknown form, and for u with the coupled.
    """

    def __init__(
        self,
        gamma: RampLike = 1e-3,
        beta: float | None = None,
        usage_pressure: RampLike | None = None,
        form: Form = "printed",
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"form is one of {', '.join(FORMS)}, not {form!r}")
        if form == "coupled" and usage_pressure is not None:
            raise ValueError("the coupled form has no usage_pressure: give beta")
        ramp = as_ramp(gamma, "gamma")
        pressure = as_ramp(_pressure(ramp, beta, usage_pressure), "usage_pressure")
        super().__init__(0.0 if form == "coupled" else pressure)
        self.gamma, self.rate_weight = ramp, pressure
        self.form: Form = form

    def weights(self, quantized: Quantized) -> Mapping[str, Ramp]:
        rates = {
            "printed": (),
            "product": ("noise_rate",),
            "coupled": ("noise_rate", "code_rate"),
        }[self.form]
        return {"commitment": self.gamma} | dict.fromkeys(rates, self.rate_weight)

    def terms(self, quantized: Quantized) -> dict[str, Tensor]:
        """Beside the quantizer's: noise_rate -h, code_rate mean_n KL(q(c|x_n) || uniform)."""
        if self.form == "printed":
            return quantized.terms
        if "component_entropy" not in quantized.terms:
            raise ValueError(
                f"form {self.form!r} needs the term component_entropy: take gmvq with "
                "component_entropy = true and noise"
            )
        most = math.log(quantized.posterior.mean.shape[-1])
        return {
            **quantized.terms,
            "noise_rate": -quantized.terms["component_entropy"],
            "code_rate": most - quantized.posterior.entropy,
        }


def _pressure(gamma: Ramp, beta: float | None, usage_pressure: RampLike | None) -> Ramp | RampLike:
    if usage_pressure is None:
        factor = 1.0 if beta is None else beta
        return replace(gamma, start=gamma.start * factor, end=gamma.end * factor)
    if beta is not None:
        raise ValueError("usage_pressure is γβ: give beta or usage_pressure, not both")
    return usage_pressure
