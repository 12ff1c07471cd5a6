"""A run's folder: settings, checkpoint, weights, result."""

import json
import shutil
from pathlib import Path
from typing import Any

from models import Autoencoder, load
from models.storage import SETTINGS_FILE, WEIGHTS_FILE, weights_bytes
from training.checkpoint import CHECKPOINT_FILE
from training.data import load_splits
from training.evaluate import evaluate_model
from training.loop import Trainer
from training.progress import with_bar
from training.results import read_result, run_result, write_result
from training.settings import RunSettings, load_settings


def train(settings: RunSettings, folder: Path, *, fresh: bool = False) -> dict[str, Any]:
    """Train into `folder`, going on from its checkpoint, and give the result, also written there.

    Raises SettingsError when the folder holds a run with other settings, unless `fresh` removes that first.
    """
    splits = load_splits(settings.data)
    if fresh and (folder / CHECKPOINT_FILE).exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(settings, splits, folder)
    (folder / SETTINGS_FILE).write_text(settings.to_toml())
    state = trainer.run()
    (folder / WEIGHTS_FILE).write_bytes(weights_bytes(trainer.model))
    metrics = {}
    if state.history:
        metrics["validation"] = {k: v for k, v in state.history[-1].items() if k != "step"}
    images = state.step * settings.schedule.batch_size
    result = run_result(settings, state, images, metrics)
    write_result(folder, result)
    return result


def load_run(folder: Path) -> tuple[RunSettings, Autoencoder]:
    """The settings and the trained model of a run's folder. Raises FileNotFoundError when it has not ended."""
    if not (folder / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(
            f"{folder} holds no finished run: `python -m training train CONFIG --output {folder}` makes one or goes on"
        )
    return load_settings(folder / SETTINGS_FILE), load(folder)


def evaluate_run(folder: Path, split: str) -> dict[str, float]:
    """Evaluate a run on "validation" or "test" and add the figures to its result."""
    settings, model = load_run(folder)
    images = getattr(load_splits(settings.data), split)
    figures = evaluate_model(model, images, lambda items, n: with_bar(split, items, n))
    result = read_result(folder)
    result["metrics"][split] = figures
    write_result(folder, json.loads(json.dumps(result)))
    return figures
