"""Steps of training: what they depend on, what they move, and what carries on from them."""

import pytest
import torch
from torch import Tensor, nn

from models.quantizers import Quantizer
from models.randomness import INITIALISATION_STEP
from tests.contracts.quantizers.probes import (
    Make,
    assert_equal,
    code_tensors,
    compares_vectors,
    heads_for,
    learns,
    levels_of,
    progress,
    starts_from_heads,
)


def test_training_is_a_function_of_seed_step_and_samples(make: Make) -> None:
    quantizer = make().train()
    head = heads_for(quantizer)
    first = quantizer(head, progress())
    torch.manual_seed(99)
    assert_equal(first, quantizer(head, progress()))


def test_training_tokens_of_a_sample_do_not_depend_on_the_batch(make: Make) -> None:
    quantizer = make().train()
    head, order = heads_for(quantizer), [3, 0, 4]
    whole = quantizer(head, progress(samples=[7, 8, 9, 10, 11])).indices
    part = quantizer(head[order], progress(samples=[10, 7, 11])).indices
    assert torch.equal(part, whole[order])


def trained(quantizer: Quantizer, steps: int = 4) -> Quantizer:
    """After some steps of an optimiser on all terms, as the loop makes them."""
    quantizer.train()
    parameters = list(quantizer.parameters()) or [nn.Parameter(torch.zeros(1))]
    optimiser = torch.optim.AdamW(parameters, lr=0.01)
    for step in range(steps):
        head = heads_for(quantizer, seed=step).requires_grad_()
        given = progress(step)
        result = quantizer(head, given)
        optimiser.zero_grad()
        torch.stack([result.z_q.square().mean(), *result.terms.values()]).sum().backward()
        optimiser.step()
        quantizer.after_step(result, given, optimiser.state)
    return quantizer


def test_training_twice_gives_the_same_quantizer(make: Make) -> None:
    first, second = trained(make()).state_dict(), trained(make()).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_moves_the_codes_of_those_that_learn_any(make: Make) -> None:
    before, after = make(), trained(make())
    assert torch.equal(before.code_table(), after.code_table()) is not learns(before)
    assert after.code_table().isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_a_state_dict_carries_everything(make: Make, training: bool) -> None:
    first = trained(make()).train(training)
    second = make(seed=1)
    head = heads_for(first)
    same = torch.equal(first(head, progress()).z_q, second(head, progress()).z_q)
    assert same is not learns(first)
    second.load_state_dict(first.state_dict())
    second.train(training)
    assert_equal(first(head, progress()), second(head, progress()))
    assert first.rule() == second.rule()


def test_terms_are_finite_scalars_with_a_gradient(make: Make) -> None:
    quantizer = make().train()
    head = heads_for(quantizer).requires_grad_()
    terms = quantizer(head, progress()).terms
    for name, term in terms.items():
        assert term.shape == (), name
        assert term.isfinite(), name
        assert term.item() >= 0.0, name
        assert term.requires_grad, name


def gradient_of(loss: Tensor, tensor: Tensor) -> Tensor | None:
    return torch.autograd.grad(loss, tensor, retain_graph=True, allow_unused=True)[0]


def test_gradients_reach_the_head_and_a_trained_codebook(make: Make) -> None:
    quantizer = make().train()
    head = heads_for(quantizer).requires_grad_()
    result = quantizer(head, progress())
    of_z_q = gradient_of(result.z_q.square().sum(), head)
    assert of_z_q is not None
    assert of_z_q.isfinite().all()
    assert (of_z_q.abs().sum(dim=(1, 2, 3)) > 0).all()
    loss = torch.stack([result.z_q.sum(), *result.terms.values()]).sum()
    levels = levels_of(result.indices, quantizer)
    for codes, tokens in zip(code_tensors(quantizer), levels, strict=False):
        if not codes.requires_grad:
            continue
        gradient = gradient_of(loss, codes)
        assert gradient is not None
        assert gradient.isfinite().all()
        assert (gradient.abs().sum(1) > 0).sum() >= len(tokens.unique())


def error_of(quantizer: Quantizer, heads: Tensor) -> float:
    result = quantizer.eval()(heads.t()[None, :, :, None], None)
    return (result.z_e - result.z_q).square().mean().item()


def test_initialise_is_deterministic_and_fits_the_heads(make: Make) -> None:
    first, second = make(seed=0), make(seed=1)
    if not compares_vectors(first):
        return
    generator = torch.Generator().manual_seed(2)
    heads = torch.randn(400, first.head_channels, generator=generator) * 3.0 - 1.0
    before = error_of(first, heads)
    given = progress(INITIALISATION_STEP)
    for quantizer in (first, second):
        quantizer.initialise(heads, given)
    after = error_of(first, heads)
    if not starts_from_heads(first):
        assert after == before
        return
    assert torch.equal(first.code_table(), second.code_table())
    assert first.rule() == second.rule()
    assert after < 0.8 * before
