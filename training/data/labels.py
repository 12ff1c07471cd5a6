"""What classes the images of a data set are of."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.cifar10 import CLASSES, load_cifar10_labels
from training.data.folder import labels_of_folder, places
from training.settings import DataSettings


@dataclass(frozen=True, eq=False)
class Labels:
    """names: the classes. train, test: of each image its place in `names`, int64 (N,)."""

    names: tuple[str, ...]
    train: NDArray[np.int64]
    test: NDArray[np.int64]


def load_labels(settings: DataSettings) -> Labels | None:
    """The classes of all training images, those kept for validation among them, and of the test
    images; None where the data have none.

    Raises FileNotFoundError as `load_splits`, ValueError for test images of a class that no
    training image is of.
    """
    return LABELS[settings.kind](settings)


def _cifar10(settings: DataSettings) -> Labels:
    return Labels(CLASSES, *load_cifar10_labels(settings.path))


def _folder(settings: DataSettings) -> Labels | None:
    train_folder, test_folder = places(settings.path)
    train = labels_of_folder(train_folder)
    test = labels_of_folder(test_folder) if test_folder else ()
    if not train or test is None:
        return None
    names = tuple(sorted(set(train)))
    strange = sorted(set(test) - set(names))
    if strange:
        raise ValueError(f"{test_folder} has a class {strange[0]!r} that {train_folder} has not")
    number = {name: place for place, name in enumerate(names)}
    return Labels(names, *(np.array([number[n] for n in part], np.int64) for part in (train, test)))


LABELS: dict[str, Callable[[DataSettings], Labels | None]] = {
    "cifar10": _cifar10,
    "folder": _folder,
}
