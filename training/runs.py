"""A run's folder: settings, checkpoint, weights, result."""

import shutil
from pathlib import Path
from typing import Any

from models import Autoencoder, load
from models.storage import SETTINGS_FILE, WEIGHTS_FILE, weights_bytes
from training.checkpoint import CHECKPOINT_FILE
from training.data import Splits, load_splits
from training.devices import launch
from training.evaluate import Progressed, evaluate_engine, evaluate_model
from training.loop import Trainer
from training.progress import Show, bar, with_bar
from training.results import RESULT_FILE, read_result, run_result, write_result
from training.settings import RunSettings, SettingsError, load_settings
from training.start import origin
from vqtok.bundle import Bundle
from vqtok.manifest import MANIFEST_FILE
from vqtok.runtime.onnx import open_engine


def train(
    settings: RunSettings,
    folder: Path,
    *,
    fresh: bool = False,
    splits: Splits | None = None,
    show: Show = bar,
) -> dict[str, Any]:
    """Train into `folder`, going on from its checkpoint, and give the result, also written there.

    Every process that torchrun started calls it; the first one writes.

    splits: the data, where they are at hand already. show: opens the run's progress bar.
    Raises SettingsError when the folder holds a run with other settings and not `fresh`, which
    removes it.
    """
    splits = splits or load_splits(settings.data)
    is_first = launch().is_first
    # The others wait for the first when their Trainer connects.
    if is_first:
        prepare_folder(folder, fresh)
    trainer = Trainer(settings, splits, folder, show)
    if trainer.state.step == trainer.num_steps and (folder / RESULT_FILE).exists():
        return read_result(folder)
    if is_first:
        (folder / SETTINGS_FILE).write_text(settings.to_toml())
    state = trainer.run()
    metrics = {}
    if state.history:
        passed = ("step", "seconds", "processor_seconds")
        metrics["validation"] = {k: v for k, v in state.history[-1].items() if k not in passed}
    result = run_result(settings, state, trainer.hardware, metrics)
    if settings.start is not None:
        result["start"] = origin(settings.start)
    weights = weights_bytes(trainer.final_model())
    if is_first:
        (folder / WEIGHTS_FILE).write_bytes(weights)
        write_result(folder, result)
    return result


def prepare_folder(folder: Path, fresh: bool) -> None:
    """Make the folder; `fresh` removes the run that it holds."""
    if fresh and (folder / CHECKPOINT_FILE).exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def load_run(folder: Path) -> tuple[RunSettings, Autoencoder]:
    """The settings and the trained model of a run's folder.

    Raises FileNotFoundError when it has not ended.
    """
    if not (folder / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(
            f"{folder} holds no finished run: `python -m training train CONFIG --output "
            f"{folder}` makes one or goes on"
        )
    return load_settings(folder / SETTINGS_FILE), load(folder)


def evaluate_folder(folder: Path, split: str, data: str | None = None) -> dict[str, float]:
    """Figures of a run (PyTorch; added to its result) or of a bundle (its graphs) on one split.

    split: "validation" or "test". `data` replaces the data's folder that the settings name.
    Raises FileNotFoundError when `folder` is neither.
    """
    is_bundle = (folder / MANIFEST_FILE).is_file()
    settings = load_settings(folder / SETTINGS_FILE) if is_bundle else load_run(folder)[0]
    place = settings.data.model_copy(update={"folder": data} if data else {})
    splits = vars(load_splits(place))
    if split not in splits:
        raise SettingsError(f"no split is called {split!r}; there are {', '.join(splits)}")
    images = splits[split]
    if not len(images):
        raise SettingsError(f"the data of {folder} have no {split} images")
    if is_bundle:
        bundle = Bundle.open(folder)
        engine, manifest = open_engine(bundle, "cpu"), bundle.manifest
        return evaluate_engine(
            engine, manifest.codebook_size, images, _bar(split), depth=manifest.depth
        )
    figures = evaluate_model(load_run(folder)[1], images, _bar(split))
    result = read_result(folder)
    result["metrics"][split] = figures
    write_result(folder, result)
    return figures


def _bar(description: str) -> Progressed:
    return lambda items, total: with_bar(description, items, total)
