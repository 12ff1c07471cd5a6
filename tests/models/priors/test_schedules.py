"""Schedules reveal every position once, evenly, in the order that they are named for."""

import numpy as np
import pytest

from models.priors.schedules import halton_order, reveal_groups, reveal_order

GRIDS = [(8, 8), (2, 2), (1, 1), (5, 3), (4, 4, 2), (16, 16)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", ["halton-1", "wavefront", "raster"])
def test_every_position_has_a_group_and_no_group_is_empty(name: str, grid: tuple[int, ...]) -> None:
    groups = reveal_groups(name, grid)
    assert groups.shape == (np.prod(grid),)
    assert sorted(set(groups)) == list(range(groups.max() + 1))


@pytest.mark.parametrize("count", [1, 6, 12, 24, 64])
def test_halton_groups_are_of_equal_size(count: int) -> None:
    sizes = np.bincount(reveal_groups(f"halton-{count}", (8, 8)))
    assert len(sizes) == count
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("name", ["halton-1", "halton-5", "wavefront", "raster"])
def test_the_order_goes_through_the_groups(name: str) -> None:
    order, groups = reveal_order(name, (4, 6)), reveal_groups(name, (4, 6))
    assert sorted(order) == list(range(24))
    assert (np.diff(groups[order]) >= 0).all()


def test_any_number_of_halton_groups_has_one_order() -> None:
    assert np.array_equal(reveal_order("halton-3", (8, 8)), halton_order(8, 8))


def test_a_small_grid_has_a_group_for_each_position() -> None:
    assert sorted(reveal_groups("halton-12", (2, 2))) == [0, 1, 2, 3]


def test_the_first_cells_of_the_halton_order_cover_the_grid() -> None:
    row, column = np.divmod(halton_order(8, 8)[:16], 8)
    quarters = np.bincount(row // 4 * 2 + column // 4, minlength=4)
    assert quarters.min() >= 3


def test_the_order_is_that_of_the_halton_points() -> None:
    # The points (1/2, 1/3), (1/4, 2/3), (3/4, 1/9), (1/8, 4/9) on a grid of 8 x 9.
    assert halton_order(8, 9)[:4].tolist() == [4 * 9 + 3, 2 * 9 + 6, 6 * 9 + 1, 1 * 9 + 4]


def test_a_wave_front_knows_left_and_upper_neighbours() -> None:
    groups = reveal_groups("wavefront", (8, 6)).reshape(8, 6)
    assert groups.max() + 1 == 8 + 6 - 1
    assert (groups[1:] > groups[:-1]).all()
    assert (groups[:, 1:] > groups[:, :-1]).all()


@pytest.mark.parametrize("name", ["wavefront", "halton-4"])
def test_a_level_is_known_before_the_next(name: str) -> None:
    levels = reveal_groups(name, (2, 2, 2)).reshape(4, 2)
    assert levels[:, 0].max() < levels[:, 1].min()


@pytest.mark.parametrize(
    ("name", "words"), [("halton", "halton-G"), ("spiral", "wavefront"), ("halton-0", "raster")]
)
def test_another_name_is_refused_with_those_there_are(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        reveal_groups(name, (8, 8))
