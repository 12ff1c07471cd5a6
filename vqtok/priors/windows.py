"""Grids of any size by a prior of one size: windows of the native grid, in a fixed order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OUTSIDE = -1


@dataclass(frozen=True, eq=False)
class Pass:
    """One call of the prior. `places` int64 (N,) has, for each position of the native grid, the
    position of the whole grid that it stands for, or OUTSIDE. `positions` int64 (P,) of the native
    grid are drawn in this pass.
    """

    places: NDArray[np.int64]
    positions: NDArray[np.int64]


def plan_passes(
    native: Sequence[int], grid: Sequence[int], groups: NDArray[np.int64], known: NDArray[np.bool_]
) -> list[Pass]:
    """The passes that draw every position of `grid` once that is not `known`, bool (num,).

    Windows overlap by half, so that what is new in one stands beside what is known. A grid smaller
    than the native one is its upper left corner.
    """
    is_drawn = known.copy()
    passes: list[Pass] = []
    for places in windows(native, grid):
        is_open = places != OUTSIDE
        is_open[is_open] &= ~is_drawn[places[is_open]]
        for group in np.unique(groups[is_open]):
            positions = np.flatnonzero(is_open & (groups == group))
            passes.append(Pass(places, positions))
        is_drawn[places[places != OUTSIDE]] = True
    return passes


def windows(native: Sequence[int], grid: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """The windows of a grid in raster order: of each position of the native grid the position in
    the whole, int64 (N,), or OUTSIDE.
    """
    height, width, *depth = native
    whole = np.arange(int(np.prod(grid)), dtype=np.int64).reshape(grid)
    for top in _starts(height, grid[0]):
        for left in _starts(width, grid[1]):
            seen = whole[top : top + height, left : left + width]
            window = np.full((height, width, *depth), OUTSIDE, np.int64)
            window[: seen.shape[0], : seen.shape[1]] = seen
            yield window.reshape(-1)


def drawn_by(native: Sequence[int], grid: Sequence[int]) -> NDArray[np.int64]:
    """Of each position of a grid the native position that it has in the first window that reaches
    it, by which it is drawn: int64 (num,).
    """
    height, width, *depth = native
    whole = np.arange(int(np.prod(native)), dtype=np.int64).reshape(height, width, *depth)
    return whole[np.ix_(_firsts(height, grid[0]), _firsts(width, grid[1]))].reshape(-1)


def num_windows(native: Sequence[int], grid: Sequence[int]) -> int:
    """How many `windows` there are."""
    return len(_starts(native[0], grid[0])) * len(_starts(native[1], grid[1]))


def _firsts(native: int, side: int) -> NDArray[np.int64]:
    """Of each place along an axis the place within the first window that reaches it."""
    places, starts = np.arange(side), np.array(_starts(native, side))
    return places - starts[np.searchsorted(starts + native, places, side="right")]


def _starts(native: int, side: int) -> list[int]:
    """Where windows begin along one axis: every half window, the last at the end."""
    if side <= native:
        return [0]
    return sorted({*range(0, side - native, max(1, native // 2)), side - native})
