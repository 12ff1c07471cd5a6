"""The moving average of the weights, and the statistics that belong to it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models import Autoencoder, load
from tests.training.tiny import smooth_images, tiny_settings
from training.averaging import WeightAverage, recompute_statistics
from training.data import load_splits
from training.data.batches import to_pixels
from training.loop import Trainer
from training.runs import train


def model_of(method: str = "vq", seed: int = 0) -> Autoencoder:
    torch.manual_seed(seed)
    return Autoencoder(tiny_settings(method, "images").model)


def batches(num: int = 3) -> list[torch.Tensor]:
    return [to_pixels(torch.from_numpy(smooth_images(8, seed=seed))) for seed in range(num)]


def test_the_average_is_exponential_from_the_first_weights_on() -> None:
    model, values = model_of(), [1.0, 2.0, 5.0]
    average = WeightAverage(model, decay=0.75)
    for value in values:
        for parameter in model.parameters():
            nn.init.constant_(parameter, value)
        average.update(model)
    expected = (1.0 * 0.75 + 2.0 * 0.25) * 0.75 + 5.0 * 0.25
    for parameter in average.averaged(model, batches()).parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, expected))


def test_the_model_itself_stays_as_it_is() -> None:
    model = model_of().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average = WeightAverage(model, decay=0.5)
    average.update(model)
    average.averaged(model, batches())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("method", ["vq", "vq_ema", "gmvq"])
def test_statistics_are_the_means_over_the_batches(method: str) -> None:
    model, given = model_of(method), batches()
    norm = next(m for m in model.encoder.modules() if isinstance(m, nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    norm.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    recompute_statistics(model, given)
    assert norm.running_mean is not None
    means = torch.stack([x.mean((0, 2, 3)) for x in seen])
    torch.testing.assert_close(norm.running_mean, means.mean(0))
    assert norm.momentum == 0.1
    assert not model.training


def test_a_run_ends_with_the_average_and_its_figures(made_images: Path, tmp_path: Path) -> None:
    settings = tiny_settings("gmvq", made_images, {"schedule.average": 0.6})
    result = train(settings, tmp_path)
    written, trainer = load(tmp_path), Trainer(settings, load_splits(settings.data), tmp_path)
    assert trainer.state.step == trainer.num_steps
    name = "decoder.to_pixels.weight"
    assert not torch.equal(written.state_dict()[name], trainer.model.state_dict()[name])
    again = trainer.final_model().state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in written.state_dict().items())
    images = np.stack([trainer.splits.validation[i] for i in range(16)])
    pixels = to_pixels(torch.from_numpy(images))
    with torch.no_grad():
        error = (written.decode(written.encode(pixels)) - pixels).square().mean()
    assert result["metrics"]["validation"]["mse"] == pytest.approx(float(error), rel=1e-5)
