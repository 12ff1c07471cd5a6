"""Images of a request before any is decoded: looked at by their headers, and put into chunks.

Blocking where it looks at files: for the thread pool.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from service.intake import Chunk, ImageFile, ImageOptions, Plan, Sent, Source, is_ready
from service.limits import Size, check_count, check_pixels, check_total, named
from service.work import Work
from vqtok.errors import InvalidParameter, VqtokError
from vqtok.images import ImageLimits, check_limits, planned_size, probe
from vqtok.wire import NpyHeader


class Planner:
    """Makes chunks of the images of one request, which may come in several parts. `errors` has
    those that were refused by their headers.
    """

    def __init__(self, options: ImageOptions, work: Work) -> None:
        self.errors: dict[int, VqtokError] = {}
        self._options = options
        self._work = work
        self._num_images = 0
        self._num_pixels = 0

    def take(self, sent: Sequence[Sent], count: int, *, are_all: bool) -> list[Chunk]:
        """Chunks of the next images. `count` says how many the request has, or that it has several
        as far as is known.

        Raises:
            VqtokError: the first image that is refused, unless `per_item`; TooLarge for too many
            images or pixels in the request.
        """
        check_count(count, self._options.max_items, are_all=are_all)
        sources: dict[int, Source] = {}
        planned: dict[int, Size] = {}
        for index, one in enumerate(sent, start=self._num_images):
            try:
                sources[index], planned[index] = self._looked_at(one)
            except VqtokError as error:
                self.errors[index] = named(error, index, count)
                if not self._options.per_item:
                    raise self.errors[index] from error
        self._num_images += len(sent)
        self._num_pixels += sum(height * width for height, width in planned.values())
        check_total(self._num_pixels, self._options.limits, are_all=are_all)
        return _chunks(sources, planned, self._work)

    def _looked_at(self, one: Sent) -> tuple[Source, Size]:
        options = self._options
        source, size = _looked_at(one, options.limits)
        return source, planned_size(size, options.preprocess, options.factor, options.image_size)


def plan_images(sent: Sequence[Sent], options: ImageOptions, work: Work) -> Plan:
    """The plan of images of which all have arrived.

    Raises:
        VqtokError: as `Planner.take`.
    """
    planner = Planner(options, work)
    chunks = planner.take(sent, len(sent), are_all=True)
    return Plan(len(sent), chunks, planner.errors)


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
