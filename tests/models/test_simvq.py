"""SimVQ against the formulas: a map that is trained, under codes that are not."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.quantizers.base import to_tokens
from models.quantizers.simvq import LinearMapQuantizer
from models.randomness import INITIALISATION_STEP, Noise, Progress
from tests.models import oracle
from tests.models.oracle import Array, numeric_gradient

K, D = 7, 3


def build() -> LinearMapQuantizer:
    torch.manual_seed(0)
    quantizer = LinearMapQuantizer(K, D).double().train()
    with torch.no_grad():
        quantizer.weight.normal_()
        quantizer.bias.normal_()
    return quantizer


def random_head() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, D, 3, 3, dtype=torch.double, generator=generator).requires_grad_()


def start(seed: int = 0) -> Progress:
    return Progress(0, 10, Noise(seed, INITIALISATION_STEP, torch.arange(4)))


def table(frozen: Array, weight: Array, bias: Array) -> Array:
    return np.array([weight @ code + bias for code in frozen])


def arrays(quantizer: LinearMapQuantizer) -> tuple[Array, Array, Array]:
    parts = (quantizer.frozen_codes, quantizer.weight, quantizer.bias)
    frozen, weight, bias = (part.detach().clone().numpy() for part in parts)
    return frozen, weight, bias


@pytest.mark.parametrize("training", [True, False])
def test_forward_values_are_the_formulas(training: bool) -> None:
    quantizer, head = build().train(training), random_head()
    z, codes = to_tokens(head.detach()).numpy(), table(*arrays(quantizer))
    tokens = oracle.nearest(z, codes)
    result = quantizer(head, None)
    assert (result.indices.flatten().numpy() == tokens).all()
    np.testing.assert_allclose(quantizer.code_table().detach(), codes, rtol=1e-12)
    np.testing.assert_allclose(to_tokens(result.z_q.detach()), codes[tokens], rtol=1e-9)
    for term in result.terms.values():
        assert term.item() == pytest.approx(float(((z - codes[tokens]) ** 2).mean()))
    margins = quantizer.assign(head)[1].detach().flatten()
    np.testing.assert_allclose(margins, oracle.nearest_margin(z, codes), rtol=1e-9, atol=1e-12)


def test_the_codebook_term_pulls_the_map_alone() -> None:
    quantizer, head = build(), random_head()
    z, (frozen, weight, bias) = to_tokens(head.detach()).numpy(), arrays(quantizer)
    tokens = oracle.nearest(z, table(frozen, weight, bias))

    def term(weight: Array, bias: Array) -> float:
        return float(((z - table(frozen, weight, bias)[tokens]) ** 2).mean())

    quantizer(head, None).terms["codebook"].backward()
    assert quantizer.weight.grad is not None
    assert quantizer.bias.grad is not None
    expected = numeric_gradient(lambda x: term(x, bias), weight)
    np.testing.assert_allclose(quantizer.weight.grad, expected, rtol=1e-6, atol=1e-9)
    expected = numeric_gradient(lambda x: term(weight, x), bias)
    np.testing.assert_allclose(quantizer.bias.grad, expected, rtol=1e-6, atol=1e-9)
    assert head.grad is None


def test_commitment_pulls_the_head_alone_and_z_q_passes_straight_through() -> None:
    quantizer, head = build(), random_head()
    z, codes = to_tokens(head.detach()).numpy(), table(*arrays(quantizer))
    result = quantizer(head, None)
    pull = torch.randn(head.shape).double()
    for loss, expected in (
        (result.terms["commitment"], oracle.commitment_gradient(z, codes)),
        ((pull * result.z_q).sum(), to_tokens(pull).numpy()),
    ):
        head.grad = None
        loss.backward()
        assert head.grad is not None
        np.testing.assert_allclose(to_tokens(head.grad), expected, rtol=1e-9, atol=1e-12)
        assert quantizer.weight.grad is None


def test_codes_that_nothing_chose_move_too() -> None:
    quantizer, head = build(), random_head()[:, :, :1, :1]
    before = quantizer.code_table().detach().clone()
    optimiser = torch.optim.SGD(quantizer.parameters(), lr=0.1)
    result = quantizer(head, None)
    assert len(result.indices.unique()) <= 2
    result.terms["codebook"].backward()
    optimiser.step()
    moved = (quantizer.code_table() - before).norm(dim=1)
    assert (moved > 1e-4).all()


def test_the_random_codes_are_never_trained() -> None:
    quantizer = build()
    assert [name for name, _ in quantizer.named_parameters()] == ["weight", "bias"]
    assert "frozen_codes" in quantizer.state_dict()


def heads(num: int = 4000, dim: int = D) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    mixing = torch.randn(dim, dim, generator=generator)
    return torch.randn(num, dim, generator=generator) @ mixing + torch.arange(dim) - 5.0


@pytest.mark.parametrize("dim", [1, D])
def test_codes_start_with_the_mean_and_covariance_of_the_heads(dim: int) -> None:
    quantizer, vectors = LinearMapQuantizer(20_000, dim), heads(dim=dim)
    quantizer.initialise(vectors, start())
    codes = quantizer.code_table().detach()
    torch.testing.assert_close(codes.mean(0), vectors.mean(0), rtol=0.02, atol=0.05)
    covariance = vectors.t().cov(correction=0).view(dim, dim)
    torch.testing.assert_close(codes.t().cov().view(dim, dim), covariance, rtol=0.05, atol=0.1)
    square = quantizer.weight.detach() @ quantizer.weight.detach().t()
    torch.testing.assert_close(square, dim * covariance, rtol=1e-4, atol=1e-4)


def test_heads_on_a_line_start_codes_on_that_line() -> None:
    quantizer = LinearMapQuantizer(50, D)
    direction = torch.tensor([1.0, 2.0, -1.0])
    quantizer.initialise(torch.linspace(-1, 1, 200)[:, None] * direction, start())
    codes = quantizer.code_table().detach()
    along = (codes @ direction / direction.square().sum())[:, None] * direction
    torch.testing.assert_close(codes, along, rtol=0, atol=1e-3)
    assert codes.std(0).min() > 0.1


def test_codes_depend_on_the_seed_of_the_run_alone() -> None:
    tables = []
    for global_seed, seed in ((0, 1), (5, 1), (0, 2)):
        torch.manual_seed(global_seed)
        quantizer = LinearMapQuantizer(K, D)
        quantizer.initialise(heads(), start(seed))
        tables.append(quantizer.code_table())
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


def test_lookup_is_exact_under_autocast() -> None:
    quantizer = build().float().eval()
    tokens = torch.arange(K).view(1, 1, K)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(to_tokens(quantizer.lookup(tokens)), quantizer.code_table())
        assert quantizer.code_table().dtype == torch.float32
    assert torch.equal(to_tokens(quantizer.lookup(tokens)), quantizer.code_table())
