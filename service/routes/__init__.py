"""The routes, one file a call. `ROUTES` is the list of them all."""

from collections.abc import Awaitable, Callable, Iterator, Mapping

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from service.routes import codebook, decode, docs, encode, health, models, reconstruct, sample

Endpoint = Callable[[Request], Awaitable[Response]]

ROUTES: list[APIRouter] = [
    encode.router,
    decode.router,
    sample.router,
    reconstruct.router,
    codebook.router,
    models.router,
    health.router,
    docs.router,
]

WORKING_CALLS: Mapping[str, Endpoint] = {
    "/v1/encode": encode.encode,
    "/v1/decode": decode.decode,
    "/v1/sample": sample.sample,
    "/v1/reconstruct": reconstruct.reconstruct,
}
"""What passes the gates: the calls, all `POST`, that run the model. Everything else is cheap, and
must answer when the house is full.
"""


def route_paths() -> Iterator[str]:
    """Every path that is served, as the metrics label it."""
    for router in ROUTES:
        for route in router.routes:
            if isinstance(route, APIRoute):
                yield route.path
    yield "/openapi.json"
