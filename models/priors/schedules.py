"""Reveal schedules: which positions of a token grid become known together, and in which order.

A schedule is fixed before anything is drawn, and every position is drawn once. So the probability
of a grid is the product over its groups, exactly; a sampler that looks for the most confident
positions has no such number (DUEL, arXiv 2603.01367).
"""

import math
import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Groups = NDArray[np.int64]
_WITH_COUNT = re.compile(r"([a-z]+)-([1-9][0-9]{0,5})")


def reveal_groups(name: str, grid: tuple[int, ...]) -> Groups:
    """The group of each position, int64 (N,) in 0 .. G - 1, none of them empty.

    `grid` is (h, w) or (h, w, depth); positions are in raster order, depth last, and a level is
    revealed before the next one. `halton-G` cuts the Halton order in G groups of equal size (one
    for each position, where there are fewer), `wavefront` takes one anti-diagonal after another,
    `raster` one position after another.

    Raises ValueError for another name.
    """
    counted = _WITH_COUNT.fullmatch(name)
    if counted is not None and counted[1] == "halton":
        return _halton(grid, int(counted[2]))
    if name not in _PLAIN:
        raise ValueError(f"no schedule is called {name!r}; there are halton-G, {', '.join(_PLAIN)}")
    return _PLAIN[name](grid)


def reveal_order(name: str, grid: tuple[int, ...]) -> NDArray[np.int64]:
    """The positions, int64 (N,), as a schedule reveals them one by one: its groups in their order,
    and within a group as the next finer schedule of its kind would. Raises as `reveal_groups`.
    """
    groups = reveal_groups(name, grid)
    if name.startswith("halton"):
        groups = reveal_groups(f"halton-{len(groups)}", grid)
    return np.argsort(groups, kind="stable")


def halton_order(height: int, width: int) -> NDArray[np.int64]:
    """Cells of a grid, int64 (h w,), in the order of the Halton points of bases 2 and 3.

    Each beginning of it covers the grid evenly (Besnier et al. 2025, arXiv 2503.17076).
    """
    order: dict[int, None] = {}
    number = 0
    while len(order) < height * width:
        number += 1
        row = int(_radical_inverse(number, 2) * height)
        column = int(_radical_inverse(number, 3) * width)
        order.setdefault(row * width + column)
    return np.fromiter(order, np.int64)


def _radical_inverse(number: int, base: int) -> float:
    """The digits of `number` in `base`, mirrored at the point: in (0, 1)."""
    mirrored, scale = 0, 1
    while number:
        number, digit = divmod(number, base)
        mirrored, scale = mirrored * base + digit, scale * base
    return mirrored / scale


def _halton(grid: tuple[int, ...], num_groups: int) -> Groups:
    num_positions = math.prod(grid)
    num_groups = min(num_groups, num_positions)
    height, width, depth = (*grid, 1)[:3]
    cells = halton_order(height, width)
    order = np.concatenate([cells * depth + level for level in range(depth)])
    groups = np.empty(num_positions, np.int64)
    groups[order] = np.arange(num_positions) * num_groups // num_positions
    return groups


def _wavefront(grid: tuple[int, ...]) -> Groups:
    height, width, depth = (*grid, 1)[:3]
    row, column, level = np.indices((height, width, depth))
    return (row + column + level * (height + width - 1)).reshape(-1).astype(np.int64)


def _raster(grid: tuple[int, ...]) -> Groups:
    return np.arange(math.prod(grid), dtype=np.int64)


_PLAIN: dict[str, Callable[[tuple[int, ...]], Groups]] = {
    "wavefront": _wavefront,
    "raster": _raster,
}
