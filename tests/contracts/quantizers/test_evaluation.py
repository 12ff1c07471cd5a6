"""Tokens and vectors: their shapes, and that in evaluation they follow from the head alone."""

import pytest
import torch

from models.quantizers.base import to_tokens
from tests.contracts.quantizers.options import K
from tests.contracts.quantizers.probes import (
    HEIGHT,
    SAMPLES,
    WIDTH,
    Make,
    assert_equal,
    heads_for,
    levels_of,
    progress,
    tail_of,
)


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
