"""Two processes that train on the halves of a batch get the codebook of one that has it all."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models.two_processes import CASES, PROCESSES, SAMPLES, started, trained

ROOT = Path(__file__).parents[2]
States = list[dict[str, dict[str, Tensor]]]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> States:
    """What each process has at the end."""
    folder = tmp_path_factory.mktemp("processes")
    script = [sys.executable, "-m", "tests.models.two_processes", str(folder)]
    subprocess.run(script, cwd=ROOT, check=True, timeout=120)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("case", CASES)
def test_halves_of_a_batch_train_as_the_whole(case: str, states: States) -> None:
    whole = trained(case, slice(0, SAMPLES))
    first, second = (state[case] for state in states)
    assert whole.keys() == first.keys()
    for name, tensor in whole.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], tensor, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_these_trainings_replace_codes(case: str) -> None:
    start, end = started(case).code_table(), trained(case, slice(0, SAMPLES))
    quantizer = started(case)
    quantizer.load_state_dict(end)
    moved = (quantizer.code_table() - start).norm(dim=1)
    assert (moved[::3] > 0.1).sum() >= 2
