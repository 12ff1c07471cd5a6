"""Laws that every quantizer in the table obeys, in evaluation and in training.

What a law says of depth 1 it says of each level where there are more.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.quantizers import QUANTIZERS, Quantized, Quantizer, build_quantizer
from models.quantizers.base import to_tokens
from models.randomness import INITIALISATION_STEP, Noise, Progress

K, D = 16, 4
SIZES = {"codebook_size": K, "code_dim": D}
SAMPLES, HEIGHT, WIDTH, NUM_STEPS = 5, 3, 2, 100

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "vq": [
        SIZES,
        SIZES | {"replace_after": 2},
        SIZES | {"normalise": True},
        SIZES | {"normalise": True, "replace_after": 2},
        SIZES | {"affine": "learned"},
        SIZES | {"affine": "statistics", "replace_after": 2},
        SIZES | {"inner_rate": 2.0, "task_share": 0.2},
        SIZES | {"inner_rate": 2.0},
        SIZES | {"affine": "learned", "inner_rate": 2.0, "task_share": 0.2, "replace_after": 2},
        SIZES | {"normalise": True, "affine": "statistics", "inner_rate": 2.0, "task_share": 0.2},
    ],
    "vq_ema": [
        SIZES,
        SIZES | {"decay": 0.8, "replace_after": 2},
        SIZES | {"decay": 0.8, "normalise": True, "replace_after": 2},
    ],
    "gmvq": [
        SIZES,
        SIZES | {"precision": "scalar", "noise": "batch_mean"},
        SIZES | {"noise": "off", "argmax_from": 0.0, "two_sigma2": 0.5},
        SIZES | {"regulariser": "literal", "assignment_temperature": {"start": 1.0, "end": 0.2}},
        SIZES | {"regulariser": "zsoft", "dense_code_gradient": True},
    ],
    "sqvae": [
        SIZES,
        SIZES | {"kind": "II", "initial_log_variance": -1.0},
        SIZES | {"kind": "III", "initial_log_variance": -2.0, "gumbel_temperature": 0.5},
        SIZES | {"kind": "IV", "initial_log_variance": -3.0},
    ],
    "gumbel": [SIZES, SIZES | {"hard": False, "gumbel_temperature": 0.5}],
    "em": [SIZES, SIZES | {"num_samples": 0, "assignment_temperature": 0.7, "decay": 0.8}],
    "fsq": [{"levels": [4, 4]}, {"levels": [3, 5, 4]}],
    "ibq": [SIZES, SIZES | {"assignment_temperature": 0.5}],
    "simvq": [SIZES],
    "rvq": [
        SIZES | {"depth": 2, "update": "gradient", "replace_after": 2},
        SIZES | {"depth": 3, "update": "ema", "decay": 0.8, "replace_after": 2},
    ],
}
BY_ANGLE = {"ibq"}
"""Those that take the largest product z·μ, which moves when z does."""
CASES = [(method, options) for method, several in OPTIONS.items() for options in several]

Make = Callable[..., Quantizer]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(map(str, [case[0], *case[1].values()])))
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A method and its options."""
    return request.param


@pytest.fixture
def make(case: tuple[str, dict[str, Any]]) -> Make:
    """Builds the quantizer of the case, its codes spread over the heads of these tests."""
    method, options = case

    def build(seed: int = 0) -> Quantizer:
        torch.manual_seed(seed)
        quantizer = build_quantizer(method, options)
        heads = spread(torch.randn(200, quantizer.head_channels))
        quantizer.initialise(heads, progress(step=INITIALISATION_STEP))
        return quantizer

    return build


def spread(head: Tensor) -> Tensor:
    """Away from the origin, so that a missing centre would show."""
    return head + 1.5


def heads_for(quantizer: Quantizer, samples: int = SAMPLES, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, quantizer.head_channels, HEIGHT, WIDTH)
    heads = torch.randn(shape, generator=generator)
    # Codes that do not start from heads cannot have followed them.
    return spread(heads) if starts_from_heads(quantizer) else heads


