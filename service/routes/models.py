"""`GET /v1/models` and `/v1/models/{name}`: what is served, and every limit in force."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.model import Model
from service.multipart import MAX_PARTS
from service.params import Query
from service.protocol import MAX_HEADER_BYTES
from service.settings import Settings
from service.state import service_of
from vqtok.wire import json_format
from vqtok.wire.json_reading import MAX_VALUES
from vqtok.wire.json_writing import dump

router = APIRouter()

LIMITS = (
    "max_requests",
    "max_body_bytes",
    "max_total_body_bytes",
    "max_queue_seconds",
    "request_timeout",
    "body_timeout",
    "max_items",
    "max_prior_rows",
    "max_pixels",
    "max_request_pixels",
    "max_decoded_pixels",
    "tile_pixels",
    "batch_pixels",
    "drain_seconds",
)

FIXED_LIMITS = {
    "json_values": MAX_VALUES,
    "multipart_parts": MAX_PARTS,
    "header_bytes": MAX_HEADER_BYTES,
}
"""Limits that no setting changes."""


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """Every model that is served, in short."""
    Query(request, ())
    document = {"models": [_short(service_of(request).model())]}
    return Response(dump(document), media_type=json_format.MEDIA_TYPE)


@router.get("/v1/models/{name}")
async def model(request: Request, name: str) -> Response:
    """One model, by `name` or `name@version`: ids, manifest, limits."""
    Query(request, ())
    service = service_of(request)
    found = service.model(name)
    document = {
        **_short(found),
        "device": found.engine.device,
        "num_runners": found.engine.num_runners,
        "max_batch_images": found.engine.max_batch_images,
        "seconds_per_megapixel": _costs(found),
        "limits": _limits(service.settings),
        "manifest": found.manifest.to_dict(),
    }
    return Response(dump(document), media_type=json_format.MEDIA_TYPE)


def _short(model: Model) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "method": manifest.method,
        "codebook_id": manifest.codebook_id,
        "tokenizer_id": manifest.tokenizer_id,
        "codebook_size": manifest.codebook_size,
        "factor": manifest.image.factor,
        "native_size": manifest.image.native_size,
        "grid": manifest.grid,
    }


def _costs(model: Model) -> dict[str, float]:
    """Device time as measured at warm-up; what admission counts with."""
    return {kind: 1e6 * model.costs.rates[kind] for kind in ("encode", "decode")}


def _limits(settings: Settings) -> dict[str, Any]:
    return {**{name: getattr(settings, name) for name in LIMITS}, **FIXED_LIMITS}
