"""The k-means start: deterministic, and close to what it clusters."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.quantizers.kmeans import kmeans
from tests.models import oracle


def blobs(num_blobs: int, per_blob: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Vectors (N, 3) in shuffled order around centres far from one another, and their means."""
    rng = np.random.default_rng(seed)
    corners = np.array(list(itertools.product((0.0, 100.0, 200.0), repeat=3)))
    centres = rng.permutation(corners)[:num_blobs]
    vectors = centres[:, None] + rng.normal(size=(num_blobs, per_blob, 3))
    means = torch.from_numpy(vectors.mean(1))
    return torch.from_numpy(rng.permutation(vectors.reshape(-1, 3))).float(), means


def distortion(vectors: Tensor, codebook: Tensor) -> float:
    return float(torch.cdist(vectors.double(), codebook.double()).square().min(1).values.mean())


def in_order(rows: Tensor) -> np.ndarray:
    array = rows.double().numpy()
    return array[np.lexsort(array.round().T)]


def test_the_same_vectors_and_seed_give_the_same_codes() -> None:
    vectors = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    first = kmeans(vectors, 20, seed=3)
    torch.randn(5)
    np.random.default_rng(9).random()
    assert torch.equal(first, kmeans(vectors.clone(), 20, seed=3))
    assert not torch.equal(first, kmeans(vectors, 20, seed=4))


@pytest.mark.parametrize("seed", range(5))
def test_clusters_that_are_far_apart_are_all_found(seed: int) -> None:
    vectors, means = blobs(num_blobs=12, per_blob=15, seed=seed)
    np.testing.assert_allclose(in_order(kmeans(vectors, 12, seed)), in_order(means), atol=1e-4)


def test_a_code_is_the_mean_of_what_is_nearest_to_it() -> None:
    vectors = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1)).double()
    codes = kmeans(vectors, 8, seed=0).numpy()
    chosen = oracle.nearest(vectors.numpy(), codes)
    means = np.stack([vectors.numpy()[chosen == c].mean(0) for c in range(8)])
    np.testing.assert_allclose(codes, means, atol=0.05)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 5))
def test_codes_fit_no_worse_than_vectors_picked_at_random(seed: int, num: int, dim: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(200, dim, generator=generator) ** 3
    picked = vectors[torch.randperm(200, generator=generator)[:num]]
    assert distortion(vectors, kmeans(vectors, num, seed)) <= distortion(vectors, picked)


def test_the_start_alone_picks_far_vectors_first() -> None:
    """Two vectors among many in one place: all three places get a code, whatever the seed."""
    vectors = torch.zeros(500, 2)
    vectors[17], vectors[400] = torch.tensor([50.0, 0.0]), torch.tensor([0.0, 50.0])
    for seed in range(5):
        assert distortion(vectors, kmeans(vectors, 3, seed)) == 0.0


@pytest.mark.filterwarnings("ignore:One of the clusters is empty")
def test_vectors_that_are_all_alike_give_finite_codes() -> None:
    codes = kmeans(torch.full((40, 3), 2.5), 8, seed=0)
    assert torch.equal(codes, torch.full((8, 3), 2.5))


def test_too_few_vectors_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"at least 8 vectors and got 7; raise the batch size"):
        kmeans(torch.randn(7, 2), 8, seed=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_codes_have_the_dtype_of_the_vectors(dtype: torch.dtype) -> None:
    vectors = torch.randn(30, 2, dtype=dtype, requires_grad=True)
    codes = kmeans(vectors, 4, seed=0)
    assert codes.dtype == dtype
    assert not codes.requires_grad


def test_as_many_codes_as_vectors_are_the_vectors() -> None:
    vectors = torch.arange(10.0)[:, None].expand(10, 2)
    np.testing.assert_allclose(in_order(kmeans(vectors, 10, seed=0)), vectors.numpy(), atol=1e-6)
