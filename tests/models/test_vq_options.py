"""VQ-VAE with every option of Table 1 against the formulas: values, terms, and each gradient."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.quantizers.affine import LearnedAffine, StatisticsAffine
from models.quantizers.base import to_tokens
from models.quantizers.vq import VectorQuantizer
from models.randomness import Noise, Progress
from tests.models import oracle
from tests.models.code_oracle import CodeOracle
from tests.models.oracle import Array
from tests.representative import few_of

K, D, SAMPLES, SIDE = 6, 3, 2, 3
OPT: dict[str, Any] = {"inner_rate": 2.5, "task_share": 0.2}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "l2": {"normalise": True},
    "affine": {"affine": "learned", "affine_rate": 0.7},
    "statistics": {"affine": "statistics"},
    "inner step": {"inner_rate": 3.0},
    "task share": {"task_share": 1.5},
    "OPT": OPT,
    "affine, OPT, replace": {"affine": "learned", "replace_after": 1, **OPT},
    "statistics, OPT": {"affine": "statistics", **OPT},
    "all": {"normalise": True, "affine": "learned", "replace_after": 1, **OPT},
}
EACH = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def build(options: dict[str, Any]) -> VectorQuantizer:
    """In the midst of training: nothing is at its initial value."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(K, D, **options).double().train()
    with torch.no_grad():
        for seed, (name, tensor) in enumerate(quantizer.state_dict().items()):
            if name.endswith("variance"):
                tensor.copy_(0.5 + random(D, seed=seed).square())
            elif name != "dead_codes.idle":
                tensor.add_(0.1 * random(*tensor.shape, seed=seed))
    return quantizer


def named(state: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)}


def oracle_of(quantizer: VectorQuantizer) -> CodeOracle:
    state = {name: tensor.clone().numpy() for name, tensor in quantizer.state_dict().items()}
    parameters = {name: state[name] for name, _ in quantizer.named_parameters()}
    affine, inner = quantizer.space.affine, quantizer.inner
    momenta = named(state, "inner.momentum_")
    return CodeOracle(
        parameters=parameters,
        unit=quantizer.space.normalise,
        rate=affine.rate if isinstance(affine, LearnedAffine) else 1.0,
        statistics=named(state, "space.affine.") if isinstance(affine, StatisticsAffine) else {},
        inner_rate=0.0 if inner is None else inner.rate,
        momenta={name: momenta[name.replace(".", "_")] for name in parameters} if inner else {},
    )


def random_head(seed: int = 1) -> Tensor:
    return random(SAMPLES, D, SIDE, SIDE, seed=seed).requires_grad_()


def progress(step: int = 0) -> Progress:
    return Progress(step, 100, Noise(0, step, torch.arange(SAMPLES)))


def assert_close(got: Any, expected: Any) -> None:
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


def z_of(head: Tensor) -> Array:
    return to_tokens(head.detach()).numpy()


def of_head(head: Tensor, function: Any) -> Array:
    """The numeric gradient of a function of tokens (N, D), as tokens."""
    return oracle.numeric_gradient(function, z_of(head))


@EACH
@pytest.mark.parametrize("training", [True, False])
def test_forward_values_are_the_formulas(options: dict[str, Any], training: bool) -> None:
    quantizer, head = build(options).train(training), random_head()
    codes, z = oracle_of(quantizer), z_of(head)
    result = quantizer(head, progress())
    expected = codes.nearest(z)
    parameters = codes.moved(z) if training else codes.parameters
    assert (result.indices.flatten().numpy() == expected).all()
    assert len(set(expected)) > 3
    assert_close(to_tokens(result.z_e), codes.latents(z))
    assert_close(to_tokens(result.z_q.detach()), codes.table(parameters)[expected])
    assert_close(quantizer.code_table().detach(), codes.table(codes.parameters))
    inner = "inner_rate" in options
    assert set(result.terms) == ({"commitment"} if inner else {"codebook", "commitment"})
    for term in result.terms.values():
        assert_close(term.item(), codes.error(parameters, z, expected))


@EACH
def test_commitment_pulls_the_head_alone(options: dict[str, Any]) -> None:
    quantizer, head = build(options), random_head()
    codes, z = oracle_of(quantizer), z_of(head)
    z_q = codes.table(codes.moved(z))[codes.nearest(z)]
    quantizer(head, progress()).terms["commitment"].backward()
    assert head.grad is not None
    expected = of_head(head, lambda z: ((codes.latents(z) - z_q) ** 2).mean())
    assert_close(to_tokens(head.grad), expected)
    assert all(parameter.grad is None for parameter in quantizer.parameters())


@pytest.mark.parametrize(
    "options", [options for options in CASES.values() if "inner_rate" not in options]
)
def test_the_codebook_term_pulls_the_codes_and_their_affine_map(options: dict[str, Any]) -> None:
    quantizer, head = build(options), random_head()
    codes, z = oracle_of(quantizer), z_of(head)
    quantizer(head, progress()).terms["codebook"].backward()
    assert head.grad is None
    for name, parameter in quantizer.named_parameters():
        assert parameter.grad is not None
        assert_close(parameter.grad, codes.gradients(name, codes.parameters, z, codes.nearest(z)))
        assert parameter.grad.abs().max() > 1e-3


