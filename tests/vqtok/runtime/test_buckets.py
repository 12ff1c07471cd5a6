"""Which prepared batch sizes run, by measured cost."""

from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.runtime.buckets import bucket_ladder, plan_buckets


@pytest.mark.parametrize(
    ("largest", "ladder"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (20, (1, 2, 4, 8, 16, 20))],
)
def test_the_ladder_doubles_up_to_the_largest(largest: int, ladder: tuple[int, ...]) -> None:
    assert bucket_ladder(largest) == ladder


def test_padding_wins_where_a_run_costs_much_whatever_its_size() -> None:
    assert plan_buckets(5, {1: 1.0, 4: 1.1, 8: 1.2}) == (8,)


def test_cutting_wins_where_cost_is_linear() -> None:
    assert plan_buckets(5, {1: 0.1, 4: 0.4, 8: 0.8}) == (4, 1)


def test_of_equal_costs_the_fewest_runs_are_taken() -> None:
    assert plan_buckets(4, {1: 1.0, 2: 2.0, 4: 4.0}) == (4,)


@given(
    count=st.integers(1, 12),
    seconds=st.dictionaries(st.integers(1, 8), st.floats(0.01, 10), min_size=1, max_size=3),
)
def test_no_other_choice_of_buckets_is_cheaper(count: int, seconds: dict[int, float]) -> None:
    plan = plan_buckets(count, seconds)
    assert sum(plan) >= count
    assert sum(plan) - min(plan) < count
    cost = sum(seconds[size] for size in plan)
    for runs in range(1, 5):
        for other in combinations_with_replacement(seconds, runs):
            if sum(other) >= count:
                assert cost <= sum(seconds[size] for size in other) + 1e-9


def test_nothing_to_plan_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least one"):
        plan_buckets(0, {1: 1.0})
    with pytest.raises(ValueError, match="at least one"):
        plan_buckets(1, {})
