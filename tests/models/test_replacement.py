"""Dead codes: when they move, where to, and what the optimiser forgets."""

import pytest
import torch
from torch import Tensor, nn

from models.quantizers.replacement import DeadCodes, forget_rows
from models.randomness import Noise, Progress

NUM_CODES, DIM, NUM_STEPS = 6, 4, 100
USED = torch.tensor([3.0, 0.0, 1.0, 0.0, 2.0, 1.0])
UNUSED = [1, 3]


def progress(step: int, seed: int = 0, num_samples: int = 2) -> Progress:
    return Progress(step, NUM_STEPS, Noise(seed, step, torch.arange(num_samples)))


def vectors(num: int = 50, dim: int = DIM) -> Tensor:
    """Far from one another: 100 apart on the first axis, of length near 1000."""
    rows = torch.randn(num, dim, generator=torch.Generator().manual_seed(0))
    rows[:, 0] += 1000.0 + 100.0 * torch.arange(num)
    return rows


def dead_at(rule: DeadCodes, step: int, counts: Tensor = USED) -> list[int]:
    return rule(counts, vectors(), progress(step))[0].tolist()


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_a_code_is_replaced_once_it_was_idle_for_patience_steps(patience: int) -> None:
    rule = DeadCodes(NUM_CODES, patience)
    for step in range(1, 3 * patience + 1):
        assert dead_at(rule, step) == (UNUSED if step % patience == 0 else [])


def test_a_use_starts_the_count_anew() -> None:
    rule = DeadCodes(NUM_CODES, patience=3)
    assert dead_at(rule, 0) == dead_at(rule, 1) == []
    used = USED.clone()
    used[1] = 1.0
    assert dead_at(rule, 2, used) == [3]
    assert dead_at(rule, 3) == []
    assert dead_at(rule, 4) == []
    assert dead_at(rule, 5) == [1, 3]


@pytest.mark.parametrize(
    ("quiet", "last"), [(0.1, NUM_STEPS - 11), (0.25, NUM_STEPS - 26), (0.0, NUM_STEPS - 1)]
)
def test_nothing_moves_in_the_quiet_share_of_training(quiet: float, last: int) -> None:
    rule = DeadCodes(NUM_CODES, patience=1, quiet=quiet)
    assert dead_at(rule, last) == UNUSED
    for step in range(last + 1, NUM_STEPS):
        dead, moved = rule(USED, vectors(), progress(step))
        assert dead.tolist() == []
        assert moved.shape == (0, DIM)


def test_replacements_are_batch_vectors_with_a_little_noise() -> None:
    """The noise of a vector v is rho |v| N(0, I)."""
    rule, batch = DeadCodes(500, patience=1, rho=0.01), vectors(dim=16)
    _, moved = rule(torch.zeros(500), batch, progress(0))
    chosen = torch.cdist(moved, batch)[:, :].argmin(1)
    length = batch[chosen].norm(dim=1, keepdim=True)
    scaled = (moved - batch[chosen])[:, 1:] / (0.01 * length)
    assert abs(scaled.mean().item()) < 0.06
    assert scaled.square().mean().item() == pytest.approx(1.0, abs=0.08)


def test_replacements_come_from_all_over_the_batch() -> None:
    rule, batch = DeadCodes(500, patience=1, rho=0.0), vectors()
    _, moved = rule(torch.zeros(500), batch, progress(0))
    distance, chosen = torch.cdist(moved, batch).min(1)
    assert distance.max() == 0.0
    counts = torch.bincount(chosen, minlength=50)
    assert counts.min() >= 1
    assert counts.max() <= 30


def replacements(step: int, seed: int, num_samples: int = 2) -> Tensor:
    rule = DeadCodes(NUM_CODES, patience=1)
    return rule(USED, vectors(), progress(step, seed, num_samples))[1]


def test_replacements_are_a_function_of_seed_and_step() -> None:
    first = replacements(step=4, seed=1)
    assert torch.equal(first, replacements(step=4, seed=1))
    assert torch.equal(first, replacements(step=4, seed=1, num_samples=9))
    assert not torch.equal(first, replacements(step=5, seed=1))
    assert not torch.equal(first, replacements(step=4, seed=2))


def test_the_idle_steps_are_part_of_the_state() -> None:
    first, second = DeadCodes(NUM_CODES, patience=4), DeadCodes(NUM_CODES, patience=4)
    assert [dead_at(first, step) for step in range(3)] == [[], [], []]
    second.load_state_dict(first.state_dict())
    assert dead_at(second, 3) == UNUSED


def stepped(parameter: nn.Parameter, kind: type[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    optimiser = kind([parameter], lr=0.1)  # pyright: ignore[reportCallIssue]
    parameter.square().sum().backward()
    optimiser.step()
    return optimiser


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_the_optimiser_forgets_moved_codes_and_nothing_else(
    kind: type[torch.optim.Optimizer],
) -> None:
    parameter = nn.Parameter(torch.randn(NUM_CODES, DIM))
    optimiser = stepped(parameter, kind)
    state = optimiser.state[parameter]
    before = {name: moment.clone() for name, moment in state.items()}
    forget_rows(optimiser.state, parameter, torch.tensor(UNUSED))
    kept = [row for row in range(NUM_CODES) if row not in UNUSED]
    for name in ("exp_avg", "exp_avg_sq"):
        assert (before[name] != 0).all()
        assert (state[name][UNUSED] == 0).all()
        assert torch.equal(state[name][kept], before[name][kept])
    assert torch.equal(state["step"], before["step"])


def test_an_optimiser_that_remembers_nothing_of_the_codes_stays_so() -> None:
    parameter = nn.Parameter(torch.randn(NUM_CODES, DIM))
    optimiser = torch.optim.AdamW([parameter])
    forget_rows(optimiser.state, parameter, torch.tensor(UNUSED))
    assert len(optimiser.state) == 0
