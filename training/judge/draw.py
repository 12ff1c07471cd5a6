"""Sets of samples: many token grids of one prior, drawn in parts and kept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.judge.kept import Arrays, Kept
from training.judge.sets import ImageSet
from training.judge.settings import DrawSettings
from training.progress import Show
from training.settings import SettingsError
from vqtok.bundle import Bundle
from vqtok.priors import Prior, TablePrior, Wish, draw_all
from vqtok.runtime.engine import Engine
from vqtok.runtime.onnx import prior_of

MOST_TOGETHER = 250
"""So many samples are drawn and kept at once."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where samples come from. bundle_digest: decides the bundle's files."""

    bundle: Bundle
    bundle_digest: str
    engine: Engine
    kept: Kept
    show: Show


def sampled_set(
    source: Source, settings: DrawSettings, seed: int, labels: NDArray[np.int64]
) -> ImageSet:
    """As many samples as `labels` (n,), of these classes in order where the settings ask for
    classes: sample i is number i of the seed.

    Raises as `checked_prior`.
    """
    prior = checked_prior(source.bundle, settings)
    decides = settings.model_dump(exclude={"name", "shown"})
    origin = {"bundle": source.bundle_digest, "seed": seed, **decides}
    in_order = np.sort(labels)
    parts: list[Arrays] = []
    with source.show(settings.name, len(labels)) as shown:
        for wish in wishes(settings, seed, in_order):
            asked = {**origin, "first": wish.first, "n": wish.n, "label": wish.label}
            name = f"{settings.name} {wish.first:06d}"
            parts.append(source.kept.get(name, asked, _draws(prior, wish)))
            shown.reach(wish.first + wish.n)
    tokens = np.concatenate([part["tokens"] for part in parts])
    return ImageSet(
        settings.name,
        "samples",
        len(tokens),
        lambda places: source.engine.decode(tokens[places]),
        {**origin, "n": len(tokens), "of": np.bincount(in_order * settings.labelled).tolist()},
        in_order if settings.labelled else None,
        bits=float(np.concatenate([part["bits"] for part in parts]).mean()),
        shown=settings.shown,
    )


def wishes(settings: DrawSettings, seed: int, labels: NDArray[np.int64]) -> Iterator[Wish]:
    """Parts of one class each, of labels (n,) in order; of any size where no classes are wanted."""
    runs = labels if settings.labelled else np.zeros_like(labels)
    starts: list[int] = np.flatnonzero(np.diff(runs, prepend=-1)).tolist()
    for start, stop in zip(starts, [*starts[1:], len(runs)], strict=True):
        for first in range(start, stop, MOST_TOGETHER):
            yield Wish(
                n=min(MOST_TOGETHER, stop - first),
                seed=seed,
                first=first,
                rule=settings.rule,
                label=int(runs[start]) if settings.labelled else None,
            )


def _draws(prior: Prior, wish: Wish) -> Callable[[], dict[str, NDArray[Any]]]:
    def make() -> dict[str, NDArray[Any]]:
        drawn = draw_all(prior, wish)
        return {"tokens": drawn.tokens, "bits": drawn.bits}

    return make


def checked_prior(bundle: Bundle, settings: DrawSettings) -> Prior:
    """The prior that samples are drawn of.

    Raises SettingsError for a learned prior, or classes, that the bundle has not, InvalidParameter
    for options that no sample can be drawn by.
    """
    Wish(rule=settings.rule, label=0 if settings.labelled else None)
    prior = PRIORS[settings.prior](bundle)
    if settings.labelled and not prior.labels:
        raise SettingsError(
            f"samples {settings.name!r} are to be of classes, and {prior.name} knows none"
        )
    return prior


def _learned(bundle: Bundle) -> Prior:
    if bundle.manifest.prior is None:
        raise SettingsError(
            f"{bundle.folder} has no learned prior; `python -m training add-prior` makes a bundle "
            "with one"
        )
    return prior_of(bundle, bundle.reference, "cpu")


def _position(bundle: Bundle) -> Prior:
    return TablePrior(bundle.reference.position_counts, bundle.reference.usage)


def _marginal(bundle: Bundle) -> Prior:
    counts = bundle.reference.position_counts
    everywhere = counts.sum(axis=(0, 1), keepdims=True, dtype=np.int64)
    return TablePrior(np.broadcast_to(everywhere, counts.shape), bundle.reference.usage)


def _uniform(bundle: Bundle) -> Prior:
    return TablePrior(np.zeros_like(bundle.reference.position_counts))


PRIORS: dict[str, Callable[[Bundle], Prior]] = {
    "learned": _learned,
    "position": _position,
    "marginal": _marginal,
    "uniform": _uniform,
}
