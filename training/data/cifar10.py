"""CIFAR-10 (Krizhevsky 2009) from its official binary files or a packed lossless form of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

PACKED_TRAIN, PACKED_TEST = ("train-0.npz", "train-1.npz"), ("test.npz",)
BINARY_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
BINARY_TEST = ("test_batch.bin",)
_RECORD_BYTES = 1 + 3 * 32 * 32


def load_cifar10(folder: Path) -> tuple[Images, Images]:
    """Train (50000, 32, 32, 3) and test (10000, 32, 32, 3) images, uint8 RGB, original order.

    Takes the binary version (`data_batch_1.bin` … in the folder or in `cifar-10-batches-bin` below
    it), or the packed one (`train-0.npz`, `train-1.npz`, `test.npz`). Raises FileNotFoundError
    saying what it looked for.
    """
    return _read(folder, packed=read_packed, binary=read_binary)


def load_cifar10_labels(folder: Path) -> tuple[Labels, Labels]:
    """The classes of train (50000,) and test (10000,) images, places in `CLASSES`; as
    `load_cifar10`.
    """
    return _read(folder, packed=_packed_labels, binary=_binary_labels)


def _read(
    folder: Path,
    *,
    packed: Callable[[Path], NDArray[Any]],
    binary: Callable[[Path], NDArray[Any]],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """What the two readers find in the training files and in the test file."""
    forms = (
        (folder, PACKED_TRAIN, PACKED_TEST, packed),
        (folder, BINARY_TRAIN, BINARY_TEST, binary),
        (folder / "cifar-10-batches-bin", BINARY_TRAIN, BINARY_TEST, binary),
    )
    for place, train, test, read in forms:
        if all((place / name).is_file() for name in train + test):
            parts = [np.concatenate([read(place / n) for n in names]) for names in (train, test)]
            return parts[0], parts[1]
    raise FileNotFoundError(
        f"no CIFAR-10 in {folder}: neither {BINARY_TRAIN[0]} … {BINARY_TEST[0]} (the binary "
        "version, see README, "
        f'"Data") nor {", ".join(PACKED_TRAIN + PACKED_TEST)}'
    )


def read_binary(path: Path) -> Images:
    """(N, 32, 32, 3) of a file of the binary version: records of a label byte and three planes."""
    planes = _records(path)[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _binary_labels(path: Path) -> Labels:
    return _records(path)[:, 0].astype(np.int64)


def _packed_labels(path: Path) -> Labels:
    with np.load(path, allow_pickle=False) as part:
        return part["labels"].astype(np.int64)


def _records(path: Path) -> Images:
    raw = np.fromfile(path, dtype=np.uint8)
    if raw.size == 0 or raw.size % _RECORD_BYTES:
        raise ValueError(f"{path} holds {raw.size} bytes, not a multiple of {_RECORD_BYTES}")
    return raw.reshape(-1, _RECORD_BYTES)


def read_packed(path: Path) -> Images:
    """(N, 32, 32, 3) of a packed file.

    It holds G, R - G and B - G modulo 256, each as its two-dimensional difference modulo 256: two
    sums undo that exactly.
    """
    with np.load(path, allow_pickle=False) as part:
        green = _integrated(part["g"])
        red, blue = (_integrated(part[name]) + green for name in ("r_minus_g", "b_minus_g"))
    return np.stack([red, green, blue], axis=-1)


def _integrated(difference: Images) -> Images:
    rows = np.cumsum(difference, axis=1, dtype=np.uint8)
    return np.cumsum(rows, axis=2, dtype=np.uint8)
