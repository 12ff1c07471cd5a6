"""The settings of a judgement: a TOML file beside those of priors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.settings import (
    DataSettings,
    OptimiserSettings,
    SettingsError,
    mistakes,
    read_table,
)
from vqtok.priors import SamplingRule


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassifierSchedule(_Table):
    """epochs: passes over the training images; may be a fraction. precision: by Fabric's name."""

    epochs: float = Field(default=12.0, gt=0)
    batch_size: int = Field(default=128, ge=1)
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_every: int = Field(default=100, ge=1)


class ClassifierSettings(_Table):
    """width: channels after the first halving; the features are four times as many.

    shift: pixels that a training image is moved by at most, up, down and to the sides; its edges
    are mirrored. label_smoothing: share of a label that all classes have alike.
    least_accuracy: share of the validation images that must be named rightly, or nothing is judged.
    """

    seed: int = 0
    width: int = Field(default=32, ge=1)
    shift: int = Field(default=2, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    least_accuracy: float = Field(default=0.8, ge=0, le=1)
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=2e-3, muon_learning_rate=0.02)
    schedule: ClassifierSchedule = ClassifierSchedule()


class DrawSettings(_Table):
    """A set of samples. prior: "learned", the bundle's; else a table of its training tokens.

    labelled: each sample is drawn of a class, as often of each as the test images have it; else
    of none. shown: whether the picture has some. The others are what `vqtok.priors.SamplingRule`
    says.
    """

    name: str = Field(min_length=1)
    prior: Literal["learned", "position", "marginal", "uniform"]
    labelled: bool = False
    shown: bool = True
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    cfg_scale: float = 0.0

    @property
    def rule(self) -> SamplingRule:
        """Raises InvalidParameter for a number outside its range."""
        return SamplingRule(self.temperature, self.top_k, self.top_p, self.cfg_scale)


class JudgeSettings(_Table):
    """title: of the page. store: the JSON of the figures, from the configuration's working
    directory. bundle: what samples and reconstructs. num_images: of every set. seed: of the
    samples.
    """

    title: str
    store: Path
    bundle: str
    num_images: int = Field(default=10_000, ge=2)
    seed: int = 0
    data: DataSettings = DataSettings(validation_images=10_000)
    classifier: ClassifierSettings = ClassifierSettings()
    samples: list[DrawSettings] = Field(min_length=1)

    def classifier_table(self) -> dict[str, Any]:
        """All that decides what the classifier learns."""
        learned = self.classifier.model_dump(exclude={"least_accuracy"})
        return {"data": self.data.model_dump(), **learned}


def load_judge_settings(path: Path, overrides: Sequence[str] = ()) -> JudgeSettings:
    """Read a TOML file; `overrides` are "table.key=value" in TOML. Raises SettingsError."""
    try:
        return JudgeSettings.model_validate(read_table(path, overrides))
    except ValidationError as error:
        raise SettingsError(f"{path}: {mistakes(error)}") from error
