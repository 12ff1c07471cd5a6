"""One step of every row on two images of noise, before hours are spent on the first."""

from collections.abc import Mapping

import torch

from models import Noise, Progress
from training.compare.choice import search_of
from training.compare.plan import searches_of
from training.compare.settings import Comparison
from training.compare.store import Record
from training.settings import RunSettings, SettingsError, settings_from
from training.task import Task


def check_rows(
    comparison: Comparison, records: Mapping[str, Record], size: tuple[int, ...]
) -> None:
    """Raise SettingsError naming every row, of those not yet searched, that cannot take a step.

    An objective may weigh a term that the quantizer lacks, which shows in the first step only.
    size: height and width of the images.
    """
    wrong: list[str] = []
    for method in comparison.method:
        if search_of(comparison, method, records).ended:
            continue
        run = searches_of(comparison, method)[0]
        try:
            _step(settings_from(dict(run.table), run.label), size)
        except ValueError as error:
            wrong.append(f"{method.label}: {error}")
    if wrong:
        raise SettingsError("; ".join(wrong))


def _step(settings: RunSettings, size: tuple[int, ...]) -> None:
    indices = torch.arange(2)
    pixels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    loss, _ = Task(settings).train()(pixels, Progress(0, 1, Noise(0, 0, indices)))
    loss.total.backward()