def progress(step: int = 30, seed: int = 0, samples: list[int] | None = None) -> Progress:
    chosen = torch.tensor(list(range(SAMPLES)) if samples is None else samples)
    return Progress(max(step, 0), NUM_STEPS, Noise(seed, step, chosen))


def code_tensors(quantizer: Quantizer) -> list[Tensor]:
    """The tables (K, D) that are trained, one for each level that has its own."""
    tensors = dict(quantizer.named_parameters()) | dict(quantizer.named_buffers())
    return [tensor for name, tensor in tensors.items() if name.split(".")[-1] == "codebook"]


def learns(quantizer: Quantizer) -> bool:
    """Whether anything of the quantizer comes from data."""
    return bool(quantizer.state_dict())


def starts_from_heads(quantizer: Quantizer) -> bool:
    return type(quantizer).initialise is not Quantizer.initialise


def tail_of(quantizer: Quantizer) -> tuple[int, ...]:
    """The axis that depth adds to tokens, posterior and code table."""
    return () if quantizer.depth == 1 else (quantizer.depth,)


def levels_of(tokens: Tensor, quantizer: Quantizer) -> list[Tensor]:
    """Tokens (B, h, w) of each level."""
    return [tokens] if quantizer.depth == 1 else list(tokens.unbind(-1))


def has_scores(quantizer: Quantizer) -> bool:
    return type(quantizer).scores is not Quantizer.scores


def compares_vectors(quantizer: Quantizer) -> bool:
    """Whether tokens are found by comparing the head with codes; Gumbel's head has the scores."""
    return quantizer.head_channels != quantizer.codebook_size


def assert_equal(first: Quantized, second: Quantized) -> None:
    """Bit by bit, with all terms and statistics."""
    tensors = [
        [*result[:3], *result.posterior, *result.pending.values()] for result in (first, second)
    ]
    for one, other in zip(*tensors, strict=True):
        assert torch.equal(one, other)
    for one, other in ((first.terms, second.terms), (first.statistics, second.statistics)):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert torch.equal(value, other[name]), name


def test_every_quantizer_is_held_to_the_laws() -> None:
    assert set(OPTIONS) == set(QUANTIZERS)
    assert all(OPTIONS.values())


def test_sizes_are_stated(make: Make, case: tuple[str, dict[str, Any]]) -> None:
    quantizer = make()
    assert quantizer.head_channels >= 1
    sizes = {name: getattr(quantizer, name) for name in ("codebook_size", "code_dim", "depth")}
    stated = {name: value for name, value in case[1].items() if name in sizes}
    assert stated == {name: sizes[name] for name in stated}
    shape = (*tail_of(quantizer), sizes["codebook_size"], sizes["code_dim"])
    assert quantizer.code_table().shape == shape


@pytest.mark.parametrize("training", [True, False])
def test_shapes_and_ranges(make: Make, training: bool) -> None:
    quantizer = make().train(training)
    result = quantizer(heads_for(quantizer), progress())
    assert result.indices.shape == (SAMPLES, HEIGHT, WIDTH, *tail_of(quantizer))
    assert result.indices.dtype == torch.int64
    assert result.indices.min() >= 0
    assert result.indices.max() < quantizer.codebook_size
    for tokens in levels_of(result.indices, quantizer):
        assert len(tokens.unique()) > K // 4
    for vectors in (result.z_q, result.z_e):
        assert vectors.shape == (SAMPLES, quantizer.code_dim, HEIGHT, WIDTH)
        assert vectors.dtype == torch.float32
        assert vectors.isfinite().all()
    assert not result.z_e.requires_grad


def test_in_evaluation_z_q_is_lookup_of_the_indices(make: Make) -> None:
    quantizer = make().eval()
    result = quantizer(heads_for(quantizer), None)
    assert torch.equal(result.z_q, quantizer.lookup(result.indices))


def test_lookup_reads_the_code_table(make: Make) -> None:
    quantizer = make().eval()
    levels = levels_of(quantizer.indices(heads_for(quantizer)), quantizer)
    tables = quantizer.code_table().view(quantizer.depth, quantizer.codebook_size, -1)
    rows = [table[tokens.flatten()] for table, tokens in zip(tables, levels, strict=True)]
    indices = torch.stack(levels, dim=-1).view(*levels[0].shape, *tail_of(quantizer))
    torch.testing.assert_close(
        to_tokens(quantizer.lookup(indices)), torch.stack(rows).sum(0), rtol=0, atol=1e-6
    )


