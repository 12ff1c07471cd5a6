"""Ramps: numbers that change over training."""

import math
from typing import Any

import numpy as np
import pytest

from models.ramp import Ramp, as_ramp


@pytest.mark.parametrize(
    ("ramp", "expected"),
    [
        (Ramp(2.0, 4.0), [2.0, 2.5, 3.0, 4.0]),
        (Ramp(2.0, 4.0, begin=0.25, until=0.75), [2.0, 2.0, 3.0, 4.0]),
        (Ramp(4.0, 1.0, shape="geometric"), [4.0, 4.0 * 0.25**0.25, 2.0, 1.0]),
        (Ramp(-1.0, 0.0), [-1.0, -0.75, -0.5, 0.0]),
    ],
)
def test_the_value_at_shares_of_training(ramp: Ramp, expected: list[float]) -> None:
    assert [ramp.at(fraction) for fraction in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(expected)


def test_a_number_is_a_constant() -> None:
    assert [as_ramp(0.5, "x").at(f) for f in (0.0, 0.3, 1.0)] == [0.5, 0.5, 0.5]


def test_a_table_may_leave_the_shape_to_the_option() -> None:
    table: dict[str, Any] = {"start": 4.0, "end": 1.0}
    assert as_ramp(table, "x", "geometric").at(0.5) == pytest.approx(2.0)
    assert as_ramp({**table, "shape": "linear"}, "x", "geometric").at(0.5) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"start": 1.0}, "gamma: .*end"),
        ({"start": 1.0, "end": 0.0, "slope": 2.0}, "gamma: .*slope"),
        ({"start": 1.0, "end": 0.0, "shape": "geometric"}, "gamma: a geometric ramp"),
        ({"start": 1.0, "end": 0.0, "shape": "cosine"}, "gamma: shape must be"),
        ({"start": 1.0, "end": 0.0, "begin": 0.5, "until": 0.5}, "gamma: begin and until"),
        ({"start": 1.0, "end": 0.0, "until": 1.5}, "gamma: begin and until"),
        ({"start": "a", "end": 1.0}, "gamma: start must be a finite number, not 'a'"),
        ({"start": 1.0, "end": True}, "gamma: end must be a finite number, not True"),
        ({"start": 1.0, "end": math.inf}, "gamma: end must be a finite number, not inf"),
        ({"start": 1.0, "end": 0.0, "begin": math.nan}, "gamma: begin must be a finite number"),
    ],
)
def test_a_wrong_table_is_refused_by_name(table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        as_ramp(table, "gamma")


@pytest.mark.parametrize("value", ["x", True, None, math.nan, -math.inf])
def test_what_is_no_finite_number_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match=f"^commitment must be a finite number, not {value!r}$"):
        as_ramp(value, "commitment")


def test_whole_numbers_and_numpys_are_numbers() -> None:
    assert [as_ramp(value, "x").at(0.5) for value in (2, np.float64(2.0))] == [2.0, 2.0]
