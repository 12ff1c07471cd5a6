"""Runs that take a second: a network of width 8, 16 codes, images that the tests make."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models import Autoencoder
from training.data.batches import to_pixels
from training.settings import RunSettings, set_value, settings_from

OPTIONS: dict[str, dict[str, Any]] = {
    "vq": {"replace_after": 2},
    "vq_ema": {"replace_after": 2, "decay": 0.9},
    "gmvq": {"noise": "token", "assignment_temperature": {"start": 1.0, "end": 0.5}},
    "sqvae": {"kind": "IV", "initial_log_variance": -4.0},
    "gumbel": {},
    "em": {"decay": 0.9, "assignment_temperature": {"start": 0.1, "end": 0.01}},
    "fsq": {"levels": [4, 4]},
    "ibq": {},
    "simvq": {},
    "rvq": {"depth": 2, "replace_after": 2, "decay": 0.9},
}
"""Options with which each quantizer has all the state and all the noise that it can have."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "vq-affine-opt": (
        "vq",
        {"affine": "learned", "inner_rate": 2.0, "task_share": 0.2, "replace_after": 2},
    ),
    "vq-statistics": ("vq", {"affine": "statistics", "replace_after": 2}),
    "vq-l2": ("vq", {"normalise": True, "replace_after": 2}),
    "vq_ema-l2": ("vq_ema", {"normalise": True, "replace_after": 2, "decay": 0.9}),
}
"""Further methods with options, for quantizers whose state no one choice of options has whole."""

CASES = {method: (method, options) for method, options in OPTIONS.items()} | VARIANTS
"""Whatever tests call by name: each method as `OPTIONS` has it, and the variants."""

OBJECTIVES = {
    "vq": "vqvae",
    "vq_ema": "vqvae",
    "gmvq": "albo",
    "sqvae": "sqvae",
    "gumbel": "gumbel",
    "em": "vqvae",
    "fsq": "vqvae",
    "ibq": "ibq",
    "simvq": "vqvae",
    "rvq": "vqvae",
}


def quantizer_options(case: str, codebook_size: int = 16) -> dict[str, Any]:
    """The options of a case with the sizes, for those whose sizes are options."""
    _, options = CASES[case]
    if "levels" in options:
        return options
    return {"codebook_size": codebook_size, "code_dim": 4, **options}


def smooth_images(count: int, side: int = 16, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 (count, side, side, 3): coarse squares and a little noise."""
    rng = np.random.default_rng([seed, side])
    coarse = rng.random((count, side // 4, side // 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
    fine = rng.random((count, side, side, 3))
    return np.round(255 * (0.8 * coarse + 0.2 * fine)).astype(np.uint8)


def write_images(folder: Path, images: NDArray[np.uint8]) -> Path:
    """Write them as PNG files that sort in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{place:04}.png")
    return folder


def tiny_table(case: str, images: Path | str) -> dict[str, Any]:
    """Settings as TOML has them: 8 images a batch, 16 images kept for validation."""
    method, _ = CASES[case]
    return {
        "name": f"tiny-{case}",
        "seed": 3,
        "data": {
            "kind": "folder",
            "folder": str(images),
            "validation_images": 16,
            "image_size": 16,
        },
        "model": {
            "method": method,
            "network": {"width": 8, "num_blocks": 1},
            "quantizer": quantizer_options(case),
        },
        "objective": {"name": OBJECTIVES[method]},
        "optimiser": {"learning_rate": 5e-3},
        "schedule": {"epochs": 2, "batch_size": 8, "kmeans_vectors": 256},
    }


def tiny_settings(
    case: str, images: Path | str, changes: Mapping[str, Any] | None = None
) -> RunSettings:
    """The settings, with "table.key" changes."""
    table = tiny_table(case, images)
    for name, value in (changes or {}).items():
        set_value(table, name, value)
    return settings_from(table, "a test")


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread and as it was afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)


def torch_tokens(model: Autoencoder, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    with torch.no_grad():
        return model.encode(to_pixels(torch.from_numpy(images))).numpy()
