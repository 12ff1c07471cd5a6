"""What encode and reconstruct share: images of a request, read, planned and paid for."""

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import TypeVar

from starlette.requests import Request

from service.arriving import ArrivingImages
from service.arriving_files import ArrivingFiles
from service.body import BodyReader, joined
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
)
from service.job import Job
from service.limits import Size
from service.params import Query
from service.planning import plan_array, plan_images, planned_array
from service.settings import Settings
from vqtok.errors import NotAcceptable
from vqtok.images import PREPROCESS, ImageLimits
from vqtok.manifest import Manifest
from vqtok.wire import npy_format, npy_header

ResultT = TypeVar("ResultT")

Parse = Callable[[int], Sequence[Sent]]
"""Gives the images of a body, of which there may be so many."""

ON_ERROR = ("fail", "item")
LIGHT_BYTES = 64 * 1024
STREAMED_BYTES = 1024 * 1024
"""Images of a larger array or form go into the model while the rest of it still arrives..."""
GROUP_PIXELS = 65_536
"""...so many pixels of an array at a time, or what runs together if that is more..."""
STEP_BYTES = 256 * 1024
"""...and of a form what so many bytes bring."""


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
    work `kinds`. Of a large array or multipart body only the beginning is read here.

    Raises:
        VqtokError: whatever is wrong with the body or its images; TooLarge or Overloaded.
    """
    call_of(request).preprocess = options.preprocess
    if media_type == NPY:
        return await _take_array(request, job, options, kinds)
    content_type = call_of(request).header(b"content-type") or ""
    reader = BodyReader(request)
    pieces = await reader.some(STREAMED_BYTES)
    if media_type == MULTIPART and not reader.is_complete:
        files = ArrivingFiles.of(reader, content_type, options, job)
        return await _take_files(files, await files.look(pieces), job, kinds)
    while not reader.is_complete:
        pieces.append(await reader.piece())
    body = await joined(request, pieces)
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
        job.require(job.seconds_of([(shape, num_images)], *kinds))
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


async def _take_files(
    files: ArrivingFiles, chunks: list[Chunk], job: Job, kinds: tuple[str, ...]
) -> Plan:
    """Pass gate two as soon as there are some files, by what they say of the whole. If that does
    not fit, all of the body has to say whether it does.
    """
    reader = files.reader
    while not (chunks or reader.is_complete):
        chunks = await files.next(STEP_BYTES)
    if not reader.is_complete:
        expected = _seconds(chunks, job, kinds) * job.announced_bytes / files.num_bytes
        if job.expect(expected):
            arriving = _arriving_files(files, chunks, job, kinds, expected)
            return Plan(files.parts.num_begun, [], files.planner.errors, arriving=arriving)
    while not reader.is_complete:
        chunks += await files.next(STEP_BYTES)
    job.require(_seconds(chunks, job, kinds))
    return Plan(files.parts.num_begun, chunks, files.planner.errors)


async def _arriving_files(
    files: ArrivingFiles, chunks: list[Chunk], job: Job, kinds: tuple[str, ...], reserved: float
) -> AsyncGenerator[Chunk]:
    """Chunks of files as they arrive, beginning with `chunks`. Once all are known, what they take
    is reserved in place of what was expected, and earlier if they take more.
    """
    seconds = _seconds(chunks, job, kinds)
    while True:
        for chunk in chunks:
            with files.reader.pause():
                yield chunk
        if files.reader.is_complete:
            return
        chunks = await files.next(STEP_BYTES)
        seconds += _seconds(chunks, job, kinds)
        if files.reader.is_complete or seconds > reserved:
            job.require(seconds)
            reserved = seconds


def _seconds(chunks: Sequence[Chunk], job: Job, kinds: tuple[str, ...]) -> float:
    return job.seconds_of(((each.shape, len(each.indices)) for each in chunks), *kinds)


async def _planned(
    parse: Parse,
    job: Job,
    options: ImageOptions,
    kinds: tuple[str, ...],
    is_light: bool,
) -> Plan:
    """The plan of a body. What is light is not worth a change of threads: headers are looked at
    here, and a runner does the rest.
    """

    with job.call.stage("decode"):
        if is_light and job.model.runs_whole_requests:
            return _plan(parse, job, options, kinds)
        return await job.service.pool.run(_plan_and_load, parse, job, options, kinds)


def _plan(parse: Parse, job: Job, options: ImageOptions, kinds: tuple[str, ...]) -> Plan:
    found = plan_images(parse(options.max_items), options, job.work)
    job.require(_seconds(found.chunks, job, kinds))
    return found


def _plan_and_load(parse: Parse, job: Job, options: ImageOptions, kinds: tuple[str, ...]) -> Plan:
    found = _plan(parse, job, options, kinds)
    return load_if_small(found, options, job.service.settings.batch_pixels)


async def serialised(job: Job, serialise: Callable[[], ResultT]) -> ResultT:
    """The answer or its body, made in the pool; the last stage of a request."""
    job.work.note_times()
    with job.call.stage("serialize"):
        return await job.service.pool.run(serialise)
