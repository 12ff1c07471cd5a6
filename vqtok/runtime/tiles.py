"""Cut a large image in tiles whose results are those of the whole image.

A network of convolutions sees only so far: a tile that carries a halo of that width gives, in its
inner part, what the whole image gives there. All tiles of an image have one shape (at the rim the
window is moved inwards), so they can share batches. A plan is pure arithmetic; who runs the tiles,
one after the other or as work items of a batcher, cuts with `cut` and puts back with `paste`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.runtime.engine import Encoded

TILE_PIXELS = 200_000
"""Default size of a tile, halo included: about 140 MB for an encoder of 700 bytes a pixel."""

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Tile:
    """`source` is read from the whole input, `keep` is the valid part of the tile's own result,
    and `target` is where that part goes in the whole result; (rows, columns) each.
    """

    source: Window
    keep: Window
    target: Window


def plan_encode(
    size: tuple[int, int], factor: int, halo: int, tile_pixels: int = TILE_PIXELS
) -> tuple[Tile, ...]:
    """Tiles from pixels (H, W), multiples of the factor, to grid cells; `halo` in pixels.

    No tile has more than `tile_pixels` pixels, unless a halo needs more: the inner part of a tile
    may always be as wide as its two halos together, so that halos at most quadruple the work.
    """
    cells = (size[0] // factor, size[1] // factor)
    return tuple(
        Tile(_scale(window, factor), _within(inner, window), inner)
        for inner, window in _windows(cells, halo // factor, tile_pixels // factor**2)
    )


def plan_decode(
    grid: tuple[int, ...], factor: int, halo: int, tile_pixels: int = TILE_PIXELS
) -> tuple[Tile, ...]:
    """Tiles from grid cells (h, w[, depth]) to pixels; `halo` in grid cells."""
    return tuple(
        Tile(window, _scale(_within(inner, window), factor), _scale(inner, factor))
        for inner, window in _windows(grid[:2], halo, tile_pixels // factor**2)
    )


def cut(whole: NDArray[Any], tile: Tile) -> NDArray[Any]:
    """A contiguous copy of the tile's window of an image (H, W, 3) or a grid (h, w[, depth])."""
    return np.ascontiguousarray(whole[tile.source])


def paste(whole: NDArray[Any], result: NDArray[Any], tile: Tile) -> None:
    """Write the valid part of a tile's result where it belongs."""
    whole[tile.target] = result[tile.keep]


def encode_tiled(
    encode: Callable[[NDArray[np.uint8]], Encoded],
    image: NDArray[np.uint8],
    tiles: Sequence[Tile],
    max_batch: int = 1,
) -> Encoded:
    """Run the tiles of one image (H, W, 3) in batches; a batch of one image comes back."""
    canvas: dict[str, NDArray[Any]] = {}
    shape = _extent(tiles)
    for batch in _batches(tiles, max_batch):
        encoded = encode(np.stack([cut(image, tile) for tile in batch]))
        for name, results in _fields(encoded).items():
            whole = canvas.setdefault(name, np.empty((*shape, *results.shape[3:]), results.dtype))
            for tile, result in zip(batch, results, strict=True):
                paste(whole, result, tile)
    return Encoded(**{name: whole[None] for name, whole in canvas.items()})


def decode_tiled(
    decode: Callable[[NDArray[np.int32]], NDArray[np.uint8]],
    tokens: NDArray[np.int32],
    tiles: Sequence[Tile],
    max_batch: int = 1,
) -> NDArray[np.uint8]:
    """Run the tiles of one grid (h, w[, depth]) in batches; the picture is uint8 (H, W, 3)."""
    picture = np.empty((*_extent(tiles), 3), np.uint8)
    for batch in _batches(tiles, max_batch):
        results = decode(np.stack([cut(tokens, tile) for tile in batch]))
        for tile, result in zip(batch, results, strict=True):
            paste(picture, result, tile)
    return picture


def _windows(cells: tuple[int, ...], halo: int, tile_cells: int) -> Iterator[tuple[Window, Window]]:
    """Pairs of the cells that a tile answers for, and the cells that it must see."""
    height, width = cells
    room = max(1, tile_cells, (4 * halo + 1) ** 2)
    rows, columns = _tile_shape((height, width), halo, room)
    for row_inner, row_window in _spans(height, rows, halo):
        for column_inner, column_window in _spans(width, columns, halo):
            yield (row_inner, column_inner), (row_window, column_window)


def _tile_shape(cells: tuple[int, int], halo: int, tile_cells: int) -> tuple[int, int]:
    """Inner rows and columns of a tile, so that the fewest cells are computed in all."""
    height, width = cells
    if height * width <= tile_cells:
        return height, width
    best: tuple[int, int, int] | None = None
    fewest = -(-height * width // tile_cells)
    for row_tiles in range(1, min(height, 16 * fewest) + 1):
        rows = -(-height // row_tiles)
        seen_rows = min(rows + 2 * halo, height)
        room = tile_cells // seen_rows
        columns = width if room >= width else room - 2 * halo
        if columns < 1:
            continue
        column_tiles = -(-width // columns)
        columns = -(-width // column_tiles)
        seen = seen_rows * min(columns + 2 * halo, width) * row_tiles * column_tiles
        if best is None or seen < best[0]:
            best = (seen, rows, columns)
    assert best is not None, "the room is never smaller than a tile with its halos"
    return best[1:]


def _spans(length: int, inner: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """Along one axis: what each tile answers for and what it sees, all windows of one length."""
    seen = min(inner + 2 * halo, length)
    for start in range(0, length, inner):
        begin = min(max(start - halo, 0), length - seen)
        yield slice(start, min(start + inner, length)), slice(begin, begin + seen)


def _scale(window: Window, factor: int) -> Window:
    rows, columns = window
    return (
        slice(rows.start * factor, rows.stop * factor),
        slice(columns.start * factor, columns.stop * factor),
    )


def _within(inner: Window, window: Window) -> Window:
    (rows, columns), (top, left) = inner, (window[0].start, window[1].start)
    return (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )


def _extent(tiles: Sequence[Tile]) -> tuple[int, int]:
    """Shape of the whole result; the last tile reaches its lower right corner."""
    rows, columns = tiles[-1].target
    return rows.stop, columns.stop


def _batches(tiles: Sequence[Tile], max_batch: int) -> Iterator[Sequence[Tile]]:
    for start in range(0, len(tiles), max_batch):
        yield tiles[start : start + max_batch]


def _fields(encoded: Encoded) -> dict[str, NDArray[Any]]:
    arrays = {name: getattr(encoded, name) for name in Encoded.__dataclass_fields__}
    return {name: array for name, array in arrays.items() if array is not None}


def pixels_of(tile: Tile, factor: int = 1) -> int:
    """Pixels that a tile computes; `factor` is 1 for an encoder's tile, whose source is pixels."""
    return prod(axis.stop - axis.start for axis in tile.source) * factor**2
