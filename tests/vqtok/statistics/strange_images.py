"""Images of 32 x 32 unlike CIFAR-10's: (folder of data, number) -> uint8 (n, 32, 32, 3)."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from training.data.cifar10 import read_packed

FIRST = 5000
"""Of the test images; those before calibrate."""

Pixels = NDArray[np.uint8]


def cifar(data_dir: Path, count: int) -> Pixels:
    """Test images as they are."""
    return read_packed(data_dir / "cifar10" / "test.npz")[FIRST : FIRST + count]


def inverted(data_dir: Path, count: int) -> Pixels:
    """Their negatives."""
    return 255 - cifar(data_dir, count)


def blurred(data_dir: Path, count: int) -> Pixels:
    """Blurred by a Gaussian of one pixel."""
    images = [gaussian_filter(image, (1, 1, 0)) for image in cifar(data_dir, count)]
    return np.stack(images).astype(np.uint8)


def fashion(data_dir: Path, count: int) -> Pixels:
    """Fashion-MNIST, two pixels wider on each side, grey as RGB."""
    grey = _grey(data_dir / "fashion-mnist")[:count]
    return np.pad(grey, ((0, 0), (2, 2), (2, 2)))[..., None].repeat(3, axis=-1)


def _grey(folder: Path) -> Pixels:
    """(10000, 28, 28) of the file of test images, as it is published or packed as npz."""
    packed, published = folder / "fashion-mnist.npz", folder / "t10k-images-idx3-ubyte.gz"
    if packed.is_file():
        with np.load(packed, allow_pickle=False) as archive:
            return archive["test_images"]
    header_bytes = 16
    data = gzip.decompress(published.read_bytes())
    return np.frombuffer(data, np.uint8, offset=header_bytes).reshape(-1, 28, 28)


STRANGE: dict[str, Callable[[Path, int], Pixels]] = {
    "fashion": fashion,
    "inverted": inverted,
    "blurred": blurred,
}
