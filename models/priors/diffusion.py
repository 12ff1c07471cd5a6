"""Diffusion over the vectors that codes stand for: smooth latents, and a bound on the bits."""

import re
from typing import NamedTuple

import torch
from torch import Tensor

from models.priors import vp
from models.priors.base import TokenModel, TokenShape
from models.priors.labels import without_some
from models.priors.latent_transformer import LatentTransformer
from models.priors.mixture import LatentMixture
from models.priors.tables import marginal
from models.randomness import LATENT_STREAM, TIME_STREAM, Noise

TENTHS = 10
"""Parts of the diffusion's longest time, 1, and the times T that it may end at."""
_SCHEDULE = re.compile(r"steps-([1-9][0-9]{0,5})")


class Terms(NamedTuple):
    """The bound on -log p in nats, float64, by tenths of time: T = 0.1, 0.2, … .

    tokens (B,): -log r(c | x_0). start (B, tenths): KL(q(x_T | c) || N(0, 1)). steps (B, tenths):
    what the steps of that tenth of time cost. score (B, tenths): the norm of the score there.
    """

    tokens: Tensor
    start: Tensor
    steps: Tensor
    score: Tensor

    def bound(self) -> Tensor:
        """(B, tenths): the bound for each T."""
        return self.tokens[:, None] + self.start + self.steps.cumsum(1)


