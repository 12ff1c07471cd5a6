"""Data sets: which images there are, how they split, and the batches of a step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.data.cifar10 import load_cifar10
from training.settings import DataSettings, SettingsError


class Images(Protocol):
    """Images by index, uint8 (H, W, 3), all of one size."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Part:
    """The images start..stop of `images`. A sample's index is its place in `images`."""

    images: Images
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} images")
        return self.images[self.start + index]


@dataclass(frozen=True)
class Splits:
    """train: to learn from. validation: the last training images, to choose by. test: to report."""

    train: Part
    validation: Part
    test: Part


def _cifar10(settings: DataSettings) -> tuple[Images, Images]:
    return load_cifar10(settings.path)


def _folder(settings: DataSettings) -> tuple[Images, Images]:
    """`train` and `test` below the folder where it has them; else all of it, and no test images."""
    from training.data.folder import FolderImages, places

    train, test = places(settings.path)
    size = settings.image_size
    return FolderImages(train, size), FolderImages(test, size) if test else []


DATASETS: dict[str, Callable[[DataSettings], tuple[Images, Images]]] = {
    "cifar10": _cifar10,
    "folder": _folder,
}


def load_splits(settings: DataSettings) -> Splits:
    """Raises SettingsError for an unknown kind or too few images, FileNotFoundError for none."""
    if settings.kind not in DATASETS:
        raise SettingsError(f"data.kind is {settings.kind!r}; there are {', '.join(DATASETS)}")
    train, test = DATASETS[settings.kind](settings)
    kept = len(train) - settings.validation_images
    if kept <= 0:
        raise SettingsError(
            f"{len(train)} training images, and data.validation_images keeps "
            f"{settings.validation_images} of them"
        )
    return Splits(
        train=Part(train, 0, kept),
        validation=Part(train, kept, len(train)),
        test=Part(test, 0, len(test)),
    )


__all__ = ["DATASETS", "Images", "Part", "Splits", "load_splits"]
