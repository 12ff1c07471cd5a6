"""The sets of images that are held against the test images."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import Part, load_splits
from training.data.labels import Labels, load_labels
from training.judge.settings import JudgeSettings
from training.settings import DataSettings, SettingsError
from vqtok.runtime.engine import Engine

Pixels = NDArray[np.uint8]
PixelsAt = Callable[[NDArray[np.int64]], Pixels]
"""Images uint8 (n, H, W, 3) at places (n,) of a set."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """name: as the page calls it. kind: "real", "reconstructions" or "samples". size: how many
    images. at: gives them. origin: what decides them, plain JSON values.

    labels int64 (size,): the classes they are meant to be of, None where of none. paired: image i
    is made of test image i. bits: mean code length of samples. shown: whether the page has some.
    """

    name: str
    kind: str
    size: int
    at: PixelsAt
    origin: dict[str, Any]
    labels: NDArray[np.int64] | None = None
    paired: bool = False
    bits: float | None = None
    shown: bool = False


@dataclass(frozen=True, eq=False)
class RealSets:
    """As many images each: test; new, training images that the classifier did not learn from;
    learned, such from which it did. test_labels int64 (n,); label_names: what labels mean.
    """

    test: ImageSet
    new: ImageSet
    learned: ImageSet
    test_labels: NDArray[np.int64]
    label_names: tuple[str, ...]


def real_sets(settings: JudgeSettings) -> RealSets:
    """Raises SettingsError where there are too few images, or they have no classes."""
    data, count = settings.data, settings.num_images
    splits, labels = load_splits(data), known_labels(data)

    def part_of(name: str, part: Part, known: NDArray[np.int64], called: str) -> ImageSet:
        if len(part) < count:
            raise SettingsError(
                f"num_images is {count}, and there are {len(part)} {name} images; lower it, or "
                "change data.validation_images"
            )
        some = Part(part.images, part.start, part.start + count)
        where = data.model_dump(exclude={"folder", "num_workers", "flip"})
        origin = {"data": where, "split": name, "start": some.start, "stop": some.stop}
        return ImageSet(called, "real", count, images_at(some), origin, known[some.start :][:count])

    test = part_of("test", splits.test, labels.test, "test images")
    new = part_of("validation", splits.validation, labels.train, "held-out training images")
    absent = np.setdiff1d(labels.test, labels.train[splits.validation.start :])
    if len(absent):
        raise SettingsError(
            f"the last {len(splits.validation)} training images, the floor, have none of the class "
            f"{labels.names[absent[0]]!r}; raise data.validation_images"
        )
    return RealSets(
        replace(test, shown=True),
        new,
        part_of("train", splits.train, labels.train, "training images that the classifier saw"),
        labels.test[splits.test.start :][:count],
        labels.names,
    )


def known_labels(data: DataSettings) -> Labels:
    """Raises SettingsError where the images have no classes."""
    labels = load_labels(data)
    if labels is None:
        raise SettingsError(f"the classifier needs classes, and {data.folder} has none")
    return labels


def reconstructions_of(
    originals: ImageSet, name: str, engine: Engine, bundle_digest: str
) -> ImageSet:
    """What the tokenizer makes of the images of a set."""
    return replace(
        originals,
        name=name,
        kind="reconstructions",
        at=lambda places: engine.decode(engine.encode(originals.at(places)).tokens),
        origin={**originals.origin, "bundle": bundle_digest},
    )


def images_at(part: Part) -> PixelsAt:
    """The images of a part."""
    return lambda places: np.stack([part[int(place)] for place in places])
