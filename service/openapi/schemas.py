"""The schemas of the OpenAPI document: what JSON goes in and comes out."""

from typing import Any

from service.problems import TITLES

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
    "rates": {
        "description": "Bits of the image by each coder; null, with a reason, where it cannot be.",
        "type": "object",
        "additionalProperties": record(
            {"bits": NUMBER_OR_NULL, "reason": TEXT}, optional=("reason",)
        ),
    },
}
_ITEM_SENT = record(_ITEM, optional=("grid", "size", "margins", "bits", "rates"))
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
    "TokenItem": record(_ITEM, optional=("margins", "bits", "rates")),
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
            "items": array(record(_ITEM, optional=("margins", "rates"))),
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
