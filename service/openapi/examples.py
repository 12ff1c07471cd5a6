"""Examples that a reader can send as they are, to any model of depth 1."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.images import write_image

SIDE = 16


def example_pixels() -> NDArray[np.uint8]:
    """A small picture, uint8 (16, 16, 3): two gradients."""
    ramp = np.linspace(0, 255, SIDE).round().astype(np.uint8)
    rows, columns = (
        np.broadcast_to(ramp[:, None], (SIDE, SIDE)),
        np.broadcast_to(ramp, (SIDE, SIDE)),
    )
    return np.stack([rows, columns, 255 - rows], axis=-1)


EXAMPLE_IMAGE = base64.b64encode(write_image(example_pixels())).decode()
_ID = "4f2c9a7d10b3" + "0" * 52
_IDS: dict[str, Any] = {"model": "cifar10-gmvq@1", "codebook_id": _ID, "tokenizer_id": _ID}
_ITEM: dict[str, Any] = {"grid": [2, 2], "size": [8, 8], "tokens": [[0, 1], [2, 3]]}

IMAGES_SENT: dict[str, Any] = {"images": [EXAMPLE_IMAGE, EXAMPLE_IMAGE]}
TOKENS_SENT: dict[str, Any] = {"items": [_ITEM]}
PAINTED_IN_SENT: dict[str, Any] = {
    "seed": 7,
    "grid": [2, 2],
    "tokens": [[0, 0], [2, 3]],
    "mask": [[False, False], [True, True]],
}
SAMPLE_SENT: dict[str, Any] = {"n": 2, "seed": 7, "temperature": 0.9}

TOKENS_GIVEN: dict[str, Any] = {**_IDS, "preprocess": "pad", "items": [_ITEM]}
TOKENS_GIVEN_WITH_ERROR: dict[str, Any] = {
    **TOKENS_GIVEN,
    "items": [
        _ITEM,
        {"error": {"code": "broken_image", "detail": "Image 1: The PNG file does not decode."}},
    ],
}
IMAGES_GIVEN: dict[str, Any] = {"images": [EXAMPLE_IMAGE]}
SAMPLES_GIVEN: dict[str, Any] = {
    **_IDS,
    "preprocess": None,
    "prior": "position-table",
    "seed": 7,
    "temperature": 0.9,
    "windowed": True,
    "items": [{**_ITEM, "bits": 21.5, "drawn_bits": 20.75}],
}
_USAGE: dict[str, Any] = {
    "num_tokens": 12_800,
    "codebook_size": 1024,
    "used_codes": 1013,
    "dead_codes": 11,
    "usage": 0.989,
    "entropy_bits": 9.81,
    "entropy_bits_miller_madow": 9.87,
    "perplexity": 898.0,
    "perplexity_miller_madow": 935.0,
    "dead_codes_by_chance": 1.4,
}
_TRAINING: dict[str, Any] = {
    **_USAGE,
    "num_tokens": 2_880_000,
    "used_codes": 1023,
    "dead_codes": 1,
    "dead_codes_by_chance": None,
}
_MARGINS = {"p01": 0.0004, "p05": 0.002, "p25": 0.011, "p50": 0.027}
_DRIFT: dict[str, Any] = {
    "kl_bits": 0.0672,
    "js_bits": 0.0171,
    "new_code_rate": 0.0,
    "calibrated": True,
    "reason": None,
    "expected_bits": 0.0664,
    "z": 0.22,
    "threshold_bits": {"q50": 0.0662, "q95": 0.0723, "q99": 0.0753, "q99.9": 0.0792},
    "windows_above": None,
    "alarm": None,
    "alarms": None,
}
_SINCE_START: dict[str, Any] = {
    "num_images": 200,
    "num_tokens": 12_800,
    "window_images": None,
    "num_windows": None,
    "filling": None,
    "reason": None,
    "usage": [_USAGE],
    "margins": {"num_values": 12_800, "mean": 0.035, "quantiles": _MARGINS},
    "quantisation_error": None,
    "posterior_entropy": None,
    "drift": _DRIFT,
}
_RECENT: dict[str, Any] = {
    **_SINCE_START,
    "num_images": 64,
    "num_tokens": 4096,
    "window_images": 64,
    "num_windows": 3,
    "filling": 8,
    "usage": [{**_USAGE, "num_tokens": 4096}],
    "drift": {**_DRIFT, "windows_above": 0, "alarm": False, "alarms": 0},
}
_EMPTY: dict[str, Any] = {
    **_RECENT,
    "num_images": 0,
    "num_tokens": 0,
    "num_windows": 0,
    "filling": 0,
    "reason": "No window of 64 images is complete yet; 0 of them have come.",
    "usage": [
        {
            **_USAGE,
            **dict.fromkeys(("entropy_bits", "entropy_bits_miller_madow", "usage")),
            **dict.fromkeys(("perplexity", "perplexity_miller_madow")),
            "num_tokens": 0,
            "used_codes": 0,
            "dead_codes": 1024,
            "dead_codes_by_chance": 1024.0,
        }
    ],
    "margins": {"num_values": 0, "mean": None, "quantiles": dict.fromkeys(_MARGINS)},
    "drift": {
        **dict.fromkeys(_DRIFT),
        "calibrated": False,
        "reason": "Only images of the native grid are what the null distribution was made from.",
    },
}
_DIMENSION: dict[str, Any] = {"code_dim": 8, "participation_ratio": 6.9, "entropy": 7.4}
STATISTICS_GIVEN: dict[str, Any] = {
    **_IDS,
    "since": "2025-01-31T08:00:00+00:00",
    "native": {"since_start": _SINCE_START, "recent": _RECENT, "long": _EMPTY},
    "other": dict.fromkeys(("since_start", "recent", "long"), _EMPTY),
    "training": [_TRAINING],
    "reference": {
        "source": "training",
        "num_tokens": 2_880_000,
        "calibrated_images": [16, 64, 256, 1024, 4096],
    },
    "distances": [
        {
            "nearest_min": 0.31,
            "nearest_median": 0.92,
            "nearest_mean": 0.95,
            "pairwise_median": 4.1,
            "duplicates": 0,
        }
    ],
    "dimension": {"training": [_DIMENSION], "since_start": [_DIMENSION]},
    "soft_perplexity": None,
    "usage_counts": None,
    "reasons": {
        "quantisation_error": "The encoder does not give it.",
        "posterior_entropy": "The encoder does not give it.",
        "soft_perplexity": "The encoder gives no posterior over codes.",
        "usage_counts": "Ask for it with counts=true.",
    },
}
RECONSTRUCTIONS_GIVEN: dict[str, Any] = {
    **_IDS,
    "preprocess": "pad",
    "quality": [{"mse": 0.0034, "psnr": 24.7, "ssim": 0.83}],
    "images": [EXAMPLE_IMAGE],
}