def test_indices_are_those_of_forward(make: Make) -> None:
    quantizer = make().eval()
    for seed in range(5):
        head = heads_for(quantizer, samples=40, seed=seed)
        tokens, _ = quantizer.assign(head)
        assert torch.equal(tokens, quantizer(head, None).indices)
        assert torch.equal(tokens, quantizer.indices(head))


def test_evaluation_draws_no_noise(make: Make) -> None:
    quantizer = make().eval()
    head = heads_for(quantizer)
    first = quantizer(head, None)
    assert_equal(first, quantizer(head, None))
    assert_equal(first, quantizer(head, progress(step=1, seed=5)))


def test_tokens_of_a_batch_are_those_of_its_singles(make: Make) -> None:
    quantizer = make().eval()
    head = heads_for(quantizer)
    whole = quantizer(head, None)
    for i in range(SAMPLES):
        single = quantizer(head[i : i + 1], None)
        assert torch.equal(single.indices[0], whole.indices[i])
        assert torch.equal(single.z_q[0], whole.z_q[i])


@pytest.mark.parametrize("training", [True, False])
def test_only_hooks_change_state(make: Make, training: bool) -> None:
    quantizer = make().train(training)
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    head = heads_for(quantizer)
    quantizer(head, progress())
    quantizer.lookup(quantizer.assign(head)[0])
    after = quantizer.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


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


def test_margins_follow_from_the_scores(make: Make) -> None:
    quantizer = make().eval()
    head = heads_for(quantizer)
    tokens, margins = quantizer.assign(head)
    assert margins.shape == (SAMPLES, HEIGHT, WIDTH)
    assert margins.dtype == torch.float32
    assert margins.min() >= 0.0
    assert margins.max() <= 1.0
    if has_scores(quantizer):
        scores = quantizer.scores(head)
        assert scores.shape == (SAMPLES, HEIGHT, WIDTH, quantizer.codebook_size)
        assert scores.dtype == torch.float32
        assert torch.equal(tokens, scores.argmax(-1))
        s2, s1 = scores.double().sort(-1).values[..., -2:].unbind(-1)
        expected = (s1 - s2) / (s1.abs() + s2.abs())
        torch.testing.assert_close(margins.double(), expected, rtol=1e-5, atol=1e-7)


def test_scores_have_no_part_that_all_codes_share(
    make: Make, case: tuple[str, dict[str, Any]]
) -> None:
    """Moving codes together, and vectors with them where distance decides, leaves every margin.

    So does moving all logits.
    """
    quantizer = make().eval()
    head = heads_for(quantizer)
    moved = [*code_tensors(quantizer), *offsets_of(quantizer)]
    if not has_scores(quantizer) or not moved or bakes_something_in(quantizer):
        return
    before = quantizer.scores(head)
    with torch.no_grad():
        for codes in moved:
            codes += 8.0
        if not compares_vectors(quantizer):
            head += 8.0
        elif case[0] not in BY_ANGLE:
            head[:, : quantizer.code_dim] += 8.0
    torch.testing.assert_close(quantizer.scores(head), before, rtol=1e-4, atol=1e-4)


def bakes_something_in(quantizer: Quantizer) -> bool:
    """Whether codes are something else than the table that is trained: affine, of unit length."""
    tables = code_tensors(quantizer)
    return bool(tables) and not torch.equal(quantizer.code_table(), tables[0])


def offsets_of(quantizer: Quantizer) -> list[Tensor]:
    """What is added to all codes, where that is a tensor of its own."""
    bias = dict(quantizer.named_parameters()).get("bias")
    return [] if bias is None else [bias]


