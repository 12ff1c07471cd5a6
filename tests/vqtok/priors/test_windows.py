"""Windows reach every position, and passes draw each of them once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.priors.windows import OUTSIDE, drawn_by, num_windows, plan_passes, windows

NATIVE = (4, 4)
GROUPS = np.arange(16) % 3


@given(st.integers(1, 13), st.integers(1, 13), st.integers(0, 2**32 - 1))
def test_each_position_that_is_not_known_is_drawn_once(height: int, width: int, seed: int) -> None:
    known = np.random.default_rng(seed).random(height * width) < 0.3
    passes = plan_passes(NATIVE, (height, width), GROUPS, known)
    drawn = np.concatenate([p.places[p.positions] for p in passes] or [np.empty(0, int)])
    assert sorted(drawn) == np.flatnonzero(~known).tolist()
    assert all(len(p.positions) for p in passes)


def test_the_native_grid_is_one_window_revealed_group_by_group() -> None:
    passes = plan_passes(NATIVE, NATIVE, GROUPS, np.zeros(16, bool))
    assert [p.positions.tolist() for p in passes] == [
        np.flatnonzero(g == GROUPS).tolist() for g in range(3)
    ]


def test_windows_overlap_by_half_and_end_at_the_edge() -> None:
    starts = [divmod(int(w[0]), 10) for w in windows(NATIVE, (4, 10))]
    assert starts == [(0, 0), (0, 2), (0, 4), (0, 6)]
    starts = [divmod(int(w[0]), 5) for w in windows(NATIVE, (7, 5))]
    assert starts == [(0, 0), (0, 1), (2, 0), (2, 1), (3, 0), (3, 1)]


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (5, 4), (7, 13), (20, 6)])
def test_windows_are_counted_without_being_made(grid: tuple[int, ...]) -> None:
    assert num_windows(NATIVE, grid) == len(list(windows(NATIVE, grid)))


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (5, 4), (7, 13), (20, 6)])
def test_every_position_is_drawn_in_the_first_window_that_reaches_it(grid: tuple[int, ...]) -> None:
    native = np.full(int(np.prod(grid)), -1)
    for each in plan_passes(NATIVE, grid, GROUPS, np.zeros(native.size, bool)):
        native[each.places[each.positions]] = each.positions
    assert np.array_equal(drawn_by(NATIVE, grid), native)


def test_a_small_grid_is_the_corner_of_a_window() -> None:
    (window,) = windows(NATIVE, (2, 3))
    square = window.reshape(4, 4)
    assert square[:2, :3].ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert (square[2:] == OUTSIDE).all()
    assert (square[:, 3] == OUTSIDE).all()


@pytest.mark.parametrize("grid", [(6, 4, 2), (2, 2, 2)])
def test_levels_stay_together(grid: tuple[int, ...]) -> None:
    native = (4, 4, 2)
    whole = np.arange(np.prod(grid)).reshape(grid)
    for window in windows(native, grid):
        inside = window.reshape(native)[: grid[0], : grid[1]]
        assert (inside[..., 1] == inside[..., 0] + 1).all()
        assert set(inside.ravel()) <= set(whole.ravel())
