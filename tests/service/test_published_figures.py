"""What the card says is what callers get."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.service.conftest import SHIPPED_BUNDLE
from tests.service.process import ROOT
from training.data.cifar10 import load_cifar10
from vqtok.bundle import Bundle
from vqtok.wire.npy_format import read_array, write_array

NPY = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
MOST_MSE, LEAST_PERPLEXITY = 3.4e-3, 950
PHOTOGRAPHS = ("chelsea.png", "coffee.png")


@pytest.fixture(scope="module")
def published() -> Mapping[str, Any]:
    return Bundle.open(SHIPPED_BUNDLE).manifest.metrics


def _array(client: httpx.Client, path: str, array: NDArray[Any]) -> NDArray[Any]:
    answer = client.post(path, content=write_array(array), headers=NPY)
    assert answer.status_code == 200, answer.text
    return read_array(answer.content)


@pytest.mark.slow
def test_all_test_images_through_http_give_the_cards_figures(
    client: httpx.Client, published: Mapping[str, Any], data_dir: Path
) -> None:
    _, images = load_cifar10(data_dir / "cifar10")
    counts = np.zeros(len(np.load(SHIPPED_BUNDLE / "codebook.npy")), np.int64)
    squared = 0.0
    for batch in np.split(images, 20):
        tokens = _array(client, "/v1/encode", batch)
        decoded = _array(client, "/v1/decode", tokens)
        squared += float(np.square(batch / 255.0 - decoded / 255.0).sum())
        counts += np.bincount(tokens.ravel(), minlength=len(counts))
    used = counts[counts > 0] / counts.sum()
    perplexity = math.exp(-(used * np.log(used)).sum())
    assert squared / images.size == pytest.approx(published["test"]["mse"], rel=5e-7)
    assert perplexity == pytest.approx(published["test"]["perplexity"], rel=5e-7)


def test_the_card_says_what_the_manifest_says(published: Mapping[str, Any]) -> None:
    card = (SHIPPED_BUNDLE / "card.md").read_text()
    assert f"{published['test']['mse'] * 1e3:.3f}" in card
    assert f"{published['test']['perplexity']:.0f}" in card


def test_the_readme_says_what_the_manifest_says(published: Mapping[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text()
    assert f"{published['test']['mse'] * 1e3:.2f} × 10⁻³" in readme
    assert f"perplexity of {published['test']['perplexity']:,.0f}" in readme


def test_the_bundle_reaches_what_it_is_shipped_for(published: Mapping[str, Any]) -> None:
    assert published["test"]["mse"] <= MOST_MSE
    assert published["test"]["perplexity"] >= LEAST_PERPLEXITY


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_reconstruct_no_worse_than_the_test_images(
    client: httpx.Client, published: Mapping[str, Any], data_dir: Path, name: str
) -> None:
    picture = (data_dir / "odd-images/valid/scikit-image" / name).read_bytes()
    headers = {"Content-Type": "image/png", "Accept": "application/json"}
    answer = client.post("/v1/reconstruct", content=picture, headers=headers)
    (quality,) = answer.json()["quality"]
    assert quality["psnr"] >= published["test"]["psnr"]
    assert quality["psnr"] == pytest.approx(
        published["photographs"][Path(name).stem]["psnr"], rel=1e-6
    )
