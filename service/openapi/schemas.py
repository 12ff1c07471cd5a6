"""The components of the OpenAPI document: schemas, parameters, headers, and the problems."""

from typing import Any

from service.problems import PROBLEM_MEDIA_TYPE, TITLES
from vqtok.images import PREPROCESS
from vqtok.wire.format import LAYOUTS, TOKEN_DTYPES

Schema = dict[str, Any]


def ref(kind: str, name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def array(items: Schema, **rest: Any) -> Schema:
    """An array's schema."""
    return {"type": "array", "items": items, **rest}


def record(properties: dict[str, Schema], *, optional: tuple[str, ...] = (), **rest: Any) -> Schema:
    """An object's schema; every property that is not optional is required."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, **rest}


INTEGER: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
BASE64: Schema = {"type": "string", "contentEncoding": "base64"}
_SIZE = array({"type": "integer", "minimum": 1}, minItems=2, maxItems=2)
_TOKENS: Schema = {
    "description": "Nested as the grid, or flat in raster order, depth last.",
    "type": "array",
    "items": {"anyOf": [INTEGER, array({"anyOf": [INTEGER, array(INTEGER)]})]},
}
_IDS: dict[str, Schema] = {
    "model": TEXT_OR_NULL,
    "codebook_id": TEXT_OR_NULL,
    "tokenizer_id": TEXT_OR_NULL,
    "preprocess": TEXT_OR_NULL,
}
_ITEM: dict[str, Schema] = {
    "grid": array({"type": "integer", "minimum": 1}, minItems=2, maxItems=3),
    "size": {"anyOf": [_SIZE, {"type": "null"}]},
    "tokens": _TOKENS,
    "margins": array({}),
    "bits": NUMBER,
}
_ITEM_SENT = record(_ITEM, optional=("grid", "size", "margins", "bits"))
_SAMPLED: dict[str, Schema] = {"prior": TEXT, "seed": INTEGER, "temperature": NUMBER}
_QUALITY = record({"mse": NUMBER, "psnr": NUMBER_OR_NULL, "ssim": NUMBER_OR_NULL})
_USAGE = record(
    {
        "num_tokens": INTEGER,
        "codebook_size": INTEGER,
        "used_codes": INTEGER,
        "dead_codes": INTEGER,
        "usage": NUMBER_OR_NULL,
        "entropy_bits": NUMBER_OR_NULL,
        "entropy_bits_miller_madow": NUMBER_OR_NULL,
        "perplexity": NUMBER_OR_NULL,
        "perplexity_miller_madow": NUMBER_OR_NULL,
        "dead_codes_by_chance": NUMBER_OR_NULL,
    }
)
_DISTANCES = record(
    {"nearest_min": NUMBER, "nearest_median": NUMBER, "nearest_mean": NUMBER, "duplicates": INTEGER}
)
_MODEL: dict[str, Schema] = {
    "name": TEXT,
    "version": TEXT,
    "method": TEXT,
    "codebook_id": TEXT,
    "tokenizer_id": TEXT,
    "codebook_size": INTEGER,
    "factor": INTEGER,
    "native_size": _SIZE,
    "grid": array(INTEGER),
}

SCHEMAS: dict[str, Schema] = {
    "ItemError": record({"error": record({"code": TEXT, "detail": TEXT})}),
    "TokenItem": record(_ITEM, optional=("margins", "bits")),
    "Tokens": record(
        {
            **_IDS,
            "items": array({"anyOf": [ref("schemas", "TokenItem"), ref("schemas", "ItemError")]}),
        }
    ),
    "TokensSent": record(
        {
            **_IDS,
            **_SAMPLED,
            "items": array({"anyOf": [_ITEM_SENT, ref("schemas", "ItemError")]}, minItems=1),
        },
        optional=(*_IDS, *_SAMPLED),
        additionalProperties=False,
    ),
    "ImagesSent": record({"images": array(BASE64, minItems=1)}, additionalProperties=False),
    "Images": record({"images": array({"anyOf": [BASE64, ref("schemas", "ItemError")]})}),
    "SampleSent": record(
        {
            "n": {"type": "integer", "minimum": 1, "default": 1},
            "seed": {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
            "temperature": {"type": "number", "minimum": 0, "default": 1},
        },
        optional=("n", "seed", "temperature"),
        additionalProperties=False,
    ),
    "Samples": record(
        {
            **_IDS,
            **_SAMPLED,
            "items": array(record(_ITEM, optional=("margins",))),
        }
    ),
    "Reconstructions": record(
        {
            **_IDS,
            "quality": array({"anyOf": [_QUALITY, {"type": "null"}]}),
            "images": array({"anyOf": [BASE64, ref("schemas", "ItemError")]}),
        }
    ),
    "Statistics": record(
        {
            **{name: schema for name, schema in _IDS.items() if name != "preprocess"},
            "since": TEXT,
            "observed": array(_USAGE),
            "training": array(_USAGE),
            "margins": record(
                {"mean": NUMBER_OR_NULL, "edges": array(NUMBER), "counts": array(INTEGER)}
            ),
            "distances": array(_DISTANCES),
            "soft": {"type": ["object", "null"]},
            "soft_reason": TEXT_OR_NULL,
            "drift": {"type": ["object", "null"]},
            "drift_reason": TEXT_OR_NULL,
        }
    ),
    "Models": record({"models": array(record(_MODEL))}),
    "Model": record(
        {
            **_MODEL,
            "device": TEXT,
            "num_runners": INTEGER,
            "max_batch_images": INTEGER,
            "seconds_per_megapixel": record({"encode": NUMBER, "decode": NUMBER}),
            "limits": {"type": "object"},
            "manifest": {"type": "object"},
        }
    ),
    "Live": record({"status": {"const": "live"}}),
    "Ready": record(
        {"status": {"const": "ready"}, "model": TEXT, "device": TEXT, "num_runners": INTEGER}
    ),
    "Problem": record(
        {
            "type": TEXT,
            "title": TEXT,
            "status": INTEGER,
            "code": {"type": "string", "enum": sorted(TITLES)},
            "detail": TEXT,
            "limit": {"type": ["number", "null"]},
            "setting": TEXT_OR_NULL,
            "phase": TEXT,
            "request_id": TEXT,
        },
        optional=("limit", "setting", "phase", "request_id"),
    ),
}


def _parameter(name: str, schema: Schema, description: str, place: str = "query") -> Schema:
    return {"name": name, "in": place, "schema": schema, "description": description}


def _choice(*values: str, default: str | None = None) -> Schema:
    return {"type": "string", "enum": list(values), **({"default": default} if default else {})}


_SIZE_TEXT: Schema = {"type": "string", "pattern": "^[0-9]+(x[0-9]+)?$"}

PARAMETERS: dict[str, Schema] = {
    "model": _parameter("model", TEXT, "`name` or `name@version`; the served model if left out."),
    "preprocess": _parameter(
        "preprocess",
        _choice(*PREPROCESS, default="pad"),
        "How an image is fitted to the grid. `exact` takes only sides that are multiples of the "
        "factor; the last three resize to `image_size`.",
    ),
    "image_size": _parameter(
        "image_size", _SIZE_TEXT, "HEIGHTxWIDTH, or one number for a square; default: native size."
    ),
    "dtype": _parameter("dtype", _choice(*TOKEN_DTYPES), "The type of tokens in npy."),
    "layout": _parameter("layout", _choice(*LAYOUTS, default="grid"), "Nested tokens or flat."),
    "detail": _parameter(
        "detail", _choice("margin"), "Adds to JSON how clearly each token won, 0 .. 1."
    ),
    "on_error": _parameter(
        "on_error",
        _choice("fail", "item", default="fail"),
        "Whether one bad item fails the request, or stands as an error among the others (JSON).",
    ),
    "quality": _parameter(
        "quality",
        {"type": "integer", "minimum": 1, "maximum": 100, "default": 90},
        "Quality of JPEG and WebP.",
    ),
    "size": _parameter(
        "size", _SIZE_TEXT, "HEIGHTxWIDTH to crop to, where the body does not say; else the grid."
    ),
    "grid": _parameter(
        "grid",
        {"type": "string", "pattern": "^[0-9]+(x[0-9]+){1,2}$"},
        "ROWSxCOLUMNS[xDEPTH] of tokens that are sent flat as npy.",
    ),
    "require_ids": _parameter(
        "require_ids",
        _choice("true", "false", default="false"),
        "Refuse tokens that do not say their codebook_id.",
    ),
}

HEADER_PARAMETERS: dict[str, Schema] = {
    "Vqtok-Timeout-Ms": _parameter(
        "Vqtok-Timeout-Ms",
        {"type": "integer", "minimum": 1},
        "Lowers the time after which the answer is 504.",
        "header",
    ),
    "X-Request-Id": _parameter(
        "X-Request-Id", TEXT, "Comes back with the answer and stands in the log.", "header"
    ),
    "Vqtok-Codebook-Id": _parameter(
        "Vqtok-Codebook-Id", TEXT, "Codebook of tokens sent as npy; must match.", "header"
    ),
    "Vqtok-Image-Size": _parameter(
        "Vqtok-Image-Size", _SIZE_TEXT, "The same as the parameter `size`.", "header"
    ),
}


def _header(description: str) -> Schema:
    return {"description": description, "schema": TEXT}


HEADERS: dict[str, Schema] = {
    "X-Request-Id": _header("The request's id."),
    "Vqtok-Model": _header("`name@version` of the model."),
    "Vqtok-Codebook-Id": _header("Which tokens can be decoded here; 12 hex digits."),
    "Vqtok-Tokenizer-Id": _header("Which tokens are comparable; 12 hex digits."),
    "Vqtok-Preprocess": _header("What was done to the images, or `none`."),
    "Server-Timing": _header(
        "Milliseconds in each stage, where those of a large request overlap, and in total."
    ),
    "Vqtok-Image-Size": _header("HEIGHTxWIDTH of the pictures that these tokens decode to."),
    "Vqtok-Seed": _header("The seed that was used."),
    "Vqtok-Bits": _header("Code length of each sample in bits, separated by commas."),
    "Vqtok-Prior": _header("What the samples were drawn from."),
    "Vqtok-Mse": _header("Of each picture, on pixels scaled to 0 .. 1, separated by commas."),
    "Vqtok-Psnr": _header("Of each picture in dB; null where the images are equal."),
    "Vqtok-Ssim": _header("Of each picture; null where a side is below 7 pixels."),
    "Retry-After": _header("Whole seconds, at least 1."),
    "Vqtok-Retry-After-Ms": _header("The same in milliseconds."),
}

PROBLEMS: dict[int, str] = {
    400: "The body or an image cannot be read",
    404: "No such model",
    406: "No accepted format can carry the answer; the detail names those that can",
    408: "The body came too slowly",
    409: "Tokens of another codebook; the detail names both",
    413: "Above a limit, or never admissible; `limit` and `setting` say which",
    415: "A content type or kind of image that is not taken",
    422: "A parameter or tokens that do not fit",
    429: "No room now",
    503: "Not ready, shutting down, or the model failed on an item",
    504: "No answer in the allowed time",
}


def problem_response(status: int) -> Schema:
    """A problem with this status."""
    response: Schema = {
        "description": PROBLEMS[status],
        "content": {PROBLEM_MEDIA_TYPE: {"schema": ref("schemas", "Problem")}},
    }
    if status == 429:
        names = ("Retry-After", "Vqtok-Retry-After-Ms")
        response["headers"] = {name: ref("headers", name) for name in names}
    return response


COMPONENTS: Schema = {
    "schemas": SCHEMAS,
    "parameters": {**PARAMETERS, **HEADER_PARAMETERS},
    "headers": HEADERS,
    "responses": {f"Problem{status}": problem_response(status) for status in PROBLEMS},
}