@EACH
def test_the_task_pulls_the_head_whole_and_the_codes_by_their_share(
    options: dict[str, Any],
) -> None:
    """The share never scales the head's gradient, which is the fault of another known form."""
    quantizer, head = build(options), random_head()
    codes, z = oracle_of(quantizer), z_of(head)
    indices, pull = codes.nearest(z), random(*head.shape, seed=9)
    (pull * quantizer(head, progress()).z_q).sum().backward()
    rows = to_tokens(pull).numpy()
    assert head.grad is not None
    assert_close(to_tokens(head.grad), of_head(head, lambda z: (rows * codes.latents(z)).sum()))
    share, moved = options.get("task_share", 0.0), codes.moved(z)
    for name, parameter in quantizer.named_parameters():
        if share == 0.0:
            assert parameter.grad is None
            continue

        def task(value: Array, name: str = name) -> float:
            return share * (rows * codes.table({**moved, name: value})[indices]).sum()

        assert parameter.grad is not None
        assert_close(parameter.grad, oracle.numeric_gradient(task, moved[name]))
        assert parameter.grad.abs().max() > 1e-3


INNER = [options for options in CASES.values() if "inner_rate" in options]


@pytest.mark.parametrize("options", INNER)
def test_the_inner_step_is_taken_when_the_step_ends(options: dict[str, Any]) -> None:
    quantizer, head = build(options | {"replace_after": None}), random_head()
    codes, z = oracle_of(quantizer), z_of(head)
    result = quantizer(head, progress())
    quantizer.after_step(result, progress(), {})
    momenta, moved = codes.next_momenta(z), codes.moved(z)
    after = quantizer.state_dict()
    for name in codes.parameters:
        assert_close(after[name], moved[name])
        assert_close(after[f"inner.momentum_{name.replace('.', '_')}"], momenta[name])


def test_an_inner_step_that_is_taken_late_is_one_that_was_taken_first() -> None:
    """AdamW without decay adds a step that depends on gradients alone."""
    first, second = build(CASES["affine, OPT, replace"]), build(CASES["affine, OPT, replace"])
    first.dead_codes = second.dead_codes = None
    head, pull = random_head(), random(SAMPLES, D, SIDE, SIDE, seed=9)
    optimisers = [
        torch.optim.AdamW(q.parameters(), lr=0.1, weight_decay=0) for q in (first, second)
    ]
    for step in range(3):
        result = first(head, progress(step))
        optimisers[0].zero_grad()
        (pull * result.z_q).sum().backward()
        optimisers[0].step()
        first.after_step(result, progress(step), optimisers[0].state)

        assert second.inner is not None
        pending = second(head, progress(step)).pending
        second.inner.take(dict(second.named_parameters()), pending)
        z_q = nn.functional.embedding(result.indices, second.code_table())
        optimisers[1].zero_grad()
        (0.2 * pull.permute(0, 2, 3, 1) * z_q).sum().backward()
        optimisers[1].step()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert_close(one.detach(), other.detach())


def test_inner_steps_alone_bring_codes_to_the_means_of_their_latents() -> None:
    quantizer, head = VectorQuantizer(K, D, inner_rate=2.0).double().train(), random_head()
    assert not any(parameter.requires_grad for parameter in quantizer.parameters())
    for step in range(500):
        quantizer.after_step(quantizer(head, progress(step)), progress(step), {})
    z = z_of(head)
    tokens = quantizer.indices(head).flatten().numpy()
    for code in set(tokens):
        assert_close(quantizer.codebook[code], z[tokens == code].mean(0))


def test_a_code_that_nothing_chooses_stays_under_inner_steps() -> None:
    quantizer = VectorQuantizer(K, D, **OPT).double().train()
    with torch.no_grad():
        quantizer.codebook[4] = 1e3
    optimiser = torch.optim.AdamW(quantizer.parameters(), lr=0.1, weight_decay=0.0)
    for step in range(3):
        result = quantizer(random_head(step), progress(step))
        optimiser.zero_grad()
        result.z_q.square().sum().backward()
        optimiser.step()
        quantizer.after_step(result, progress(step), optimiser.state)
    assert (quantizer.codebook[4] == 1e3).all()
    assert (quantizer.codebook[0] != 1e3).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"affine": "linear"}, "affine must be one of off, learned, statistics, not 'linear'"),
        ({"affine": "learned", "affine_rate": 0.0}, "affine_rate must be greater than 0"),
        ({"inner_rate": -1.0}, "inner_rate and task_share must be at least 0"),
        ({"task_share": -0.1}, "inner_rate and task_share must be at least 0"),
        ({"replace_after": 0}, "replace_after is a number of steps, at least 1"),
        (
            {"affine": "learned", "inner_rate": 50.0},
            "inner_rate 50 beside a learned affine map .* at code_dim 3: it must be below 2.85",
        ),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VectorQuantizer(K, D, **options)


@pytest.mark.parametrize(("rate", "converges"), [(2.8, True), (2.9, False)])
@pytest.mark.parametrize("affine_rate", few_of([1.0, 10.0], [10.0]))
@pytest.mark.parametrize("away", few_of([0.0, 30.0], [30.0]))
def test_the_bound_on_the_inner_rate_is_where_a_code_and_its_affine_map_diverge(
    rate: float, converges: bool, affine_rate: float, away: float
) -> None:
    """One code for all tokens: with what the code, its scale and its shift do alike at their worst.

    Latents and code far from the origin are where the scale would go astray.
    """
    options: dict[str, Any] = {"affine": "learned", "affine_rate": affine_rate, "task_share": 0.1}
    quantizer = VectorQuantizer(1, D, inner_rate=1.0, **options).double().train()
    assert quantizer.inner is not None
    quantizer.inner.rate = rate
    head = (random_head() + away).detach()
    with torch.no_grad():
        quantizer.codebook.fill_(away)
    least = head.var(dim=(0, 2, 3), correction=0).mean().item()
    errors: list[float] = []
    for step in range(400):
        result = quantizer(head, progress(step))
        quantizer.after_step(result, progress(step), {})
        errors.append(result.terms["commitment"].item())
    assert (errors[-1] < 1.001 * least) == converges
