"""Replacement and start of codes that are mapped: the code becomes the vector, not the raw one."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.quantizers.base import to_tokens
from models.quantizers.nearest_code import NearestCode
from models.quantizers.replacement import DeadCodes
from models.quantizers.vq import VectorQuantizer
from models.quantizers.vq_ema import EmaVectorQuantizer
from models.randomness import Noise, Progress

K, D, FAR = 7, 3, [2, 5]
KEPT = [c for c in range(K) if c not in FAR]
OPT = {"inner_rate": 2.0, "task_share": 0.2}
CASES: list[tuple[type[NearestCode], dict[str, Any]]] = [
    (VectorQuantizer, {"affine": "learned"}),
    (VectorQuantizer, {"affine": "statistics"}),
    (VectorQuantizer, {"normalise": True}),
    (VectorQuantizer, {"affine": "learned", **OPT}),
    (VectorQuantizer, {"affine": "statistics", "normalise": True, **OPT}),
    (EmaVectorQuantizer, {"normalise": True}),
    (EmaVectorQuantizer, {"normalise": True, "decay": 0.5}),
]
EACH = pytest.mark.parametrize(("kind", "options"), CASES)


def build(kind: type[NearestCode], options: dict[str, Any]) -> Any:
    """With affine maps far from the identity."""
    torch.manual_seed(0)
    quantizer: Any = kind(K, D, **options).double().train()  # pyright: ignore[reportCallIssue]
    with torch.no_grad():
        for name, tensor in quantizer.state_dict().items():
            if name.startswith("space.affine"):
                tensor.add_(torch.rand(D).double() + 0.5)
    return quantizer


def progress(step: int = 0) -> Progress:
    return Progress(step, 100, Noise(0, step, torch.arange(1)))


def head_of(codes: Tensor) -> Tensor:
    """(1, D, M, 1) of codes (M, D): each chooses itself."""
    return codes.detach().t().reshape(1, D, len(codes), 1).clone()


def with_dead_codes(
    quantizer: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, torch.optim.Optimizer]:
    """Train a step in which only KEPT are chosen; give what FAR are replaced by."""
    quantizer.dead_codes = DeadCodes(K, 1)
    given: list[Tensor] = []
    forward = DeadCodes.forward

    def spy(*args: Any) -> Any:
        dead, vectors = forward(*args)
        assert dead.tolist() == FAR
        given.append(vectors)
        return dead, vectors

    monkeypatch.setattr(DeadCodes, "forward", spy)
    parameters = [*quantizer.parameters()] or [torch.nn.Parameter(torch.zeros(1))]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4)
    result = quantizer(head_of(quantizer.code_table()[KEPT]).requires_grad_(), progress())
    loss = torch.stack([*result.terms.values()]).sum() + result.z_q.square().sum()
    (loss + quantizer.code_table().sum()).backward()
    optimiser.step()
    quantizer.after_step(result, progress(), optimiser.state)
    return given[0], optimiser


@EACH
def test_a_dead_code_becomes_the_vector(
    kind: type[NearestCode], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    quantizer = build(kind, options)
    vectors, _ = with_dead_codes(quantizer, monkeypatch)
    expected = vectors / vectors.norm(dim=1, keepdim=True) if quantizer.space.normalise else vectors
    codes = quantizer.code_table()[FAR].detach()
    torch.testing.assert_close(
        codes, expected, rtol=1e-3 if kind is EmaVectorQuantizer else 1e-9, atol=1e-12
    )


def test_what_is_written_under_unit_length_is_of_unit_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A raw code's length is one over how fast its direction learns."""
    quantizer = build(VectorQuantizer, {"normalise": True})
    with_dead_codes(quantizer, monkeypatch)
    lengths = quantizer.codebook.norm(dim=1).detach()
    torch.testing.assert_close(lengths[FAR], torch.ones(len(FAR)).double())
    quantizer.initialise(5.0 * torch.randn(50, D).double(), progress())
    lengths = quantizer.codebook.norm(dim=1).detach()
    torch.testing.assert_close(lengths, torch.ones(K).double())


@EACH
def test_a_revived_code_is_not_overwritten_by_the_next_step(
    kind: type[NearestCode], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    quantizer = build(kind, options)
    if kind is EmaVectorQuantizer:
        quantizer.sums[FAR] = -100.0 * quantizer.sums[FAR]
        quantizer.counts[FAR] = 100.0
    with_dead_codes(quantizer, monkeypatch)
    codes = quantizer.code_table().detach().clone()
    quantizer.dead_codes = None
    result = quantizer(head_of(codes), progress(1))
    quantizer.after_step(result, progress(1), {})
    moved = (quantizer.code_table() - codes).norm(dim=1).detach()
    assert moved[FAR].max() < 0.2 * codes[FAR].norm(dim=1).min()


@EACH
def test_what_remembers_the_old_code_forgets(
    kind: type[NearestCode], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    quantizer = build(kind, options)
    if "inner_rate" in options:
        quantizer.inner.momentum_codebook.fill_(1e-3)
    _, optimiser = with_dead_codes(quantizer, monkeypatch)
    if kind is VectorQuantizer:
        moments = optimiser.state[quantizer.codebook]
        for name in ("exp_avg", "exp_avg_sq"):
            assert (moments[name][FAR] == 0.0).all()
            assert (moments[name][KEPT] != 0.0).any(1).all()
    if "inner_rate" in options:
        momentum = quantizer.inner.momentum_codebook
        assert (momentum[FAR] == 0.0).all()
        assert (momentum[KEPT] != 0.0).all()


@EACH
def test_codes_start_as_centroids_on_the_sphere_or_under_the_map(
    kind: type[NearestCode], options: dict[str, Any]
) -> None:
    """Clusters that are far apart have one solution: their means, of unit vectors if so asked."""
    quantizer = build(kind, options)
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(K, D, generator=generator, dtype=torch.double)
    centres = 5.0 * centres / centres.norm(dim=1, keepdim=True)
    noise = 1e-3 * torch.randn(20, K, D, generator=generator, dtype=torch.double)
    heads = centres + noise
    if quantizer.space.normalise:
        heads *= 0.1 + 20.0 * torch.rand(20, K, 1, generator=generator).double() ** 4
    quantizer.initialise(heads.view(-1, D), progress())
    expected = quantizer.space.latents(heads.view(-1, D)).view(20, K, D).mean(0)
    expected = quantizer.space.latents(expected)
    codes = quantizer.code_table().detach()
    nearest = torch.cdist(expected, codes).argmin(1)
    assert sorted(nearest.tolist()) == list(range(K))
    torch.testing.assert_close(codes[nearest], expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", [VectorQuantizer, EmaVectorQuantizer])
def test_latents_of_any_length_choose_by_cosine(kind: type[Any]) -> None:
    quantizer = build(kind, {"normalise": True}).eval()
    head = torch.randn(2, D, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    lengths = torch.linspace(0.01, 50.0, 32).view(2, 1, 4, 4)
    z, codes = to_tokens(head), quantizer.codebook.detach()
    cosine = (z @ codes.t()) / (z.norm(dim=1)[:, None] * codes.norm(dim=1))
    assert torch.equal(quantizer.indices(head).flatten(), cosine.argmax(1))
    assert torch.equal(quantizer.indices(head * lengths), quantizer.indices(head))
    assert quantizer.rule() == {"latents": "unit length"}
    assert kind(K, D).rule() == {}
