"""How many bits the tokens of each image take, by every coder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vqtok.bitstream.coders import CODERS, PACKED, PRIOR, Coding
from vqtok.tokens import ImageTokens

FIXED: Final = "fixed"
RATES: Final = (FIXED, *(coder for coder in CODERS if coder != PACKED))


@dataclass(frozen=True)
class Rate:
    """Bits of an image by one coder; None for a `reason`."""

    bits: float | None
    reason: str | None = None


def bits_per_image(
    images: Sequence[ImageTokens | NDArray[Any]],
    coding: Coding,
    prior_bits: Sequence[float | None] | None = None,
) -> list[dict[str, Rate]]:
    """For each image, grids (h, w) or (h, w, depth), its code length in bits by the names `RATES`:
    `fixed`, ⌈log₂ K⌉ bits a token, each coder's under its tables, and `prior`, -log₂ p under the
    learned prior without a label. What a stream adds for its headers is not in it.

    The prior runs for it, some milliseconds an image, unless `prior_bits` has what it gives for
    each image, None for one of another grid than the native one.

    Raises:
        InvalidTokens: tokens that do not fit K and depth. ModelFailure: the prior failed.
    """
    items = [item if isinstance(item, ImageTokens) else ImageTokens(item) for item in images]
    grids = [
        item.checked(codebook_size=coding.codebook_size, depth=coding.depth).tokens
        for item in items
    ]
    rates: list[dict[str, Rate]] = [{} for _ in grids]
    for alike in _by_grid(grids):
        tokens = np.stack([grids[index] for index in alike])
        tokens = tokens.reshape(*tokens.shape[:3], coding.depth)
        known = None if prior_bits is None else [prior_bits[index] for index in alike]
        for coder in CODERS:
            name = FIXED if coder == PACKED else coder
            measured = known if coder == PRIOR else None
            for index, rate in zip(alike, _rates(coder, tokens, coding, measured), strict=True):
                rates[index][name] = rate
    return rates


def _rates(
    coder: str, tokens: NDArray[Any], coding: Coding, measured: Sequence[float | None] | None
) -> list[Rate]:
    reason = coding.obstacle(coder, (tokens.shape[1], tokens.shape[2]))
    if reason is not None:
        return [Rate(None, reason)] * len(tokens)
    if measured is not None:
        return [Rate(bits) for bits in measured]
    return [Rate(float(bits)) for bits in coding.bits(coder, tokens)]


def _by_grid(grids: Sequence[NDArray[Any]]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, grid in enumerate(grids):
        groups.setdefault(grid.shape, []).append(index)
    return list(groups.values())
