"""`POST /v1/sample`: new token grids from the bundle's prior, or the pictures they decode to."""

import secrets

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.body import media_type_of, read_body
from service.call import call_of
from service.decoding import decode_items
from service.drawing import draw
from service.job import Job
from service.limits import check_count, check_pixels, check_rows, check_total
from service.model import Model
from service.negotiation import choose
from service.params import Query, header_text
from service.pictures import FILES, JSON, NPY, ZIP, PictureFormat
from service.routes.decode import DEFAULT_QUALITY
from service.routes.images import image_limits, serialised
from service.state import service_of
from service.tokens_in import picture_size
from vqtok.errors import NotAcceptable
from vqtok.priors import Drawn, TablePrior, Wish, checked_grid, most_rows
from vqtok.priors.document import KEYS, wish_of
from vqtok.tokens import StackedTokens, TokenBatch, token_dtype
from vqtok.wire import format_size, json_format, npy_format
from vqtok.wire.json_reading import no_repeated_keys, only_known, parse_object

router = APIRouter()

PARAMETERS = ("model", "quality")
RANDOM_SEED_BITS = 32


@router.post("/v1/sample")
async def sample(request: Request) -> Response:
    """New tokens, or their pictures."""
    service = service_of(request)
    query = Query(request, PARAMETERS)
    model = service.model(query.text("model"))
    quality = query.integer("quality", 1, 100, DEFAULT_QUALITY)
    wish = await _read_wish(request)
    media_type = _choose(header_text(request, b"accept"), wish.n)
    wants_tokens = media_type in (JSON, NPY)
    job = Job.of(request, model)
    await service.pool.run(_reserve, job, wish, not wants_tokens)
    with job.call.stage("decode"):
        drawn = await draw(job, wish)
    batch = _batch(model, drawn)
    if wants_tokens:
        body = await serialised(job, lambda: _tokens_body(model, drawn, wish, batch, media_type))
    else:
        chosen = PictureFormat(media_type, quality)
        pictures = await decode_items(job, batch.images, chosen)
        body = await serialised(job, lambda: chosen.assemble(pictures))
    service.metrics.count_images("sample", wish.n)
    headers = _headers(model, drawn, wish)
    size = npy_format.common_size(batch)
    if media_type == NPY and size is not None:
        headers["Vqtok-Image-Size"] = format_size(size)
    return Response(body, media_type=media_type, headers=headers)


async def _read_wish(request: Request) -> Wish:
    headers = call_of(request).headers
    is_empty = headers.get(b"content-length", b"0") == b"0"
    if not (is_empty and b"transfer-encoding" not in headers):
        media_type_of(request, (JSON,), default=JSON)
    body = await read_body(request)
    service = service_of(request)
    wish = await service.pool.run(_parse_wish, body)
    check_count(wish.n, service.settings.max_items)
    return wish


def _parse_wish(body: bytes) -> Wish:
    document = parse_object(body) if body.strip() else {}
    only_known(document, KEYS, "The body")
    wish = wish_of(document, seed=secrets.randbits(RANDOM_SEED_BITS))
    # By now only a label can be a string.
    no_repeated_keys(body, len(document) + isinstance(document.get("label"), str))
    return wish


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


def _reserve(job: Job, wish: Wish, decodes: bool) -> None:
    prior = job.model.prior
    grid = checked_grid(prior, wish.grid)
    height, width = picture_size(job.model.manifest, grid)
    limits = image_limits(job.service.settings)
    check_pixels((height, width), limits)
    check_total(wish.n * height * width, limits)
    pixels = wish.n * job.work.pixels("decode", grid) if decodes else 0
    rows = most_rows(prior, wish)
    # A table draws all of its windows at once: what is limited is the planning of single passes.
    if not isinstance(prior, TablePrior):
        check_rows(rows, job.service.settings.max_prior_rows)
    job.reserve(sample=rows, decode=pixels)


def _batch(model: Model, drawn: Drawn) -> TokenBatch:
    manifest = model.manifest
    narrow = drawn.tokens.astype(token_dtype(manifest.codebook_size))
    size = picture_size(manifest, drawn.tokens.shape[1:])
    ids = (manifest.full_name, manifest.codebook_id, manifest.tokenizer_id)
    return TokenBatch(*ids, None, StackedTokens(narrow, size))


def _tokens_body(
    model: Model, drawn: Drawn, wish: Wish, batch: TokenBatch, media_type: str
) -> bytes:
    if media_type == NPY:
        return npy_format.encode_tokens(batch)
    extra = {
        "prior": model.prior.name,
        "seed": wish.seed,
        "temperature": wish.rule.temperature,
        "windowed": drawn.windowed,
    }
    bits = [
        {"bits": float(own), "drawn_bits": float(used)}
        for own, used in zip(drawn.bits, drawn.drawn_bits, strict=True)
    ]
    return json_format.encode_tokens(batch, extra=extra, item_extra=bits)


def _headers(model: Model, drawn: Drawn, wish: Wish) -> dict[str, str]:
    return {
        "Vqtok-Prior": model.prior.name,
        "Vqtok-Seed": str(wish.seed),
        "Vqtok-Bits": ",".join(f"{each:.2f}" for each in drawn.bits),
    }
