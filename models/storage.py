"""A model in a folder: weights in `model.safetensors`, settings in `[model]` of `config.toml`."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save

from models.autoencoder import Autoencoder, ModelSettings
from models.networks import NetworkSettings

WEIGHTS_FILE, SETTINGS_FILE = "model.safetensors", "config.toml"


def settings_from_table(table: Mapping[str, Any]) -> ModelSettings:
    """ModelSettings of a `[model]` table: `method`, `[model.network]`, `[model.quantizer]`.

    Raises ValueError naming what is missing or unknown.
    """
    unknown = sorted(set(table) - {"method", "network", "quantizer"})
    if unknown or "method" not in table:
        wrong = f"unknown key {unknown[0]!r}" if unknown else "no `method`"
        raise ValueError(f"[model]: {wrong}; it has `method`, [model.network], [model.quantizer]")
    network, quantizer = (table.get(name, {}) for name in ("network", "quantizer"))
    for name, value in (("network", network), ("quantizer", quantizer)):
        if not isinstance(value, Mapping):
            raise ValueError(f"[model.{name}] is a table of options, not {value!r}")
    try:
        return ModelSettings(table["method"], dict(quantizer), NetworkSettings(**network))
    except TypeError as error:
        raise ValueError(f"[model.network]: {error}") from error


def weights_bytes(model: Autoencoder) -> bytes:
    """The weights and buffers as a safetensors file."""
    return save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})


def load(folder: str | Path) -> Autoencoder:
    """The model of a bundle or a run's folder, in evaluation mode: to fine-tune, to backpropagate.

    Raises FileNotFoundError when a file is missing, ValueError when settings and weights differ.
    """
    folder = Path(folder)
    with (folder / SETTINGS_FILE).open("rb") as file:
        settings = settings_from_table(tomllib.load(file).get("model", {}))
    model = Autoencoder(settings)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except RuntimeError as error:
        raise ValueError(
            f"{folder / WEIGHTS_FILE} does not fit {SETTINGS_FILE}: {error}"
        ) from error
    return model.eval()
