"""Metrics: against other people's code and against closed forms."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from training.metrics import Reconstructions, Usage, entropy, psnr, ssim

Floats = NDArray[np.float64]


@dataclass
class Pair:
    images: Floats
    others: Floats


@pytest.fixture
def pair(cifar: NDArray[np.uint8]) -> Pair:
    """Real images in [0, 1], and the same with noise of a strength of their own."""
    rng = np.random.default_rng(0)
    images = cifar[:12] / 255.0
    strength = np.linspace(0.01, 0.2, 12)[:, None, None, None]
    return Pair(images, np.clip(images + strength * rng.standard_normal(images.shape), 0, 1))


def test_mse_is_the_mean_over_all_values_however_they_were_added(pair: Pair) -> None:
    for cuts in ([], [1], [5, 6]):
        errors = Reconstructions()
        for some, other in zip(
            np.split(pair.images, cuts), np.split(pair.others, cuts), strict=True
        ):
            errors.add(some, other)
        assert errors.summary()["mse"] == pytest.approx(np.mean((pair.images - pair.others) ** 2))


def test_psnr_is_the_mean_of_scikit_images_over_images(pair: Pair) -> None:
    errors = Reconstructions()
    errors.add(pair.images, pair.others)
    singles = [
        peak_signal_noise_ratio(a, b, data_range=1.0)
        for a, b in zip(pair.images, pair.others, strict=True)
    ]
    summary = errors.summary()
    assert summary["psnr"] == pytest.approx(np.mean(singles))
    assert summary["psnr"] > float(psnr(summary["mse"])) + 0.5


def test_ssim_is_the_mean_of_scikit_images_over_images(pair: Pair) -> None:
    errors = Reconstructions()
    errors.add(pair.images, pair.others)
    singles = [
        structural_similarity(a, b, channel_axis=2, data_range=1.0)  # type: ignore[no-untyped-call]
        for a, b in zip(pair.images, pair.others, strict=True)
    ]
    assert errors.summary()["ssim"] == pytest.approx(np.mean(np.asarray(singles, np.float64)))


def test_uniform_noise_of_known_variance_has_the_known_psnr() -> None:
    rng = np.random.default_rng(0)
    images = np.full((20, 64, 64, 3), 0.5)
    errors = Reconstructions()
    errors.add(images, images + rng.uniform(-0.1, 0.1, images.shape))
    assert errors.summary()["psnr"] == pytest.approx(-10 * math.log10(0.2**2 / 12), abs=0.02)


@pytest.mark.parametrize(("mse", "decibels"), [(1.0, 0.0), (0.01, 20.0), (1e-4, 40.0)])
def test_psnr_of_an_error_is_its_decibels(mse: float, decibels: float) -> None:
    assert float(psnr(mse)) == pytest.approx(decibels)


def test_an_image_without_error_leaves_the_figures_finite(pair: Pair) -> None:
    errors, without = Reconstructions(), Reconstructions()
    errors.add(pair.images[:2], np.stack([pair.images[0], pair.others[1]]))
    without.add(pair.images[1:2], pair.others[1:2])
    assert errors.summary()["psnr"] == without.summary()["psnr"]
    assert errors.summary()["mse"] == pytest.approx(without.summary()["mse"] / 2)


def test_images_without_any_error_have_no_psnr() -> None:
    errors = Reconstructions()
    errors.add(np.zeros((2, 16, 16, 3)), np.zeros((2, 16, 16, 3)))
    assert errors.summary() == {"mse": 0.0, "ssim": 1.0}


def test_identical_images_have_a_similarity_of_one_and_others_less(pair: Pair) -> None:
    for image, other in zip(pair.images, pair.others, strict=True):
        assert ssim(image, image) == pytest.approx(1.0)
        assert ssim(image, other) < 0.999


def test_images_smaller_than_the_window_have_no_ssim() -> None:
    errors = Reconstructions()
    errors.add(np.zeros((1, 6, 32, 3)), np.ones((1, 6, 32, 3)))
    assert set(errors.summary()) == {"mse", "psnr"}


def test_entropy_is_scipys_in_nats() -> None:
    p = np.random.default_rng(0).dirichlet(np.full(50, 0.3))
    p[7] = 0.0
    p /= p.sum()
    assert entropy(p) == pytest.approx(float(scipy.stats.entropy(p)))


@pytest.mark.parametrize("codes", [2, 16, 1024])
def test_uniform_tokens_have_a_perplexity_of_all_codes(codes: int) -> None:
    usage = Usage(codes)
    usage.add(np.arange(4 * codes).reshape(2, 2, codes) % codes)
    summary = usage.summary()
    assert summary["perplexity"] == pytest.approx(codes)
    assert (summary["used_codes"], summary["num_tokens"]) == (codes, 4 * codes)


def test_one_token_alone_has_a_perplexity_of_one() -> None:
    usage = Usage(16)
    usage.add(np.full((3, 8, 8), 5))
    assert usage.summary()["perplexity"] == pytest.approx(1.0)
    assert usage.summary()["used_codes"] == 1


def test_perplexity_is_pooled_over_batches_and_not_averaged() -> None:
    usage = Usage(4)
    for code in range(4):
        usage.add(np.full((2, 3), code))
    assert usage.summary()["perplexity"] == pytest.approx(4.0)


def test_soft_figures_are_pooled_by_tokens() -> None:
    usage = Usage(2)
    usage.add(np.zeros(1, np.int64))
    usage.add_soft(np.array([1.0, 0.0]), 0.0, 10)
    usage.add_soft(np.array([0.5, 0.5]), math.log(2), 30)
    summary = usage.summary()
    marginal = float(scipy.stats.entropy([(10 + 15) / 40, 15 / 40]))
    assert summary["soft_perplexity"] == pytest.approx(math.exp(marginal))
    assert summary["posterior_entropy"] == pytest.approx(0.75 * math.log(2))
    assert summary["mutual_information"] == pytest.approx(marginal - 0.75 * math.log(2))


def test_mutual_information_is_that_of_the_joint_table() -> None:
    posteriors = np.random.default_rng(1).dirichlet(np.full(8, 0.2), size=60)
    usage = Usage(8)
    usage.add(posteriors.argmax(1))
    for rows in np.split(posteriors, [7, 30]):
        usage.add_soft(rows.mean(0), float(scipy.stats.entropy(rows, axis=1).mean()), len(rows))
    joint = posteriors / 60
    independent = joint.sum(0) * joint.sum(1, keepdims=True)
    expected = float(scipy.stats.entropy(joint.ravel(), independent.ravel()))
    assert usage.summary()["mutual_information"] == pytest.approx(expected)


def test_hard_tokens_alone_have_no_soft_figures() -> None:
    usage = Usage(4)
    usage.add(np.arange(4))
    assert set(usage.summary()) == {"perplexity", "bits_per_cell", "used_codes", "num_tokens"}


def levels_of_tokens(seed: int = 0) -> np.ndarray:
    """(200, 3, 4, 2) tokens of 16 codes, the first level almost uniform, the second skewed."""
    rng = np.random.default_rng(seed)
    skewed = rng.geometric(0.4, size=(200, 3, 4)).clip(1, 16) - 1
    return np.stack([rng.integers(0, 16, size=(200, 3, 4)), skewed], axis=-1)


def entropy_of(tokens: np.ndarray) -> float:
    return float(scipy.stats.entropy(np.bincount(tokens.reshape(-1))))


def test_perplexity_of_depth_is_the_geometric_mean_of_the_levels() -> None:
    tokens = levels_of_tokens()
    usage = Usage(16, depth=2)
    for part in np.split(tokens, [50, 60]):
        usage.add(part)
    levels = [math.exp(entropy_of(tokens[..., level])) for level in range(2)]
    summary = usage.summary()
    assert summary["perplexity"] == pytest.approx(math.sqrt(levels[0] * levels[1]))
    assert summary["num_tokens"] == tokens.size
    assert summary["used_codes"] == sum(len(np.unique(tokens[..., level])) for level in range(2))


def test_bits_per_cell_are_the_code_length_of_a_cell_by_its_levels_frequencies() -> None:
    tokens = levels_of_tokens()
    usage = Usage(16, depth=2)
    usage.add(tokens)
    lengths = np.zeros(tokens.shape[:-1])
    for level in range(2):
        shares = np.bincount(tokens[..., level].reshape(-1), minlength=16) / tokens[..., 0].size
        lengths -= np.log2(shares[tokens[..., level]])
    assert usage.summary()["bits_per_cell"] == pytest.approx(lengths.mean())


def test_independent_levels_cost_what_a_cell_costs_and_dependent_ones_more() -> None:
    """Levels that copy each other hold half of the bits that their own frequencies cost."""
    first = np.arange(16).repeat(16)
    independent, copies = Usage(16, depth=2), Usage(16, depth=2)
    independent.add(np.stack([first, np.tile(np.arange(16), 16)], axis=-1))
    copies.add(np.stack([first, first], axis=-1))
    for usage in (independent, copies):
        assert usage.summary()["bits_per_cell"] == pytest.approx(8.0)
        assert usage.summary()["perplexity"] == pytest.approx(16.0)


def test_one_level_of_depth_is_the_plain_figure() -> None:
    tokens = levels_of_tokens()[..., 1]
    plain, deep = Usage(16), Usage(16, depth=1)
    plain.add(tokens)
    deep.add(tokens[..., None])
    assert plain.summary() == deep.summary()
    assert plain.summary()["bits_per_cell"] == pytest.approx(entropy_of(tokens) / math.log(2))


def test_codes_of_one_level_are_none_of_another_s() -> None:
    """Level 0 uses codes 0 and 1, level 1 codes 2 and 3: each level is worth one bit."""
    usage = Usage(4, depth=2)
    usage.add(np.array([[0, 2], [1, 3], [0, 3], [1, 2]]))
    assert usage.summary()["perplexity"] == pytest.approx(2.0)
    assert usage.summary()["used_codes"] == 4


def test_soft_figures_of_depth_are_means_over_levels() -> None:
    usage = Usage(2, depth=2)
    usage.add(np.zeros((10, 2), np.int64))
    usage.add_soft(np.array([[1.0, 0.0], [0.5, 0.5]]), 0.25, 20)
    summary = usage.summary()
    assert summary["soft_perplexity"] == pytest.approx(math.sqrt(2.0))
    assert summary["posterior_entropy"] == pytest.approx(0.25)
    assert summary["mutual_information"] == pytest.approx(math.log(2.0) / 2 - 0.25)
