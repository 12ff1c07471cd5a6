"""Half precision and autocast change nothing but the head that comes in."""

import pytest
import torch

from tests.contracts.quantizers.probes import Make, assert_equal, heads_for, progress


@pytest.mark.parametrize("training", [True, False])
def test_a_half_precision_head_gives_the_tokens_of_its_values(make: Make, training: bool) -> None:
    quantizer = make().train(training)
    half = heads_for(quantizer).bfloat16()
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
