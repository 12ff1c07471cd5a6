"""Probes and metrics. They pass by admission, so that they answer when nothing else does."""

import asyncio

import orjson
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.problems import problem, status_of
from service.state import service_of
from vqtok.errors import VqtokError

router = APIRouter()

PROBE_METHODS = ["GET", "HEAD"]


@router.api_route("/health/live", methods=PROBE_METHODS)
async def live(request: Request) -> Response:
    """200 as long as the process answers at all."""
    return Response(b'{"status":"live"}', media_type="application/json")


@router.api_route("/health/ready", methods=PROBE_METHODS)
async def ready(request: Request) -> Response:
    """200 when requests are taken; 503 with the phase while not, and the reason if never."""
    lifecycle = service_of(request).lifecycle
    try:
        model = lifecycle.require_ready()
    except VqtokError as error:
        return problem(status_of(error), error.code, error.detail, phase=str(lifecycle.phase))
    document = {
        "status": "ready",
        "model": model.manifest.full_name,
        "device": model.engine.device,
        "num_runners": model.engine.num_runners,
    }
    return Response(orjson.dumps(document), media_type="application/json")


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """The metrics, as Prometheus reads them."""
    service = service_of(request)
    if not service.settings.metrics or service.settings.metrics_port is not None:
        raise HTTPException(404)
    # Not in the pool, which may be busy with the very images that the metrics are to show.
    body = await asyncio.to_thread(service.metrics.exposition)
    return Response(body, media_type=CONTENT_TYPE_LATEST)
