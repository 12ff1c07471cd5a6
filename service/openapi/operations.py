"""The paths of the OpenAPI document."""

from typing import Any

from service.openapi import examples
from service.openapi.shapes import Schema, array, record, ref
from vqtok.wire.bitstream_format import MEDIA_TYPE as BITSTREAM

COMMON_HEADERS = (
    *("X-Request-Id", "Vqtok-Model", "Vqtok-Codebook-Id", "Vqtok-Tokenizer-Id"),
    *("Vqtok-Preprocess", "Server-Timing"),
)
WORK_HEADERS = ("Vqtok-Timeout-Ms", "X-Request-Id")
WORK_PROBLEMS = (400, 401, 403, 404, 406, 408, 413, 415, 422, 429, 503, 504)
READ_PROBLEMS = (401, 403, 404, 406, 422, 503)
KEYS: list[Schema] = [{}, {"bearer": []}, {"header": []}]
"""Callers need a key where the service is started with keys, one way or the other."""

_BYTES: Schema = {}
_PICTURES: dict[str, Schema] = {
    "image/png": {"schema": _BYTES},
    "image/webp": {"schema": _BYTES},
    "image/jpeg": {"schema": _BYTES},
    "application/x-npy": {"schema": _BYTES},
    "application/zip": {"schema": _BYTES},
}


def _json(schema: str, **named_examples: Any) -> Schema:
    content: Schema = {"schema": ref("schemas", schema)}
    if named_examples:
        content["examples"] = {name: {"value": value} for name, value in named_examples.items()}
    return content


def _images_body() -> Schema:
    one_file: Schema = {"type": "string", "format": "binary"}
    form = record({"images": array(one_file, minItems=1)}, additionalProperties=False)
    return {
        "image/*": {"schema": _BYTES},
        "multipart/form-data": {"schema": form},
        "application/json": _json("ImagesSent", two_images=examples.IMAGES_SENT),
        "application/x-npy": {"schema": _BYTES},
    }


def _work(
    description: str,
    *,
    parameters: tuple[str, ...],
    body: Schema,
    answer: Schema,
    headers: tuple[str, ...] = (),
    problems: tuple[int, ...] = (),
    is_optional: bool = False,
) -> Schema:
    """A call that runs the model. The first line of `description` is its summary."""
    summary, _, rest = description.partition("\n")
    responses: Schema = {"200": _answer(answer, headers)}
    for status in sorted((*WORK_PROBLEMS, *problems)):
        responses[str(status)] = ref("responses", f"Problem{status}")
    return {
        "post": {
            "summary": summary,
            "description": rest,
            "tags": ["work"],
            "security": KEYS,
            "parameters": [ref("parameters", name) for name in (*parameters, *WORK_HEADERS)],
            "requestBody": {"required": not is_optional, "content": body},
            "responses": responses,
        }
    }


def _read(
    summary: str,
    answer: Schema,
    *,
    tag: str,
    parameters: tuple[Schema, ...] = (),
    problems: tuple[int, ...] = READ_PROBLEMS,
) -> Schema:
    """A call that only tells."""
    responses: Schema = {"200": _answer(answer)}
    for status in problems:
        responses[str(status)] = ref("responses", f"Problem{status}")
    operation: Schema = {"summary": summary, "tags": [tag], "responses": responses}
    if 401 in problems:
        operation["security"] = KEYS
    return {"get": {**operation, "parameters": list(parameters)}}


def _answer(content: Schema, headers: tuple[str, ...] = ()) -> Schema:
    names = (*COMMON_HEADERS, *headers)
    return {
        "description": "The answer",
        "headers": {name: ref("headers", name) for name in names},
        "content": content,
    }


_MODEL = ref("parameters", "model")
_NAME: Schema = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "`name` or `name@version`",
}

