"""The settings of a prior's training: a TOML file beside those of tokenizers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.settings import (
    DataSettings,
    OptimiserSettings,
    SettingsError,
    mistakes,
    read_table,
)


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(_Table):
    """kind: an entry of `models.priors.PRIORS` or `BOUNDED`; options: what it takes.

    Of several `schedules` among the options, the one in force afterwards is chosen by exact bits on
    the validation images.
    """

    kind: str
    options: dict[str, Any] = Field(default_factory=dict[str, Any])


class ScheduleSettings(_Table):
    """epochs: passes over the training images; may be a fraction. 0 for tables, which only count.

    precision: of the network, by Fabric's name. average: decay of the weights' moving average,
    which is what the run ends with; 0 is none.
    choosing_images: validation images that schedules are chosen and steps are watched by.
    """

    epochs: float = Field(default=0.0, ge=0)
    batch_size: int = Field(default=32, ge=1)
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    average: float = Field(default=0.0, ge=0, lt=1)
    checkpoint_every: int = Field(default=500, ge=1)
    validate_every: int = Field(default=2_000, ge=1)
    choosing_images: int = Field(default=1_000, ge=1)


class PriorSettings(_Table):
    """Everything that decides the outcome. bundle: the tokenizer whose tokens are learned."""

    name: str
    seed: int = 0
    bundle: str
    data: DataSettings = DataSettings()
    prior: ModelSettings
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=2e-3)
    schedule: ScheduleSettings = ScheduleSettings()

    def to_table(self) -> dict[str, Any]:
        """The settings as TOML has them."""
        return self.model_dump()

    def to_toml(self) -> str:
        return tomli_w.dumps(self.to_table())


def load_prior_settings(path: Path, overrides: Sequence[str] = ()) -> PriorSettings:
    """Read a TOML file; `overrides` are "table.key=value" in TOML. Raises SettingsError."""
    try:
        return PriorSettings.model_validate(read_table(path, overrides))
    except ValidationError as error:
        raise SettingsError(f"{path}: {mistakes(error)}") from error
