"""What `/v1/codebook/stats` says, each figure with the number of tokens behind it. Blocking."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.model import Model
from service.usage import GRIDS, NATIVE
from vqtok.manifest import Manifest
from vqtok.statistics import Shape, WindowState, effective_dimension, summarise
from vqtok.statistics.figures import WindowFigures, figures_of
from vqtok.statistics.live import SINCE_START

NO_OUTPUT = "The encoder does not give it."
NO_POSTERIOR = (
    "The encoder gives no posterior over codes; where training measured its perplexity, it stands "
    "in the manifest's metrics."
)
NOT_ASKED = "Ask for it with counts=true."

Figures = dict[str, dict[str, WindowFigures]]


def figures(model: Model, states: dict[str, dict[str, WindowState]] | None = None) -> Figures:
    """For "native" and "other" grids the figures of each window, by its name."""
    shape = Shape.of(model.manifest)
    states = model.usage.states() if states is None else states
    return {
        grid: {
            name: figures_of(shape, state, model.drift, is_native=grid == NATIVE)
            for name, state in states[grid].items()
        }
        for grid in GRIDS
    }


def statistics(model: Model, *, counts: bool = False) -> dict[str, Any]:
    """The usage of the codes by live images and by training, and the shape of the codebook; lists
    have one entry for each level of depth. `counts` adds how often each code was used.
    """
    manifest = model.manifest
    states = model.usage.states()
    training = model.training_usage.reshape(manifest.depth, -1)
    live = states[NATIVE][SINCE_START].window
    assert live is not None
    found = figures(model, states)
    return {
        "model": manifest.full_name,
        "codebook_id": manifest.codebook_id,
        "tokenizer_id": manifest.tokenizer_id,
        "since": model.opened_at,
        **{grid: {name: asdict(each) for name, each in found[grid].items()} for grid in GRIDS},
        "training": [asdict(summarise(each)) for each in training],
        "reference": _reference(model),
        "distances": [asdict(each) for each in model.distances()],
        "dimension": {
            "training": _dimension(model, training),
            SINCE_START: _dimension(model, live.weights),
        },
        "soft_perplexity": None,
        "usage_counts": live.weights.astype(np.int64) if counts else None,
        "reasons": _reasons(manifest, counts=counts),
    }


def _reference(model: Model) -> dict[str, Any]:
    """What live images are compared with."""
    null = model.drift.null
    return {
        "source": model.drift.source,
        "num_tokens": int(model.drift.usage.counts[0].sum()),
        "calibrated_images": None if null is None else [int(each) for each in null.images],
    }


def _dimension(model: Model, usage: NDArray[Any]) -> list[dict[str, Any]]:
    tables = model.codebook.reshape(-1, *model.codebook.shape[-2:])
    return [
        asdict(effective_dimension(table, weights))
        for table, weights in zip(tables, usage, strict=True)
    ]


def _reasons(manifest: Manifest, *, counts: bool) -> dict[str, str]:
    """Why a figure is null, by its name."""
    missing = {
        name: NO_OUTPUT
        for name in ("quantisation_error", "posterior_entropy")
        if name not in manifest.outputs
    }
    asked = {} if counts else {"usage_counts": NOT_ASKED}
    return {**missing, "soft_perplexity": NO_POSTERIOR, **asked}
