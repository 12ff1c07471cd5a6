"""The routes, one file a call. `ROUTES` is the list of them all."""

from collections.abc import Iterator

from fastapi import APIRouter
from fastapi.routing import APIRoute

from service.routes import codebook, decode, docs, encode, health, models, reconstruct, sample

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

ADMITTED_ROUTES = frozenset({"/v1/encode", "/v1/decode", "/v1/sample", "/v1/reconstruct"})
"""What passes the gates: the calls that run the model. Everything else is cheap, and must answer
when the house is full.
"""


def route_paths() -> Iterator[str]:
    """Every path that is served, as the metrics label it."""
    for router in ROUTES:
        for route in router.routes:
            if isinstance(route, APIRoute):
                yield route.path
    yield "/openapi.json"
