"""Rows of a batch: together as long as none fails."""

import numpy as np

from service.rows import Arrays, Rows
from vqtok.errors import ModelFailure, VqtokError


def arrays(start: int, count: int) -> Arrays:
    numbers = np.arange(start, start + count)
    return numbers[:, None] * np.ones((1, 4), int), numbers * 0.5


FAILED = ModelFailure("no")


def values(rows: Rows) -> list[float | None]:
    return [None if isinstance(row, VqtokError) else float(row[1]) for row in rows]


def test_what_is_together_stays_so_when_parts_are_taken_and_joined() -> None:
    rows = Rows(arrays(0, 5))
    back = Rows.joined([rows.part(0, 2), rows.part(2, 3)])
    assert back.arrays is not None
    assert all(np.array_equal(a, b) for a, b in zip(back.arrays, arrays(0, 5), strict=True))
    assert (len(back), values(back)) == (5, [0.0, 0.5, 1.0, 1.5, 2.0])
    assert Rows.joined([rows]) is rows


def test_among_failed_rows_the_others_are_single_and_in_order() -> None:
    mixed = Rows.joined([Rows(arrays(0, 2)), Rows.of([FAILED]), Rows(arrays(3, 1))])
    assert mixed.arrays is None
    assert values(mixed) == [0.0, 0.5, None, 1.5]
    assert values(mixed.part(1, 2)) == [0.5, None]
    assert [row is FAILED for row in mixed] == [False, False, True, False]


def test_stacks_have_every_row_that_did_not_fail() -> None:
    whole = Rows(arrays(0, 3))
    assert [stack[0].shape for stack in whole.stacks] == [(3, 4)]
    mixed = Rows.of([*whole.part(0, 1), FAILED, *whole.part(2, 1)])
    assert [stack[0].tolist() for stack in mixed.stacks] == [[[0] * 4], [[2] * 4]]
    assert Rows.of(()).stacks == []
