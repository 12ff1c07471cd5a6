"""The schemas of the OpenAPI document: what JSON goes in and comes out."""

from service.openapi.shapes import (
    BASE64,
    INTEGER,
    NUMBER,
    NUMBER_OR_NULL,
    TEXT,
    TEXT_OR_NULL,
    Schema,
    array,
    record,
    ref,
)
from service.openapi.statistics import STATISTICS, WINDOW
from service.problems import TITLES

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
_GRID = array({"type": "integer", "minimum": 1}, minItems=2, maxItems=3)
_ITEM: dict[str, Schema] = {
    "grid": _GRID,
    "size": {"anyOf": [_SIZE, {"type": "null"}]},
    "tokens": _TOKENS,
    "margins": array({}),
    "bits": NUMBER,
    "drawn_bits": NUMBER,
    "rates": {
        "description": "Bits of the image by each coder, and under the learned prior; null, with a "
        "reason, where it cannot be.",
        "type": "object",
        "additionalProperties": record(
            {"bits": NUMBER_OR_NULL, "reason": TEXT}, optional=("reason",)
        ),
    },
}
_ITEM_SENT = record(_ITEM, optional=("grid", "size", "margins", "bits", "drawn_bits", "rates"))
_SAMPLED: dict[str, Schema] = {
    "prior": TEXT,
    "seed": INTEGER,
    "temperature": NUMBER,
    "windowed": {"type": "boolean"},
}
_WISH: dict[str, Schema] = {
    "n": {"type": "integer", "minimum": 1, "default": 1},
    "seed": {
        "type": "integer",
        "minimum": 0,
        "maximum": 2**64 - 1,
        "description": "Drawn by the service, and in the answer, where it is left out.",
    },
    "temperature": {
        "type": "number",
        "minimum": 0,
        "default": 1,
        "description": "0 takes the likeliest code everywhere.",
    },
    "top_k": {"type": "integer", "minimum": 0, "default": 0, "description": "0 is all codes."},
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1},
    "cfg_scale": {
        "type": "number",
        "minimum": 0,
        "default": 0,
        "description": "How far to guide towards the label, which it needs; 0 is not.",
    },
    "label": {
        "anyOf": [INTEGER, TEXT, {"type": "null"}],
        "description": "A class by number or name, of those that the model's prior knows.",
    },
    "passes": {
        "anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}],
        "description": "Calls of the prior; its own schedule where it is left out.",
    },
    "grid": {
        "anyOf": [
            array({"type": "integer", "minimum": 1}, minItems=2, maxItems=3),
            {"type": "null"},
        ],
        "description": "The native grid where it is left out; others are drawn window by window.",
    },
    "tokens": {
        "anyOf": [_TOKENS, {"type": "null"}],
        "description": "Tokens that are known where `mask` is true. They stay as they are.",
    },
    "mask": {
        "anyOf": [array({}), {"type": "null"}],
        "description": "Rows of true and false, of the shape of the grid.",
    },
}
_QUALITY = record({"mse": NUMBER, "psnr": NUMBER_OR_NULL, "ssim": NUMBER_OR_NULL})
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
    "TokenItem": record(_ITEM, optional=("margins", "bits", "drawn_bits", "rates")),
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
    "SampleSent": record(_WISH, optional=tuple(_WISH), additionalProperties=False),
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
    "Statistics": STATISTICS,
    "StatisticsWindow": WINDOW,
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
