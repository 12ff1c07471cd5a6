"""`POST /v1/sample`: new token grids from the bundle's prior, or the pictures they decode to."""

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from service.body import media_type_of, read_body
from service.call import call_of
from service.decoding import decode_items
from service.job import Job
from service.limits import check_count, check_total
from service.model import Model
from service.negotiation import choose
from service.params import Query, header_text
from service.pictures import FILES, JSON, NPY, ZIP, PictureFormat
from service.routes.decode import DEFAULT_QUALITY
from service.routes.images import image_limits, serialised
from service.state import service_of
from vqtok.errors import InvalidParameter, NotAcceptable
from vqtok.tokens import ImageTokens, TokenBatch, token_dtype
from vqtok.wire import format_size, json_format, npy_format
from vqtok.wire.json_reading import JsonObject, no_repeated_keys, only_known, parse_object

router = APIRouter()

PARAMETERS = ("model", "quality")
OPTIONS = ("n", "seed", "temperature")
LEARNED_PRIOR_OPTIONS = ("label", "cfg_scale", "top_k", "top_p", "grid", "tokens", "mask")
PRIOR = "position-table"
LARGEST_NUMBER = 2**64 - 1
RANDOM_SEED_BITS = 32


@dataclass(frozen=True)
class SampleOptions:
    """How many samples, from which seed; temperature 0 takes the likeliest code everywhere."""

    n: int
    seed: int
    temperature: float


@dataclass(frozen=True)
class Drawn:
    """Samples with their ids, and the code length of each in bits (n,)."""

    batch: TokenBatch
    bits: NDArray[np.float64]


@router.post("/v1/sample")
async def sample(request: Request) -> Response:
    """New tokens, or their pictures."""
    service = service_of(request)
    query = Query(request, PARAMETERS)
    model = service.model(query.text("model"))
    quality = query.integer("quality", 1, 100, DEFAULT_QUALITY)
    options = await _read_options(request)
    media_type = _choose(header_text(request, b"accept"), options.n)
    wants_tokens = media_type in (JSON, NPY)
    job = Job.of(request, model)
    _reserve(job, options, decodes=not wants_tokens)
    with job.call.stage("decode"):
        drawn = await service.pool.run(_draw, model, options)
    if wants_tokens:
        body = await serialised(job, lambda: _tokens_body(drawn, options, media_type))
    else:
        chosen = PictureFormat(media_type, quality)
        items = [each for each in drawn.batch.items if isinstance(each, ImageTokens)]
        pictures = await decode_items(job, items, chosen)
        body = await serialised(job, lambda: chosen.assemble(pictures))
    service.metrics.images.labels("sample").inc(options.n)
    return Response(body, media_type=media_type, headers=_headers(drawn, options, media_type))


async def _read_options(request: Request) -> SampleOptions:
    headers = call_of(request).headers
    is_empty = headers.get(b"content-length", b"0") == b"0"
    if not (is_empty and b"transfer-encoding" not in headers):
        media_type_of(request, (JSON,), default=JSON)
    body = await read_body(request)
    service = service_of(request)
    options = await service.pool.run(_parse_options, body)
    check_count(options.n, service.settings.max_items)
    return options


def _parse_options(body: bytes) -> SampleOptions:
    document = parse_object(body) if body.strip() else {}
    for name in document:
        if name in LEARNED_PRIOR_OPTIONS:
            raise InvalidParameter(
                f"{name} needs a learned prior, and this model samples from a table of how often "
                f"each code stands at each position ({PRIOR}). Leave {name} out."
            )
    only_known(document, OPTIONS, "The body")
    options = SampleOptions(
        n=_whole(document, "n", 1, 1),
        seed=_whole(document, "seed", 0, secrets.randbits(RANDOM_SEED_BITS)),
        temperature=_temperature(document),
    )
    # All its values are numbers by now, so that its strings are its keys.
    no_repeated_keys(body, len(document))
    return options


def _whole(document: JsonObject, name: str, low: int, default: int) -> int:
    value: Any = document.get(name, default)
    if type(value) is not int or not low <= value <= LARGEST_NUMBER:
        raise InvalidParameter(f"{name} is a whole number from {low}, of at most 64 bits.")
    return value


def _temperature(document: JsonObject) -> float:
    value: Any = document.get("temperature", 1.0)
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise InvalidParameter("temperature is a number of at least 0.")
    return float(value)


def _choose(accept: str | None, count: int) -> str:
    """The format: JSON and npy carry tokens, the others pictures. A picture alone is PNG unless
    the caller says otherwise; several must be asked for by a format that can carry them.
    """
    if count == 1:
        return choose(accept, (*FILES, JSON, NPY, ZIP), what="a sample")
    try:
        return choose(accept, (JSON, NPY, ZIP), anything=False, what=f"{count} samples")
    except NotAcceptable as error:
        raise NotAcceptable(
            f"{error.detail} JSON and npy carry their tokens, zip their pictures."
        ) from error


def _reserve(job: Job, options: SampleOptions, *, decodes: bool) -> None:
    grid = job.model.prior.grid
    height, width = job.model.manifest.image.native_size
    check_total(options.n * height * width, image_limits(job.service.settings))
    pixels = options.n * job.work.pixels("decode", grid) if decodes else 0
    job.reserve(sample=options.n, decode=pixels)


def _draw(model: Model, options: SampleOptions) -> Drawn:
    grids, bits = model.prior.sample(options.n, options.seed, options.temperature)
    manifest = model.manifest
    narrow = grids.astype(token_dtype(manifest.codebook_size))
    items = tuple(ImageTokens(grid, manifest.image.native_size) for grid in narrow)
    ids = (manifest.full_name, manifest.codebook_id, manifest.tokenizer_id)
    return Drawn(TokenBatch(*ids, None, items), bits)


def _tokens_body(drawn: Drawn, options: SampleOptions, media_type: str) -> bytes:
    if media_type == NPY:
        return npy_format.encode_tokens(drawn.batch)
    extra = {"prior": PRIOR, "seed": options.seed, "temperature": options.temperature}
    bits: Sequence[dict[str, float]] = [{"bits": float(each)} for each in drawn.bits]
    return json_format.encode_tokens(drawn.batch, extra=extra, item_extra=bits)


def _headers(drawn: Drawn, options: SampleOptions, media_type: str) -> dict[str, str]:
    headers = {
        "Vqtok-Prior": PRIOR,
        "Vqtok-Seed": str(options.seed),
        "Vqtok-Bits": ",".join(f"{each:.2f}" for each in drawn.bits),
    }
    size = npy_format.common_size(drawn.batch)
    if media_type == NPY and size is not None:
        headers["Vqtok-Image-Size"] = format_size(size)
    return headers
