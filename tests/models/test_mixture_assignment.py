"""GM-VQ's assignment in chunks of tokens: their size changes no value, gradient or noise."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.quantizers import mixture_assignment
from models.quantizers.mixture_assignment import AssignmentSettings, assign
from tests.models.few_tokens import gumbel_of, progress
from tests.models.mixtures import D, K, build, formula, random_head


def everything(chunk: int, num: int, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Outputs and gradients of one assignment in chunks of `chunk` tokens."""
    monkeypatch.setattr(mixture_assignment, "TOKENS_PER_CHUNK", chunk)
    torch.manual_seed(6)
    z, w, codes = (torch.randn(rows, D).double() for rows in (num, num, K))
    z, w, codes = inputs = z.requires_grad_(), w.abs().requires_grad_(), codes.requires_grad_()
    gumbel = torch.from_numpy(np.random.default_rng(0).gumbel(size=(num, K)))
    given = AssignmentSettings(temperature=0.7)
    result = assign(z, w, codes, lambda start, stop: gumbel[start:stop], given)
    weights = torch.linspace(-1, 1, K).double()
    loss = (result.z_c * z.detach().cos()).sum() + 2 * result.distances(z).mean()
    loss = loss + (weights * result.posterior_mean).sum() - 0.3 * result.entropy
    return [*result, *torch.autograd.grad(loss, inputs)]


@pytest.mark.parametrize("num", [1, 2, 63, 64, 65, 130])
def test_the_chunk_size_does_not_matter(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = everything(1000, num, monkeypatch)
    for chunk in (1, 7, 64):
        for got, expected in zip(everything(chunk, num, monkeypatch), whole, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 3, 5])
def test_chunks_that_cut_samples_draw_the_same_noise(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixture_assignment, "TOKENS_PER_CHUNK", chunk)
    quantizer, given = build().train(), progress()
    head = random_head(quantizer)
    mixture = formula(quantizer, head, gumbel_of(given, K))
    assert (quantizer(head, given).indices.flatten().numpy() == mixture.indices).all()
