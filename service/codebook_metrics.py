"""What Prometheus reads of codes and drift. It is worked out at the scrape, from windows that are
counted anyway; no series is of a code, so their number does not depend on the codebook.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from service.model import Model
from service.stats import figures
from service.usage import NATIVE
from vqtok.statistics.figures import WindowFigures


@dataclass(frozen=True)
class _Gauge:
    """A gauge of each window; `read` gives None where there is no such figure."""

    name: str
    meaning: str
    read: Callable[[WindowFigures], float | None]


_GAUGES = (
    _Gauge("window_images", "Images behind the figures of a window.", lambda w: w.num_images),
    _Gauge("window_tokens", "Tokens behind the figures of a window.", lambda w: w.num_tokens),
    _Gauge(
        "code_perplexity",
        "Perplexity of hard tokens; of several levels the geometric mean.",
        lambda w: _mean_perplexity([each.perplexity for each in w.usage]),
    ),
    _Gauge(
        "code_perplexity_miller_madow",
        "The same, corrected for the number of tokens.",
        lambda w: _mean_perplexity([each.perplexity_miller_madow for each in w.usage]),
    ),
    _Gauge(
        "dead_codes",
        "Codes without a token, all levels together.",
        lambda w: _if_any(w, sum(each.dead_codes for each in w.usage)),
    ),
    _Gauge(
        "dead_codes_by_chance",
        "Codes that as many independent tokens of the reference would miss.",
        lambda w: _if_any(w, sum(each.dead_codes_by_chance or 0.0 for each in w.usage)),
    ),
    _Gauge(
        "quantisation_error",
        "Mean squared distance of a vector to its code, if the encoder gives it.",
        lambda w: w.quantisation_error.mean if w.quantisation_error else None,
    ),
    _Gauge(
        "posterior_entropy",
        "Mean entropy of the posterior over codes in bits, if the encoder gives it.",
        lambda w: w.posterior_entropy.mean if w.posterior_entropy else None,
    ),
    _Gauge(
        "drift_kl", "KL of live tokens to the reference, bits a cell.", lambda w: w.drift.kl_bits
    ),
    _Gauge(
        "drift_js",
        "Jensen-Shannon divergence of live tokens and the reference, bits a cell.",
        lambda w: w.drift.js_bits,
    ),
    _Gauge(
        "new_code_rate",
        "Share of tokens on codes that the reference never saw.",
        lambda w: w.drift.new_code_rate,
    ),
)

_CALIBRATED = (
    _Gauge(
        "drift_z",
        "Standard deviations of the KL from its mean while nothing drifts.",
        lambda w: w.drift.z,
    ),
    _Gauge(
        "drift_threshold",
        "KL in bits that one window in a thousand exceeds while nothing drifts.",
        lambda w: w.drift.threshold_bits["q99.9"] if w.drift.threshold_bits else None,
    ),
    _Gauge(
        "drift_windows_above",
        "Windows in a row, up to the last, above the threshold.",
        lambda w: w.drift.windows_above,
    ),
    _Gauge(
        "drift_alarm",
        "1 while three or more windows in a row are above the threshold, else 0.",
        lambda w: None if w.drift.alarm is None else float(w.drift.alarm),
    ),
)
"""Only for images of the native grid, and only where the bundle is calibrated."""

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
        for gauge in _GAUGES:
            yield _family(gauge, ("window", "grid"), [((n, g), w) for g, n, w in every])
        for gauge in _CALIBRATED:
            yield _family(gauge, ("window",), [((n,), w) for n, w in found[NATIVE].items()])
        yield _margins(every)
        yield _alarms(found[NATIVE])


def _family(
    gauge: _Gauge, labels: tuple[str, ...], windows: list[tuple[tuple[str, ...], WindowFigures]]
) -> Metric:
    family = GaugeMetricFamily(f"vqtok_{gauge.name}", gauge.meaning, labels=labels)
    for values, window in windows:
        value = gauge.read(window)
        if value is not None:
            family.add_metric(values, value)
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


def _margins(every: list[tuple[str, str, WindowFigures]]) -> Metric:
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


def _alarms(windows: dict[str, WindowFigures]) -> Metric:
    family = CounterMetricFamily(
        "vqtok_drift_alarms",
        "Alarms that were raised, since the model was opened.",
        labels=("window",),
    )
    for name, window in windows.items():
        if window.drift.alarms is not None:
            family.add_metric((name,), window.drift.alarms)
    return family


def _mean_perplexity(levels: list[float | None]) -> float | None:
    logs = [math.log(each) for each in levels if each is not None]
    return math.exp(sum(logs) / len(logs)) if logs else None


def _if_any(window: WindowFigures, value: float) -> float | None:
    return value if window.num_images else None
