"""CIFAR-10 (Krizhevsky 2009) from its official binary files or a packed lossless form of it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]

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
    readers = (
        (folder, PACKED_TRAIN, PACKED_TEST, read_packed),
        (folder, BINARY_TRAIN, BINARY_TEST, read_binary),
        (folder / "cifar-10-batches-bin", BINARY_TRAIN, BINARY_TEST, read_binary),
    )
    for place, train, test, read in readers:
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
    raw = np.fromfile(path, dtype=np.uint8)
    if raw.size == 0 or raw.size % _RECORD_BYTES:
        raise ValueError(f"{path} holds {raw.size} bytes, not a multiple of {_RECORD_BYTES}")
    planes = raw.reshape(-1, _RECORD_BYTES)[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


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
