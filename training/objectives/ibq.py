"""IBQ's objective."""

from collections.abc import Mapping

from models.quantizers import Quantized
from models.ramp import Ramp, RampLike, as_ramp
from training.objectives.base import Objective


class Ibq(Objective):
    """Mean squared error + the quantization terms + u (mean H(q(c|x)) - H(q̄)), u both weights.

    IBQ (arXiv 2412.02692): `assignment` and `commitment` at weight 1, `codebook` at 0.25. The
    penalty's two parts may be set apart: `posterior_entropy` on H(q(c|x)), `usage_pressure` on
    H(q̄); left out, it is the same. Their size is ours, the γβ that serves GM-VQ, since IBQ's stands
    beside perceptual and adversarial losses.
    """

    def __init__(
        self,
        assignment: RampLike = 1.0,
        commitment: RampLike = 1.0,
        codebook: RampLike = 0.25,
        posterior_entropy: RampLike | None = None,
        usage_pressure: RampLike = 0.01,
    ) -> None:
        super().__init__(usage_pressure)
        self.assignment = as_ramp(assignment, "assignment")
        self.commitment = as_ramp(commitment, "commitment")
        self.codebook = as_ramp(codebook, "codebook")
        own = self.usage_pressure if posterior_entropy is None else posterior_entropy
        self.posterior_entropy = as_ramp(own, "posterior_entropy")

    def weights(self, quantized: Quantized) -> Mapping[str, Ramp]:
        return {
            "assignment": self.assignment,
            "commitment": self.commitment,
            "codebook": self.codebook,
            "posterior_entropy": self.posterior_entropy,
        }
