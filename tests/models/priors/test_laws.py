"""Laws that every prior of the table keeps."""

import pytest
import torch
from torch import Tensor

from models.priors import PRIORS, Prior, TokenShape, build_prior
from models.randomness import Noise
from tests.models.priors.tiny import LEARNED, TINY, all_grids, tiny_prior

SCHEDULES = ["halton-2", "wavefront", "raster", "halton-1"]
EACH = pytest.mark.parametrize("name", PRIORS)


@EACH
@pytest.mark.parametrize("label", [0, 2])
def test_the_probabilities_of_all_grids_sum_to_one(name: str, label: int) -> None:
    prior = tiny_prior(name)
    grids = all_grids()
    labels = torch.full((len(grids),), label)
    log_prob = prior.log_prob(grids, labels).sum(1)
    assert len(grids) == 81
    assert float(log_prob.exp().sum()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_they_do_under_any_schedule(schedule: str) -> None:
    prior = tiny_prior("masked", schedules=(schedule,))
    grids = all_grids()
    total = prior.log_prob(grids, torch.zeros(len(grids), dtype=torch.long)).sum(1).exp().sum()
    assert float(total) == pytest.approx(1.0, abs=1e-6)


@EACH
def test_a_token_does_not_know_itself_nor_what_comes_after(name: str) -> None:
    prior = tiny_prior(name)
    grids = all_grids()
    labels = torch.zeros(len(grids), dtype=torch.long)
    log_prob = prior.log_prob(grids, labels)
    for position in range(TINY.num_positions):
        # Of grids that agree on all that is revealed earlier, one token's probabilities sum to one.
        earlier = prior.groups < prior.groups[position]
        key = torch.where(earlier, grids, 0)
        first = (key == key[40]).all(1)
        by_code = [log_prob[first & (grids[:, position] == code), position] for code in range(3)]
        assert all(torch.allclose(each, each[:1]) for each in by_code)
        total = sum(float(each[0].exp()) for each in by_code)
        assert total == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("order", ["raster", "halton-4"])
def test_one_causal_pass_gives_what_a_pass_a_token_gives(order: str) -> None:
    prior = tiny_prior("autoregressive", order=order)
    grids, labels = all_grids(), torch.ones(81, dtype=torch.long)
    token_by_token = Prior.log_prob(prior, grids, labels)
    at_once = prior.log_prob(grids, labels)
    torch.testing.assert_close(at_once, token_by_token, atol=1e-5, rtol=0)
    assert float(at_once.sum(1).exp().sum()) == pytest.approx(1.0, abs=1e-6)


def test_the_network_knows_where_each_token_of_another_order_is() -> None:
    prior = tiny_prior("autoregressive", order="halton-4")
    order = prior.order.tolist()
    assert order != [0, 1, 2, 3]
    places = prior.get_submodule("network").get_buffer("places")
    assert places.T.tolist() == [[each // 2, each % 2] for each in order]


def test_an_autoregressive_prior_reveals_one_token_at_a_time() -> None:
    with pytest.raises(ValueError, match="several of the 4 tokens"):
        build_prior("autoregressive", TINY, {"order": "halton-2"})


@pytest.mark.parametrize("name", LEARNED)
def test_labels_matter_and_no_label_is_one_of_them(name: str) -> None:
    prior = tiny_prior(name)
    grids = all_grids()
    by_label = [prior.log_prob(grids, torch.full((81,), label)) for label in range(3)]
    assert not torch.allclose(by_label[0], by_label[1], atol=1e-3)
    assert not torch.allclose(by_label[0], by_label[2], atol=1e-3)


@EACH
def test_all_priors_know_levels(name: str) -> None:
    shape = TokenShape((2, 1, 2), codebook_size=2)
    prior = tiny_prior(name, shape)
    grids = all_grids(shape)
    total = prior.log_prob(grids, torch.zeros(len(grids), dtype=torch.long)).sum(1).exp().sum()
    assert float(total) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", LEARNED)
def test_a_learned_prior_starts_near_the_marginal_and_learns_what_depends(name: str) -> None:
    """Two codes, the second token a copy of the first: one bit a grid, where tables need two."""
    torch.manual_seed(0)
    shape = TokenShape((1, 2), codebook_size=2)
    schedules = {"schedules": ("halton-2",)} if name == "masked" else {}
    prior = build_prior(name, shape, {"width": 16, "num_layers": 1, "num_heads": 2, **schedules})
    grids = torch.tensor([[0, 0], [1, 1]]).repeat(32, 1)
    labels = torch.zeros(64, dtype=torch.long)
    prior.begin(torch.tensor([[32, 32], [32, 32]]))
    assert _bits(prior, grids, labels) == pytest.approx(2.0, abs=0.1)
    optimiser = torch.optim.AdamW(prior.parameters(), lr=1e-2)
    for step in range(150):
        loss = prior.loss(grids, labels, Noise(0, step, torch.arange(64)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert _bits(prior.eval(), grids, labels) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("name", LEARNED)
def test_codes_that_are_near_start_alike(name: str) -> None:
    torch.manual_seed(0)
    shape = TokenShape((2, 2), codebook_size=30)
    prior = build_prior(name, shape, {"width": 32, "num_heads": 2})
    codes = torch.randn(30, 3)
    codes[7] = codes[3] + 0.01
    prior.begin(torch.ones(4, 30, dtype=torch.long), codes)
    others = ~torch.eye(30, dtype=torch.bool)
    for table in ("network.tokens.weight", "network.head.weight"):
        rows = prior.get_parameter(table).detach()[:30]
        distances = torch.cdist(rows, rows)
        assert int((distances[3] + 9 * ~others[3]).argmin()) == 7
        pairs = torch.stack([torch.cdist(codes, codes)[others], distances[others]])
        assert float(torch.corrcoef(pairs)[0, 1]) > 0.8


def _bits(prior: Prior, grids: Tensor, labels: Tensor) -> float:
    return -float(prior.log_prob(grids, labels).sum(1).mean()) / 0.6931471805599453


def test_no_prior_and_no_option_of_another_name() -> None:
    with pytest.raises(ValueError, match="no prior is called 'maskd'; there are uniform"):
        build_prior("maskd", TINY, {})
    with pytest.raises(ValueError, match="position has no option 'width'; it takes back_off"):
        build_prior("position", TINY, {"width": 3})
    with pytest.raises(ValueError, match="no multiple of num_heads"):
        build_prior("masked", TINY, {"width": 10, "num_heads": 4})
