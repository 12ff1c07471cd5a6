"""The figures of a window, as they are shown and scraped."""

from dataclasses import dataclass

from vqtok.statistics.drift_null import NullAt
from vqtok.statistics.live import DriftReference, WindowState
from vqtok.statistics.usage import UsageSummary, summarise
from vqtok.statistics.values import ValueSummary
from vqtok.statistics.window import Shape, Window

OTHER_GRIDS = "Only images of the native grid are what the null distribution was made from."
NEVER_CALIBRATED = (
    "The bundle holds no null distribution of drift; `vqtok calibrate` makes a copy that does."
)
NOTHING_YET = "No image has come yet."

QUANTILES = {
    "margins": (0.01, 0.05, 0.25, 0.5),
    "quantisation_error": (0.5, 0.99),
    "posterior_entropy": (0.5, 0.99),
}


@dataclass(frozen=True)
class DriftFigures:
    """How far the window lies from the reference, and what that means; None where undefined.

    `expected_bits` and `threshold_bits` (by quantile) are what `kl_bits` comes to in windows of so
    many images while nothing has drifted, `z` = (kl_bits - expected_bits) / its deviation. Unless
    `calibrated` they are None and `reason` says why; so is the alarm, and that of "since_start".
    """

    kl_bits: float | None
    js_bits: float | None
    new_code_rate: float | None
    calibrated: bool
    reason: str | None
    expected_bits: float | None
    z: float | None
    threshold_bits: dict[str, float] | None
    windows_above: int | None
    alarm: bool | None
    alarms: int | None


@dataclass(frozen=True)
class WindowFigures:
    """All figures of one window. `num_images` and `num_tokens` stand behind them; `reason` says why
    there are none. `usage` has an entry for each level of depth; `quantisation_error` and
    `posterior_entropy` are None where the encoder does not give them.
    """

    num_images: int
    num_tokens: int
    window_images: int | None
    num_windows: int | None
    filling: int | None
    reason: str | None
    usage: tuple[UsageSummary, ...]
    margins: ValueSummary
    quantisation_error: ValueSummary | None
    posterior_entropy: ValueSummary | None
    drift: DriftFigures


def figures_of(
    shape: Shape, state: WindowState, reference: DriftReference, *, is_native: bool
) -> WindowFigures:
    """The figures of a window as it stands. `is_native` says whether its images have the native
    grid.
    """
    window = state.window or Window(shape)
    tumbles = state.window_images is not None
    values = {
        name: window.values[name].summary(*shares) if name in window.values else None
        for name, shares in QUANTILES.items()
    }
    margins = values["margins"]
    assert margins is not None
    return WindowFigures(
        num_images=window.num_images,
        num_tokens=window.num_tokens,
        window_images=state.window_images,
        num_windows=state.num_windows if tumbles else None,
        filling=state.filling if tumbles else None,
        reason=None if window.num_images else _empty(state),
        usage=_usage(window, reference),
        margins=margins,
        quantisation_error=values["quantisation_error"],
        posterior_entropy=values["posterior_entropy"],
        drift=_drift(window, state, reference, is_native=is_native),
    )


def _empty(state: WindowState) -> str:
    if state.window_images is None:
        return NOTHING_YET
    return (
        f"No window of {state.window_images} images is complete yet; {state.filling} of them have "
        "come."
    )


def _usage(window: Window, reference: DriftReference) -> tuple[UsageSummary, ...]:
    return tuple(
        summarise(
            weights,
            counts,
            num_tokens=window.num_tokens,
            effective_tokens=window.effective_tokens,
        )
        for weights, counts in zip(window.weights, reference.usage.counts, strict=True)
    )


def _drift(
    window: Window, state: WindowState, reference: DriftReference, *, is_native: bool
) -> DriftFigures:
    found = reference.usage.compare(window.weights) if window.num_images else None
    # Before a window is complete it is told by its size whether there will be a threshold.
    num_images = state.window_images or window.num_images
    null, reason = _null(num_images, reference, is_native=is_native)
    alarm = state.alarm
    return DriftFigures(
        kl_bits=found.kl_bits if found else None,
        js_bits=found.js_bits if found else None,
        new_code_rate=found.new_code_rate if found else None,
        calibrated=null is not None,
        reason=reason,
        expected_bits=null.mean if null else None,
        z=(found.kl_bits - null.mean) / null.sd if found and null else None,
        threshold_bits=null.named if null else None,
        windows_above=alarm.windows_above if alarm else None,
        alarm=alarm.is_on if alarm else None,
        alarms=alarm.alarms if alarm else None,
    )


def _null(
    num_images: int, reference: DriftReference, *, is_native: bool
) -> tuple[NullAt | None, str | None]:
    """The null distribution for so many images, or why there is none."""
    if not is_native:
        return None, OTHER_GRIDS
    if reference.null is None:
        return None, NEVER_CALIBRATED
    null = reference.null.at(num_images)
    if null is not None:
        return null, None
    least, most = reference.null.range
    return (
        None,
        f"The bundle is calibrated for {least} to {most} images, and these are {num_images}.",
    )
