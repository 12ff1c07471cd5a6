"""Evaluation: the same figures whatever the batch, and the model as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import training.evaluate
from models import Autoencoder, load
from models.quantizers import QUANTIZERS
from tests.training.tiny import tiny_settings
from training.data import Part
from training.data.batches import to_pixels
from training.evaluate import evaluate_engine, evaluate_model
from vqtok.runtime.engine import Encoded


@pytest.fixture
def images(cifar: NDArray[np.uint8]) -> Part:
    return Part(cifar, 100, 125)


@pytest.fixture
def trained(run: Path) -> Autoencoder:
    return load(run)


def test_the_figures_do_not_depend_on_the_batch(
    trained: Autoencoder, images: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate_model(trained, images)
    for size in (1, 10):
        monkeypatch.setattr(training.evaluate, "BATCH", size)
        assert evaluate_model(trained, images) == pytest.approx(whole, rel=1e-5)
    assert whole["num_tokens"] == 25 * 64


def test_the_figures_are_those_of_the_tokens_and_the_clipped_pixels(
    trained: Autoencoder, images: Part
) -> None:
    pixels = to_pixels(torch.from_numpy(np.stack([images[i] for i in range(len(images))])))
    with torch.no_grad():
        tokens = trained.encode(pixels)
        error = (trained.decode(tokens) - pixels).square().mean()
    share = torch.bincount(tokens.reshape(-1), minlength=16) / tokens.numel()
    figures = evaluate_model(trained, images)
    assert figures["mse"] == pytest.approx(float(error), rel=1e-5)
    expected = float(torch.exp(torch.distributions.Categorical(share).entropy()))
    assert figures["perplexity"] == pytest.approx(expected, rel=1e-5)
    assert figures["used_codes"] == len(tokens.unique())


@pytest.mark.parametrize("method", QUANTIZERS)
@pytest.mark.parametrize("training", [True, False])
def test_evaluation_changes_nothing_in_the_model(method: str, training: bool, images: Part) -> None:
    model = Autoencoder(tiny_settings(method, "images").model).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate_model(model, images)
    assert model.training is training
    assert all(module.training is training for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_model_in_training_mode_is_evaluated_as_in_use(images: Part) -> None:
    model = Autoencoder(tiny_settings("gmvq", "images").model)
    assert evaluate_model(model.train(), images) == evaluate_model(model.eval(), images)


class Mirror:
    """Graphs that keep every pixel but turn 0 into 51; tokens count up."""

    def encode(self, images: NDArray[np.uint8]) -> Encoded:
        self.seen = images
        tokens = np.arange(len(images) * 4, dtype=np.int32).reshape(-1, 2, 2) % 4
        return Encoded(tokens, np.ones(tokens.shape, np.float32))

    def decode(self, tokens: NDArray[np.int32]) -> NDArray[np.uint8]:
        return np.where(self.seen == 0, np.uint8(51), self.seen).astype(np.uint8)


def test_graphs_are_measured_by_their_uint8_pixels_and_their_tokens() -> None:
    pixels = np.full((3, 8, 8, 3), 255, np.uint8)
    pixels[:, :4] = 0
    figures = evaluate_engine(Mirror(), 8, Part(pixels, 0, 3))  # type: ignore[arg-type]
    assert figures["mse"] == pytest.approx(0.5 * 0.2**2)
    assert figures["perplexity"] == pytest.approx(4.0)
    assert "soft_perplexity" not in figures
