"""`POST /v1/decode`: tokens to images."""

import re

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.body import OnPrefix, media_type_of, read_body
from service.decoding import decode_items
from service.job import Job
from service.model import Model
from service.params import GRID_PATTERN, Query, header_text, parse_size
from service.pictures import JSON, choose_early, choose_format, json_is_liked
from service.routes.images import ON_ERROR, image_limits, require_item_errors, serialised
from service.state import Service, service_of
from service.tokens_in import Item, TokenRules, pixels_of_array, read_tokens
from vqtok.errors import InvalidParameter
from vqtok.tokens import ImageTokens
from vqtok.wire import WIRE_FORMATS, DecodeOptions, npy_header
from vqtok.wire.npy_format import MEDIA_TYPE as NPY

router = APIRouter()

PARAMETERS = ("model", "size", "grid", "quality", "require_ids", "on_error")
DEFAULT_QUALITY = 90
PREFIX_BYTES = 4096


@router.post("/v1/decode")
async def decode(request: Request) -> Response:
    """Tokens to images."""
    service = service_of(request)
    query = Query(request, PARAMETERS)
    model = service.model(query.text("model"))
    rules = _rules(request, query, service, model)
    quality = query.integer("quality", 1, 100, DEFAULT_QUALITY)
    accept = header_text(request, b"accept")
    choose_early(accept)
    require_item_errors(rules.per_item, json_is_liked(accept))
    job = Job.of(request, model, per_item=rules.per_item)
    items = await _take_tokens(request, job, rules)
    chosen = choose_format(JSON if rules.per_item else accept, len(items), quality)
    pictures = await decode_items(job, items, chosen)
    body = await serialised(job, lambda: chosen.assemble(pictures))
    count = sum(isinstance(each, ImageTokens) for each in items)
    service.metrics.count_images("decode", count)
    return Response(body, media_type=chosen.media_type)


def _rules(request: Request, query: Query, service: Service, model: Model) -> TokenRules:
    size = query.size("size")
    header = header_text(request, b"vqtok-image-size")
    if size is None and header is not None:
        size = parse_size(header, "Vqtok-Image-Size")
    return TokenRules(
        manifest=model.manifest,
        limits=image_limits(service.settings),
        max_items=service.settings.max_items,
        per_item=query.choice("on_error", ON_ERROR, "fail") == "item",
        require_ids=query.flag("require_ids"),
        codebook_id=header_text(request, b"vqtok-codebook-id"),
        reading=DecodeOptions(
            grid=_grid(query.text("grid")), size=size, tables=model.coding.tables
        ),
    )


def _grid(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not re.fullmatch(GRID_PATTERN, text):
        raise InvalidParameter(
            f"grid is ROWSxCOLUMNS, or ROWSxCOLUMNSxDEPTH, such as 8x8, not {text[:40]!r}."
        )
    return tuple(int(side) for side in text.split("x"))


async def _take_tokens(request: Request, job: Job, rules: TokenRules) -> list[Item]:
    media_type = media_type_of(request, tuple(WIRE_FORMATS))
    if rules.reading.grid is not None and media_type != NPY:
        raise InvalidParameter(
            f"The parameter grid is for tokens sent as {NPY}; in {media_type} each item says its "
            "own grid."
        )
    body = await read_body(request, _array_gate(job, rules) if media_type == NPY else None)

    def read() -> list[Item]:
        items = read_tokens(media_type, body, rules)
        grids = [each.grid for each in items if isinstance(each, ImageTokens)]
        job.reserve(decode=sum(job.work.pixels("decode", grid) for grid in grids))
        return items

    with job.call.stage("decode"):
        return await job.service.pool.run(read)


def _array_gate(job: Job, rules: TokenRules) -> OnPrefix:
    """Passes gate two as soon as the header of an npy body is there."""

    def look(prefix: bytes) -> bool:
        header = npy_header(prefix)
        if header is None:
            return len(prefix) >= PREFIX_BYTES
        count, grid = pixels_of_array(header, rules)
        job.reserve(decode=count * job.work.pixels("decode", grid))
        return True

    return look
