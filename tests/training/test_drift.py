"""The null distribution of drift that export puts into a bundle."""

import logging

import numpy as np
import pytest
from numpy.typing import NDArray

import training.drift
from training.data import Part
from training.drift import MOST_IMAGES, with_drift_null
from vqtok.bundle import Bundle
from vqtok.runtime.engine import Engine
from vqtok.statistics import resample_null

Pixels = NDArray[np.uint8]


def test_it_is_of_the_first_half_of_the_test_images(
    bundle: Bundle, engine: Engine, cifar: Pixels
) -> None:
    found = with_drift_null(engine, bundle.reference, Part(cifar, 1000, 1600))
    tokens = engine.encode(cifar[1000:1300]).tokens
    expected = resample_null(tokens, bundle.reference.usage)
    null = found.drift_reference().null
    assert null is not None
    assert null.images.tolist() == [16, 64, 256]
    assert np.array_equal(null.quantiles, expected.quantiles)
    assert found.drift_usage is None
    assert found.drift_reference().source == "training"
    found.check_against(bundle.manifest)
    read = type(found).from_npz(found.to_npz())
    assert np.array_equal(read.drift_quantiles, null.quantiles)  # type: ignore[arg-type]


def test_of_more_than_ten_thousand_no_more_than_five_thousand_are_taken(
    bundle: Bundle, engine: Engine, cifar: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.drift, "MOST_IMAGES", 260)
    found = with_drift_null(engine, bundle.reference, Part(cifar, 0, 700))
    expected = resample_null(engine.encode(cifar[:260]).tokens, bundle.reference.usage)
    assert np.array_equal(found.drift_quantiles, expected.quantiles)  # type: ignore[arg-type]
    assert MOST_IMAGES == 5000


def test_too_few_test_images_leave_the_bundle_without_and_say_so(
    bundle: Bundle, engine: Engine, cifar: Pixels, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        same = with_drift_null(engine, bundle.reference, Part(cifar, 0, 511))
    assert same is bundle.reference
    assert "needs 512 test images, and there are 511" in caplog.text
    assert bundle.reference.drift_reference().null is None
