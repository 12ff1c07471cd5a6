"""`POST /v1/encode`: images to tokens."""

# Else those of the functions inside others are evaluated on every request.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.body import media_type_of
from service.call import call_of
from service.encoded import Encoded, Items, grids_of, tokens_of
from service.intake import BODY_TYPES, ImageOptions, Loaded
from service.job import Job
from service.negotiation import choose
from service.params import Query, header_text
from service.prior_bits import prior_bits
from service.routes.images import (
    image_options,
    require_item_errors,
    serialised,
    take_images,
)
from service.rows import Rows
from service.state import Service, service_of
from vqtok.bitstream import AUTO, CHOICES, PACKED, PRIOR, Coding
from vqtok.errors import InvalidParameter
from vqtok.manifest import Manifest
from vqtok.tokens import TokenBatch, token_dtype
from vqtok.wire import WIRE_FORMATS, EncodeOptions, WireFormat, format_size
from vqtok.wire.format import LAYOUTS, TOKEN_DTYPES
from vqtok.wire.json_format import JSON
from vqtok.wire.npy_format import common_size

router = APIRouter()

PARAMETERS = (
    "model",
    "preprocess",
    "image_size",
    "dtype",
    "layout",
    "detail",
    "coder",
    "strict",
    "on_error",
)
DETAILS = ("margin", "bits")


@router.post("/v1/encode")
async def encode(request: Request) -> Response:
    """Images to tokens."""
    service = service_of(request)
    model = service.model()
    asked = service.memo.get(model, _texts(request), lambda: _asked(request, service))
    options = asked.options
    job = Job.of(request, model, per_item=options.per_item, strict=asked.strict)
    kinds = ("encode", "sample") if asked.takes_prior else ("encode",)
    plan = await take_images(request, job, options, asked.media_type, kinds)

    def respond(parts: Sequence[Encoded], bits: Sequence[float | None] | None = None) -> Response:
        stacks = [stack for part in parts for stack in part.rows.stacks]
        model.usage.add(stacks)
        items = tokens_of(parts, plan.errors, token_dtype(model.manifest.codebook_size))
        batch = token_batch(model.manifest, options.preprocess, items)
        writing = asked.writing if bits is None else replace(asked.writing, prior_bits=bits)
        response = tokens_response(batch, asked.wire, writing)
        service.metrics.count_images("encode", sum(len(stack[0]) for stack in stacks))
        return response

    if not asked.takes_prior and job.is_light(plan, options):
        return await job.run_light(
            plan, options, lambda loaded, rows: respond([Encoded.of(loaded, rows)])
        )
    parts = await job.encode_chunks(plan, options, _kept)
    bits = await prior_bits(job, grids_of(parts)) if asked.takes_prior else None
    return await serialised(job, lambda: respond(parts, bits))


@dataclass(frozen=True, eq=False)
class _Asked:
    """What the line and the headers of a request ask for; with `takes_prior` also what the learned
    prior says of the tokens.
    """

    options: ImageOptions
    writing: EncodeOptions
    wire: WireFormat
    media_type: str
    strict: bool
    takes_prior: bool


def _texts(request: Request) -> tuple[bytes | None, ...]:
    """All that `_asked` looks at."""
    headers = call_of(request).headers
    names = (b"accept", b"content-type", b"content-encoding")
    return (request.scope["query_string"], *map(headers.get, names))


def _asked(request: Request, service: Service) -> _Asked:
    query = Query(request, PARAMETERS)
    model = service.model(query.text("model"))
    options = image_options(query, service.settings, model.manifest)
    writing = encode_options(query, model.coding)
    wire = choose_tokens(request)
    require_item_errors(options.per_item, wire.carries_errors)
    strict = query.flag("strict")
    takes_prior = writing.rates and wire is JSON and model.coding.prior is not None
    body_type = media_type_of(request, BODY_TYPES)
    return _Asked(options, writing, wire, body_type, strict, takes_prior)


async def _kept(loaded: Loaded, rows: Rows) -> Encoded:
    return Encoded.of(loaded, rows)


def encode_options(query: Query, coding: Coding) -> EncodeOptions:
    """`dtype`, `layout`, `detail` and `coder` of a query, for a model with these coders.

    Raises:
        InvalidParameter: a value that is not offered; a coder whose tables the bundle has not.
    """
    detail = query.optional_choice("detail", DETAILS)
    if query.text("coder") == PRIOR:
        raise InvalidParameter(
            f"coder={PRIOR}: only the runtime and processor that wrote such a stream can read it, "
            "so no service sends any. Take coder=auto here, or `vqtok compress` in process."
        )
    coder = query.choice("coder", CHOICES, AUTO)
    if coder not in (AUTO, PACKED, *coding.table_ids):
        raise InvalidParameter(f"coder={coder}: {coding.obstacle(coder, (0, 0))}. Take another.")
    return EncodeOptions(
        dtype=query.optional_choice("dtype", TOKEN_DTYPES),
        layout=query.choice("layout", LAYOUTS, "grid"),
        detail=detail == "margin",
        rates=detail == "bits",
        coder=coder,
        coding=coding,
    )


def choose_tokens(request: Request) -> WireFormat:
    """The wire format that the caller likes best.

    Raises:
        NotAcceptable: naming those there are.
    """
    accept = header_text(request, b"accept")
    return WIRE_FORMATS[choose(accept, tuple(WIRE_FORMATS), what="tokens")]


def token_batch(manifest: Manifest, preprocess: str | None, items: Items) -> TokenBatch:
    """Tokens as a batch that carries the model's ids."""
    return TokenBatch(
        manifest.full_name, manifest.codebook_id, manifest.tokenizer_id, preprocess, items
    )


def tokens_response(batch: TokenBatch, wire: WireFormat, options: EncodeOptions) -> Response:
    """An answer of tokens; where the format cannot say the pictures' size, a header does.

    Raises:
        NotAcceptable: the format cannot carry this batch.
        InvalidParameter: the dtype cannot hold its tokens.
    """
    headers: dict[str, str] = {}
    if not wire.carries_ids:
        size = common_size(batch)
        if size is not None:
            headers["Vqtok-Image-Size"] = format_size(size)
    body = wire.encode_tokens(batch, options)
    return Response(body, media_type=wire.media_type, headers=headers)
