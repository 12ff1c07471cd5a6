"""Any folder of images as a data set."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidInput
from vqtok.images import preprocess, read_image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


class FolderImages:
    """The images below `folder` by path, each scaled and cut to image_size x image_size.

    Raises FileNotFoundError when there is none; ValueError naming the file when one can't be read.
    """

    def __init__(self, folder: Path, image_size: int) -> None:
        self.image_size = image_size
        self.paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
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
