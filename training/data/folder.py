"""Any folder of images as a data set."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidInput
from vqtok.images import preprocess, read_image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


def places(folder: Path) -> tuple[Path, Path | None]:
    """`train` and `test` below the folder where it has them; else all of it, and no test images."""
    train, test = folder / "train", folder / "test"
    return (train, test) if train.is_dir() and test.is_dir() else (folder, None)


def image_paths(folder: Path) -> list[Path]:
    """The files below `folder` that are called as images are, in order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


class FolderImages:
    """The images below `folder` by path, each scaled and cut to image_size x image_size.

    Raises FileNotFoundError when there is none; ValueError naming the file when one can't be read.
    """

    def __init__(self, folder: Path, image_size: int) -> None:
        self.image_size = image_size
        self.paths = image_paths(folder)
        if not self.paths:
            raise FileNotFoundError(
                f"no image in {folder}; looked for {', '.join(sorted(SUFFIXES))}"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        path = self.paths[index]
        try:
            image = read_image(path.read_bytes())
        except InvalidInput as error:
            raise ValueError(f"{path}: {error}") from error
        return preprocess(image, "center_crop", factor=1, image_size=self.image_size).pixels


def labels_of_folder(folder: Path) -> tuple[str, ...] | None:
    """The label of each image below `folder` in the order of `FolderImages`: the name of the
    folder directly below that it lies in. None where an image lies in none.
    """
    parents = [path.relative_to(folder).parts[:-1] for path in image_paths(folder)]
    return tuple(names[0] for names in parents) if all(parents) else None
