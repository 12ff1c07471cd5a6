"""The Fréchet distance of normal fits, against closed forms and matrix square roots."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from training.judge.frechet import Gaussian, frechet_distance, squared_distance

SIZE = 6


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def gaussian(seed: int, rank: int = SIZE) -> Gaussian:
    random = generator(seed)
    factor = random.normal(size=(SIZE, rank))
    return Gaussian(random.normal(size=SIZE), factor @ factor.T)


def features(seed: int, count: int, size: int = SIZE) -> NDArray[np.float32]:
    random = generator(seed)
    mixed = random.normal(size=(count, size)) @ random.normal(size=(size, size))
    return (mixed + random.normal(size=size)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_a_matrix_root_gives(seed: int) -> None:
    one, other = gaussian(2 * seed), gaussian(2 * seed + 1)
    root = np.real(sqrtm(one.covariance @ other.covariance))
    expected = np.square(one.mean - other.mean).sum()
    expected += np.trace(one.covariance + other.covariance - 2.0 * root)
    assert squared_distance(one, other) == pytest.approx(expected, rel=1e-9)


def test_independent_dimensions_add_up() -> None:
    random = generator(3)
    means, deviations = random.normal(size=(2, SIZE)), random.uniform(0.0, 3.0, size=(2, SIZE))
    one, other = (
        Gaussian(mean, np.diag(np.square(deviation)))
        for mean, deviation in zip(means, deviations, strict=True)
    )
    expected = np.square(means[0] - means[1]).sum()
    expected += np.square(deviations[0] - deviations[1]).sum()
    assert squared_distance(one, other) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rank", [1, 3, SIZE])
def test_a_distribution_is_at_no_distance_from_itself(rank: int) -> None:
    same = gaussian(1, rank)
    assert squared_distance(same, same) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("rank", "other_rank"), [(SIZE, SIZE), (2, SIZE), (2, 1)])
def test_it_is_the_same_both_ways(rank: int, other_rank: int) -> None:
    one, other = gaussian(4, rank), gaussian(5, other_rank)
    there, back = squared_distance(one, other), squared_distance(other, one)
    assert there == pytest.approx(back, rel=1e-7)
    assert there > 0.1


def test_turning_both_leaves_it_and_scaling_both_squares() -> None:
    one, other = gaussian(6), gaussian(7)
    turn, _ = np.linalg.qr(generator(8).normal(size=(SIZE, SIZE)))
    turned = [Gaussian(turn @ each.mean, turn @ each.covariance @ turn.T) for each in (one, other)]
    scaled = [Gaussian(3.0 * each.mean, 9.0 * each.covariance) for each in (one, other)]
    distance = squared_distance(one, other)
    assert squared_distance(*turned) == pytest.approx(distance, rel=1e-9)
    assert squared_distance(*scaled) == pytest.approx(9.0 * distance, rel=1e-9)


def test_the_triangle_holds_for_its_root() -> None:
    sides = [gaussian(seed) for seed in (9, 10, 11)]
    a, b, c = (squared_distance(sides[i], sides[j]) ** 0.5 for i, j in ((0, 1), (1, 2), (0, 2)))
    assert c <= a + b
    assert a <= b + c
    assert b <= a + c


def test_the_fit_is_that_of_mean_and_covariance() -> None:
    values = features(12, 50)
    fit = Gaussian.fit(values)
    centred = values.astype(np.float64) - values.astype(np.float64).mean(axis=0)
    assert np.allclose(fit.covariance, centred.T @ centred / 49, rtol=1e-12)
    assert np.array_equal(fit.mean, values.astype(np.float64).mean(axis=0))


def test_a_set_is_at_no_distance_from_itself_and_far_from_a_moved_one() -> None:
    values = features(13, 100)
    same = frechet_distance(values, values, paired=True)
    assert same.value == pytest.approx(0.0, abs=1e-6)
    assert same.standard_error == pytest.approx(0.0, abs=1e-6)
    moved = frechet_distance(values + np.float32(2.0), values, paired=True)
    assert moved.value == pytest.approx(4.0 * SIZE, rel=1e-4)
    assert moved.standard_error == pytest.approx(0.0, abs=1e-4)


def test_fewer_images_than_features_will_do() -> None:
    found = frechet_distance(features(14, 7, size=20), features(15, 9, size=20))
    assert np.isfinite(found.value)
    assert found.value > 0


def test_the_standard_error_is_the_spread_over_sets() -> None:
    """Of sets that are drawn anew, each from its distribution."""
    one, other = gaussian(16), gaussian(17)
    values: list[float] = []
    errors: list[float] = []
    for seed in range(60):
        random = generator(100 + seed)
        sets = [
            random.multivariate_normal(each.mean, each.covariance, size=400)
            for each in (one, other)
        ]
        found = frechet_distance(*sets)
        values.append(found.value)
        errors.append(found.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.3)
