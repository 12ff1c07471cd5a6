"""Figures of a reconstruction: those of scikit-image, by bands, null where undefined."""

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from service import quality
from service.quality import compare


def _pair(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng([height, width])
    image = rng.integers(0, 256, (height, width, 3))
    noise = rng.normal(0, 20, image.shape)
    return image.astype(np.uint8), np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(32, 32), (7, 50), (50, 7), (101, 63)])
def test_the_figures_are_those_of_scikit_image_whatever_the_bands(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, other = _pair(*size)
    whole = compare(image, other)
    monkeypatch.setattr(quality, "BAND_PIXELS", 5 * size[1])
    banded = compare(image, other)
    assert whole.mse == pytest.approx(mean_squared_error(image / 255, other / 255))
    assert whole.psnr == pytest.approx(peak_signal_noise_ratio(image, other))
    assert whole.ssim == pytest.approx(structural_similarity(image, other, channel_axis=2))
    assert banded.mse == whole.mse
    assert banded.ssim == pytest.approx(whole.ssim, abs=1e-9)


def test_what_is_undefined_is_null() -> None:
    image, other = _pair(6, 40)
    assert compare(image, other).ssim is None
    assert compare(image, other).psnr is not None
    same = compare(image, image)
    assert (same.mse, same.psnr) == (0.0, None)