PATHS: Schema = {
    "/v1/encode": _work(
        "Images to tokens\n"
        "One image as the body, several as multipart parts named `images`, base64 in JSON, or "
        "uint8 (N, H, W, 3) as npy: JPEG, PNG, WebP, GIF, BMP, TIFF. The bytes decide the format.",
        parameters=(
            *("model", "preprocess", "image_size"),
            *("dtype", "layout", "detail", "coder", "strict", "on_error"),
        ),
        body=_images_body(),
        answer={
            "application/json": _json(
                "Tokens",
                tokens=examples.TOKENS_GIVEN,
                with_an_error=examples.TOKENS_GIVEN_WITH_ERROR,
            ),
            "application/x-npy": {"schema": _BYTES},
            BITSTREAM: {"schema": _BYTES},
        },
        headers=("Vqtok-Image-Size", "Cache-Status"),
    ),
    "/v1/decode": _work(
        "Tokens to images\n"
        "Tokens as `/v1/encode` gives them, or any integers in range. One picture is PNG unless "
        "`Accept` says otherwise; several must be asked for as npy, zip or JSON.",
        parameters=(
            *("model", "size", "grid", "quality", "require_ids", "on_error"),
            *("Vqtok-Codebook-Id", "Vqtok-Image-Size"),
        ),
        body={
            "application/json": _json("TokensSent", one_grid=examples.TOKENS_SENT),
            "application/x-npy": {"schema": _BYTES},
            BITSTREAM: {"schema": _BYTES},
        },
        answer={**_PICTURES, "application/json": _json("Images", images=examples.IMAGES_GIVEN)},
        problems=(409,),
    ),
    "/v1/sample": _work(
        "New tokens or pictures\n"
        "Drawn from the model's prior; one without a learned prior draws from its table of how "
        "often each code stands at each position. With tokens and a mask the rest is painted in. "
        "JSON and npy carry tokens, image types and zip pictures. Sample i depends on the seed, i, "
        "and what else was asked for, and on nothing beside. A learned prior is called once for "
        "each pass of each window of each sample, twice with cfg_scale; more calls than "
        "`max_prior_rows` are 413.",
        parameters=("model", "quality"),
        body={
            "application/json": _json(
                "SampleSent",
                two_samples=examples.SAMPLE_SENT,
                painted_in=examples.PAINTED_IN_SENT,
            )
        },
        answer={
            **_PICTURES,
            "application/json": _json("Samples", samples=examples.SAMPLES_GIVEN),
        },
        headers=("Vqtok-Seed", "Vqtok-Bits", "Vqtok-Prior", "Vqtok-Image-Size"),
        is_optional=True,
    ),
    "/v1/reconstruct": _work(
        "Images through encoder and decoder\n"
        "As `/v1/encode` takes them. JSON carries pictures and figures; with other formats the "
        "figures are headers.",
        parameters=("model", "preprocess", "image_size", "quality", "strict", "on_error"),
        body=_images_body(),
        answer={
            "application/json": _json(
                "Reconstructions", reconstructions=examples.RECONSTRUCTIONS_GIVEN
            ),
            **_PICTURES,
        },
        headers=("Vqtok-Mse", "Vqtok-Psnr", "Vqtok-Ssim", "Cache-Status"),
    ),
    "/v1/codebook": _read(
        "The code table, float32 (K, D) or (depth, K, D)",
        {"application/x-npy": {"schema": _BYTES}},
        tag="model",
        parameters=(_MODEL,),
    ),
    "/v1/codebook/stats": _read(
        "How the codes are used, whether images drift, and how far apart codes lie",
        {"application/json": _json("Statistics", after_200_images=examples.STATISTICS_GIVEN)},
        tag="model",
        parameters=(_MODEL, ref("parameters", "counts")),
    ),
    "/v1/models": _read(
        "The models that are served",
        {"application/json": _json("Models")},
        tag="model",
        problems=(401, 403, 422, 503),
    ),
    "/v1/models/{name}": _read(
        "One model: ids, manifest, and every limit in force",
        {"application/json": _json("Model")},
        tag="model",
        parameters=(_NAME,),
        problems=(401, 403, 404, 422, 503),
    ),
    "/health/live": _read(
        "Whether the process answers",
        {"application/json": _json("Live")},
        tag="operation",
        problems=(),
    ),
    "/health/ready": _read(
        "Whether requests are taken; 503 names the phase or the reason",
        {"application/json": _json("Ready")},
        tag="operation",
        problems=(503,),
    ),
    "/metrics": _read(
        "Metrics for Prometheus",
        {"text/plain": {"schema": {"type": "string"}}},
        tag="operation",
        problems=(401, 403, 404),
    ),
}
