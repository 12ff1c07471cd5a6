"""Collectives: two real processes see the whole batch, and one alone is not disturbed."""

import pytest
import torch
from torch import Tensor

from models.collectives import alone, gathered, global_mean, global_sum, num_processes
from tests.models.exchanging import batch, loss_of, weights
from tests.processes import made_by_two

Seen = list[dict[str, Tensor]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return made_by_two("tests.models.exchanging", tmp_path_factory.mktemp("exchanged"))


def test_the_gradient_of_a_global_mean_is_that_of_the_whole_batch(seen: Seen) -> None:
    weight = weights().requires_grad_()
    loss = loss_of(batch(), weight)
    loss.backward()
    for process in seen:
        torch.testing.assert_close(process["loss"], loss.detach(), rtol=1e-13, atol=0)
        torch.testing.assert_close(process["gradient"], weight.grad, rtol=1e-12, atol=1e-15)


def test_a_local_mean_would_have_another_gradient() -> None:
    """Else the law above would hold of anything."""
    halves = []
    for share in batch().chunk(2):
        weight = weights().requires_grad_()
        loss_of(share, weight).backward()
        halves.append(weight.grad)
    whole = weights().requires_grad_()
    loss_of(batch(), whole).backward()
    assert whole.grad is not None
    assert (torch.stack(halves).mean(0) - whole.grad).abs().max() > 1e-3


def test_counts_are_summed_as_integers(seen: Seen) -> None:
    """A float64 would lose the 1."""
    for process in seen:
        assert process["counts"].tolist() == [3, (1 << 61) + 1]


def test_rows_lie_in_the_order_of_the_batch(seen: Seen) -> None:
    for process in seen:
        assert torch.equal(process["rows"], batch())
        assert process["indices"].tolist() == [0, 1, 2, 10, 11, 12]


def test_tensors_need_not_be_contiguous(seen: Seen) -> None:
    first, second = batch().chunk(2)
    for process in seen:
        assert torch.equal(process["strided sum"], (first + second).t())
        assert torch.equal(process["strided rows"], torch.cat([first.t(), second.t()]))


def test_the_first_process_gives_its_values_to_all(seen: Seen) -> None:
    for process in seen:
        assert process["copied"].tolist() == [0.0, 0.0, 0.0]


def test_alone_nothing_is_exchanged(seen: Seen) -> None:
    assert [process["alone"].tolist() for process in seen] == [[1.0, 0.0], [1.0, 1.0]]


def test_one_process_keeps_what_it_has() -> None:
    x = torch.randn(4, 2, requires_grad=True)
    with alone():
        assert num_processes() == 1
    assert num_processes() == 1
    assert global_mean(x) is x
    for same in (global_sum(x), gathered(x)):
        assert torch.equal(same, x)
        assert not same.requires_grad
