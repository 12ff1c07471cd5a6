"""The tokenizer as one module: the same tokens and pixels by every way through it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import Autoencoder, ModelSettings, NetworkSettings, Noise, Progress
from models.quantizers import QUANTIZERS, build_quantizer
from tests.training.tiny import quantizer_options

OPTIONS = {"codebook_size": 16, "code_dim": 4}
METHODS = pytest.mark.parametrize("method", sorted(QUANTIZERS))


def model_of(method: str, factor: int = 4) -> Autoencoder:
    torch.manual_seed(0)
    network = NetworkSettings(width=8, num_blocks=1, factor=factor)
    return Autoencoder(ModelSettings(method, quantizer_options(method), network)).eval()


def images(num: int = 3, height: int = 8, width: int = 12) -> Tensor:
    return torch.rand(num, 3, height, width, generator=torch.Generator().manual_seed(1))


@METHODS
@pytest.mark.parametrize("factor", [2, 4])
def test_decoding_the_tokens_is_reconstructing(method: str, factor: int) -> None:
    model, pixels = model_of(method, factor), images()
    tokens = model.encode(pixels)
    assert tokens.dtype == torch.int64
    assert tokens.shape[:3] == (3, 8 // factor, 12 // factor)
    reconstruction = model(pixels)
    assert torch.equal(tokens, reconstruction.quantized.indices)
    assert reconstruction.x_hat.shape == pixels.shape
    assert torch.equal(model.decode(tokens), reconstruction.x_hat.clamp(0.0, 1.0))


@METHODS
def test_tokens_of_a_batch_are_those_of_its_singles(method: str) -> None:
    model, pixels = model_of(method), images()
    singles = torch.cat([model.encode(pixels[i : i + 1]) for i in range(3)])
    assert torch.equal(model.encode(pixels), singles)


@METHODS
def test_decoded_pixels_lie_between_0_and_1_and_trained_ones_may_leave(method: str) -> None:
    model, pixels = model_of(method), images()
    nn.init.normal_(model.encoder.head.weight, std=100.0)
    nn.init.normal_(model.decoder.to_pixels.weight, std=100.0)
    decoded = model.decode(model.encode(pixels))
    assert decoded.min() == 0.0
    assert decoded.max() == 1.0
    x_hat = model(pixels).x_hat
    assert x_hat.min() < 0.0
    assert x_hat.max() > 1.0


@METHODS
def test_a_training_step_reaches_the_encoder_and_the_decoder(method: str) -> None:
    model, pixels = model_of(method).train(), images()
    progress = Progress(0, 10, Noise(0, 0, torch.arange(3)))
    (model(pixels, progress).x_hat - pixels).square().mean().backward()
    for name, parameter in [
        *model.encoder.named_parameters(),
        *model.decoder.named_parameters(),
    ]:
        assert parameter.grad is not None, name
    assert model.encoder.head.weight.grad is not None
    assert model.encoder.head.weight.grad.abs().sum() > 0


def test_a_method_that_nobody_knows_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no quantizer is called 'wq'; there are vq, "):
        build_quantizer("wq", OPTIONS)


@pytest.mark.parametrize("method", sorted(QUANTIZERS))
def test_an_option_that_nobody_knows_is_refused_with_the_known_ones(method: str) -> None:
    options: dict[str, Any] = {"tau": 1.0}
    with pytest.raises(ValueError, match=rf"{method} has no option 'tau'; it takes "):
        build_quantizer(method, options)


def test_the_trunk_starts_alike_under_every_quantizer_of_one_code_dim() -> None:
    models = [model_of(method) for method in sorted(QUANTIZERS)]
    starts = [model for model in models if model.quantizer.code_dim == OPTIONS["code_dim"]]
    assert len(starts) > 5
    for name in ("encoder.body.0.0.weight", "encoder.body.4.weight", "decoder.to_pixels.weight"):
        tensors = [model.get_parameter(name) for model in starts]
        assert all(torch.equal(tensors[0], other) for other in tensors), name


def test_building_a_model_twice_gives_two_starts() -> None:
    settings = model_of("gmvq").settings
    first, second = Autoencoder(settings), Autoencoder(settings)
    assert not torch.equal(first.decoder.to_pixels.weight, second.decoder.to_pixels.weight)
