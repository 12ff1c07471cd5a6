"""Tiles give what the whole image gives, whatever its shape, and stay small."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.vqtok.tiny_bundle import smooth_images, write_tiny_bundle
from vqtok.bundle import Bundle
from vqtok.runtime.engine import Engine
from vqtok.runtime.onnx import open_engine
from vqtok.runtime.tiles import (
    Tile,
    cut,
    decode_tiled,
    encode_tiled,
    paste,
    pixels_of,
    plan_decode,
    plan_encode,
)

sides = st.integers(1, 90)


@given(height=sides, width=sides, halo=st.integers(0, 5), room=st.integers(1, 900))
def test_every_cell_is_answered_for_once_by_tiles_of_one_shape(
    height: int, width: int, halo: int, room: int
) -> None:
    tiles = plan_decode((height, width), 1, halo, room)
    answered = np.zeros((height, width), int)
    for tile in tiles:
        answered[tile.target] += 1
        assert (
            answered[tile.target].shape == np.empty((height, width))[tile.source][tile.keep].shape
        )
    assert (answered == 1).all()
    assert len({cut(answered, tile).shape for tile in tiles}) == 1


@given(height=sides, width=sides, halo=st.integers(0, 5), room=st.integers(1, 900))
def test_a_tile_sees_its_halo_or_the_rim_and_no_more_pixels_than_allowed(
    height: int, width: int, halo: int, room: int
) -> None:
    for tile in plan_decode((height, width), 1, halo, room):
        assert pixels_of(tile) <= max(room, (4 * halo + 1) ** 2)
        for axis, length in enumerate((height, width)):
            seen, inner = tile.source[axis], tile.target[axis]
            assert seen.start == 0 or seen.start <= inner.start - halo
            assert seen.stop == length or seen.stop >= inner.stop + halo


@pytest.mark.parametrize("size", [(4, 60_000), (60_000, 4), (4_000_000, 4), (4000, 4000)])
def test_no_shape_of_image_makes_a_tile_large_or_their_number_absurd(size: tuple[int, int]) -> None:
    tiles = plan_encode(size, 4, 16, 200_000)
    assert max(pixels_of(tile) for tile in tiles) <= 200_000
    assert len(tiles) <= 2 * -(-size[0] * size[1] // 200_000)


def test_a_small_image_is_one_tile_without_halo() -> None:
    (tile,) = plan_encode((64, 32), 4, 16, 200_000)
    assert tile == Tile(
        source=(slice(0, 64), slice(0, 32)),
        keep=(slice(0, 16), slice(0, 8)),
        target=(slice(0, 16), slice(0, 8)),
    )


def test_a_halo_wider_than_the_tile_still_leaves_room_for_an_inner_part() -> None:
    tiles = plan_encode((2048, 2048), 4, 256, 1000)
    assert len(tiles) <= 16


def test_cut_copies_only_its_window_and_paste_writes_only_its_target() -> None:
    whole = np.arange(100).reshape(10, 10)
    tile = Tile((slice(2, 6), slice(0, 4)), (slice(1, 3), slice(0, 3)), (slice(3, 5), slice(0, 3)))
    piece = cut(whole, tile)
    assert piece.base is None
    assert piece.shape == (4, 4)
    target = np.zeros((10, 10), int)
    paste(target, piece, tile)
    assert np.array_equal(target[3:5, :3], whole[3:5, :3])
    assert np.count_nonzero(target) == 6


@pytest.fixture(scope="module", params=[(4, 1), (8, 1), (4, 2)], ids=["f4", "f8", "f4-depth2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    factor, depth = request.param
    folder = tmp_path_factory.mktemp("bundles")
    return Bundle.open(write_tiny_bundle(folder, factor=factor, depth=depth, codebook_size=300))


@pytest.fixture(scope="module")
def engine(model: Bundle) -> Engine:
    return open_engine(model, "cpu", num_threads=1)


SHAPES = [(1, 1), (1, 97), (97, 1), (13, 9), (31, 33), (64, 64), (5, 200)]


@pytest.mark.parametrize("cells", SHAPES)
@pytest.mark.parametrize("tile_pixels", [1, 6000])
def test_tiled_tokens_and_margins_are_those_of_the_whole_image(
    model: Bundle, engine: Engine, cells: tuple[int, int], tile_pixels: int
) -> None:
    manifest = model.manifest
    image = random_image(manifest.image.factor, cells)
    tiles = plan_encode(image.shape[:2], manifest.image.factor, manifest.encoder_halo, tile_pixels)
    whole, tiled = engine.encode(image[None]), encode_tiled(engine.encode, image, tiles, 3)
    assert np.array_equal(tiled.tokens, whole.tokens)
    assert np.allclose(tiled.margins, whole.margins, atol=1e-5)


@pytest.mark.parametrize("cells", SHAPES)
@pytest.mark.parametrize("tile_pixels", [1, 6000])
def test_a_tiled_picture_is_that_of_the_whole_grid(
    model: Bundle, engine: Engine, cells: tuple[int, int], tile_pixels: int
) -> None:
    manifest = model.manifest
    grid = (*cells, *manifest.grid[2:])
    rng = np.random.default_rng(cells)
    tokens = rng.integers(0, manifest.codebook_size, grid, dtype=np.int32)
    tiles = plan_decode(grid, manifest.image.factor, manifest.decoder_halo, tile_pixels)
    whole = engine.decode(tokens[None])[0]
    tiled = decode_tiled(engine.decode, tokens, tiles, 3)
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert (tiled != whole).mean() <= 1e-4


def test_too_small_a_halo_would_be_noticed(model: Bundle, engine: Engine) -> None:
    """The laws above must not hold by accident."""
    factor = model.manifest.image.factor
    image = random_image(factor, (64, 64))
    tiles = plan_encode(image.shape[:2], factor, 0, 6000)
    tiled = encode_tiled(engine.encode, image, tiles)
    assert not np.array_equal(tiled.tokens, engine.encode(image[None]).tokens)


def random_image(factor: int, cells: tuple[int, int]) -> NDArray[np.uint8]:
    return smooth_images(1, cells[0] * factor, cells[1] * factor, seed=sum(cells))[0]
