"""What every law is given: a method with its options, and how to build it."""

from typing import Any

import pytest
import torch

from models.quantizers import Quantizer, build_quantizer
from models.randomness import INITIALISATION_STEP
from tests.contracts.quantizers.options import CASES
from tests.contracts.quantizers.probes import Make, progress, spread


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
