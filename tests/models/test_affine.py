"""The affine maps of a codebook: their values, their inverse, and when statistics move."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.quantizers.affine import Affine, LearnedAffine, StatisticsAffine, build_affine
from models.quantizers.base import to_tokens
from models.quantizers.code_space import CodeSpace
from models.quantizers.vq import VectorQuantizer
from models.randomness import Noise, Progress

K, D, N = 5, 3, 40
PROGRESS = Progress(0, 100, Noise(0, 0, torch.arange(2)))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def learned(scale: float) -> LearnedAffine:
    affine = LearnedAffine(D, rate=10.0).double()
    with torch.no_grad():
        affine.scale.copy_(torch.tensor([scale, -0.3, 0.0], dtype=torch.double))
        affine.shift.copy_(torch.tensor([0.5, -1.0, 0.0], dtype=torch.double))
    return affine


def observed(batches: int = 3) -> StatisticsAffine:
    affine = StatisticsAffine(D).double()
    for seed in range(batches):
        affine.observe(random(N, D, seed=seed) * 3.0 + 2.0, random(K, D, seed=seed))
    return affine


def test_a_learned_map_starts_as_the_identity_and_is_scaled_by_its_rate() -> None:
    codebook = random(K, D)
    assert torch.equal(LearnedAffine(D, rate=10.0).double()(codebook), codebook)
    expected = np.array([3.0, -2.0, 1.0]) * codebook.numpy() + np.array([5.0, -10.0, 0.0])
    np.testing.assert_allclose(learned(0.2)(codebook).detach(), expected, rtol=1e-12)


def test_statistics_are_moving_averages_of_latents_and_codes() -> None:
    mean, variance, code_mean, code_variance = np.zeros(D), np.ones(D), np.zeros(D), np.ones(D)
    for seed in range(3):
        z, codes = random(N, D, seed=seed).numpy() * 3.0 + 2.0, random(K, D, seed=seed).numpy()
        mean = 0.9 * mean + 0.1 * z.mean(0)
        variance = 0.9 * variance + 0.1 * z.var(0)
        code_mean = 0.9 * code_mean + 0.1 * codes.mean(0)
        code_variance = 0.9 * code_variance + 0.1 * codes.var(0)
    scale = np.sqrt(variance / (code_variance + 1e-8))
    codebook = random(K, D, seed=7)
    expected = scale * (codebook.numpy() - code_mean) + mean
    np.testing.assert_allclose(observed()(codebook), expected, rtol=1e-12)


def test_statistics_give_the_codes_the_mean_and_variance_of_the_latents() -> None:
    affine, z, codebook = StatisticsAffine(D).double(), random(N, D) * 3.0 + 2.0, random(K, D)
    for _ in range(300):
        affine.observe(z, codebook)
    codes = affine(codebook)
    torch.testing.assert_close(codes.mean(0), z.mean(0))
    torch.testing.assert_close(codes.var(0, correction=0), z.var(0, correction=0))


@pytest.mark.parametrize("affine", [learned(0.2), learned(-0.3), observed()])
@pytest.mark.parametrize("normalise", [False, True])
def test_raw_codes_give_the_vectors_that_they_were_made_of(affine: Affine, normalise: bool) -> None:
    space, vectors = CodeSpace(affine, normalise), random(K, D, seed=3)
    expected = vectors / vectors.norm(dim=1, keepdim=True) if normalise else vectors
    torch.testing.assert_close(space(space.raw(vectors)).detach(), expected)


@pytest.mark.parametrize("scale", [-0.1, -0.1 + 1e-9])
def test_a_dimension_that_is_scaled_to_nothing_has_finite_raw_codes(scale: float) -> None:
    assert learned(scale).inverse(random(K, D)).abs().max() < 1e5


def stepped(quantizer: VectorQuantizer, head: Tensor) -> dict[str, Tensor]:
    """The affine's statistics after a step with this head."""
    quantizer.after_step(quantizer(head, PROGRESS), PROGRESS, {})
    state = quantizer.state_dict()
    return {name: tensor.clone() for name, tensor in state.items() if "affine" in name}


def test_statistics_move_in_training_alone_and_hold_no_graph() -> None:
    quantizer = VectorQuantizer(K, D, affine="statistics").double()
    start = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    head = random(2, D, 4, 4, seed=5).requires_grad_()
    unmoved = stepped(quantizer.eval(), head)
    assert len(unmoved) == 4
    assert all(torch.equal(start[name], tensor) for name, tensor in unmoved.items())
    moved = stepped(quantizer.train(), head)
    assert not any(torch.equal(start[name], tensor) for name, tensor in moved.items())
    assert not any(buffer.requires_grad for buffer in quantizer.buffers())
    mean = to_tokens(head.detach()).mean(0)
    torch.testing.assert_close(moved["space.affine.latent_mean"], 0.1 * mean)


def test_statistics_of_latents_and_codes_with_gradient_have_none() -> None:
    affine = StatisticsAffine(D).double().train()
    affine.observe(random(N, D).requires_grad_(), random(K, D).requires_grad_())
    assert not any(buffer.requires_grad for buffer in affine.buffers())


def test_unused_codes_move_with_the_others() -> None:
    quantizer = VectorQuantizer(K, D, affine="learned").double().train()
    with torch.no_grad():
        quantizer.codebook[2] = 100.0
    before = quantizer.code_table()[2].detach().clone()
    head = random(2, D, 4, 4, seed=5)
    optimiser = torch.optim.AdamW(quantizer.parameters(), lr=0.01, weight_decay=0.0)
    result = quantizer(head, PROGRESS)
    assert 2 not in result.indices
    result.terms["codebook"].backward()
    optimiser.step()
    assert (quantizer.codebook[2] == 100.0).all()
    assert (quantizer.code_table()[2] - before).abs().min() > 0.5


def test_off_is_no_map() -> None:
    assert build_affine("off", D, 1.0) is None
