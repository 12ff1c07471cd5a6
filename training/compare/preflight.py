"""What would stop a run, found before hours are spent on the first: the data, and one step each."""

from collections.abc import Mapping

import torch

from models import Noise, Progress
from models.randomness import INITIALISATION_STEP
from training.compare.plan import PlannedRun, first_runs_of
from training.compare.settings import Comparison
from training.compare.store import Record
from training.data import Splits
from training.loop import check_sizes
from training.settings import RunSettings, SettingsError, settings_from
from training.task import Task


def check_data(comparison: Comparison, splits: Splits) -> None:
    """Raise SettingsError where the data do not do for every run.

    That is: no validation or no test images, too few for a batch, sides that are no whole cells, or
    too few vectors for a row's k-means.
    """
    for name, images in (("validation", splits.validation), ("test", splits.test)):
        if not len(images):
            raise SettingsError(
                f"the data have no {name} images: the search is decided on validation images, "
                "finals are measured on test images, which a folder has in `test` beside `train`"
            )
    runs = [first_runs_of(comparison, method)[0] for method in comparison.method]
    check_sizes(_settings(runs[0]), splits)
    _raise_all({run.label: _start_mistake(_settings(run), splits) for run in runs})


def check_rows(
    comparison: Comparison, records: Mapping[str, Record], size: tuple[int, ...]
) -> None:
    """Raise SettingsError naming every row, of those not yet begun, that cannot take a step.

    Each value of its knob is tried, on two images of noise. An objective may weigh a term that the
    quantizer lacks, which shows in the first step only. size: height and width of the images.
    """
    wrong: dict[str, str] = {}
    for method in comparison.method:
        runs = first_runs_of(comparison, method)[: len(method.knob.values) if method.knob else 1]
        if any(run.digest in records for run in runs):
            continue
        found = dict.fromkeys(_step_mistake(run, size) for run in runs)
        wrong[method.label] = "; ".join(filter(None, found))
    _raise_all(wrong)


def _raise_all(wrong: Mapping[str, str]) -> None:
    sentences = [f"{label}: {sentence}" for label, sentence in wrong.items() if sentence]
    if sentences:
        raise SettingsError("; ".join(sentences))


def _settings(run: PlannedRun) -> RunSettings:
    return settings_from(dict(run.table), run.label)


def _step_mistake(run: PlannedRun, size: tuple[int, ...]) -> str:
    try:
        _step(_settings(run), size)
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


def _step(settings: RunSettings, size: tuple[int, ...]) -> None:
    indices = torch.arange(2)
    pixels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    loss, _ = Task(settings).train()(pixels, Progress(0, 1, Noise(0, 0, indices)))
    loss.total.backward()


def _start_mistake(settings: RunSettings, splits: Splits) -> str:
    """What a quantizer says to the start of its codes, where it gets fewer vectors than codes."""
    if settings.start is not None or not settings.schedule.kmeans_vectors:
        return ""
    quantizer, num_vectors = Task(settings).model.quantizer, _num_vectors(settings, splits)
    if num_vectors >= quantizer.codebook_size:
        return ""
    generator = torch.Generator().manual_seed(0)
    heads = torch.randn(num_vectors, quantizer.head_channels, generator=generator)
    progress = Progress(INITIALISATION_STEP, 1, Noise(0, INITIALISATION_STEP, torch.arange(1)))
    try:
        with torch.no_grad():
            quantizer.initialise(heads, progress)
    except ValueError as error:
        return f"{error} (schedule.kmeans_vectors is {settings.schedule.kmeans_vectors})"
    return ""


def _num_vectors(settings: RunSettings, splits: Splits) -> int:
    """Vectors of whole batches, up to the first that has kmeans_vectors, of one epoch at most."""
    height, width, _ = splits.train[0].shape
    schedule, factor = settings.schedule, settings.model.network.factor
    of_batch = schedule.batch_size * (height // factor) * (width // factor)
    num_batches = min(
        -(-schedule.kmeans_vectors // of_batch), len(splits.train) // schedule.batch_size
    )
    return num_batches * of_batch
