"""A training run's settings: a TOML file, read once, into frozen typed objects."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_type_hints

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from models import ModelSettings
from models.quantizers import QUANTIZERS
from models.storage import settings_from_table


class SettingsError(ValueError):
    """The configuration is wrong; the message names the key and what it may be."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(_Table):
    """kind: an entry of `training.data.DATASETS`.

    folder: may hold environment variables, "$VQTOK_DATA/cifar10".

    validation_images: how many images at the end of the training set are kept for choosing; 0
    trains on all of them.
    image_size: images of a folder are cut and scaled to this square; CIFAR-10 has its own size.
    flip: mirror each sample with probability one half.
    num_workers: processes that read a folder's images; CIFAR-10 stays in memory and needs none.
    """

    kind: str = "cifar10"
    folder: str = "$VQTOK_DATA/cifar10"
    validation_images: int = Field(default=5_000, ge=0)
    image_size: int = Field(default=32, ge=1)
    flip: bool = True
    num_workers: int = Field(default=0, ge=0)

    @property
    def path(self) -> Path:
        """The folder, variables filled in. Raises SettingsError when one has no value."""
        path = os.path.expandvars(self.folder)
        if "$" in path:
            raise SettingsError(
                f"data.folder is {self.folder!r} and the variable in it has no value; set it to "
                "the folder that holds the "
                'data (README, "Data")'
            )
        return Path(path)


class ObjectiveSettings(_Table):
    """name: an entry of `training.objectives.OBJECTIVES`; options: what it takes."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict[str, Any])


class StartSettings(_Table):
    """model: the folder of a finished run or of a bundle, whose weights training starts from.

    frozen: parts that stay as they are. With "encoder" and "quantizer" the decoder alone learns, on
    the very tokens that it will be given.
    """

    model: str
    frozen: tuple[Literal["encoder", "quantizer", "decoder"], ...] = ()


class OptimiserSettings(_Table):
    """AdamW, linear warm-up over `warmup` of the steps, then cosine to zero.

    Gradients are clipped to norm `clip_norm`.

    muon_learning_rate: with more than 0, Muon at this rate steps the kernels between a network's
    first convolution and its last (`training.muon`), and AdamW the rest. 0.02 suits small networks.
    """

    learning_rate: float = Field(gt=0)
    muon_learning_rate: float = Field(default=0.0, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, gt=0)


class ScheduleSettings(_Table):
    """epochs: passes over the training images, ragged batches dropped; may be a fraction.

    batch_size: of all processes together.
    precision: of the convolutions, by Fabric's name; 64-true computes everything in float64.
    device: "auto" takes a GPU where there is one. compile: encoder and decoder by torch.compile.
    kmeans_vectors: how many vectors k-means starts the codebook from; 0 leaves it as it was drawn.
    kmeans_after: share of training, before the codebook's start, in which the decoder reads z_e.
    average: decay of the weights' moving average, which is what the run ends with; 0 is none.
    """

    epochs: float = Field(gt=0)
    batch_size: int = Field(default=64, ge=1)
    precision: Literal["32-true", "bf16-mixed", "64-true"] = "bf16-mixed"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    checkpoint_every: int = Field(default=200, ge=1)
    validate_every: int = Field(default=1400, ge=1)
    kmeans_vectors: int = Field(default=20_480, ge=0)
    kmeans_after: float = Field(default=0.0, ge=0, lt=1)
    average: float = Field(default=0.0, ge=0, lt=1)


class RunSettings(_Table):
    """Everything that decides a run's outcome."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str
    seed: int = 0
    data: DataSettings = DataSettings()
    model: ModelSettings
    start: StartSettings | None = None
    objective: ObjectiveSettings
    optimiser: OptimiserSettings
    schedule: ScheduleSettings

    @field_validator("model", mode="before")
    @classmethod
    def _model(cls, table: Any) -> Any:
        return settings_from_table(table) if isinstance(table, dict) else table

    @field_validator("model")
    @classmethod
    def _quantizer_options(cls, model: ModelSettings) -> ModelSettings:
        check_options(model.method, model.quantizer)
        return model

    def to_table(self) -> dict[str, Any]:
        """The settings as TOML has them."""
        table = self.model_dump(exclude={"model"}, exclude_none=True)
        return {**table, "model": asdict(self.model)}

    def to_toml(self) -> str:
        return tomli_w.dumps(self.to_table())


def load_settings(path: Path, overrides: Sequence[str] = ()) -> RunSettings:
    """Read a TOML file; `overrides` are "table.key=value" in TOML. Raises SettingsError."""
    return settings_from(read_table(path, overrides), str(path))


def read_table(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The table of a TOML file with "table.key=value" overrides. Raises SettingsError."""
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise SettingsError(f"there is no configuration {path}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    for override in overrides:
        _override(table, override)
    return table


def settings_from(table: dict[str, Any], origin: str) -> RunSettings:
    """RunSettings of a table. Raises SettingsError naming `origin` and every wrong key."""
    try:
        return RunSettings.model_validate(table)
    except ValidationError as error:
        raise SettingsError(f"{origin}: {mistakes(error)}") from error


def mistakes(error: ValidationError) -> str:
    """Every wrong key and what is wrong with it."""
    return "; ".join(
        ".".join(map(str, e["loc"]))
        + ": " * bool(e["loc"])
        + e["msg"].removeprefix("Value error, ")
        for e in error.errors()
    )


def set_value(table: dict[str, Any], key: str, value: Any) -> None:
    """Set "table.key" in nested tables, making those that are missing.

    Raises ValueError naming the part of the key that is there and is no table.
    """
    *parents, last = key.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ValueError(f"{parent} is no table")
    table[last] = value


def check_options(method: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError naming the option of a quantizer that is unknown or has a wrong type."""
    if method not in QUANTIZERS:
        raise ValueError(f"no quantizer is called {method!r}; there are {', '.join(QUANTIZERS)}")
    hints = get_type_hints(QUANTIZERS[method].__init__)
    hints.pop("return", None)
    for name, value in options.items():
        if name not in hints:
            raise ValueError(f"{method} has no option {name!r}; it takes {', '.join(hints)}")
        try:
            TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError as error:
            raise ValueError(f"quantizer.{name}: {error.errors()[0]['msg']}") from error


def _override(table: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    key = key.strip()
    if not equals or not key or key.endswith("."):
        raise SettingsError(f"--set takes table.key=value, not {override!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    try:
        set_value(table, key, parsed)
    except ValueError as error:
        raise SettingsError(f"--set {override}: {error}") from error
