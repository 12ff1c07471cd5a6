"""What encode and reconstruct share: images of a request, read, planned and paid for."""

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import TypeVar

from starlette.requests import Request

from service.arriving import ArrivingImages
from service.body import BodyReader, joined, read_body
from service.call import call_of
from service.intake import (
    JSON,
    MULTIPART,
    NPY,
    Chunk,
    ImageOptions,
    Plan,
    Sent,
    load_if_small,
    parse_images,
    plan_array,
    plan_images,
    planned_array,
)
from service.job import Job
from service.limits import Size
from service.params import Query
from service.settings import Settings
from vqtok.errors import NotAcceptable
from vqtok.images import PREPROCESS, ImageLimits
from vqtok.manifest import Manifest
from vqtok.wire import npy_format, npy_header

ResultT = TypeVar("ResultT")

ON_ERROR = ("fail", "item")
LIGHT_BYTES = 64 * 1024
STREAMED_BYTES = 1024 * 1024
"""Images of a larger array go into the model while the rest is still arriving..."""
GROUP_PIXELS = 65_536
"""...so many pixels at a time, or what runs together if that is more."""


def image_limits(settings: Settings) -> ImageLimits:
    """The limits on pixels that are in force."""
    return ImageLimits(settings.max_pixels, settings.max_request_pixels)


def image_options(query: Query, settings: Settings, manifest: Manifest) -> ImageOptions:
    """`preprocess`, `image_size` and `on_error` of a query.

    Raises:
        InvalidParameter: a value that is not offered.
    """
    return ImageOptions(
        preprocess=query.choice("preprocess", tuple(PREPROCESS), "pad"),
        image_size=query.size("image_size") or manifest.image.native_size,
        factor=manifest.image.factor,
        per_item=query.choice("on_error", ON_ERROR, "fail") == "item",
        limits=image_limits(settings),
        max_items=settings.max_items,
    )


def require_item_errors(per_item: bool, carries_errors: bool) -> None:
    """Raise NotAcceptable when items are to fail alone in an answer that cannot say so."""
    if per_item and not carries_errors:
        raise NotAcceptable("on_error=item needs an answer as application/json.")


async def take_images(
    request: Request, job: Job, options: ImageOptions, media_type: str, kinds: tuple[str, ...]
) -> Plan:
    """Read a body of one of `BODY_TYPES`, look at the images' headers, and pass gate two for the
    work `kinds`.

    Raises:
        VqtokError: whatever is wrong with the body or its images; TooLarge or Overloaded.
    """
    call_of(request).preprocess = options.preprocess
    if media_type == NPY:
        return await _take_array(request, job, options, kinds)
    content_type = call_of(request).header(b"content-type") or ""
    body = await read_body(request)
    is_light = media_type not in (MULTIPART, JSON) and len(body) <= LIGHT_BYTES
    return await _planned(
        partial(parse_images, media_type, content_type, body), job, options, kinds, is_light
    )


async def _take_array(
    request: Request, job: Job, options: ImageOptions, kinds: tuple[str, ...]
) -> Plan:
    """Pass gate two as soon as the header of an npy body is there; of a large one read no more."""
    reader = BodyReader(request)
    pieces: list[bytes] = []
    header = None
    while header is None and not reader.is_complete:
        pieces.append(await reader.piece())
        header = npy_header(b"".join(pieces))
    if header is not None:
        shape, num_images = planned_array(header, options)
        job.reserve_images([(shape, num_images)], *kinds)
        if header.file_bytes > STREAMED_BYTES:
            most = max(job.work.rows_per_entry("encode", shape), GROUP_PIXELS // math.prod(shape))
            images = ArrivingImages(reader, header, b"".join(pieces), most)
            return Plan(num_images, [], {}, arriving=_arriving_chunks(images, shape))
    while not reader.is_complete:
        pieces.append(await reader.piece())
    return plan_array(npy_format.decode_images(await joined(request, pieces)), options, job.work)


async def _arriving_chunks(images: ArrivingImages, shape: Size) -> AsyncGenerator[Chunk]:
    start = 0
    async for group in images.groups():
        yield Chunk(range(start, start + len(group)), group, shape)
        start += len(group)


async def _planned(
    parse: Callable[[int], Sequence[Sent]],
    job: Job,
    options: ImageOptions,
    kinds: tuple[str, ...],
    is_light: bool,
) -> Plan:
    """The plan of a body. What is light is not worth a change of threads: headers are looked at
    here, and a runner does the rest.
    """

    def plan() -> Plan:
        found = plan_images(parse(options.max_items), options, job.work)
        job.reserve_images(((c.shape, len(c.indices)) for c in found.chunks), *kinds)
        return found

    def plan_and_load() -> Plan:
        return load_if_small(plan(), options, job.service.settings.batch_pixels)

    with job.call.stage("decode"):
        if is_light and job.model.runs_whole_requests:
            return plan()
        return await job.service.pool.run(plan_and_load)


async def serialised(job: Job, serialise: Callable[[], ResultT]) -> ResultT:
    """The answer or its body, made in the pool; the last stage of a request."""
    job.work.note_times()
    with job.call.stage("serialize"):
        return await job.service.pool.run(serialise)
