"""`GET /v1/codebook` and `/v1/codebook/stats`: the code table, and how it is used."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.negotiation import choose
from service.params import Query, header_text
from service.pictures import JSON, NPY
from service.state import service_of
from service.stats import statistics
from vqtok.wire.json_writing import dump

router = APIRouter()


@router.get("/v1/codebook")
async def codebook(request: Request) -> Response:
    """The code table, float32 (K, D) or (depth, K, D), as npy."""
    query = Query(request, ("model",))
    model = service_of(request).model(query.text("model"))
    choose(header_text(request, b"accept"), (NPY,), what="the codebook")
    return Response(model.codebook_file, media_type=NPY)


@router.get("/v1/codebook/stats")
async def codebook_stats(request: Request) -> Response:
    """How the codes are used, whether images drift, and how far apart codes lie."""
    service = service_of(request)
    query = Query(request, ("model", "counts"))
    model = service.model(query.text("model"))
    counts = query.flag("counts")
    choose(header_text(request, b"accept"), (JSON,), what="the statistics")
    body = await service.pool.run(lambda: dump(statistics(model, counts=counts)))
    return Response(body, media_type=JSON)
