"""How long latents diffuse: every T measured on held-out images, by one network, in equal steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.priors import DiffusionPrior, vp
from models.priors.diffusion import TENTHS, Terms
from models.randomness import LATENT_STREAM
from training.priors.latents import Latents, Step, Walk, draw_latents
from training.priors.measure import evaluation_noise, first, standard_error
from training.priors.sliced import sliced_distance
from training.priors.tokens import TokenPart
from training.progress import with_bar

LEAST_IMAGES = 200
"""Held-out images below which noise would choose T; then it is the longest."""
MOST_SAMPLES = 300
"""Of each T: drawing them takes as long as all else of the table together."""
_BATCH = 100
_MOMENT_IMAGES = 10_000
_BITS = 1.0 / math.log(2.0)


@dataclass(frozen=True)
class TimeTerms:
    """One T: means over held-out images, in bits an image where nothing else is said.

    bits_per_image: the bound, token_bits + start_bits + step_bits: -log r(c | x_0), KL(q(x_T | c)
    || N(0, 1)) and what the steps cost; standard_error is its own. gaussian_start_bits: KL(p_T ||
    N(0, 1)) of a Gaussian with the training latents' moments: what of it is not the codes'.

    encoder_term, generator_term: those of Chen, Zhu and Shkurti (arXiv 2506.00849) in nats per unit
    of R, a constant that nobody measures; so nothing is chosen by them.

    distance, distance_error: sliced Wasserstein, of samples to latents of held-out images, 0 where
    there are too few.
    """

    time: float
    schedule: str
    passes: int
    bits_per_image: float
    standard_error: float
    token_bits: float
    start_bits: float
    step_bits: float
    gaussian_start_bits: float
    encoder_term: float
    generator_term: float
    distance: float
    distance_error: float


def choose_time(
    prior: DiffusionPrior, train: TokenPart, held: TokenPart, seed: int
) -> list[TimeTerms]:
    """Measure all T, 0.1 to 1, and set the smallest whose samples are as near to held-out latents
    as the nearest, give or take one standard error of its distance.

    With fewer than `LEAST_IMAGES` held-out images there are no distances, and T stays 1.
    """
    prior.eval()
    terms = _terms(prior, held)
    gaussian = _gaussian_start(prior, train)
    distances = _distances(prior, held, seed) if len(held) >= LEAST_IMAGES else []
    rows = [
        _row(prior, terms, tenth, len(train), gaussian[tenth], distances) for tenth in range(TENTHS)
    ]
    prior.set_schedule(_nearest(rows).schedule if distances else rows[-1].schedule)
    return rows


def _nearest(rows: Sequence[TimeTerms]) -> TimeTerms:
    best = min(rows, key=lambda row: row.distance)
    return next(row for row in rows if row.distance <= best.distance + best.distance_error)


def _row(
    prior: DiffusionPrior,
    terms: Terms,
    tenth: int,
    num_train: int,
    gaussian: float,
    distances: Sequence[tuple[float, float]],
) -> TimeTerms:
    steps = (tenth + 1) * prior.steps_a_tenth
    bits = terms.bound()[:, tenth].numpy() * _BITS
    time = torch.tensor((tenth + 1) / TENTHS, dtype=torch.float64)
    largest = float(terms.score[:, : tenth + 1].mean(0).max())
    passed = float(vp.integral(time))
    distance, error = distances[tenth] if distances else (0.0, 0.0)
    return TimeTerms(
        time=float(time),
        schedule=f"steps-{steps}",
        passes=steps,
        bits_per_image=float(bits.mean()),
        standard_error=standard_error(bits),
        token_bits=float(terms.tokens.mean()) * _BITS,
        start_bits=float(terms.start[:, tenth].mean()) * _BITS,
        step_bits=float(terms.steps[:, : tenth + 1].sum(1).mean()) * _BITS,
        gaussian_start_bits=gaussian * _BITS,
        encoder_term=math.sqrt(2.0) * float(terms.start[:, tenth].sqrt().mean()),
        generator_term=math.sqrt(2.0) * math.sqrt(largest**2 * passed / (2 * num_train)),
        distance=distance,
        distance_error=error,
    )


def _terms(prior: DiffusionPrior, held: TokenPart) -> Terms:
    """Of all held-out images, without labels."""
    starts = range(0, len(held), _BATCH)
    parts: list[Terms] = []
    for start in with_bar("terms of the bound", starts, len(starts)):
        tokens = torch.from_numpy(held.tokens[start : start + _BATCH].astype(np.int64))
        tokens = tokens.to(prior.mixture.codes.device)
        labels = torch.full((len(tokens),), prior.shape.no_label, device=tokens.device)
        parts.append(prior.terms(tokens, labels, evaluation_noise(start, labels)))
    return Terms(*(torch.cat(each).cpu() for each in zip(*parts, strict=True)))


def held_out_latents(prior: DiffusionPrior, held: TokenPart) -> Latents:
    """x_0 = e_c + η ε of held-out images, (n, N, D)."""
    clean = prior.mixture.codes.cpu()[torch.from_numpy(held.tokens.astype(np.int64))]
    noise = evaluation_noise(0, clean)._replace(seed=1)
    drawn = noise.normal(LATENT_STREAM, clean[0].numel()).view_as(clean)
    return (clean + prior.mixture.variance.cpu().sqrt() * drawn).numpy()


def _distances(prior: DiffusionPrior, held: TokenPart, seed: int) -> list[tuple[float, float]]:
    latents = held_out_latents(prior, first(held, MOST_SAMPLES))
    others = latents.reshape(len(latents), -1)
    labels = np.full(len(latents), prior.shape.no_label, np.int32)
    numbers = range(len(latents))
    found: list[tuple[float, float]] = []
    for tenth in with_bar("samples of every T", range(TENTHS), TENTHS):
        steps = (tenth + 1) * prior.steps_a_tenth
        walk = Walk(steps, prior.step_size, (latents.shape[1], latents.shape[2]))
        samples = draw_latents(torch_step(prior), walk, seed, numbers, labels)
        found.append(sliced_distance(samples.reshape(others.shape), others, seed))
    return found


def torch_step(prior: DiffusionPrior) -> Step:
    """The step of a prior as `draw_latents` takes it."""
    device = prior.mixture.codes.device

    @torch.no_grad()
    def step(x: Latents, times: Latents, labels: NDArray[np.int32], noise: Latents) -> Latents:
        now, when, rows, drawn = (
            torch.from_numpy(each).to(device) for each in (x, times, labels.astype(np.int64), noise)
        )
        return prior.step(now, when, rows, drawn).cpu().numpy()

    return step


def _gaussian_start(prior: DiffusionPrior, train: TokenPart) -> list[float]:
    """KL(N(m_T, C_T) || N(0, 1)) in nats for every T, of the moments of training latents."""
    mixture = prior.mixture
    codes = mixture.codes.cpu().double().numpy()
    clean = codes[train.tokens[:_MOMENT_IMAGES]].reshape(min(len(train), _MOMENT_IMAGES), -1)
    mean = clean.mean(0)
    own = np.tile(mixture.variance.cpu().double().numpy(), train.tokens.shape[1])
    spread = (clean - mean).T @ (clean - mean) / len(clean) + np.diag(own)
    values = np.linalg.eigvalsh(spread)
    found: list[float] = []
    for tenth in range(1, TENTHS + 1):
        squared = float(vp.kept(torch.tensor(tenth / TENTHS, dtype=torch.float64))) ** 2
        at = squared * values + 1.0 - squared
        found.append(0.5 * float((at - 1.0 - np.log(at)).sum() + squared * (mean @ mean)))
    return found
