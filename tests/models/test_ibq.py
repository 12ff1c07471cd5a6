"""IBQ against the formulas: logits, terms, and a gradient that reaches every code."""

import numpy as np
import pytest
import torch
from torch import Tensor

import models.quantizers.ibq as ibq
from models.quantizers.base import to_tokens
from models.quantizers.ibq import IndexBackpropagationQuantizer
from tests.models.oracle import Array, Indices, numeric_gradient, softmax

K, D, TEMPERATURE = 7, 3, 0.3


def build(training: bool = True) -> IndexBackpropagationQuantizer:
    torch.manual_seed(0)
    quantizer = IndexBackpropagationQuantizer(K, D, assignment_temperature=TEMPERATURE)
    with torch.no_grad():
        quantizer.codebook.normal_()
    return quantizer.double().train(training)


def random_head(samples: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (samples, D, 3, 3)
    return torch.randn(shape, dtype=torch.double, generator=generator).requires_grad_()


def arrays(quantizer: IndexBackpropagationQuantizer, head: Tensor) -> tuple[Array, Array]:
    return to_tokens(head.detach()).numpy(), quantizer.codebook.detach().clone().numpy()


def chosen(z: Array, codes: Array) -> Indices:
    return (z @ codes.T).argmax(1)


def posterior(z: Array, codes: Array) -> Array:
    return softmax(z @ codes.T / TEMPERATURE)


def posterior_entropy(z: Array, codes: Array) -> float:
    q = posterior(z, codes)
    return float(-(q * np.log(q)).sum(1).mean())


def assert_close(got: Tensor | None, expected: Array) -> None:
    assert got is not None
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("training", [True, False])
def test_forward_values_are_the_formulas(training: bool) -> None:
    quantizer, head = build(training), random_head()
    z, codes = arrays(quantizer, head)
    tokens = chosen(z, codes)
    result = quantizer(head, None)
    assert (result.indices.flatten().numpy() == tokens).all()
    assert_close(to_tokens(result.z_q), codes[tokens])
    error = float(((z - codes[tokens]) ** 2).mean())
    names = ["assignment", "commitment", "codebook"]
    expected = dict.fromkeys(names, error) | {"posterior_entropy": posterior_entropy(z, codes)}
    assert {name: term.item() for name, term in result.terms.items()} == pytest.approx(expected)
    assert_close(result.posterior.mean, posterior(z, codes).mean(0))
    assert result.posterior.entropy.item() == pytest.approx(expected["posterior_entropy"])


def test_margins_are_those_of_products_with_centred_codes() -> None:
    quantizer, head = build(training=False), random_head()
    z, codes = arrays(quantizer, head)
    s = np.sort(z @ (codes - codes.mean(0)).T, axis=1)
    expected = (s[:, -1] - s[:, -2]) / (np.abs(s[:, -1]) + np.abs(s[:, -2]))
    assert_close(quantizer.assign(head)[1].flatten(), expected)


def test_z_q_pulls_at_the_logits_of_all_codes_and_at_the_chosen_rows() -> None:
    quantizer, head = build(), random_head()
    z, codes = arrays(quantizer, head)
    pull = torch.randn(head.shape).double()
    (pull * quantizer(head, None).z_q).sum().backward()
    weight, tokens = to_tokens(pull).numpy(), chosen(z, codes)

    def mixture(at_z: Array, at_codes: Array) -> float:
        """The codes that are mixed stay; only the logits see the argument."""
        return float((weight * (softmax(at_z @ at_codes.T) @ codes)).sum())

    assert head.grad is not None
    assert_close(to_tokens(head.grad), numeric_gradient(lambda x: mixture(x, codes), z))
    through_logits = numeric_gradient(lambda x: mixture(z, x), codes)
    through_rows = numeric_gradient(lambda x: float((weight * x[tokens]).sum()), codes)
    assert_close(quantizer.codebook.grad, through_logits + through_rows)
    unused = np.setdiff1d(np.arange(K), tokens)
    assert len(unused)
    assert (np.abs(quantizer.codebook.grad.numpy()[unused]).sum(1) > 1e-6).all()  # type: ignore[union-attr]


def gradients_of(name: str) -> tuple[Array, Array, Array, Array]:
    """Of a term, to z and to the codes; beside z and the codes."""
    quantizer, head = build(), random_head()
    term = quantizer(head, None).terms[name]
    to_z, to_codes = torch.autograd.grad(
        term, [head, quantizer.codebook], allow_unused=True, materialize_grads=True
    )
    return to_tokens(to_z).numpy(), to_codes.numpy(), *arrays(quantizer, head)


def test_commitment_pulls_the_head_alone() -> None:
    to_z, to_codes, z, codes = gradients_of("commitment")
    np.testing.assert_allclose(to_z, 2 * (z - codes[chosen(z, codes)]) / z.size, rtol=1e-9)
    assert (to_codes == 0).all()


def test_the_codebook_term_pulls_the_chosen_codes_alone() -> None:
    to_z, to_codes, z, codes = gradients_of("codebook")
    expected, tokens = np.zeros_like(codes), chosen(z, codes)
    np.add.at(expected, tokens, 2 * (codes[tokens] - z) / z.size)
    np.testing.assert_allclose(to_codes, expected, rtol=1e-9, atol=1e-15)
    assert (to_z == 0).all()


def test_the_assignment_term_pulls_both_directly_and_by_the_logits() -> None:
    to_z, to_codes, z, codes = gradients_of("assignment")
    tokens = chosen(z, codes)
    outer = 2 * (codes[tokens] - z) / z.size

    def linear(at_z: Array, at_codes: Array) -> float:
        soft = softmax(at_z @ at_codes.T) @ codes + at_codes[tokens]
        return float((outer * (soft - at_z)).sum())

    expected = numeric_gradient(lambda x: linear(x, codes), z)
    np.testing.assert_allclose(to_z, expected, rtol=1e-5, atol=1e-9)
    expected = numeric_gradient(lambda x: linear(z, x), codes)
    np.testing.assert_allclose(to_codes, expected, rtol=1e-5, atol=1e-9)


def test_the_entropy_of_a_token_has_a_gradient() -> None:
    to_z, to_codes, z, codes = gradients_of("posterior_entropy")
    expected = numeric_gradient(lambda x: posterior_entropy(x, codes), z)
    np.testing.assert_allclose(to_z, expected, rtol=1e-5, atol=1e-9)
    expected = numeric_gradient(lambda x: posterior_entropy(z, x), codes)
    np.testing.assert_allclose(to_codes, expected, rtol=1e-5, atol=1e-9)


def test_the_entropy_of_the_mean_posterior_has_a_gradient() -> None:
    quantizer, head = build(), random_head()
    z, codes = arrays(quantizer, head)
    mean = quantizer(head, None).posterior.mean
    (-(mean * mean.log()).sum()).backward()

    def usage_entropy(at: Array) -> float:
        q = posterior(at, codes).mean(0)
        return float(-(q * np.log(q)).sum())

    assert head.grad is not None
    assert_close(to_tokens(head.grad), numeric_gradient(usage_entropy, z))


def everything(head: Tensor) -> list[Tensor]:
    quantizer = build()
    result = quantizer(head, None)
    others = [(result.z_q**3).sum(), (result.posterior.mean**2).sum()]
    loss = torch.stack([*others, *result.terms.values()]).sum()
    gradients = torch.autograd.grad(loss, [head, quantizer.codebook])
    return [result.z_q, result.posterior.mean, *result.terms.values(), *gradients]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    head = random_head()
    whole = everything(head)
    monkeypatch.setattr(ibq, "TOKENS_PER_CHUNK", 5)
    for one, other in zip(whole, everything(head), strict=True):
        torch.testing.assert_close(one, other)


def test_no_matrix_of_tokens_and_codes_waits_for_the_backward_pass() -> None:
    quantizer, head = IndexBackpropagationQuantizer(512, D).train(), random_head(100).float()
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        quantizer(head.detach().requires_grad_(), None)
    assert kept
    assert max(kept) <= 900 * D


def test_a_posterior_at_the_papers_temperature_is_finite_far_out() -> None:
    quantizer = IndexBackpropagationQuantizer(K, D).train()
    with torch.no_grad():
        quantizer.codebook.mul_(1e3)
    head = (1e3 * random_head().float()).detach().requires_grad_()
    result = quantizer(head, None)
    loss = result.terms["posterior_entropy"] + result.posterior.mean.square().sum()
    loss.backward()
    assert result.terms["posterior_entropy"].isfinite()
    assert head.grad is not None
    assert head.grad.isfinite().all()


def test_codes_start_uniform_within_one_over_k() -> None:
    codes = IndexBackpropagationQuantizer(100, 50).codebook.detach() * 100
    assert 0.99 < codes.abs().max() <= 1.0
    assert codes.std() == pytest.approx(3**-0.5, rel=0.03)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="assignment_temperature must be greater than 0"):
        IndexBackpropagationQuantizer(K, D, assignment_temperature=temperature)
