"""Chunks put together again: in the order of the request, as one array where images are alike."""

import numpy as np
import pytest

from service.encoded import Encoded, grids_of, tokens_of
from service.rows import Rows
from vqtok.errors import BrokenImage, ModelFailure
from vqtok.tokens import ImageTokens, ItemError, StackedTokens

DTYPE = np.dtype(np.uint16)
SIZE = (8, 8)


def part(*numbers: int, side: int = 2, size: tuple[int, int] = SIZE) -> Encoded:
    """Images whose tokens are all their number."""
    tokens = np.array(numbers, np.int32)[:, None, None] * np.ones((1, side, side), np.int32)
    rows = Rows((tokens, np.ones(tokens.shape, np.float32)))
    return Encoded(numbers, [size] * len(numbers), rows, {})


@pytest.mark.parametrize("parts", [[part(0, 1, 2)], [part(0), part(1, 2)]])
def test_images_alike_stay_one_array(parts: list[Encoded]) -> None:
    items = tokens_of(parts, {}, DTYPE)
    assert isinstance(items, StackedTokens)
    assert (items.tokens.dtype, items.size) == (DTYPE, SIZE)
    assert items.tokens[:, 0, 0].tolist() == [0, 1, 2]
    assert items.margins is not None
    assert items.margins.shape == (3, 2, 2)


@pytest.mark.parametrize(
    "parts",
    [
        [part(1, 2), part(0)],
        [part(0), part(1, side=3), part(2)],
        [part(0), part(1, size=(7, 8)), part(2)],
    ],
    ids=["in another order", "of several grids", "of several sizes"],
)
def test_others_are_single_and_in_the_order_of_the_request(parts: list[Encoded]) -> None:
    items = tokens_of(parts, {}, DTYPE)
    assert not isinstance(items, StackedTokens)
    found = [item.tokens.max() for item in items if isinstance(item, ImageTokens)]
    assert found == [0, 1, 2]
    assert [grid.max() for grid in grids_of(parts)] == [0, 1, 2]


def test_each_failure_stands_where_its_image_was() -> None:
    row = part(2).rows[0]
    mixed = Encoded((2, 3), [SIZE] * 2, Rows.of([row, ModelFailure("fell")]), {})
    undecoded = Encoded((), [], Rows.of(()), {1: BrokenImage("cut short")})
    items = tokens_of([mixed, undecoded], {0: BrokenImage("no image")}, DTYPE)
    details = [item.detail if isinstance(item, ItemError) else item.tokens.max() for item in items]
    assert details == ["no image", "cut short", 2, "fell"]
