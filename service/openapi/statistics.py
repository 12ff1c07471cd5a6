"""The schema of `/v1/codebook/stats`; docs/statistics.md says what each figure means."""

from service.openapi.shapes import (
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
from service.usage import GRIDS, NATIVE
from vqtok.statistics import WINDOWS
from vqtok.statistics.drift_null import QUANTILE_NAMES
from vqtok.statistics.figures import QUANTILES
from vqtok.statistics.live import SINCE_START

_INTEGER_OR_NULL: Schema = {"type": ["integer", "null"], "minimum": 0}
_PER_LEVEL = "One entry for each level of depth."


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _values(name: str) -> Schema:
    quantiles = {f"p{100 * share:02g}": NUMBER_OR_NULL for share in QUANTILES[name]}
    return record({"num_values": INTEGER, "mean": NUMBER_OR_NULL, "quantiles": record(quantiles)})


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
_DRIFT = record(
    {
        "kl_bits": NUMBER_OR_NULL,
        "js_bits": NUMBER_OR_NULL,
        "new_code_rate": NUMBER_OR_NULL,
        "calibrated": {"type": "boolean"},
        "reason": TEXT_OR_NULL,
        "expected_bits": NUMBER_OR_NULL,
        "z": NUMBER_OR_NULL,
        "threshold_bits": _or_null(record(dict.fromkeys(QUANTILE_NAMES, NUMBER))),
        "windows_above": _INTEGER_OR_NULL,
        "alarm": {"type": ["boolean", "null"]},
        "alarms": _INTEGER_OR_NULL,
    }
)
_DISTANCES = record(
    {
        "nearest_min": NUMBER,
        "nearest_median": NUMBER,
        "nearest_mean": NUMBER,
        "pairwise_median": NUMBER,
        "duplicates": INTEGER,
    }
)
_DIMENSION = record(
    {"code_dim": INTEGER, "participation_ratio": NUMBER_OR_NULL, "entropy": NUMBER_OR_NULL}
)

WINDOW: Schema = record(
    {
        "num_images": INTEGER,
        "num_tokens": INTEGER,
        "window_images": _INTEGER_OR_NULL,
        "num_windows": _INTEGER_OR_NULL,
        "filling": _INTEGER_OR_NULL,
        "reason": TEXT_OR_NULL,
        "usage": array(_USAGE, description=_PER_LEVEL),
        "margins": _values("margins"),
        "quantisation_error": _or_null(_values("quantisation_error")),
        "posterior_entropy": _or_null(_values("posterior_entropy")),
        "drift": _DRIFT,
    },
    description="Figures of the last complete window, or of all images since the start.",
)

_WINDOWS = record(dict.fromkeys(WINDOWS, ref("schemas", "StatisticsWindow")))
_GRIDS = {
    grid: {
        **_WINDOWS,
        "description": f"Images of {'the native' if grid == NATIVE else 'any other'} grid.",
    }
    for grid in GRIDS
}

STATISTICS: Schema = record(
    {
        "model": TEXT,
        "codebook_id": TEXT,
        "tokenizer_id": TEXT,
        "since": TEXT,
        **_GRIDS,
        "training": array(_USAGE, description=_PER_LEVEL),
        "reference": record(
            {
                "source": {"type": "string", "enum": ["training", "calibration"]},
                "num_tokens": INTEGER,
                "calibrated_images": _or_null(array(INTEGER)),
            }
        ),
        "distances": array(_DISTANCES, description=_PER_LEVEL),
        "dimension": record(
            dict.fromkeys(("training", SINCE_START), array(_DIMENSION, description=_PER_LEVEL))
        ),
        "soft_perplexity": NUMBER_OR_NULL,
        "usage_counts": _or_null(array(array(INTEGER), description=_PER_LEVEL)),
        "reasons": {
            "type": "object",
            "additionalProperties": TEXT,
            "description": "Why a figure is null, by its name.",
        },
    }
)
