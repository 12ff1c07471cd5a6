"""`POST /v1/reconstruct`: images through encoder and decoder, with how near they come."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.body import media_type_of
from service.intake import BODY_TYPES, Loaded
from service.job import Job
from service.negotiation import choose
from service.params import Query, header_text
from service.pictures import (
    CONTAINERS,
    FILES,
    JSON,
    Picture,
    PictureFormat,
    choose_format,
    json_is_liked,
)
from service.quality import Quality, compare
from service.routes.decode import DEFAULT_QUALITY
from service.routes.images import image_options, require_item_errors, serialised, take_images
from service.rows import Row, Rows
from service.state import service_of
from vqtok.errors import VqtokError
from vqtok.manifest import Manifest

router = APIRouter()

PARAMETERS = ("model", "preprocess", "image_size", "quality", "strict", "on_error")
FIGURES = ("mse", "psnr", "ssim")


@dataclass(frozen=True)
class Reconstructed:
    """A picture in the format of the answer, and how near it comes to the image as encoded."""

    picture: Picture
    quality: Quality


Result = Reconstructed | VqtokError


@router.post("/v1/reconstruct")
async def reconstruct(request: Request) -> Response:
    """Images to their reconstructions."""
    service = service_of(request)
    query = Query(request, PARAMETERS)
    model = service.model(query.text("model"))
    options = image_options(query, service.settings, model.manifest)
    quality = query.integer("quality", 1, 100, DEFAULT_QUALITY)
    # JSON comes first here, since it alone has room for the figures beside the pictures.
    accept = header_text(request, b"accept")
    liked = choose(accept, (JSON, *FILES, *CONTAINERS), what="reconstructions")
    require_item_errors(options.per_item, json_is_liked(accept))
    strict = query.flag("strict")
    job = Job.of(request, model, per_item=options.per_item, strict=strict)
    media_type = media_type_of(request, BODY_TYPES)
    plan = await take_images(request, job, options, media_type, ("encode", "decode"))
    needs_json = liked == JSON or options.per_item
    chosen = choose_format(JSON if needs_json else accept, plan.num_items, quality)

    async def finish(loaded: Loaded, rows: Rows) -> Mapping[int, Result]:
        made = await _reconstruct_chunk(job, loaded, rows, chosen, plan.num_items)
        return {**loaded.errors, **dict(zip(loaded.indices, made, strict=True))}

    parts = await job.encode_chunks(plan, options, finish)
    results = plan.ordered({index: each for part in parts for index, each in part.items()})
    service.metrics.count_images(
        "reconstruct", sum(isinstance(each, Reconstructed) for each in results)
    )
    body = await serialised(job, lambda: _body(model.manifest, options.preprocess, results, chosen))
    headers = {} if chosen.media_type == JSON else _figures_as_headers(results)
    return Response(body, media_type=chosen.media_type, headers=headers)


async def _reconstruct_chunk(
    job: Job, loaded: Loaded, rows: Rows, chosen: PictureFormat, num_items: int
) -> Sequence[Result]:
    encoded = [i for i, row in enumerate(rows) if not isinstance(row, VqtokError)]
    if not encoded:
        return [row for row in rows if isinstance(row, VqtokError)]
    stacks = rows.stacks
    decoded = await job.work.run("decode", np.concatenate([stack[0] for stack in stacks]))
    job.check(decoded, [loaded.indices[i] for i in encoded], num_items)
    by_row = dict(zip(encoded, decoded, strict=True))
    outcome = [by_row.get(i, row) for i, row in enumerate(rows)]

    def write() -> list[Result]:
        job.model.usage.add(stacks)
        return [_compared(loaded, i, row, chosen) for i, row in enumerate(outcome)]

    with job.call.stage("serialize"):
        return await job.service.pool.run(write)


def _compared(loaded: Loaded, index: int, row: Row, chosen: PictureFormat) -> Result:
    if isinstance(row, VqtokError):
        return row
    height, width = loaded.sizes[index]
    picture = row[0][:height, :width]
    image = loaded.rows[index, :height, :width]
    return Reconstructed(chosen.write(picture), compare(image, picture))


def _body(
    manifest: Manifest, preprocess: str, results: Sequence[Result], chosen: PictureFormat
) -> bytes:
    extra: dict[str, Any] = {
        "model": manifest.full_name,
        "codebook_id": manifest.codebook_id,
        "tokenizer_id": manifest.tokenizer_id,
        "preprocess": preprocess,
        "quality": [
            asdict(each.quality) if isinstance(each, Reconstructed) else None for each in results
        ],
    }
    pictures = [each.picture if isinstance(each, Reconstructed) else each for each in results]
    return chosen.assemble(pictures, extra)


def _figures_as_headers(results: Sequence[Result]) -> dict[str, str]:
    figures = [asdict(each.quality) for each in results if isinstance(each, Reconstructed)]
    return {
        f"Vqtok-{name.capitalize()}": ",".join(_figure(each[name]) for each in figures)
        for name in FIGURES
    }


def _figure(value: float | None) -> str:
    return "null" if value is None else f"{value:.6g}"
