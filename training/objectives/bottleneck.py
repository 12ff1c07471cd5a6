"""The variational information bottleneck and its deterministic form, on codes."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from models.information import SMALLEST, cross_entropy, entropy
from models.quantizers import Quantized, Quantizer
from models.ramp import Ramp, RampLike, as_ramp
from training.objectives.base import require_soft
from training.objectives.vqvae import VqVae

Prior = Literal["uniform", "learned", "ema", "aggregate"]
PRIORS: tuple[Prior, ...] = ("uniform", "learned", "ema", "aggregate")


class _Bottleneck(VqVae):
    """VQ-VAE's loss + beta · rate, the rate in nats a token under a prior r over the codes.

    prior: "uniform"; "learned", logits trained with the model; "ema", the moving average of q̄ with
    `ema_decay` (0.99), which carries no gradient; "aggregate", r = q̄ itself, with gradient. An
    objective with a prior of its own has to see the quantizer once (`prepare`).
    commitment, codebook: the weights of the terms of these names, where the quantizer has them.
    They stand in for the gradient that argmin lacks; neither principle contains them, and the β of
    the paper's equation 24 is `commitment`, not `beta`.

    Where the assignment is hard, H(q(c|x)) is 0 and both rates are CE(q̄, r): a constant under the
    uniform prior, which makes them VQ-VAE, and otherwise without gradient to the model.

    Raises ValueError for options without effect: ema_decay without its prior, and on a hard
    assignment the priors that learn nothing of their own (ema, aggregate).
    """

    deterministic: bool
    log_prior: Tensor | None
    average: Tensor | None

    def __init__(
        self,
        beta: RampLike = 1e-3,
        prior: Prior = "uniform",
        *,
        ema_decay: float | None = None,
        codebook: RampLike = 1.0,
        commitment: RampLike = 0.25,
        usage_pressure: RampLike | None = None,
    ) -> None:
        super().__init__(codebook, commitment, 0.0 if usage_pressure is None else usage_pressure)
        if self.deterministic and prior == "aggregate" and usage_pressure is not None:
            raise ValueError("with the prior aggregate beta is -usage_pressure: give one of them")
        if prior not in PRIORS:
            raise ValueError(f"prior is one of {', '.join(PRIORS)}, not {prior!r}")
        if ema_decay is not None and prior != "ema":
            raise ValueError(f"ema_decay belongs to the prior ema, and the prior is {prior}")
        self.beta = as_ramp(beta, "beta")
        if self.beta.least < 0.0:
            raise ValueError("beta is a price of rate, not negative; usage_pressure > 0 rewards it")
        self.prior: Prior = prior
        self.ema_decay = 0.99 if ema_decay is None else ema_decay
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"ema_decay lies in [0, 1), not {ema_decay}")
        self.register_parameter("log_prior", None)
        self.register_buffer("average", None)

    def prepare(self, quantizer: Quantizer) -> None:
        shape = [quantizer.codebook_size]
        shape = shape if quantizer.depth == 1 else [quantizer.depth, *shape]
        if self.prior == "learned":
            self.log_prior = nn.Parameter(torch.zeros(shape))
        if self.prior == "ema":
            self.register_buffer("average", torch.full(shape, 1.0 / quantizer.codebook_size))

    def weights(self, quantized: Quantized) -> Mapping[str, Ramp]:
        return {**super().weights(quantized), "rate": self.beta}

    def terms(self, quantized: Quantized) -> dict[str, Tensor]:
        """Beside the quantizer's: rate, and prior_divergence KL(q̄ || r), which is part of it."""
        if self.prior in ("ema", "aggregate") and self.beta.most > 0.0:
            require_soft(quantized, f"beta with the prior {self.prior}")
        mean = quantized.posterior.mean
        cost = self._cross_entropy(mean)
        return {
            **super().terms(quantized),
            "rate": cost if self.deterministic else cost - quantized.posterior.entropy,
            "prior_divergence": cost.detach() - entropy(mean).mean().detach(),
        }

    def _cross_entropy(self, mean: Tensor) -> Tensor:
        """CE(q̄, r) (), the mean over depths."""
        if self.prior == "aggregate":
            return entropy(mean).mean()
        return cross_entropy(mean, self._log_prior(mean)).mean()

    def _log_prior(self, mean: Tensor) -> Tensor:
        """log r, (K,) or (depth, K)."""
        if self.prior == "uniform":
            return torch.full_like(mean, 1.0 / mean.shape[-1]).log()
        if self.average is not None:
            return self.average.clamp_min(SMALLEST).log()
        if self.log_prior is not None:
            return self.log_prior.log_softmax(-1)
        raise ValueError(f"the prior {self.prior} has a size: call prepare(quantizer) first")

    @torch.no_grad()
    def after_step(self, quantized: Quantized) -> None:
        if self.average is not None:
            self.average.lerp_(quantized.posterior.mean.to(self.average), 1.0 - self.ema_decay)


class Vib(_Bottleneck):
    """VQ-VAE's loss + beta · mean_n KL(q(c|x_n) || r) (Wu and Flierl 2018, equations 18 and 26).

    The rate is I(X; Z) + KL(q̄ || r), I(X; Z) itself under the prior "aggregate"; at most log K
    under the uniform one, where it rewards the entropy of single tokens. Raising H(q(c|x))
    lowers the rate and with it what tokens say of x. Equation 15 leaves out the mean over n.
    """

    deterministic = False


class Vdib(_Bottleneck):
    """VQ-VAE's loss + beta · mean_n CE(q(c|x_n), r) (Wu and Flierl 2018, equation 23).

    Equation 25 has lost the minus sign that the definition 22 has. The rate is H(q̄) + KL(q̄ || r):
    log K for any assignment under the uniform prior, which so changes nothing; H(q̄) under
    "aggregate", which is `usage_pressure` = -beta of any objective, so both together are refused.
    """

    deterministic = True
