"""A model in a folder: what `load` gives back, and what it says of folders that do not fit."""

import tomllib
from pathlib import Path

import pytest
import torch
from torch import nn

from models import Autoencoder, ModelSettings, NetworkSettings, load
from models.storage import SETTINGS_FILE, WEIGHTS_FILE, settings_from_table, weights_bytes

CONFIG = """
name = "a run"

[model]
method = "gmvq"

[model.network]
width = 8
num_blocks = 1
factor = 2

[model.quantizer]
codebook_size = 12
code_dim = 3
precision = "scalar"
"""
OPTIONS = {"codebook_size": 12, "code_dim": 3, "precision": "scalar"}
SETTINGS = ModelSettings("gmvq", OPTIONS, NetworkSettings(width=8, num_blocks=1, factor=2))


def trained() -> Autoencoder:
    """A model whose every weight and buffer differs from the untrained one's."""
    torch.manual_seed(0)
    model = Autoencoder(SETTINGS)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor += torch.rand_like(tensor)
    return model.eval()


def folder_of(model: Autoencoder, folder: Path, config: str = CONFIG) -> Path:
    (folder / SETTINGS_FILE).write_text(config)
    (folder / WEIGHTS_FILE).write_bytes(weights_bytes(model))
    return folder


def test_load_gives_the_same_model_back(tmp_path: Path) -> None:
    model = trained()
    loaded = load(folder_of(model, tmp_path))
    assert loaded.settings == SETTINGS
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    pixels = torch.rand(2, 3, 8, 6)
    assert torch.equal(loaded.encode(pixels), model.encode(pixels))
    assert torch.equal(loaded(pixels).x_hat, model(pixels).x_hat)


def test_load_takes_a_path_as_text(tmp_path: Path) -> None:
    assert isinstance(load(str(folder_of(trained(), tmp_path))), Autoencoder)


def test_a_loaded_model_can_be_trained(tmp_path: Path) -> None:
    loaded = load(folder_of(trained(), tmp_path))
    pixels = torch.rand(1, 3, 4, 4, requires_grad=True)
    loaded.decode(loaded.encode(pixels)).sum().backward()
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.decoder.to_pixels.weight.grad is not None


def test_the_memory_format_leaves_no_trace_in_the_file() -> None:
    model = trained()
    before = weights_bytes(model)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    assert isinstance(model.encoder.body[0], nn.Sequential)
    assert weights_bytes(model) == before


@pytest.mark.parametrize("missing", [SETTINGS_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(missing: str, tmp_path: Path) -> None:
    folder = folder_of(trained(), tmp_path)
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        load(folder)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("width = 8", "width = 12", "encoder.body.0.0.weight"),
        ("codebook_size = 12", "codebook_size = 13", "quantizer.codebook"),
        ("num_blocks = 1", "num_blocks = 2", "Missing key"),
        ("num_blocks = 1", "num_blocks = 0", "Unexpected key"),
        ('method = "gmvq"', 'method = "vq"', "has no option 'precision'"),
    ],
)
def test_settings_that_do_not_fit_the_weights_are_refused(
    old: str, new: str, named: str, tmp_path: Path
) -> None:
    folder = folder_of(trained(), tmp_path, CONFIG.replace(old, new))
    with pytest.raises(ValueError, match=named) as error:
        load(folder)
    if "option" not in named:
        assert str(folder / WEIGHTS_FILE) in str(error.value)
        assert SETTINGS_FILE in str(error.value)


def test_a_file_without_a_model_says_so(tmp_path: Path) -> None:
    folder = folder_of(trained(), tmp_path, 'name = "a run"\n')
    with pytest.raises(ValueError, match=r"\[model\]: no `method`"):
        load(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"\[model\]: no `method`"),
        ("[network]\nwidth = 8", r"\[model\]: no `method`"),
        ('method = "vq"\nmetod = 1', r"\[model\]: unknown key 'metod'; it has `method`"),
        ('method = "vq"\n[network]\nwith = 8', r"\[model.network\]: .*'with'"),
        ('method = "vq"\n[network]\nwidth = 6', "width must be a positive multiple of 4"),
    ],
)
def test_a_table_that_is_no_model_is_refused_by_key(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings_from_table(tomllib.loads(text))


def test_what_a_table_leaves_out_has_its_default() -> None:
    table = {"method": "vq", "quantizer": {"codebook_size": 4, "code_dim": 2}}
    assert settings_from_table(table) == ModelSettings(
        "vq", {"codebook_size": 4, "code_dim": 2}, NetworkSettings()
    )
