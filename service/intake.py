"""Images on their way in: found in a body, planned by their headers (`planning`), then decoded.

Everything here is blocking and belongs into the thread pool.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from service.limits import Size, named
from service.multipart import parse_multipart
from vqtok.errors import BrokenImage, VqtokError
from vqtok.images import PREPROCESS, ImageLimits, preprocess, read_image
from vqtok.images.formats.header import ImageHeader
from vqtok.wire import json_format, json_images, npy_format

JSON = json_format.MEDIA_TYPE
NPY = npy_format.MEDIA_TYPE
MULTIPART = "multipart/form-data"
BODY_TYPES = ("image/*", MULTIPART, JSON, NPY)
FIELD = "images"
"""The name of every part of a multipart body."""

Sent = bytes | NDArray[np.uint8]
"""The bytes of an image file, or pixels (H, W, 3)."""


@dataclass(frozen=True)
class ImageFile:
    """The bytes of an image file, and what its header says."""

    data: bytes
    header: ImageHeader


Source = ImageFile | NDArray[np.uint8]
"""What is known of an image before it is decoded."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class ImageOptions:
    """What is done to each image. With `per_item` an image that fails fails alone."""

    preprocess: str
    image_size: Size | None
    factor: int
    per_item: bool
    limits: ImageLimits
    max_items: int


@dataclass(frozen=True)
class Chunk:
    """Images that go through together: equal planned sizes, and their numbers in the request.
    `sources` may be one array (n, H, W, 3).
    """

    indices: Sequence[int]
    sources: Sequence[Source] | NDArray[np.uint8]
    shape: Size

    @property
    def num_pixels(self) -> int:
        """Pixels of all its images, as planned."""
        return len(self.indices) * self.shape[0] * self.shape[1]

    @property
    def num_source_pixels(self) -> int:
        """Pixels that have to be decoded."""
        return sum(each.header.pixels for each in self.sources if isinstance(each, ImageFile))


@dataclass(frozen=True)
class Loaded:
    """A chunk's pixels, uint8 (n, H', W', 3), for the images `indices`, the (H, W) that each is to
    return, and the images that did not decode.
    """

    indices: Sequence[int]
    rows: NDArray[np.uint8]
    sizes: Sequence[Size]
    errors: Mapping[int, VqtokError] = field(default_factory=dict[int, VqtokError])


@dataclass(frozen=True)
class Plan:
    """What a request asks for: chunks, and the images that are refused by their headers. The only
    chunk of a small request is loaded already, which saves it a change of threads; those of a large
    body may be `arriving`, and `num_items` is then what is known of them: one, or several.
    """

    num_items: int
    chunks: list[Chunk]
    errors: Mapping[int, VqtokError]
    loaded: Loaded | None = None
    arriving: AsyncGenerator[Chunk] | None = None

    def ordered(self, found: Mapping[int, ResultT]) -> list[ResultT | VqtokError]:
        """What was found for each image by its number, and the refused ones, in order."""
        known: dict[int, ResultT | VqtokError] = {**self.errors, **found}
        return [known[index] for index in range(len(known))]


def parse_images(
    media_type: str, content_type: str, body: bytes, max_items: int | None = None
) -> Sequence[Sent]:
    """The images of a body, none of them decoded.

    Raises:
        MalformedBody: the body is not what its type says.
        TooLarge: JSON of more images than `max_items`.
    """
    if media_type == MULTIPART:
        return parse_multipart(content_type, body, FIELD)
    if media_type == JSON:
        return json_images.decode_images(body, max_items)
    return [body]


def load_if_small(plan: Plan, options: ImageOptions, max_pixels: int) -> Plan:
    """The same plan with its only chunk loaded, if it has one only and that is small.

    Raises:
        InvalidInput: as `load_chunk`.
    """
    if len(plan.chunks) != 1:
        return plan
    (chunk,) = plan.chunks
    if chunk.num_pixels > max_pixels:
        return plan
    return replace(plan, loaded=load_chunk(chunk, options, plan.num_items))


def load_chunk(chunk: Chunk, options: ImageOptions, num_items: int) -> Loaded:
    """Decode and preprocess a chunk.

    Raises:
        InvalidInput: an image that does not decode, unless `per_item`.
    """
    if is_ready(chunk, options):
        images = cast("NDArray[np.uint8]", chunk.sources)
        return Loaded(chunk.indices, images, [chunk.shape] * len(images))
    rows: list[NDArray[np.uint8]] = []
    indices: list[int] = []
    sizes: list[Size] = []
    errors: dict[int, VqtokError] = {}
    for index, source in zip(chunk.indices, chunk.sources, strict=True):
        try:
            pixels, size = _load(source, chunk.shape, options)
        except VqtokError as error:
            errors[index] = named(error, index, num_items)
            if not options.per_item:
                raise errors[index] from error
            continue
        rows.append(pixels)
        indices.append(index)
        sizes.append(size)
    stacked = rows[0][None] if len(rows) == 1 else np.stack(rows) if rows else _NOTHING
    return Loaded(indices, stacked, sizes, errors)


def is_ready(chunk: Chunk, options: ImageOptions) -> bool:
    """Whether a chunk is an array that goes into the model as it is."""
    keeps_size = PREPROCESS[options.preprocess].keeps_size
    return (
        keeps_size
        and isinstance(chunk.sources, np.ndarray)
        and (chunk.sources.shape[1:3] == chunk.shape)
    )


_NOTHING = np.empty((0, 0, 0, 3), np.uint8)


def _load(source: Source, planned: Size, options: ImageOptions) -> tuple[NDArray[np.uint8], Size]:
    if isinstance(source, ImageFile):
        pixels = read_image(source.data, options.limits, source.header)
    else:
        pixels = source
    fitted = preprocess(
        pixels, options.preprocess, factor=options.factor, image_size=options.image_size
    )
    if fitted.pixels.shape[:2] != planned:
        raise BrokenImage("The image decodes to another size than its header states.")
    return fitted.pixels, fitted.size
