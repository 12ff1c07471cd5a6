"""The quantizers that the laws hold to, each with several options."""

from typing import Any

K = 16
SIZES = {"codebook_size": K, "code_dim": 4}

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "vq": [
        SIZES,
        SIZES | {"replace_after": 2},
        SIZES | {"normalise": True},
        SIZES | {"normalise": True, "replace_after": 2},
        SIZES | {"affine": "learned"},
        SIZES | {"affine": "statistics", "replace_after": 2},
        SIZES | {"inner_rate": 2.0, "task_share": 0.2},
        SIZES | {"inner_rate": 2.0},
        SIZES | {"affine": "learned", "inner_rate": 2.0, "task_share": 0.2, "replace_after": 2},
        SIZES | {"normalise": True, "affine": "statistics", "inner_rate": 2.0, "task_share": 0.2},
    ],
    "vq_ema": [
        SIZES,
        SIZES | {"decay": 0.8, "replace_after": 2},
        SIZES | {"decay": 0.8, "normalise": True, "replace_after": 2},
    ],
    "gmvq": [
        SIZES,
        SIZES | {"precision": "scalar", "noise": "batch_mean"},
        SIZES | {"noise": "off", "argmax_from": 0.0, "two_sigma2": 0.5},
        SIZES | {"regulariser": "literal", "assignment_temperature": {"start": 1.0, "end": 0.2}},
        SIZES | {"regulariser": "zsoft", "dense_code_gradient": True},
    ],
    "sqvae": [
        SIZES,
        SIZES | {"kind": "II", "initial_log_variance": -1.0},
        SIZES | {"kind": "III", "initial_log_variance": -2.0, "gumbel_temperature": 0.5},
        SIZES | {"kind": "IV", "initial_log_variance": -3.0},
    ],
    "gumbel": [SIZES, SIZES | {"hard": False, "gumbel_temperature": 0.5}],
    "em": [SIZES, SIZES | {"num_samples": 0, "assignment_temperature": 0.7, "decay": 0.8}],
    "fsq": [{"levels": [4, 4]}, {"levels": [3, 5, 4]}],
    "ibq": [SIZES, SIZES | {"assignment_temperature": 0.5}],
    "simvq": [SIZES],
    "rvq": [
        SIZES | {"depth": 2, "update": "gradient", "replace_after": 2},
        SIZES | {"depth": 3, "update": "ema", "decay": 0.8, "replace_after": 2},
    ],
}
CASES = [(method, options) for method, several in OPTIONS.items() for options in several]
