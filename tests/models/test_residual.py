"""Residual quantization against the algorithm: each level on the rest of the ones before."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.quantizers.base import to_tokens
from models.quantizers.kmeans import kmeans
from models.quantizers.residual import ResidualQuantizer
from models.randomness import Noise, Progress
from tests.models import oracle
from tests.models.oracle import Array, Indices

K, D, DEPTH, SAMPLES = 6, 3, 3, 4
BOTH = pytest.mark.parametrize("update", ["ema", "gradient"])


def build(update: str, **options: Any) -> ResidualQuantizer:
    torch.manual_seed(0)
    return ResidualQuantizer(K, D, DEPTH, update=update, **options).double().train()  # type: ignore[arg-type]


def random_head(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    head = torch.randn(SAMPLES, D, 3, 3, dtype=torch.double, generator=generator)
    return head.requires_grad_()


def progress(step: int = 0) -> Progress:
    return Progress(step, 100, Noise(0, step, torch.arange(SAMPLES)))


def residuals(z: Array, tables: Array) -> tuple[list[Array], Indices]:
    """SoundStream, algorithm 1: r_1 … r_(depth + 1), and the tokens (N, depth)."""
    rest, tokens = [z], []
    for table in tables:
        chosen = oracle.nearest(rest[-1], table)
        tokens.append(chosen)
        rest.append(rest[-1] - table[chosen])
    return rest, np.stack(tokens, axis=1)


def arrays(quantizer: ResidualQuantizer, head: Tensor) -> tuple[Array, Array]:
    return to_tokens(head.detach()).numpy(), quantizer.code_table().detach().clone().numpy()


@BOTH
@pytest.mark.parametrize("training", [True, False])
def test_forward_values_are_the_algorithm(update: str, training: bool) -> None:
    quantizer, head = build(update).train(training), random_head()
    z, tables = arrays(quantizer, head)
    rest, tokens = residuals(z, tables)
    result = quantizer(head, progress())
    assert (result.indices.reshape(-1, DEPTH).numpy() == tokens).all()
    np.testing.assert_allclose(to_tokens(result.z_q.detach()), z - rest[-1], rtol=1e-9, atol=1e-12)
    errors = sum(float((after**2).mean()) for after in rest[1:])
    names = {"commitment"} if update == "ema" else {"commitment", "codebook"}
    assert {name: t.item() for name, t in result.terms.items()} == pytest.approx(
        dict.fromkeys(names, errors)
    )
    shares = np.stack([np.bincount(row, minlength=K) / len(z) for row in tokens.T])
    np.testing.assert_allclose(result.posterior.mean, shares, rtol=1e-6)
    assert result.posterior.entropy == 0.0


@BOTH
def test_margins_are_the_smallest_of_the_levels(update: str) -> None:
    quantizer, head = build(update).eval(), random_head()
    z, tables = arrays(quantizer, head)
    rest, tokens = residuals(z, tables)
    pairs = zip(rest[:-1], tables, strict=True)
    expected = np.min([oracle.nearest_margin(row, table) for row, table in pairs], axis=0)
    found, margins = quantizer.assign(head)
    assert (found.reshape(-1, DEPTH).numpy() == tokens).all()
    np.testing.assert_allclose(margins.detach().flatten(), expected, rtol=1e-8, atol=1e-12)


@BOTH
def test_the_gradient_passes_straight_through_to_the_head_alone(update: str) -> None:
    quantizer, head = build(update), random_head()
    pull = torch.randn(head.shape).double()
    (pull * quantizer(head, progress()).z_q).sum().backward()
    assert head.grad is not None
    assert torch.equal(head.grad, pull)
    assert all(parameter.grad is None for parameter in quantizer.parameters())


@BOTH
def test_commitment_pulls_the_head_by_all_levels(update: str) -> None:
    quantizer, head = build(update), random_head()
    z, tables = arrays(quantizer, head)
    quantizer(head, progress()).terms["commitment"].backward()
    expected = sum(2.0 * after / z.size for after in residuals(z, tables)[0][1:])
    assert head.grad is not None
    np.testing.assert_allclose(to_tokens(head.grad), expected, rtol=1e-9, atol=1e-12)
    assert all(parameter.grad is None for parameter in quantizer.parameters())


def test_the_codebook_term_pulls_each_level_to_its_residuals_alone() -> None:
    quantizer, head = build("gradient"), random_head()
    z, tables = arrays(quantizer, head)
    quantizer(head, progress()).terms["codebook"].backward()
    assert head.grad is None
    rest, _ = residuals(z, tables)
    for parameter, row, table in zip(quantizer.parameters(), rest, tables, strict=False):
        expected = oracle.codebook_gradient(row, table)
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad, expected, rtol=1e-9, atol=1e-12)


def test_each_level_averages_the_residuals_that_chose_it() -> None:
    quantizer = build("ema", decay=0.8)
    averages = [
        oracle.MovingAverages(np.ones(K), table.detach().clone().numpy(), 0.8)
        for table in quantizer.code_table()
    ]
    for step in range(4):
        head = random_head(step)
        z, tables = arrays(quantizer, head)
        rest, tokens = residuals(z, tables)
        quantizer.after_step(quantizer(head, progress(step)), progress(step), {})
        for level, average in enumerate(averages):
            average.update(rest[level], tokens[:, level])
            found = quantizer.code_table()[level]
            np.testing.assert_allclose(found, average.codebook, rtol=1e-8, atol=1e-12)


@BOTH
def test_levels_start_as_k_means_of_what_is_left(update: str) -> None:
    quantizer = build(update)
    vectors = torch.randn(200, D, generator=torch.Generator().manual_seed(3)).double()
    quantizer.initialise(vectors, progress())
    rest = vectors
    for level, table in enumerate(quantizer.code_table().detach()):
        torch.testing.assert_close(table, kmeans(rest, K, seed=level), rtol=1e-9, atol=1e-12)
        rest = rest - table[torch.cdist(rest, table).argmin(1)]
    left, _ = residuals(vectors.numpy(), quantizer.code_table().detach().numpy())
    errors = [float((rows**2).mean()) for rows in left]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 * errors[0]


@BOTH
def test_dead_codes_become_residuals_of_their_own_level(update: str) -> None:
    quantizer = build(update, replace_after=1)
    vectors = torch.randn(300, D, generator=torch.Generator().manual_seed(3)).double()
    quantizer.initialise(vectors, progress())
    state = quantizer.state_dict()
    with torch.no_grad():
        for level in range(DEPTH):
            state[f"levels.{level}.codebook"][2] += 1e4
            if update == "ema":
                state[f"levels.{level}.sums"][2] += 1e4
    head = random_head()
    rest, tokens = residuals(*arrays(quantizer, head))
    assert not (tokens == 2).any()
    quantizer.after_step(quantizer(head, progress()), progress(), {})
    sources = []
    for level, table in enumerate(quantizer.code_table().detach().numpy()):
        distance = np.linalg.norm(rest[level] - table[2], axis=1)
        sources.append(int(distance.argmin()))
        assert distance.min() < 0.1 * np.linalg.norm(rest[level][sources[-1]])
    assert len(set(sources)) > 1, "all levels took the same token"


def test_moments_of_replaced_codes_are_forgotten_in_each_level() -> None:
    quantizer = build("gradient", replace_after=1)
    moments = {p: {"exp_avg": torch.ones_like(p)} for p in quantizer.parameters()}
    result = quantizer(random_head()[:1, :, :1], progress())
    quantizer.after_step(result, progress(), moments)  # type: ignore[arg-type]
    for level, parameter in enumerate(quantizer.parameters()):
        used = torch.zeros(K, dtype=torch.bool)
        used[result.indices[..., level].unique()] = True
        assert torch.equal(moments[parameter]["exp_avg"].bool().all(1), used)
        assert not used.all()


@BOTH
def test_lookup_sums_the_rows_of_the_levels(update: str) -> None:
    quantizer = build(update).eval()
    tokens = torch.randint(0, K, (2, 4, 5, DEPTH), generator=torch.Generator().manual_seed(0))
    table = quantizer.code_table().detach().numpy()
    expected = sum(table[level][tokens[..., level]] for level in range(DEPTH))
    np.testing.assert_allclose(
        quantizer.lookup(tokens).detach().permute(0, 2, 3, 1), expected, rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 1}, "depth is at least 2, not 1; one level is `vq`"),
        ({"depth": 2, "update": "gradient", "decay": 0.9}, "decay belongs to the update by moving"),
        ({"depth": 2, "update": "sgd"}, "update is 'ema' or 'gradient', not 'sgd'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResidualQuantizer(K, D, **options)
