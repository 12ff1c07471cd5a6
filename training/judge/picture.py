"""Real images, reconstructions and samples beside one another."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.judge.judge import Judgement
from training.judge.sets import ImageSet
from training.pictures import WHITE, Pixels, above, beside

NUM_ROWS, NUM_COLUMNS, SCALE = 10, 8, 2
NONE = -1


def draw(judgement: Judgement, path: Path) -> None:
    """A panel for each set that is to be shown; a row is a class where the set has classes."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    shown = [each for each in judgement.sets if each.shown]
    size = (3.6 * len(shown) + 0.6, 4.5)
    figure, axes = plt.subplots(1, len(shown), figsize=size, layout="constrained", squeeze=False)
    for axis, each in zip(axes[0], shown, strict=True):
        grid = panel(each)
        axis.imshow(grid, interpolation="nearest")
        axis.set_title(each.name, fontsize=10)
        axis.set_xticks([])
        names = judgement.label_names[:NUM_ROWS] if each.labels is not None else ()
        height = grid.shape[0] / max(1, len(names))
        axis.set_yticks([(row + 0.5) * height for row in range(len(names))], names, fontsize=7)
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def panel(images: ImageSet) -> Pixels:
    """The first images of each class below one another; the first of all where there are none."""
    places = shown_places(images.labels, images.size)
    wanted = places[places != NONE]
    found = dict(zip(wanted.tolist(), images.at(wanted), strict=True))
    blank = np.full_like(next(iter(found.values())), WHITE)
    rows = [beside([found.get(place, blank) for place in row], gap=1) for row in places.tolist()]
    grid = above(rows, gap=1)
    return grid.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def shown_places(labels: NDArray[np.int64] | None, size: int) -> NDArray[np.int64]:
    """Places of images, int64 (rows, NUM_COLUMNS), NONE where there is no more."""
    if labels is None:
        count = min(size, NUM_ROWS * NUM_COLUMNS)
        classes = [
            np.arange(count)[start : start + NUM_COLUMNS] for start in range(0, count, NUM_COLUMNS)
        ]
    else:
        classes = [
            np.flatnonzero(labels == label)[:NUM_COLUMNS]
            for label in range(min(NUM_ROWS, int(labels.max()) + 1))
        ]
    rows = np.full((len(classes), NUM_COLUMNS), NONE, np.int64)
    for row, places in zip(rows, classes, strict=True):
        row[: len(places)] = places
    return rows
