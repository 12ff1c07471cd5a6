"""Scores and margins: the largest score is the token, how far ahead is the margin."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.quantizers import Quantizer
from tests.contracts.quantizers.options import K
from tests.contracts.quantizers.probes import (
    HEIGHT,
    SAMPLES,
    WIDTH,
    Make,
    code_tensors,
    compares_vectors,
    has_scores,
    heads_for,
)

BY_ANGLE = {"ibq"}
"""Those that take the largest product z·μ, which moves when z does."""


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
