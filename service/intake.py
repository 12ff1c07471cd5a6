"""Images on their way in: found in a body, looked at by their headers, and only then decoded.

Everything here is blocking and belongs into the thread pool.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from service.limits import Size, check_count, check_pixels, check_total, named
from service.multipart import parse_multipart
from service.work import Work
from vqtok.errors import BrokenImage, InvalidParameter, VqtokError
from vqtok.images import (
    PREPROCESS,
    ImageLimits,
    check_limits,
    planned_size,
    preprocess,
    probe,
    read_image,
)
from vqtok.images.formats.header import ImageHeader
from vqtok.wire import NpyHeader, json_format, npy_format

JSON = json_format.MEDIA_TYPE
NPY = npy_format.MEDIA_TYPE
MULTIPART = "multipart/form-data"
BODY_TYPES = ("image/*", MULTIPART, JSON, NPY)

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
    """What a request asks for: chunks, and the images that are refused by their headers. A small
    request's only chunk is loaded already, which saves it a change of threads; those of a large
    array are still `arriving`.
    """

    num_items: int
    chunks: list[Chunk]
    errors: Mapping[int, VqtokError]
    loaded: Loaded | None = None
    arriving: AsyncGenerator[Chunk] | None = None

    def ordered(self, found: Mapping[int, ResultT]) -> list[ResultT | VqtokError]:
        """What was found for each image by its number, and the refused ones, in order."""
        known: dict[int, ResultT | VqtokError] = {**self.errors, **found}
        return [known[index] for index in range(self.num_items)]


def parse_images(
    media_type: str, content_type: str, body: bytes, max_items: int | None = None
) -> Sequence[Sent]:
    """The images of a body, none of them decoded.

    Raises:
        MalformedBody: the body is not what its type says.
        TooLarge: JSON of more images than `max_items`.
    """
    if media_type == MULTIPART:
        return parse_multipart(content_type, body, "images")
    if media_type == JSON:
        return json_format.decode_images(body, max_items)
    return [body]


def plan_images(sent: Sequence[Sent], options: ImageOptions, work: Work) -> Plan:
    """Look at every image's header and make chunks of those that fit.

    Raises:
        VqtokError: the first image that is refused, unless `per_item`; TooLarge for too many
        images or pixels in the request.
    """
    check_count(len(sent), options.max_items)
    sources: dict[int, Source] = {}
    planned: dict[int, Size] = {}
    errors: dict[int, VqtokError] = {}
    total = 0
    for index, one in enumerate(sent):
        try:
            sources[index], size = _looked_at(one, options.limits)
            planned[index] = planned_size(
                size, options.preprocess, options.factor, options.image_size
            )
            total += planned[index][0] * planned[index][1]
        except VqtokError as error:
            errors[index] = named(error, index, len(sent))
            if not options.per_item:
                raise errors[index] from error
    check_total(total, options.limits)
    return Plan(len(sent), _chunks(sources, planned, work), errors)


def plan_array(images: NDArray[np.uint8], options: ImageOptions, work: Work) -> Plan:
    """The plan of an array (N, H, W, 3) whose header has passed `planned_array`: one chunk if it
    goes into the model as it is, which takes what it can at a time.
    """
    size = (images.shape[1], images.shape[2])
    shape = planned_size(size, options.preprocess, options.factor, options.image_size)
    whole = Chunk(range(len(images)), images, shape)
    if is_ready(whole, options) and not work.needs_tiles("encode", shape):
        return Plan(len(images), [whole], {})
    most = work.rows_per_entry("encode", shape)
    chunks = [
        Chunk(range(len(images))[first : first + most], images[first : first + most], shape)
        for first in range(0, len(images), most)
    ]
    return Plan(len(images), chunks, {})


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


def planned_array(header: NpyHeader, options: ImageOptions) -> tuple[Size, int]:
    """The planned size and the number of the images that an npy body will hold, from its header.

    Raises:
        InvalidParameter: not uint8 (N, H, W, 3), or a size that does not fit.
        TooLarge: too many images or pixels.
    """
    shape = header.shape
    if header.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise InvalidParameter(
            f"Images as npy are uint8 of shape (N, H, W, 3), not {header.dtype} of shape {shape}."
        )
    check_count(shape[0], options.max_items)
    check_pixels((shape[1], shape[2]), options.limits)
    planned = planned_size(
        (shape[1], shape[2]), options.preprocess, options.factor, options.image_size
    )
    check_total(shape[0] * planned[0] * planned[1], options.limits)
    return planned, shape[0]


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


def _looked_at(sent: Sent, limits: ImageLimits) -> tuple[Source, Size]:
    if isinstance(sent, bytes):
        header = probe(sent)
        check_limits(header, limits)
        return ImageFile(sent, header), header.size
    size = (sent.shape[0], sent.shape[1])
    check_pixels(size, limits)
    return sent, size


def _chunks(sources: Mapping[int, Source], planned: Mapping[int, Size], work: Work) -> list[Chunk]:
    groups: list[tuple[Size, list[int]]] = []
    open_groups: dict[Size, list[int]] = {}
    for index, size in planned.items():
        group = open_groups.get(size)
        if group is None or len(group) >= work.rows_per_entry("encode", size):
            group = open_groups[size] = []
            groups.append((size, group))
        group.append(index)
    return [Chunk(group, [sources[index] for index in group], size) for size, group in groups]
