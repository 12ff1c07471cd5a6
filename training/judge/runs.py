"""The classifier's run: checkpoint, weights, result in a folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save

from models.classifier import Classifier
from models.precision import exact_float32
from models.storage import WEIGHTS_FILE
from training.data.batches import to_pixels
from training.judge.loop import ClassifierTrainer
from training.judge.sets import PixelsAt, images_at
from training.judge.settings import JudgeSettings
from training.progress import Show, bar, with_bar
from training.results import RESULT_FILE, commit, hardware, read_result, write_result
from training.settings import SettingsError

_BATCH = 100


@dataclass(frozen=True, eq=False)
class Seen:
    """What a classifier makes of n images: features float32 (n, F), predicted int64 (n,)."""

    features: NDArray[np.float32]
    predicted: NDArray[np.int64]


def train_classifier(settings: JudgeSettings, folder: Path, show: Show = bar) -> dict[str, Any]:
    """Train into `folder`, going on from its checkpoint, and give the result, also written there.

    Raises SettingsError when the folder holds a run with other settings, where the images have no
    classes, or the classifier names fewer validation images rightly than `least_accuracy`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trainer = ClassifierTrainer(settings, folder, show)
    if trainer.state.step == trainer.num_steps and (folder / RESULT_FILE).exists():
        return _accurate(read_result(folder), settings)
    state = trainer.run()
    classifier = trainer.classifier
    weights = {
        name: tensor.contiguous(memory_format=torch.contiguous_format)
        for name, tensor in classifier.state_dict().items()
    }
    (folder / WEIGHTS_FILE).write_bytes(save(weights))
    splits, labels = trainer.splits, trainer.known
    held = splits.validation
    seen = see(classifier, images_at(held), len(held), "validation images")
    truth = labels.train[held.start : held.stop]
    result: dict[str, Any] = {
        "name": "classifier",
        "settings": settings.classifier_table(),
        "commit": commit(),
        "seed": settings.classifier.seed,
        "label_names": list(labels.names),
        "parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "num_features": classifier.num_features,
        "training_images": len(splits.train),
        "accuracy": float((seen.predicted == truth).mean()),
        "steps": state.step,
        "images": state.step * settings.classifier.schedule.batch_size,
        "seconds": round(state.seconds, 1),
        "processor_seconds": round(state.processor_seconds, 1),
        "hardware": hardware(trainer.fabric.device),
    }
    write_result(folder, result)
    return _accurate(result, settings)


def load_classifier(folder: Path) -> Classifier:
    """The classifier of a finished run, in evaluation mode."""
    result = read_result(folder)
    classifier = Classifier(len(result["label_names"]), result["settings"]["width"])
    classifier.load_state_dict(load_file(folder / WEIGHTS_FILE))
    return classifier.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


@torch.no_grad()
def see(classifier: Classifier, at: PixelsAt, size: int, description: str) -> Seen:
    """Features and classes of all images of a set, in full precision."""
    classifier.eval()
    device = next(classifier.parameters()).device
    features = np.empty((size, classifier.num_features), np.float32)
    predicted = np.empty(size, np.int64)
    starts = range(0, size, _BATCH)
    for start in with_bar(description, starts, len(starts)):
        places = np.arange(start, min(start + _BATCH, size))
        pixels = to_pixels(torch.from_numpy(at(places)).to(device))
        with exact_float32():
            found = classifier.features(pixels)
            logits = classifier.head(found)
        features[places] = found.cpu().numpy()
        predicted[places] = logits.argmax(dim=1).cpu().numpy()
    return Seen(features, predicted)


def _accurate(result: dict[str, Any], settings: JudgeSettings) -> dict[str, Any]:
    least = settings.classifier.least_accuracy
    if result["accuracy"] < least:
        raise SettingsError(
            f"the classifier names {result['accuracy']:.1%} of the validation images rightly, less "
            f"than classifier.least_accuracy ({least:.0%}); train it for more epochs, in another "
            "--work folder"
        )
    return result