class DiffusionPrior(TokenModel):
    """Latents x_0 = e_c + η ε of all positions, the mixture's own noise, diffused until T; from
    N(0, 1) ancestral steps lead back, and tokens are drawn by their responsibility for x_0.

    p(c) = ∫ p(x_0) r(c | x_0) dx_0 has no closed form. With q(x_t | c) = N(α e_c, v), which is what
    the mixture noise makes of a code, and ê the network's guess of e_c (Kingma et al. 2021):

    -log p(c) <= E[-log r(c | x_0)] + KL(q(x_T | c) || N(0, 1)) + Σ_steps E KL(q(x_s | x_t, e_c) ||
                 p(x_s | x_t)),    p(x_s | x_t) = N(mean of q(x_s | x_t, ê), w)

    for the very steps that samples take. w is the variance of q(x_s | x_t, e) and what ê's mean
    squared error, `spread`, adds to it, the best there is (Bao et al. 2022). Without its network
    ê is E[e_c | x_t] of each position alone, in closed form; the network learns what the others
    change.

    step_size: of time, the same for every T; a tenth is a multiple of it.
    noise_scale: the latents' noise as a share of the mixture's own.
    label_dropout: share of the training that does without its label.
    """

    is_exact = False
    spread: Tensor

    def __init__(
        self,
        shape: TokenShape,
        width: int = 104,
        num_layers: int = 4,
        num_heads: int = 4,
        step_size: float = 0.01,
        noise_scale: float = 1.0,
        label_dropout: float = 0.1,
    ) -> None:
        super().__init__(shape)
        if len(shape.grid) != 2 or not shape.code_dim:
            raise ValueError("diffusion takes tokenizers of one token a cell, and their codes")
        if not 0 <= label_dropout <= 1 or not noise_scale > 0:
            raise ValueError("label_dropout is a share, in 0 .. 1; noise_scale is positive")
        self.steps_a_tenth = round(1.0 / (TENTHS * step_size)) if step_size > 0 else 0
        if not self.steps_a_tenth or abs(self.steps_a_tenth * TENTHS * step_size - 1) > 1e-9:
            raise ValueError(f"step_size {step_size} is no whole part of a tenth")
        self.step_size, self.noise_scale = step_size, noise_scale
        self.label_dropout = label_dropout
        self.mixture = LatentMixture(shape.codebook_size, shape.code_dim)
        self.network = LatentTransformer(shape, width, num_layers, num_heads)
        steps = TENTHS * self.steps_a_tenth
        self.register_buffer("spread", torch.zeros(steps, shape.code_dim))
        self.set_schedule(f"steps-{steps}")

    def set_schedule(self, schedule: str) -> None:
        matched = _SCHEDULE.fullmatch(schedule)
        num_steps = int(matched[1]) if matched else 0
        tenths, rest = divmod(num_steps, self.steps_a_tenth)
        if rest or not 1 <= tenths <= TENTHS:
            raise ValueError(
                f"{schedule!r} is not steps-S with S a multiple of {self.steps_a_tenth}, at most "
                f"{TENTHS * self.steps_a_tenth}"
            )
        self.schedule, self._num_steps = schedule, num_steps

    @property
    def num_passes(self) -> int:
        return self._num_steps

    def begin(self, counts: Tensor, codes: Tensor, sigma: float) -> None:
        """Take the counts of training tokens, int64 (N, K), the vectors that codes stand for,
        float32 (K, D), and the σ of the mixture's noise around them.
        """
        weights = marginal(counts, self.shape)[0]
        self.mixture.begin(codes, self.noise_scale * sigma, weights)

    def denoise(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """ê (B, N, D) of latents x (B, N, D) at times t (B,)."""
        kept, variance = self._kernel(t)
        guess = self.mixture.posterior_mean(x, kept, variance)
        # √v is how far the guess of a Gaussian is off, up to a constant.
        return guess + variance.sqrt() * self.network(x, guess, t, labels)

    def step(self, x: Tensor, times: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """x_s (B, N, D) of x_t (B, N, D), times (B, 2) t and s, and normal numbers (B, N, D)."""
        t, s = (each[:, None, None] for each in times.unbind(1))
        clean = self.denoise(x, times[:, 0], labels)
        mean, variance = vp.backward(x, clean, t, s, self.mixture.variance)
        number = (times[:, 0] / self.step_size).round().long()
        widened = 1.0 + self._gained(t, s) * self.spread[number - 1][:, None]
        return mean + (variance * widened).sqrt() * noise

    def loss(self, tokens: Tensor, labels: Tensor, noise: Noise) -> Tensor:
        """That part of the bound, in steps infinitely small, which the network decides.

        Times are drawn where it is large, and one half of them evenly.
        """
        labels = without_some(labels, self.shape.no_label, self.label_dropout, noise)
        t, density = self._random_times(noise)
        clean = self.mixture.codes[tokens]
        kept, variance = self._kernel(t)
        drawn = noise.normal(LATENT_STREAM, clean[0].numel()).view_as(clean)
        x = kept * clean + variance.sqrt() * drawn
        weight = 0.5 * vp.rate(t)[:, None, None] * kept.square() / variance.square()
        error = (clean - self.denoise(x, t, labels).float()).square() * weight
        return (error.sum((1, 2)) / density).mean() / self.shape.num_positions

    def nats(self, tokens: Tensor, labels: Tensor, noise: Noise) -> Tensor:
        """An estimate without bias of the bound on -log p, float64 (B,)."""
        tenths = self.num_passes // self.steps_a_tenth
        return self.terms(tokens, labels, noise, tenths).bound()[:, -1]

    @torch.no_grad()
    def terms(
        self, tokens: Tensor, labels: Tensor, noise: Noise, num_tenths: int = TENTHS
    ) -> Terms:
        """The terms of the bound for every T up to a number of tenths.

        Of the steps of a tenth one is drawn for each grid, and counts for all of them.
        """
        clean = self.mixture.codes[tokens]
        count, size = 1 + num_tenths, clean[0].numel()
        drawn = noise.normal(LATENT_STREAM, count * size).view(-1, count, *clean.shape[1:])
        chosen = (noise.uniform(TIME_STREAM, num_tenths) * self.steps_a_tenth).long() + 1
        x_0 = clean + self.mixture.variance.sqrt() * drawn[:, 0]
        steps = clean.new_zeros(len(clean), num_tenths, dtype=torch.float64)
        score = torch.zeros_like(steps)
        for tenth in range(num_tenths):
            number = tenth * self.steps_a_tenth + chosen[:, tenth]
            cost, norm = self._step_cost(clean, labels, number, drawn[:, 1 + tenth])
            steps[:, tenth], score[:, tenth] = cost * self.steps_a_tenth, norm
        said = -self.mixture.responsibility(x_0, tokens).double().sum(1)
        return Terms(said, self._start(clean.double(), num_tenths), steps, score)

    @torch.no_grad()
    def measure_spread(self, number: int, tokens: Tensor, labels: Tensor, noise: Noise) -> None:
        """Take the guess's mean squared error before step `number` from training tokens."""
        clean = self.mixture.codes[tokens]
        drawn = noise.normal(LATENT_STREAM, clean[0].numel()).view_as(clean)
        t = torch.full(labels.shape, number * self.step_size, device=clean.device)
        _, guess, _ = self._guessed(clean, labels, t, drawn)
        self.spread[number - 1] = (clean - guess).square().mean((0, 1))

    def _step_cost(
        self, clean: Tensor, labels: Tensor, number: Tensor, drawn: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of the steps with these numbers, 1 .. S (B,): what they cost, and the score's norm."""
        t, s = (self.step_size * each.double() for each in (number, number - 1))
        x, guess, variance = self._guessed(clean, labels, t.float(), drawn)
        gained = self._gained(t[:, None, None], s[:, None, None])
        widened = gained * self.spread[number - 1].double()[:, None]
        errors = (clean - guess).double().square()
        cost = (1.0 + gained * errors) / (1.0 + widened) - 1.0 + widened.log1p()
        score = (x - vp.kept(t.float())[:, None, None] * guess) / variance
        return 0.5 * cost.sum((1, 2)), score.double().square().sum((1, 2)).sqrt()

    def _guessed(
        self, clean: Tensor, labels: Tensor, t: Tensor, drawn: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x_t of codes' vectors (B, N, D), times (B,) and normal numbers; ê of it; v."""
        kept, variance = self._kernel(t)
        x = kept * clean + variance.sqrt() * drawn
        return x, self.denoise(x, t, labels), variance

    def _gained(self, t: Tensor, s: Tensor) -> Tensor:
        """α_s² / v_s - α_t² / v_t."""
        start = self.mixture.variance.to(t.dtype)
        return vp.signal_to_noise(s, start) - vp.signal_to_noise(t, start)

    def _start(self, clean: Tensor, num_tenths: int) -> Tensor:
        tenths = torch.arange(1, num_tenths + 1, device=clean.device) / TENTHS
        t = tenths.double()[:, None]
        variance = vp.variance(t, self.mixture.variance.double())
        spread = (variance - 1.0 - variance.log()).sum(1) * clean.shape[1]
        squares = clean.square().sum((1, 2))[:, None] * vp.kept(t)[:, 0].square()
        return 0.5 * (spread + squares)

    def _kernel(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """α (B, 1, 1) and v (B, 1, D) at times (B,)."""
        column = t[:, None, None]
        return vp.kept(column), vp.variance(column, self.mixture.variance)

    def _random_times(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """Times (B,), spread over the batch (Kingma et al. 2021), and their density (B,)."""
        count = noise.num_samples
        places = torch.arange(count, device=noise.sample_indices.device) / count
        u = (noise.batch_uniform(TIME_STREAM, 1) + places) % 1.0
        return vp.times_of_weight(u, self.mixture.variance.mean())
