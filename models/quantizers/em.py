"""Soft VQ-VAE: codes learned by expectation maximisation instead of k-means."""

import torch
from torch import Tensor

from models.quantizers.base import (
    ParameterState,
    Quantized,
    Quantizer,
    full_precision,
    straight_through,
    to_grid,
    to_tokens,
)
from models.quantizers.kmeans import kmeans
from models.quantizers.moving_average import Averages
from models.quantizers.nearest import nearest_scores
from models.quantizers.soft_assignment import mean_of_draws, posterior_of, required
from models.ramp import RampLike, as_ramp
from models.randomness import Progress

MIN_TEMPERATURE = 1e-6


class EmQuantizer(Quantizer):
    """VQ-VAE trained by soft EM (Roy et al. 2018, arXiv 1805.11063).

        E step   q(c|x) = softmax(-|z_e - μ_c|² / T),  r = mean of `num_samples` one-hot draws
        M step   the moving averages of Σ r and Σ r z_e make the codes, in `after_step`
        training    z_q = r M, straight through to the encoder
        evaluation  z_q the nearest code

    num_samples: draws a token; 0 takes r = q, the limit of many.
    assignment_temperature: T in squared units of z_e, where the paper has 1; a table without a
    shape anneals it geometrically. Without one, T comes from the heads before the first step, such
    that a token's own code starts at a logit of -D/2: at T = 1 in many dimensions q would be
    one-hot from the start, and EM no more than k-means.

    indices: the nearest codes, in training too, where a token has several draws.
    Term: `commitment` mean (z_e - sg z_q)², over N and D. The posterior carries gradient to z_e.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    temperature: Tensor

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        *,
        num_samples: int = 10,
        assignment_temperature: RampLike | None = None,
        decay: float = 0.99,
    ) -> None:
        super().__init__()
        if num_samples < 0:
            raise ValueError(f"num_samples is 0 or the number of draws, not {num_samples}")
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay is a share in [0, 1), not {decay}")
        self.head_channels = self.code_dim = code_dim
        self.codebook_size, self.num_samples, self.decay = codebook_size, num_samples, decay
        given = 1.0 if assignment_temperature is None else assignment_temperature
        ramp = as_ramp(given, "assignment_temperature", "geometric")
        if ramp.least <= 0.0:
            raise ValueError("assignment_temperature must be greater than 0")
        self.assignment_temperature = None if assignment_temperature is None else ramp
        self.register_buffer("codebook", torch.randn(codebook_size, code_dim) * code_dim**-0.5)
        self.register_buffer("counts", torch.ones(codebook_size))
        self.register_buffer("sums", self.codebook.clone())
        self.register_buffer("temperature", torch.tensor(ramp.start))

    def code_table(self) -> Tensor:
        return self.codebook

    def scores(self, head: Tensor) -> Tensor:
        batch, _, height, width = head.shape
        scores = nearest_scores(to_tokens(full_precision(head)), self.codebook)
        return scores.view(batch, height, width, -1)

    @torch.no_grad()
    def initialise(self, heads: Tensor, progress: Progress) -> None:
        """k-means codes, each of one vector's weight, and the temperature where none is given."""
        self.codebook.copy_(kmeans(heads, self.codebook_size, progress.noise.seed))
        self.counts.fill_(1.0)
        self.sums.copy_(self.codebook)
        if self.assignment_temperature is None:
            nearest = torch.cdist(heads.to(self.codebook), self.codebook).amin(1).square().mean()
            self.temperature.copy_((2.0 * nearest / self.code_dim).clamp_min(MIN_TEMPERATURE))

    def forward(self, head: Tensor, progress: Progress | None) -> Quantized:
        with torch.autocast(head.device.type, enabled=False):
            head = full_precision(head)
            z_e = to_tokens(head)
            scores = nearest_scores(z_e, self.codebook)
            indices = scores.argmax(1).view(head.shape[0], *head.shape[2:])
            temperature = self.temperature
            if self.training:
                given = required(progress)
                temperature = self._temperature(given)
                z_q = to_grid(self._responsibilities(scores, given) @ self.codebook, head)
            else:
                z_q = self.lookup(indices)
            return Quantized(
                z_q=straight_through(head, z_q) if self.training else z_q,
                indices=indices,
                z_e=head.detach(),
                terms={"commitment": (head - z_q).square().mean()},
                posterior=posterior_of(2.0 / temperature * scores),
                statistics={"temperature": temperature.detach().clone()},
            )

    def _temperature(self, progress: Progress) -> Tensor:
        if self.assignment_temperature is None:
            return self.temperature
        value = self.assignment_temperature.at(progress.fraction)
        return torch.full_like(self.temperature, value)

    @torch.no_grad()
    def _responsibilities(self, scores: Tensor, progress: Progress) -> Tensor:
        """r (N, K) of scores (N, K), which are -|z_e - μ|² / 2 but for a constant per token."""
        q = (2.0 / self._temperature(progress) * scores).softmax(1)
        return mean_of_draws(q, progress.noise, self.num_samples) if self.num_samples else q

    @torch.no_grad()
    def after_step(
        self, quantized: Quantized, progress: Progress, optimiser_state: ParameterState
    ) -> None:
        """The M step. Noise is a function of `progress`, so that r is made anew, not kept."""
        z_e = to_tokens(quantized.z_e)
        r = self._responsibilities(nearest_scores(z_e, self.codebook), progress)
        averages = Averages(self.counts, self.sums)
        averages.move_(Averages(r.sum(0), r.t() @ z_e).of_all_processes(), self.decay)
        self.codebook.copy_(averages.codes())
        # What evaluation has, which knows no `progress`.
        self.temperature.copy_(self._temperature(progress))