@pytest.mark.parametrize("num_codes", [3, 16, 100, 1024])
def test_equal_scores_give_the_lowest_index(
    make: Make, num_codes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantizer = make().eval()
    if not has_scores(quantizer):
        return
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(-2, 3, (2, HEIGHT, WIDTH, num_codes), generator=generator).float()
    monkeypatch.setattr(quantizer, "scores", lambda head: scores)
    tokens, margins = quantizer.assign(heads_for(quantizer))
    expected = [int((row == row.max()).nonzero()[0]) for row in scores.view(-1, num_codes)]
    assert tokens.flatten().tolist() == expected
    if num_codes >= 100:
        assert torch.equal(margins, torch.zeros_like(margins))


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_scores_that_are_all_equal_have_no_margin(
    make: Make, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantizer = make().eval()
    if not has_scores(quantizer):
        return
    scores = torch.full((2, HEIGHT, WIDTH, 100), value)
    monkeypatch.setattr(quantizer, "scores", lambda head: scores)
    tokens, margins = quantizer.assign(heads_for(quantizer))
    assert torch.equal(tokens, torch.zeros_like(tokens))
    assert torch.equal(margins, torch.zeros_like(margins))


def test_of_equal_codes_the_first_is_taken(make: Make) -> None:
    quantizer = make().eval()
    tables = code_tensors(quantizer) or [
        tensor for name, tensor in quantizer.named_buffers() if name == "frozen_codes"
    ]
    if not tables:
        return
    head = heads_for(quantizer, samples=40)
    with torch.no_grad():
        for codes in tables:
            codes[K // 2 :] = codes[: K // 2]
        if not compares_vectors(quantizer):
            head[:, K // 2 :] = head[:, : K // 2]
    tokens = quantizer.indices(head)
    assert tokens.max() < K // 2
    assert torch.equal(tokens, quantizer(head, None).indices)


@pytest.mark.parametrize("training", [True, False])
def test_the_posterior_is_a_distribution(make: Make, training: bool) -> None:
    quantizer = make().train(training)
    result = quantizer(heads_for(quantizer), progress())
    mean, entropy = result.posterior
    assert mean.shape == (*tail_of(quantizer), quantizer.codebook_size)
    assert mean.min() >= 0.0
    torch.testing.assert_close(mean.sum(-1), torch.ones(mean.shape[:-1]), rtol=0, atol=1e-5)
    assert entropy.shape == ()
    assert 0.0 <= entropy.item() <= math.log(quantizer.codebook_size)
    assert not any(value.requires_grad for value in result.statistics.values())
    assert all(value.numel() == 1 for value in result.statistics.values())


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


@pytest.mark.parametrize("training", [True, False])
def test_a_half_precision_head_gives_the_tokens_of_its_values(make: Make, training: bool) -> None:
    quantizer = make().train(training)
    half = heads_for(quantizer, samples=SAMPLES).bfloat16()
    exact = quantizer(half.float(), progress())
    assert_equal(exact, quantizer(half, progress()))
    with torch.autocast("cpu", torch.bfloat16):
        assert_equal(exact, quantizer(half, progress()))
        assert_equal(exact, quantizer(half.float(), progress()))


def test_autocast_changes_no_token_and_no_margin(make: Make) -> None:
    quantizer = make().eval()
    half = heads_for(quantizer, samples=40).bfloat16()
    tokens, margins = quantizer.assign(half.float())
    with torch.autocast("cpu", torch.bfloat16):
        for head in (half, half.float()):
            assert torch.equal(quantizer.indices(head), tokens)
            assert torch.equal(quantizer.assign(head)[1], margins)


def test_the_rule_is_numbers_and_words(make: Make) -> None:
    for name, value in make().rule().items():
        assert isinstance(name, str)
        assert isinstance(value, float | str)


@pytest.mark.parametrize("method", QUANTIZERS)
def test_a_missing_size_is_named(method: str) -> None:
    given = {name: value for name, value in OPTIONS[method][0].items() if name in SIZES}
    last = [*given][-1] if given else "levels"
    given.pop(last, None)
    with pytest.raises(ValueError, match=f"{method}: missing a required argument: '{last}'"):
        build_quantizer(method, given)


@pytest.mark.parametrize("method", QUANTIZERS)
def test_an_unknown_option_is_named(method: str) -> None:
    with pytest.raises(ValueError, match=f"{method} has no option 'colour'; it takes"):
        build_quantizer(method, OPTIONS[method][0] | {"colour": 3})
