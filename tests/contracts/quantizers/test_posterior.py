"""The posterior and the statistics that a step reports."""

import math

import pytest
import torch

from tests.contracts.quantizers.probes import Make, heads_for, progress, tail_of


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
