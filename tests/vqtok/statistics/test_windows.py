"""Windows of images: what is counted, what each image weighs, and where a window ends."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vqtok.errors import InvalidTokens
from vqtok.statistics import (
    DriftNull,
    DriftReference,
    LiveWindows,
    ReferenceUsage,
    Shape,
    Window,
    summarise,
)
from vqtok.statistics.figures import NEVER_CALIBRATED, OTHER_GRIDS, figures_of
from vqtok.statistics.window import Stack

SHAPE = Shape(codebook_size=16, depth=1, cells=16)
UNIFORM = np.full(16, 1000)


def image(side: int, seed: int, depth: int = 1, count: int = 1) -> Stack:
    rng = np.random.default_rng([side, seed])
    tail = (depth,) if depth > 1 else ()
    tokens = rng.integers(0, 16, (count, side, side, *tail))
    return tokens, rng.random((count, side, side)).astype(np.float32)


def null_of(thresholds: dict[int, float]) -> DriftNull:
    """A null distribution with these thresholds by the number of images."""
    sizes = np.array(list(thresholds), np.int64)
    top = np.array(list(thresholds.values()))
    quantiles = top[:, None] * [0.5, 0.7, 0.8, 1.0]
    return DriftNull(sizes, 0.5 * top, 0.1 * top, quantiles)


def test_a_window_counts_tokens_and_margins_of_its_images() -> None:
    rows = [image(4, seed) for seed in range(5)]
    window = Window.of(SHAPE, rows)
    tokens = np.concatenate([row[0].ravel() for row in rows])
    assert window.weights[0].tolist() == np.bincount(tokens, minlength=16).tolist()
    assert (window.num_images, window.num_tokens) == (5, 80)
    assert window.effective_tokens == 80
    margins = np.concatenate([row[1].ravel() for row in rows])
    assert window.values["margins"].summary().mean == pytest.approx(margins.mean(), rel=1e-6)


def test_every_image_weighs_the_same_whatever_its_size() -> None:
    """An oracle in float64: the mean of the images' own histograms, and Kish's formula."""
    rows = [image(side, seed) for seed, side in enumerate((2, 4, 8, 8, 3))]
    window = Window.of(SHAPE, rows)
    own = [np.bincount(row[0].ravel(), minlength=16) / row[0].size for row in rows]
    assert window.weights[0] / window.weights.sum() == pytest.approx(np.mean(own, axis=0))
    per_token = np.concatenate([np.full(row[0].size, 1 / row[0].size) for row in rows])
    effective = per_token.sum() ** 2 / (per_token**2).sum()
    assert window.effective_tokens == pytest.approx(effective)
    assert window.num_tokens == 4 + 16 + 64 + 64 + 9
    summary = summarise(window.weights[0], num_tokens=window.num_tokens, effective_tokens=effective)
    shares = np.mean(own, axis=0)
    nats = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    assert summary.perplexity == pytest.approx(np.exp(nats))
    used = (shares > 0).sum()
    assert summary.perplexity_miller_madow == pytest.approx(
        np.exp(nats + (used - 1) / (2 * effective))
    )


def test_each_level_of_depth_and_each_measure_is_counted() -> None:
    shape = Shape(16, 3, 16, ("quantisation_error", "posterior_entropy"))
    rows = [
        (*image(4, seed, 3), np.full((1, 4, 4), 2.0 + seed), np.full((1, 4, 4), 5.0))
        for seed in range(2)
    ]
    window = Window.of(shape, rows)
    for level in range(3):
        tokens = np.concatenate([row[0][..., level].ravel() for row in rows])
        assert window.weights[level].tolist() == np.bincount(tokens, minlength=16).tolist()
    assert window.values["quantisation_error"].summary().mean == pytest.approx(2.5)
    assert window.values["posterior_entropy"].summary().mean == pytest.approx(5)


@pytest.mark.parametrize("token", [-1, 16])
def test_a_token_out_of_range_is_not_counted(token: int) -> None:
    tokens = np.zeros((1, 4, 4), np.int64)
    tokens[0, 1, 2] = token
    with pytest.raises(InvalidTokens):
        Window.of(SHAPE, [(tokens, np.ones((1, 4, 4)))])


def live(null: DriftNull | None = None, **sizes: int) -> LiveWindows:
    reference = DriftReference(ReferenceUsage(UNIFORM), null)
    return LiveWindows(SHAPE, reference, sizes, calibrated=True)


@pytest.mark.parametrize("step", [1, 3, 8, 50, 100])
def test_windows_hold_their_images_however_these_come(step: int) -> None:
    rows = [image(4, seed) for seed in range(100)]
    windows = live(recent=8, long=24)
    for start in range(0, len(rows), step):
        windows.add(rows[start : start + step])
    states = windows.states()
    expected = {"since_start": rows, "recent": rows[88:96], "long": rows[72:96]}
    for name, images in expected.items():
        window = states[name].window
        assert window is not None
        assert window.weights.tolist() == Window.of(SHAPE, images).weights.tolist()
        assert window.num_images == len(images)
    assert (states["recent"].num_windows, states["recent"].filling) == (12, 4)
    assert (states["long"].num_windows, states["long"].filling) == (4, 4)


def test_images_of_one_stack_are_counted_in_as_many_windows_as_they_fill() -> None:
    stack = image(4, 0, count=20)
    windows = live(recent=8)
    windows.add([image(4, 1, count=3), stack])
    states = windows.states()
    recent = [column[5:13] for column in stack]
    assert states["recent"].window is not None
    assert states["recent"].window.weights.tolist() == Window.of(SHAPE, [recent]).weights.tolist()
    assert (states["recent"].num_windows, states["recent"].filling) == (2, 7)
    assert states["since_start"].window is not None
    assert states["since_start"].window.num_images == 23


def test_there_is_no_window_before_one_is_complete() -> None:
    windows = live(recent=8, long=24)
    windows.add([image(4, seed) for seed in range(7)])
    state = windows.states()["recent"]
    assert (state.window, state.filling) == (None, 7)
    figures = figures_of(SHAPE, state, DriftReference(ReferenceUsage(UNIFORM)), is_native=True)
    assert figures.reason == "No window of 8 images is complete yet; 7 of them have come."
    assert figures.usage[0].perplexity is None
    assert figures.margins.mean is None
    assert figures.drift.kl_bits is None


def skewed(count: int) -> list[Stack]:
    """Images of one code only."""
    return [(np.zeros((count, 4, 4), np.int64), np.ones((count, 4, 4)))]


def even(count: int) -> list[Stack]:
    return [(np.arange(16).reshape(1, 4, 4), np.ones((1, 4, 4))) for _ in range(count)]


def test_three_windows_in_a_row_are_an_alarm_and_one_below_ends_it() -> None:
    windows = live(null_of({4: 2.0, 8: 1.0}), recent=8, long=800)
    steps = [(skewed, 1, 0), (skewed, 2, 0), (even, 0, 0), (skewed, 1, 0), (skewed, 2, 0)]
    steps += [(skewed, 3, 1), (skewed, 4, 1), (even, 0, 1), (skewed, 1, 1)]
    for images, above, alarms in steps:
        windows.add(images(8))
        alarm = windows.states()["recent"].alarm
        assert alarm is not None
        assert (alarm.windows_above, alarm.alarms) == (above, alarms)
        assert alarm.is_on is (above >= 3)
        assert windows.alarms() == {"recent": above >= 3, "long": False}


def test_without_a_threshold_for_its_size_a_window_raises_no_alarm() -> None:
    null = null_of({4: 2.0, 8: 1.0})
    windows = live(null, recent=8, long=16)
    windows.add(skewed(64))
    states = windows.states()
    reference = DriftReference(ReferenceUsage(UNIFORM), null)
    recent, long = (
        figures_of(SHAPE, states[name], reference, is_native=True).drift
        for name in ("recent", "long")
    )
    assert (recent.calibrated, recent.alarm, recent.alarms) == (True, True, 1)
    assert recent.kl_bits is not None
    assert recent.z == pytest.approx((recent.kl_bits - 0.5) / 0.1)
    assert recent.threshold_bits == pytest.approx({"q50": 0.5, "q95": 0.7, "q99": 0.8, "q99.9": 1})
    assert (long.calibrated, long.alarm, long.z, long.threshold_bits) == (False, None, None, None)
    assert long.reason == "The bundle is calibrated for 4 to 8 images, and these are 16."
    assert long.kl_bits == pytest.approx(recent.kl_bits)


def test_other_grids_and_bundles_never_calibrated_are_compared_without_alarm() -> None:
    null = null_of({4: 2.0, 8: 1.0})
    reference = DriftReference(ReferenceUsage(UNIFORM), null)
    others = LiveWindows(SHAPE, reference, {"recent": 8}, calibrated=False)
    others.add(skewed(64))
    state = others.states()["recent"]
    drift = figures_of(SHAPE, state, reference, is_native=False).drift
    assert (drift.calibrated, drift.alarm, drift.reason) == (False, None, OTHER_GRIDS)
    assert drift.kl_bits == pytest.approx(4, abs=0.01)
    plain = DriftReference(ReferenceUsage(UNIFORM))
    drift = figures_of(SHAPE, state, plain, is_native=True).drift
    assert (drift.calibrated, drift.alarm, drift.reason) == (False, None, NEVER_CALIBRATED)


def test_what_a_state_shows_does_not_change_when_more_images_come() -> None:
    windows = live(recent=8)
    windows.add(even(8))
    states = windows.states()
    before: list[NDArray[np.float64]] = []
    for state in states.values():
        assert state.window is not None
        before.append(state.window.weights.copy())
    windows.add(skewed(20))
    for weights, state in zip(before, states.values(), strict=True):
        assert state.window is not None
        assert np.array_equal(weights, state.window.weights)
