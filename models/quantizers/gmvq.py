"""GM-VQ: tokens drawn from a Gaussian mixture's posterior (arXiv 2410.10180)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from models.collectives import global_mean
from models.quantizers.base import (
    ParameterState,
    Posterior,
    Quantized,
    Quantizer,
    full_precision,
    to_grid,
    to_tokens,
)
from models.quantizers.kmeans import kmeans
from models.quantizers.mixture_assignment import (
    Assignment,
    AssignmentSettings,
    GumbelRows,
    assign,
    logit_features,
    logit_table,
)
from models.quantizers.mixture_noise import MixtureNoise, NoiseKind, SigmaGradient
from models.quantizers.mixture_regulariser import REGULARISERS, MixtureSample, Reading
from models.ramp import RampLike, as_ramp
from models.randomness import GUMBEL_STREAM, Noise, Progress

MAX_PRECISION = 1e3


GUMBEL_TEMPERATURE: RampLike = {"start": 2.0, "end": 0.1}


class GaussianMixtureQuantizer(Quantizer):
    """GM-VQ (arXiv 2410.10180, equations 15 to 18).

        head ─► ẑ, r̂ ─► w = softplus(r̂ + r0) ─► l = -½ Σ w (ẑ - μ)² ─► j ~ q(c|x) ─► z = μ_j + σ ε

    Training draws j by Gumbel's argmax, exact at any `gumbel_temperature`, which shapes the
    gradient alone; a table without a shape anneals it geometrically. From `argmax_from` of training
    on, j is the argmax that evaluation uses.

    precision: one w per dimension (the paper's) or one per token.
    assignment_temperature: q(c|x) = softmax(l / it). Annealed to 0 it drives q(c|x) to one-hot; the
    argmax stays. Evaluation and what it reports on q(c|x) go by the last value trained with.
    dense_code_gradient: the decoder's gradient reaches all codes, each by its share of the softmax,
    not the drawn code alone.
    noise, sigma_gradient: σ and what it carries gradient to (`MixtureNoise`); evaluation has none.
    regulariser: the reading of E |z - μ_c|² (`mixture_regulariser`); "commit" is that of the
    coupled posterior, "literal" the printed one, which collapses.
    component_entropy: give the term of that name, which ALBO's two bounds need.

    Terms: `commitment` R, the regulariser, for "commit" mean_n Σ_c q(c|x_n) |ẑ_n - μ_c|² /
    two_sigma2; ALBO weighs it by γ, and by γβ the divergence of the mean posterior q̄ from uniform.
    `component_entropy` where asked for, in nats.

    Raises ValueError for options that are out of range or have no effect together.
    """

    offset: Tensor
    temperature: Tensor

    def __init__(  # noqa: PLR0913 - each option is a row of the ablations
        self,
        codebook_size: int,
        code_dim: int,
        *,
        two_sigma2: float = 1.0,
        noise: NoiseKind = "token",
        sigma_gradient: SigmaGradient = "full",
        precision: Literal["per_dimension", "scalar"] = "per_dimension",
        gumbel_temperature: RampLike = GUMBEL_TEMPERATURE,
        assignment_temperature: RampLike = 1.0,
        argmax_from: float = 1.0,
        regulariser: Reading = "commit",
        dense_code_gradient: bool = False,
        component_entropy: bool = False,
    ) -> None:
        super().__init__()
        self.gumbel_temperature = as_ramp(gumbel_temperature, "gumbel_temperature", "geometric")
        self.assignment_temperature = as_ramp(
            assignment_temperature, "assignment_temperature", "geometric"
        )
        temperatures = self.gumbel_temperature, self.assignment_temperature
        if min(two_sigma2, *(t.least for t in temperatures)) <= 0.0:
            raise ValueError(
                "two_sigma2, gumbel_temperature and assignment_temperature must be greater than 0"
            )
        if not 0.0 <= argmax_from <= 1.0:
            raise ValueError(f"argmax_from is a share of training in [0, 1], not {argmax_from}")
        if regulariser not in REGULARISERS:
            raise ValueError(f"regulariser is one of {', '.join(REGULARISERS)}, not {regulariser}")
        if component_entropy and noise == "off":
            raise ValueError("component_entropy is that of the noise: take another noise than off")
        self.codebook_size, self.code_dim = codebook_size, code_dim
        self.head_channels = 2 * code_dim if precision == "per_dimension" else code_dim + 1
        self.two_sigma2, self.argmax_from = two_sigma2, argmax_from
        self.noise = MixtureNoise(noise, sigma_gradient, two_sigma2)
        self.regulariser: Reading = regulariser
        self.dense_code_gradient, self.component_entropy = dense_code_gradient, component_entropy
        self.codebook = nn.Parameter(torch.randn(codebook_size, code_dim) * code_dim**-0.5)
        self.register_buffer("offset", torch.tensor(math.log(math.expm1(1.0))))
        # One that never changes stands in the settings, and weights without it stay readable.
        changes = self.assignment_temperature.least < self.assignment_temperature.most
        start = torch.tensor(float(self.assignment_temperature.at(0.0)))
        self.register_buffer("temperature", start, persistent=changes)

    def code_table(self) -> Tensor:
        return self.codebook

    def rule(self) -> dict[str, float | str]:
        return {"offset": float(self.offset), "max_precision": MAX_PRECISION}

    def _split(self, head: Tensor) -> tuple[Tensor, Tensor]:
        """ẑ, w (N, D) of head (B, head_channels, h, w) or of its tokens (N, head_channels)."""
        tokens = full_precision(to_tokens(head) if head.dim() == 4 else head)
        z, r = tokens[:, : self.code_dim], tokens[:, self.code_dim :]
        w = nn.functional.softplus(r + self.offset).clamp_max(MAX_PRECISION)
        return z, w if self.head_channels == 2 * self.code_dim else w.expand_as(z)

    def scores(self, head: Tensor) -> Tensor:
        batch, _, height, width = head.shape
        z, w = self._split(head)
        centre = self.codebook.mean(0)
        table = logit_table(self.codebook - centre)
        return (logit_features(z - centre, w) @ table.t()).view(batch, height, width, -1)

    @torch.no_grad()
    def initialise(self, heads: Tensor, progress: Progress) -> None:
        """k-means codes, and r0 such that a token's own code starts at a logit of -D/2."""
        z, _ = self._split(heads)
        self.codebook.copy_(kmeans(z, self.codebook_size, progress.noise.seed))
        nearest = torch.cdist(z, self.codebook).square().min(dim=1).values.mean()
        w0 = (self.code_dim / nearest).clamp(0.05, 50.0).double()
        self.offset.copy_(w0.expm1().log())

    def forward(self, head: Tensor, progress: Progress | None) -> Quantized:
        with torch.autocast(head.device.type, enabled=False):
            head = full_precision(head)
            z, w = self._split(head)
            if self.training and progress is None:
                raise ValueError("training needs `progress`: its noise and its temperature")
            sharpness = w / self._temperature(progress)
            drawn = self._assign(z, sharpness, head.shape[0], progress)
            grid = drawn.indices.view(head.shape[0], *head.shape[2:])
            sample = self._sample(z, drawn, progress)
            terms = {"commitment": REGULARISERS[self.regulariser](sample)}
            if self.component_entropy:
                terms["component_entropy"] = self.noise.component_entropy(
                    z, sharpness, self.codebook, drawn.indices
                )
            return Quantized(
                z_q=to_grid(sample.z, head) if self.training else self.lookup(grid),
                indices=grid,
                z_e=to_grid(z.detach(), head),
                terms=terms,
                posterior=Posterior(sample.posterior_mean, drawn.entropy),
                statistics={"precision": w.detach().mean()},
            )

    def _temperature(self, progress: Progress | None) -> Tensor:
        """That of the step; in evaluation that of the last step of training."""
        if not self.training or progress is None:
            return self.temperature
        value = self.assignment_temperature.at(progress.fraction)
        return torch.full_like(self.temperature, value)

    @torch.no_grad()
    def after_step(
        self, quantized: Quantized, progress: Progress, optimiser_state: ParameterState
    ) -> None:
        self.temperature.fill_(self.assignment_temperature.at(progress.fraction))

    def _sample(self, z: Tensor, drawn: Assignment, progress: Progress | None) -> MixtureSample:
        """z = μ_j + σ ε (equation 18); in evaluation μ_j."""
        sampled = drawn.z_c
        if self.training and progress is not None:
            codes = nn.functional.embedding(drawn.indices, self.codebook)
            sampled = self.noise.add(sampled, z, codes, progress.noise)
        posterior_mean = global_mean(drawn.posterior_mean)
        return MixtureSample(z, sampled, drawn, posterior_mean, self.codebook, self.two_sigma2)

    def _assign(self, z: Tensor, w: Tensor, batch: int, progress: Progress | None) -> Assignment:
        temperature, gumbel = 1.0, None
        if self.training and progress is not None:
            temperature = self.gumbel_temperature.at(progress.fraction)
            if progress.fraction < self.argmax_from:
                gumbel = self._gumbel_rows(progress.noise, len(z) // batch)
        settings = AssignmentSettings(temperature, self.dense_code_gradient)
        return assign(z, w, self.codebook, gumbel, settings)

    def _gumbel_rows(self, noise: Noise, tokens_per_sample: int) -> GumbelRows:
        """Rows of Gumbel noise by token, drawn for whole samples."""

        def rows(start: int, stop: int) -> Tensor:
            first, last = start // tokens_per_sample, -(-stop // tokens_per_sample)
            part = noise.of_samples(first, last)
            drawn = part.gumbel(GUMBEL_STREAM, tokens_per_sample * self.codebook_size)
            skip = start - first * tokens_per_sample
            return drawn.view(-1, self.codebook_size)[skip : skip + stop - start]

        return rows
