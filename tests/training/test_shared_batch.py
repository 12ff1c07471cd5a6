"""Two processes that share every batch train what one process trains on all of it.

Real processes over real sockets, in float64 and without BatchNorm: losses, gradients, codebooks and
all buffers agree to 1e-9 after three steps from a k-means start. Where a collective is taken out,
they do not.
"""

from pathlib import Path

import pytest
from torch import Tensor

from models.quantizers import QUANTIZERS
from tests.processes import made_by_two
from tests.training.shared_batch import (
    CASES,
    FAULTS,
    SENSITIVE,
    STEPS,
    Outcome,
    run,
)

TOLERANCE = 1e-9
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Outcome]]:
    """What each of two processes made of every case and every fault."""
    made = made_by_two("tests.training.shared_batch", tmp_path_factory.mktemp("two"))
    return [{name: Outcome(*parts) for name, parts in each.items()} for each in made]


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    assert one
    return max(float((one[name].double() - other[name]).abs().max()) for name in one)


def largest_of_all(one: Outcome, other: Outcome) -> float:
    """Between losses, gradients and final states."""
    assert len(one.losses) == len(other.losses) == len(one.gradients) == STEPS
    losses = max(abs(a - b) for a, b in zip(one.losses, other.losses, strict=True))
    pairs = [*zip(one.gradients, other.gradients, strict=True), (one.state, other.state)]
    return max([losses, *(largest_difference(a, b) for a, b in pairs)])


def test_every_quantizer_is_held_to_it() -> None:
    assert {case.method for case in CASES.values()} == set(QUANTIZERS)


@pytest.mark.parametrize("name", [*CASES, *SENSITIVE])
def test_two_processes_train_what_one_trains(
    name: str, outcomes: list[dict[str, Outcome]], tmp_path: Path
) -> None:
    alone = run((CASES | SENSITIVE)[name], tmp_path)
    for shared in outcomes:
        assert largest_of_all(shared[name], alone) < TOLERANCE
    assert all(value.isfinite().all() for value in alone.state.values())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_collective_that_is_left_out_shows(
    fault: str, outcomes: list[dict[str, Outcome]], tmp_path: Path
) -> None:
    alone = run(SENSITIVE[FAULTS[fault][0]], tmp_path)
    assert largest_of_all(outcomes[0][fault], alone) > 1e3 * TOLERANCE


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if "replace_after" in c.options])
def test_codes_were_replaced_in_the_cases_of_replacement(
    name: str, outcomes: list[dict[str, Outcome]]
) -> None:
    """With nothing replaced, these cases would show nothing of it."""
    assert min(shared[name].replaced for shared in outcomes) > 0
