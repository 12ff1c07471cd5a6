"""Null distributions of drift where the truth is known, and what is refused."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.representative import few_of
from vqtok.errors import InvalidInput
from vqtok.statistics import DriftNull, ReferenceUsage, resample_null
from vqtok.statistics.resampling import FEWEST_IMAGES

Draw = Callable[[int, np.random.Generator], NDArray[np.int64]]

K = 64
CELLS = 36


def independent(num_images: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Images whose tokens know nothing of each other."""
    return rng.choice(K, (num_images, 6, 6), p=_shares())


def alike(num_images: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Images of four codes each, so that a token says much of the others."""
    palette = rng.choice(K, (num_images, 4), p=_shares())
    places = rng.integers(0, 4, (num_images, CELLS))
    return np.take_along_axis(palette, places, axis=1).reshape(num_images, 6, 6)


def _shares() -> NDArray[np.float64]:
    shares = 1 / (10 + np.arange(K))
    return shares / shares.sum()


REFERENCE = np.round(10**8 * _shares()).astype(np.int64)
USAGE = ReferenceUsage(REFERENCE)


def kl_of_fresh(
    images: Draw, size: int, count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """KL of windows of images that nobody has seen."""
    counts = (np.bincount(images(size, rng).ravel(), minlength=K) for _ in range(count))
    return np.array([USAGE.kl_bits(each[None]) for each in counts])


def test_for_independent_tokens_the_mean_is_the_bias_of_the_plug_in() -> None:
    """(K - 1) / 2n nats, from about ten tokens a code on."""
    null = resample_null(independent(8192, np.random.default_rng(0)), REFERENCE, num_windows=2000)
    assert null.images.tolist() == [16, 64, 256, 1024, 4096]
    for num_images, mean in zip(null.images[:-1], null.mean[:-1], strict=True):
        bias = (K - 1) / (2 * num_images * CELLS) / np.log(2)
        assert mean == pytest.approx(bias, rel=0.1)
    assert null.mean[-1] == pytest.approx((K - 1) / (2 * 4096 * CELLS) / np.log(2), rel=0.3)


@pytest.mark.parametrize("images", few_of([independent, alike], [alike]))
def test_fresh_windows_exceed_the_thresholds_as_often_as_they_say(images: Draw) -> None:
    """Mean over calibrations. With 1,024 images, the quantiles for windows of 1,024 are scaled from
    those of 256, and are on the safe side.
    """
    rng = np.random.default_rng(1)
    fresh = {size: kl_of_fresh(images, size, 600, rng) for size in (16, 64, 256, 1024)}
    above: dict[int, list[float]] = {size: [] for size in fresh}
    for seed in range(12):
        null = resample_null(images(1024, rng), REFERENCE, num_windows=1500, seed=seed)
        for size, values in fresh.items():
            found = null.at(size)
            assert found is not None
            above[size].append(float((values > found.quantiles[2]).mean()))
    rates = {size: np.mean(each) for size, each in above.items()}
    shown = {size: f"{rate:.2%}" for size, rate in rates.items()}
    print(f"\nfresh windows above the 99 % quantile: {shown}")  # noqa: T201
    assert all(0.003 <= rates[size] <= 0.02 for size in (16, 64, 256))
    assert rates[1024] <= 0.02


def test_thresholds_of_independent_tokens_alarm_all_the_time_where_images_are_alike() -> None:
    """Why images are drawn and not tokens."""
    rng = np.random.default_rng(2)
    tokens = rng.multinomial(64 * CELLS, _shares(), size=4000)
    threshold = np.quantile([USAGE.kl_bits(each[None]) for each in tokens], 0.99)
    assert (kl_of_fresh(alike, 64, 300, rng) > threshold).mean() > 0.95


def test_windows_drawn_with_replacement_would_hide_drift() -> None:
    """A window of n images out of N, each drawn anew, is farther off than n unseen images are."""
    rng = np.random.default_rng(3)
    images = alike(2048, rng)
    histograms = np.stack([np.bincount(each.ravel(), minlength=K) for each in images])
    drawn = [USAGE.kl_bits(histograms[rng.integers(0, 2048, 512)].sum(0)[None]) for _ in range(300)]
    fresh = kl_of_fresh(alike, 512, 300, rng)
    null = resample_null(images, REFERENCE, num_windows=1000).at(512)
    assert null is not None
    assert np.mean(drawn) == pytest.approx((1 + 512 / 2048) * fresh.mean(), rel=0.05)
    assert null.mean == pytest.approx(fresh.mean(), rel=0.05)


def test_levels_of_depth_are_summed_as_live_windows_are() -> None:
    rng = np.random.default_rng(4)
    tokens = rng.integers(0, K, (512, 6, 6, 2))
    reference = np.full((2, K), 10_000)
    null = resample_null(tokens, reference, num_windows=500)
    singles = [resample_null(tokens[..., i], reference[i], num_windows=500) for i in range(2)]
    assert null.mean == pytest.approx(sum(each.mean for each in singles), rel=0.02)


def test_equal_arguments_give_equal_numbers() -> None:
    tokens = independent(300, np.random.default_rng(5))
    ours, theirs = (resample_null(tokens, REFERENCE, num_windows=200) for _ in range(2))
    assert np.array_equal(ours.quantiles, theirs.quantiles)
    other = resample_null(tokens, REFERENCE, num_windows=200, seed=1)
    assert not np.array_equal(ours.quantiles, other.quantiles)


def test_progress_is_shown_for_every_size() -> None:
    shown: list[tuple[str, int]] = []

    def progress(items: range, description: str, total: int, /) -> range:
        shown.append((description, total))
        return items

    resample_null(independent(256, np.random.default_rng(6)), REFERENCE, num_windows=64,
                  progress=progress)  # type: ignore[arg-type]  # fmt: skip
    assert shown == [("windows of 16 images", 4), ("windows of 64 images", 16)]


def test_too_few_images_are_refused_with_the_number_that_it_takes() -> None:
    tokens = independent(FEWEST_IMAGES - 1, np.random.default_rng(7))
    with pytest.raises(InvalidInput, match=r"at least 256 held-out images, and there are 255"):
        resample_null(tokens, REFERENCE)


def made() -> dict[str, NDArray[np.generic]]:
    quantiles = np.array([[2.0, 3, 4, 5], [0.5, 0.75, 1, 1.25]])
    return {
        "drift_images": np.array([16, 64]),
        "drift_mean": np.array([2.0, 0.5]),
        "drift_sd": np.array([1.0, 0.25]),
        "drift_quantiles": quantiles,
    }


def test_between_two_sizes_logarithms_are_interpolated_and_outside_there_is_nothing() -> None:
    null = DriftNull.from_arrays(made())
    assert null is not None
    found = null.at(32)
    assert found is not None
    assert (found.mean, found.sd) == (pytest.approx(1), pytest.approx(0.5))
    assert found.quantiles == pytest.approx((1, 1.5, 2, 2.5))
    assert found.threshold == found.named["q99.9"] == pytest.approx(2.5)
    for size in (16, 64):
        assert null.at(size) is not None
    assert null.at(15) is None
    assert null.at(65) is None


def test_arrays_are_there_all_or_not_at_all() -> None:
    assert DriftNull.from_arrays({"usage": np.ones(3)}) is None
    arrays = made()
    del arrays["drift_sd"]
    with pytest.raises(ValueError, match="no drift_sd"):
        DriftNull.from_arrays(arrays)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("drift_images", [64, 16], "ascend"),
        ("drift_images", [0, 16], "ascend"),
        ("drift_mean", [1.0], "shape"),
        ("drift_mean", [1.0, np.nan], "finite"),
        ("drift_sd", [1.0, 0.0], "above 0"),
        ("drift_quantiles", [[1.0, 2, 3, 4]], "shape"),
        ("drift_quantiles", [[1.0, 3, 2, 4], [1.0, 2, 3, 4]], "ascend"),
        ("drift_quantiles", [[1.0, 2, 3, np.inf], [1.0, 2, 3, 4]], "finite"),
    ],
)
def test_arrays_that_no_calibration_makes_are_refused(
    name: str, value: list[float], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        DriftNull.from_arrays({**made(), name: np.array(value)})
