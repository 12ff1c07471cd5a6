"""Drift of real images, tokenized by the shipped bundle: false alarms as rare as they are said to
be, and an alarm for what is not CIFAR-10.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vqtok.statistics.strange_images import STRANGE
from training.data.cifar10 import read_packed
from vqtok.bundle import Bundle
from vqtok.runtime.engine import Engine
from vqtok.runtime.onnx import open_engine
from vqtok.statistics import (
    DriftReference,
    LiveWindows,
    ReferenceUsage,
    Shape,
    Window,
    resample_null,
)
from vqtok.statistics.window import Stack

BUNDLE = Path(__file__).parents[3] / "bundles" / "cifar10-gmvq"
WINDOW_IMAGES = 85
BATCH = 8

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(BUNDLE)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return open_engine(bundle, "cpu", num_threads=1)


@pytest.fixture(scope="module")
def cifar(data_dir: Path) -> Pixels:
    return read_packed(data_dir / "cifar10" / "test.npz")


def encoded(engine: Engine, images: Pixels) -> list[Stack]:
    rows: list[Stack] = []
    for start in range(0, len(images), BATCH):
        batch = engine.encode(np.ascontiguousarray(images[start : start + BATCH]))
        rows.extend(zip(batch.tokens[:, None], batch.margins[:, None], strict=True))
    return rows


def tokens_of(rows: list[Stack]) -> NDArray[np.int32]:
    return np.concatenate([row[0] for row in rows])


def kl_of_windows(
    tokens: NDArray[np.int32], usage: ReferenceUsage, size: int, count: int, seed: int
) -> NDArray[np.float64]:
    """KL of windows of different images, drawn by lot."""
    rng, codes = np.random.default_rng(seed), usage.counts.shape[1]
    drawn = (rng.choice(len(tokens), size, replace=False) for _ in range(count))
    histograms = (np.bincount(tokens[each].ravel(), minlength=codes) for each in drawn)
    return np.array([usage.kl_bits(each[None]) for each in histograms])


def rates_above(
    tokens: NDArray[np.int32], reference: NDArray[np.int64], sizes: tuple[int, ...],
    num_windows: int, num_halvings: int = 20,
) -> dict[int, NDArray[np.float64]]:  # fmt: skip
    """By the size of a window, the share of windows of one half of the images that exceed the 99 %
    quantile made from the other half, for each halving.
    """
    usage = ReferenceUsage(reference)
    above: dict[int, list[float]] = {size: [] for size in sizes}
    for seed in range(num_halvings):
        order = np.random.default_rng(seed).permutation(len(tokens))
        ours, theirs = np.array_split(tokens[order], 2)
        null = resample_null(ours, reference, num_windows=2 * num_windows, seed=seed)
        for size in sizes:
            found = null.at(size)
            assert found is not None
            values = kl_of_windows(theirs, usage, size, num_windows, seed)
            above[size].append(float((values > found.quantiles[2]).mean()))
    return {size: np.array(each) for size, each in above.items()}


def hold(rates: dict[int, NDArray[np.float64]]) -> None:
    for size, each in rates.items():
        spread = f"sd {each.std(ddof=1):.2%}, {each.min():.2%} .. {each.max():.2%}"
        print(  # noqa: T201
            f"\nwindows of {size} images above the 99 % quantile of the other half: "
            f"mean {each.mean():.2%} of {len(each)} halvings, {spread}"
        )
    assert all(0.003 <= each.mean() <= 0.02 for each in rates.values())


@pytest.mark.slow
def test_windows_of_the_other_half_exceed_the_99_percent_threshold_as_often_as_that(
    bundle: Bundle, engine: Engine, cifar: Pixels
) -> None:
    tokens = tokens_of(encoded(engine, cifar[:2048]))
    hold(rates_above(tokens, bundle.reference.usage, (16, 64), 500))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_of_all_test_images_too(bundle: Bundle, engine: Engine, cifar: Pixels) -> None:
    tokens = tokens_of(encoded(engine, cifar))
    hold(rates_above(tokens, bundle.reference.usage, (64, 256, 1024), 1000))


@pytest.fixture(scope="module")
def calibrated(bundle: Bundle, engine: Engine, cifar: Pixels) -> DriftReference:
    usage = bundle.reference.usage
    null = resample_null(tokens_of(encoded(engine, cifar[:1024])), usage, num_windows=5000)
    return DriftReference(ReferenceUsage(usage), null)


def windows_of(bundle: Bundle, calibrated: DriftReference, size: int) -> LiveWindows:
    shape = Shape.of(bundle.manifest)
    return LiveWindows(shape, calibrated, {"recent": size}, calibrated=True)


@pytest.mark.parametrize("size", [64, WINDOW_IMAGES])
@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
def test_three_windows_of_strange_images_raise_the_alarm(
    bundle: Bundle,
    engine: Engine,
    data_dir: Path,
    calibrated: DriftReference,
    strange: Callable[[Path, int], Pixels],
    size: int,
) -> None:
    windows = windows_of(bundle, calibrated, size)
    images = strange(data_dir, 3 * WINDOW_IMAGES)
    for row in encoded(engine, images):
        windows.add([row])
    alarm = windows.states()["recent"].alarm
    assert alarm is not None
    assert alarm.is_on
    assert (alarm.windows_above, alarm.alarms) == (3, 1)


def test_other_test_images_raise_none(
    bundle: Bundle, engine: Engine, cifar: Pixels, calibrated: DriftReference
) -> None:
    """18 windows of 85 images that the calibration has not seen."""
    windows, above = windows_of(bundle, calibrated, WINDOW_IMAGES), 0
    rows = encoded(engine, cifar[5000 : 5000 + 18 * WINDOW_IMAGES])
    for start in range(0, len(rows), WINDOW_IMAGES):
        windows.add(rows[start : start + WINDOW_IMAGES])
        alarm = windows.states()["recent"].alarm
        assert alarm is not None
        assert alarm.alarms == 0
        above += alarm.windows_above > 0
    print(f"\n{above} of 18 windows above the threshold")  # noqa: T201
    assert windows.states()["recent"].num_windows == 18


def test_the_null_is_of_what_live_windows_compute(
    bundle: Bundle, engine: Engine, cifar: Pixels
) -> None:
    """The same images give the same KL on both ways."""
    rows = encoded(engine, cifar[:256])
    usage = ReferenceUsage(bundle.reference.usage)
    window = Window.of(Shape.of(bundle.manifest), rows[:64])
    every = [
        Window.of(Shape.of(bundle.manifest), rows[start : start + 64]).weights
        for start in range(0, 256, 64)
    ]
    null = resample_null(tokens_of(rows), bundle.reference.usage, num_windows=400).at(64)
    assert null is not None
    assert usage.kl_bits(window.weights) == pytest.approx(null.mean, abs=5 * null.sd)
    mean = float(np.mean([usage.kl_bits(each) for each in every]))
    assert mean == pytest.approx(null.mean, abs=3 * null.sd / 2)
