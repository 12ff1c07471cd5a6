"""Pictures of a diffusion prior's samples."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.storage import SETTINGS_FILE
from training.pictures import above, beside, png
from training.priors.settings import load_prior_settings
from training.priors.step import load_sampler
from training.results import read_result
from vqtok.bundle import Bundle
from vqtok.runtime.onnx import open_engine

_COLUMNS = 8


@dataclass(frozen=True)
class Wish:
    """n samples of a seed, of a class by its name or of none; tokens the likeliest, or drawn."""

    n: int = 16
    seed: int = 0
    label: str | None = None
    likeliest: bool = True


def sampled_picture(run: Path, wish: Wish) -> bytes:
    """A PNG file of samples beside one another, decoded by the bundle of the run.

    Raises FileNotFoundError for a run of another kind, ValueError for an unknown class.
    """
    bundle = Bundle.open(load_prior_settings(run / SETTINGS_FILE).bundle)
    names: list[str] = read_result(run)["label_names"]
    if wish.label is not None and wish.label not in names:
        raise ValueError(f"no class is called {wish.label!r}; there are {', '.join(names) or None}")
    label = len(names) if wish.label is None else names.index(wish.label)
    labels = np.full(wish.n, label, np.int32)
    sampler = load_sampler(run)
    tokens = sampler.tokens(wish.seed, range(wish.n), labels, likeliest=wish.likeliest)
    engine = open_engine(bundle, "cpu")
    try:
        pixels = engine.decode(tokens.reshape(wish.n, *bundle.manifest.grid))
    finally:
        engine.close()
    rows = [pixels[start : start + _COLUMNS] for start in range(0, wish.n, _COLUMNS)]
    return png(above([beside(list(row), gap=2) for row in rows], gap=2))
