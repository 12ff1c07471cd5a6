"""What Prometheus reads of codes and drift. It is worked out at the scrape, from windows that are
counted anyway; no series is of a code, so their number does not depend on the codebook.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from service.model import Model
from service.stats import figures
from service.usage import NATIVE
from vqtok.statistics.figures import WindowFigures


@dataclass(frozen=True)
class _Figure:
    """A figure of each window; `read` gives None where there is no such figure. Other grids have it
    too, unless it is `of_native` images only.
    """

    name: str
    meaning: str
    read: Callable[[WindowFigures], float | None]
    of_native: bool = False
    family: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily


_FIGURES = (
    _Figure("window_images", "Images behind the figures of a window.", lambda w: w.num_images),
    _Figure("window_tokens", "Tokens behind the figures of a window.", lambda w: w.num_tokens),
    _Figure(
        "code_perplexity",
        "Perplexity of hard tokens; of several levels the geometric mean.",
        lambda w: _mean_perplexity([each.perplexity for each in w.usage]),
    ),
    _Figure(
        "code_perplexity_miller_madow",
        "The same, corrected for the number of tokens.",
        lambda w: _mean_perplexity([each.perplexity_miller_madow for each in w.usage]),
    ),
    _Figure(
        "dead_codes",
        "Codes without a token, all levels together.",
        lambda w: _if_any(w, sum(each.dead_codes for each in w.usage)),
    ),
    _Figure(
        "dead_codes_by_chance",
        "Codes that as many independent tokens of the reference would miss.",
        lambda w: _if_any(w, sum(each.dead_codes_by_chance or 0.0 for each in w.usage)),
    ),
    _Figure(
        "quantisation_error",
        "Mean squared distance of a vector to its code, if the encoder gives it.",
        lambda w: w.quantisation_error.mean if w.quantisation_error else None,
    ),
    _Figure(
        "posterior_entropy",
        "Mean entropy of the posterior over codes in bits, if the encoder gives it.",
        lambda w: w.posterior_entropy.mean if w.posterior_entropy else None,
    ),
    _Figure(
        "drift_kl", "KL of live tokens to the reference, bits a cell.", lambda w: w.drift.kl_bits
    ),
    _Figure(
        "drift_js",
        "Jensen-Shannon divergence of live tokens and the reference, bits a cell.",
        lambda w: w.drift.js_bits,
    ),
    _Figure(
        "new_code_rate",
        "Share of tokens on codes that the reference never saw.",
        lambda w: w.drift.new_code_rate,
    ),
    _Figure(
        "drift_z",
        "Standard deviations of the KL from its mean while nothing drifts.",
        lambda w: w.drift.z,
        of_native=True,
    ),
    _Figure(
        "drift_threshold",
        "KL in bits that one window in a thousand exceeds while nothing drifts.",
        lambda w: w.drift.threshold_bits["q99.9"] if w.drift.threshold_bits else None,
        of_native=True,
    ),
    _Figure(
        "drift_windows_above",
        "Windows in a row, up to the last, above the threshold.",
        lambda w: w.drift.windows_above,
        of_native=True,
    ),
    _Figure(
        "drift_alarm",
        "1 while three or more windows in a row are above the threshold, else 0.",
        lambda w: None if w.drift.alarm is None else float(w.drift.alarm),
        of_native=True,
    ),
    _Figure(
        "drift_alarms",
        "Alarms that were raised, since the model was opened.",
        lambda w: w.drift.alarms,
        of_native=True,
        family=CounterMetricFamily,
    ),
    _Figure(
        "windows",
        "Windows that were complete, since the model was opened.",
        lambda w: w.num_windows,
        family=CounterMetricFamily,
    ),
)

MARGIN_QUANTILES = ("p01", "p05", "p50")


class CodebookMetrics(Collector):
    """Metrics of the model that is loaded; none while there is none."""

    def __init__(self, loaded_model: Callable[[], Model | None]) -> None:
        self._loaded_model = loaded_model

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not work anything out."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called at every scrape."""
        model = self._loaded_model()
        if model is None:
            return
        yield _model_info(model)
        found = figures(model)
        every = [(grid, name, w) for grid, windows in found.items() for name, w in windows.items()]
        for figure in _FIGURES:
            yield _series(figure, every)
        yield _margins(every)


def _series(figure: _Figure, every: Sequence[tuple[str, str, WindowFigures]]) -> Metric:
    labels = ("window",) if figure.of_native else ("window", "grid")
    family = figure.family(f"vqtok_{figure.name}", figure.meaning, labels=labels)
    for grid, name, window in every:
        value = figure.read(window)
        if value is not None and (grid == NATIVE or not figure.of_native):
            family.add_metric((name, grid)[: len(labels)], value)
    return family


def _model_info(model: Model) -> Metric:
    labels = ("model", "codebook_id", "tokenizer_id")
    family = GaugeMetricFamily(
        "vqtok_model_info", "1; the labels say which model the figures are of.", labels=labels
    )
    manifest = model.manifest
    ids = (manifest.full_name, manifest.codebook_id.short, manifest.tokenizer_id.short)
    family.add_metric(ids, 1)
    return family


def _margins(every: Sequence[tuple[str, str, WindowFigures]]) -> Metric:
    family = GaugeMetricFamily(
        "vqtok_margin",
        "How clearly tokens won, 0 .. 1: quantiles of a window.",
        labels=("window", "grid", "percentile"),
    )
    for grid, name, window in every:
        for quantile in MARGIN_QUANTILES:
            value = window.margins.quantiles[quantile]
            if value is not None:
                family.add_metric((name, grid, quantile), value)
    return family


def _mean_perplexity(levels: list[float | None]) -> float | None:
    logs = [math.log(each) for each in levels if each is not None]
    return math.exp(sum(logs) / len(logs)) if logs else None


def _if_any(window: WindowFigures, value: float) -> float | None:
    return value if window.num_images else None
