"""Which images and which grids travel together in one request."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidInput
from vqtok.images import ImageLimits, probe
from vqtok.pictures import ImageSource, load_picture, named, read_bytes
from vqtok.tokens import ImageTokens

# Requests of this size share a service fairly and stay far from its time limit.
MOST_ITEMS = 256
MOST_PIXELS = 8_000_000

PART_OVERHEAD = 256
BODY_OVERHEAD = 4096


@dataclass(frozen=True)
class RequestLimits:
    """What one request may hold: the service's limits, or this client's where they are lower."""

    items: int = MOST_ITEMS
    pixels: int = MOST_PIXELS
    body_bytes: int = 64 << 20

    @staticmethod
    def of(stated: Mapping[str, Any]) -> "RequestLimits":
        """From the limits that a service states, by the names of its settings."""
        own = RequestLimits()
        return RequestLimits(
            items=min(own.items, int(stated.get("max_items", own.items))),
            pixels=min(own.pixels, int(stated.get("max_request_pixels", own.pixels))),
            body_bytes=int(stated.get("max_body_bytes", own.body_bytes)),
        )


@dataclass(frozen=True, eq=False)
class Upload:
    """One image on its way: the bytes of a file, or pixels, and what it counts.

    `index` is its place in the caller's sequence.
    """

    index: int
    source: ImageSource
    data: bytes | NDArray[np.uint8]
    pixels: int

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Pixels of one shape travel together; files, whose shape is None, always do."""
        return None if isinstance(self.data, bytes) else self.data.shape

    @property
    def num_bytes(self) -> int:
        """What it adds to a body."""
        size = len(self.data) if isinstance(self.data, bytes) else self.data.nbytes
        return size + PART_OVERHEAD


def upload_groups(images: Sequence[ImageSource], limits: RequestLimits) -> Iterator[list[Upload]]:
    """Neighbours that fit into one request; an image that is too large alone goes alone.

    Raises:
        InvalidInput: naming the image, when a path or an array cannot be sent.
    """
    group: list[Upload] = []
    for index, source in enumerate(images):
        upload = _upload(index, source)
        if group and (upload.shape != group[0].shape or not _fit([*group, upload], limits)):
            yield group
            group = []
        group.append(upload)
    if group:
        yield group


def token_groups(
    items: Sequence[ImageTokens], limits: RequestLimits, factor: int
) -> Iterator[list[ImageTokens]]:
    """Neighbours of one grid and one size, as one npy array carries them."""
    group: list[ImageTokens] = []
    for item in items:
        room = min(limits.items, limits.pixels // (prod(item.grid[:2]) * factor**2))
        alike = bool(group) and (item.grid, item.size) == (group[0].grid, group[0].size)
        if group and (not alike or len(group) >= room):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def _upload(index: int, source: ImageSource) -> Upload:
    with named(index, source):
        if isinstance(source, bytes | str | Path):
            data = read_bytes(source)
            return Upload(index, source, data, _stated_pixels(data))
        pixels = load_picture(source, ImageLimits())
        return Upload(index, source, pixels, pixels.shape[0] * pixels.shape[1])


def _stated_pixels(data: bytes) -> int:
    """Pixels by the header; 0 for what the service is going to refuse anyway."""
    try:
        return probe(data).pixels
    except InvalidInput:
        return 0


def _fit(group: Sequence[Upload], limits: RequestLimits) -> bool:
    return (
        len(group) <= limits.items
        and sum(each.pixels for each in group) <= limits.pixels
        and sum(each.num_bytes for each in group) <= limits.body_bytes - BODY_OVERHEAD
    )
