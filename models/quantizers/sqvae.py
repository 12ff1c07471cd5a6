"""SQ-VAE's quantizer: codes drawn from a Gaussian posterior that anneals itself."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from models.quantizers.base import Quantized, Quantizer, full_precision, to_grid, to_tokens
from models.quantizers.kmeans import kmeans
from models.quantizers.mixture_assignment import logit_features, logit_table
from models.quantizers.nearest import nearest_scores
from models.quantizers.soft_assignment import (
    divergence_from_uniform,
    posterior_of,
    relaxed_draw,
    required,
)
from models.ramp import RampLike, as_ramp
from models.randomness import Progress

Kind = Literal["I", "II", "III", "IV"]
MIN_VARIANCE = 1e-10
# The published exp(-1e-5 t) after its 125,000 steps.
GUMBEL_TEMPERATURE: RampLike = {"start": 1.0, "end": math.exp(-1.25)}


class StochasticQuantizer(Quantizer):
    """SQ-VAE (Takida et al. 2022, arXiv 2205.07547), Gaussian types I to IV.

        w = 1 / (v + exp φ)    l = -½ Σ w (z_e - μ)²    q = softmax(l)
        training    z_q = y M,  y = softmax((l + g) / gumbel_temperature), no straight-through
        evaluation  z_q = μ_j,  j = argmax l

    φ is learned, from `initial_log_variance` on. v is 1 for kind I, as in the published code; else
    the exponential of the encoder's further channels: II one number an image (their mean over the
    grid), III one a token, IV one a dimension and token. The published II and III average D such
    channels, which are linear in the features: one channel is the same function.

    A table of `gumbel_temperature` without a shape anneals it geometrically.

    Terms, in nats a token: `discrete` mean_n KL(q(c|x_n) || uniform), `continuous`
    mean_n ½ Σ w (z_e - z_q)². The paper's loss has their sum over the tokens of an image.
    """

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        *,
        kind: Kind = "I",
        gumbel_temperature: RampLike = GUMBEL_TEMPERATURE,
        initial_log_variance: float = math.log(20.0),
    ) -> None:
        super().__init__()
        further = {"I": 0, "II": 1, "III": 1, "IV": code_dim}
        if kind not in further:
            raise ValueError(f"kind must be one of {', '.join(further)}, not {kind!r}")
        self.gumbel_temperature = as_ramp(gumbel_temperature, "gumbel_temperature", "geometric")
        if self.gumbel_temperature.least <= 0.0:
            raise ValueError("gumbel_temperature must be greater than 0")
        self.codebook_size, self.code_dim = codebook_size, code_dim
        self.head_channels = code_dim + further[kind]
        self.kind: Kind = kind
        self.codebook = nn.Parameter(torch.randn(codebook_size, code_dim) * code_dim**-0.5)
        self.log_variance = nn.Parameter(torch.tensor(float(initial_log_variance)))

    def code_table(self) -> Tensor:
        return self.codebook

    def rule(self) -> dict[str, float | str]:
        """One precision a token scales all scores of the token alike and changes no token."""
        if self.kind != "IV":
            return {}
        return {"log_variance": self.log_variance.item(), "min_variance": MIN_VARIANCE}

    def scores(self, head: Tensor) -> Tensor:
        batch, _, height, width = head.shape
        return self._scores(full_precision(head)).view(batch, height, width, -1)

    def _scores(self, head: Tensor) -> Tensor:
        """(N, K): the logits but for a constant, for I to III also but for the precision.

        Without the precision an image's tokens do not depend on its other tokens, even for II.
        """
        z = to_tokens(head[:, : self.code_dim])
        if self.kind != "IV":
            return nearest_scores(z, self.codebook)
        centre = self.codebook.mean(0)
        features = logit_features(z - centre, self._precision(head))
        return features @ logit_table(self.codebook - centre).t()

    def _precision(self, head: Tensor) -> Tensor:
        """w: (N, D) for IV, else (N, 1)."""
        log_v = head[:, self.code_dim :] if self.kind != "I" else torch.zeros_like(head[:, :1])
        if self.kind == "II":
            log_v = log_v.mean((2, 3), keepdim=True).expand_as(log_v)
        log_variance = torch.logaddexp(to_tokens(log_v), self.log_variance)
        return log_variance.clamp_min(math.log(MIN_VARIANCE)).neg().exp()

    def initialise(self, heads: Tensor, progress: Progress) -> None:
        """k-means codes; the published ones are normal numbers."""
        codes = kmeans(heads[:, : self.code_dim], self.codebook_size, progress.noise.seed)
        with torch.no_grad():
            self.codebook.copy_(codes)

    def forward(self, head: Tensor, progress: Progress | None) -> Quantized:
        with torch.autocast(head.device.type, enabled=False):
            head = full_precision(head)
            z, w, scores = head[:, : self.code_dim], self._precision(head), self._scores(head)
            logits = scores if self.kind == "IV" else w * scores
            posterior = posterior_of(logits)
            z_q, indices = self._quantize(head, logits, scores, progress)
            distance = 0.5 * w * to_tokens(z - z_q).square()
            return Quantized(
                z_q=z_q,
                indices=indices,
                z_e=z.detach(),
                terms={
                    "discrete": divergence_from_uniform(posterior),
                    "continuous": distance.sum(1).mean(),
                },
                posterior=posterior,
                statistics={"precision": w.detach().mean()},
            )

    def _quantize(
        self, head: Tensor, logits: Tensor, scores: Tensor, progress: Progress | None
    ) -> tuple[Tensor, Tensor]:
        """z_q (B, D, h, w) and indices (B, h, w); drawn in training, of `scores` otherwise."""
        grid = (head.shape[0], *head.shape[2:])
        if not self.training:
            indices = scores.argmax(1).view(grid)
            return self.lookup(indices), indices
        given = required(progress)
        temperature = self.gumbel_temperature.at(given.fraction)
        y, indices = relaxed_draw(logits, given.noise, temperature)
        return to_grid(y @ self.codebook, head), indices.view(grid)
