"""Pictures on their way out, in the format that was chosen. Blocking: for the thread pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.negotiation import choose, parse_accept, quality_of
from vqtok.errors import VqtokError
from vqtok.images import IMAGE_MEDIA_TYPES, write_image
from vqtok.tokens import ItemError
from vqtok.wire import json_format, json_images, npy_format, zip_format
from vqtok.wire.zip_format import zip_images

FILES = tuple(IMAGE_MEDIA_TYPES)
JSON = json_format.MEDIA_TYPE
NPY = npy_format.MEDIA_TYPE
ZIP = zip_format.MEDIA_TYPE
CONTAINERS = (NPY, ZIP, JSON)

Picture = bytes | NDArray[np.uint8]
"""An image file, or pixels (H, W, 3) where the format carries bare pixels."""


@dataclass(frozen=True)
class PictureFormat:
    """`media_type` of the answer; `quality` counts for JPEG and WebP."""

    media_type: str
    quality: int

    @property
    def file_format(self) -> str | None:
        """The kind of image file that is made of each picture; None for bare pixels."""
        if self.media_type == NPY:
            return None
        return IMAGE_MEDIA_TYPES.get(self.media_type, "png")

    def write(self, pixels: NDArray[np.uint8]) -> Picture:
        """One picture.

        Raises:
            NotAcceptable: too long a side for the kind of file.
        """
        if self.file_format is None:
            return pixels
        return write_image(pixels, self.file_format, self.quality)

    def assemble(
        self, pictures: Sequence[Picture | VqtokError], extra: Mapping[str, Any] | None = None
    ) -> bytes:
        """The body of the answer; `extra` goes beside the images in JSON.

        Raises:
            NotAcceptable: pictures of several sizes as npy.
        """
        if self.media_type == JSON:
            entries = [_for_json(picture) for picture in pictures]
            return json_images.encode_images(entries, extra)
        if self.media_type == NPY:
            return npy_format.encode_images([p for p in pictures if isinstance(p, np.ndarray)])
        files = [picture for picture in pictures if isinstance(picture, bytes)]
        return zip_images(files, "png") if self.media_type == ZIP else files[0]


def choose_early(accept: str | None) -> None:
    """Refuse before the body is read what no number of pictures could be sent as.

    Raises:
        NotAcceptable: naming every format of pictures.
    """
    choose(accept, (*FILES, *CONTAINERS), what="pictures")


def json_is_liked(accept: str | None) -> bool:
    """Whether JSON may carry the answer, preferred or not."""
    return quality_of(JSON, parse_accept(accept)) > 0


def choose_format(accept: str | None, count: int, quality: int) -> PictureFormat:
    """The format for `count` pictures: an image file for one, else what can carry several.

    Raises:
        NotAcceptable: naming the choices.
    """
    if count == 1:
        return PictureFormat(choose(accept, (*FILES, *CONTAINERS), what="a picture"), quality)
    chosen = choose(accept, CONTAINERS, anything=False, what="several pictures")
    return PictureFormat(chosen, quality)


def _for_json(picture: Picture | VqtokError) -> bytes | ItemError:
    if isinstance(picture, VqtokError):
        return ItemError.of(picture)
    assert isinstance(picture, bytes)
    return picture
