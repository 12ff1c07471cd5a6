"""Chunks of a request as the model gave them, and the tokens of all of them in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.intake import Loaded
from service.limits import Size
from service.rows import Rows
from vqtok.errors import VqtokError
from vqtok.tokens import ImageTokens, ItemError, StackedTokens

Items = Sequence[ImageTokens | ItemError]


@dataclass(frozen=True)
class Encoded:
    """Of the images `indices` what the encoder gave, tokens and margins first, and the (H, W) that
    each is to return; and the images of the chunk that did not decode.
    """

    indices: Sequence[int]
    sizes: Sequence[Size]
    rows: Rows
    errors: Mapping[int, VqtokError]

    @staticmethod
    def of(loaded: Loaded, rows: Rows) -> "Encoded":
        """What became of a chunk. The pixels are not kept."""
        return Encoded(loaded.indices, loaded.sizes, rows, loaded.errors)


def tokens_of(
    parts: Sequence[Encoded], refused: Mapping[int, VqtokError], dtype: np.dtype[Any]
) -> Items:
    """Tokens of `dtype`, or why there are none, of all images of a request in order; as one array
    where they are alike. `refused` are images that are in no chunk.
    """
    return _stacked(parts, refused, dtype) or _itemised(parts, refused, dtype)


def grids_of(parts: Sequence[Encoded]) -> list[NDArray[np.int32]]:
    """Tokens as the encoder gave them, of all images that did not fail, in order."""
    pairs = chain.from_iterable(zip(part.indices, part.rows, strict=True) for part in parts)
    found = {index: row[0] for index, row in pairs if not isinstance(row, VqtokError)}
    return [found[index] for index in sorted(found)]


def _stacked(
    parts: Sequence[Encoded], refused: Mapping[int, VqtokError], dtype: np.dtype[Any]
) -> StackedTokens | None:
    stacks = [part.rows.arrays for part in parts if part.rows.arrays and not part.errors]
    sizes = {*chain.from_iterable(part.sizes for part in parts)}
    if refused or len(stacks) < len(parts) or len(sizes) != 1:
        return None
    if len(stacks) == 1:
        # Every token is below K, so none is changed.
        ((tokens, margins, *_),) = stacks
        return StackedTokens(tokens.astype(dtype), sizes.pop(), margins)
    order = [*chain.from_iterable(part.indices for part in parts)]
    if order != [*range(len(order))] or len({tokens.shape[1:] for tokens, *_ in stacks}) != 1:
        return None
    tokens = np.concatenate([each for each, *_ in stacks]).astype(dtype)
    return StackedTokens(tokens, sizes.pop(), np.concatenate([each for _, each, *_ in stacks]))


def _itemised(
    parts: Sequence[Encoded], refused: Mapping[int, VqtokError], dtype: np.dtype[Any]
) -> Items:
    failed = {**refused}
    items: dict[int, ImageTokens | ItemError] = {}
    for part in parts:
        failed.update(part.errors)
        for index, size, row in zip(part.indices, part.sizes, part.rows, strict=True):
            if isinstance(row, VqtokError):
                failed[index] = row
            else:
                items[index] = ImageTokens(row[0].astype(dtype), size, row[1])
    items.update((index, ItemError.of(error)) for index, error in failed.items())
    return [items[index] for index in range(len(items))]
