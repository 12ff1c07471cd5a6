"""Training that starts from weights that were trained before, some of them kept as they are."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from models.storage import WEIGHTS_FILE
from training.results import RESULT_FILE, read_result
from training.settings import SettingsError, StartSettings
from training.task import Task
from vqtok.bundle import Bundle


def start_from(task: Task, settings: StartSettings) -> None:
    """Load the weights and freeze the parts that `settings` names.

    Raises SettingsError where there are no weights, or weights of another model.
    """
    path = Path(settings.model) / WEIGHTS_FILE
    if not path.is_file():
        raise SettingsError(
            f"start.model is {settings.model!r}, which holds no {WEIGHTS_FILE}; name the folder of "
            "a finished run or of a bundle"
        )
    try:
        task.model.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise SettingsError(f"{path} does not fit [model]: {error}") from error
    task.freeze(settings.frozen)


def origin(settings: StartSettings) -> dict[str, Any]:
    """How the weights came about: the result of their run, or the provenance of their bundle."""
    folder = Path(settings.model)
    if (folder / RESULT_FILE).is_file():
        return read_result(folder)
    return dict(Bundle.open(folder).manifest.provenance)
