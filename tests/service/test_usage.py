"""Tokens on their way into the windows: none is lost, and other grids stand apart."""

import logging
import threading
from dataclasses import replace

import numpy as np
import pytest

from service.usage import BUNCH_TOKENS, PassingTokens, WindowSizes
from tests.service.fake_model import fake_reference
from vqtok.runtime.fake import FakeEngine, fake_manifest
from vqtok.statistics import DriftNull, DriftReference, ReferenceUsage, Window
from vqtok.statistics.window import Stack

MANIFEST = fake_manifest()


def window_of(usage: PassingTokens, grid: str = "native", name: str = "since_start") -> Window:
    window = usage.states()[grid][name].window
    assert window is not None
    return window


def opened(null: DriftNull | None = None, **sizes: int) -> PassingTokens:
    counts = fake_reference(FakeEngine(MANIFEST)).usage
    return PassingTokens(
        MANIFEST, DriftReference(ReferenceUsage(counts), null), WindowSizes(**sizes)
    )


def even() -> Stack:
    return np.arange(16).reshape(1, 4, 4), np.ones((1, 4, 4), np.float32)


def test_no_token_is_lost_when_threads_count_at_once() -> None:
    usage = opened()

    def work() -> None:
        for _ in range(500):
            usage.add([even()])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    window = window_of(usage)
    assert window.weights[0, :16].tolist() == [2000] * 16
    assert window.values["margins"].summary().num_values == 16 * 2000


def test_tokens_of_an_unfinished_bunch_are_there_when_asked_for() -> None:
    usage = opened()
    for _ in range(BUNCH_TOKENS // 16 - 1):
        usage.add([even()])
    assert window_of(usage).num_images == BUNCH_TOKENS // 16 - 1
    usage.add([even()])
    assert window_of(usage).num_images == BUNCH_TOKENS // 16


def test_images_of_other_grids_stand_apart_and_each_weighs_as_much() -> None:
    usage = opened(recent=16, long=16)
    large = (np.full((1, 40, 40), 7), np.ones((1, 40, 40), np.float32))
    small = (np.full((1, 2, 3), 9), np.ones((1, 2, 3), np.float32))
    usage.add([even(), large, small, even()])
    assert window_of(usage).weights[0, :16].tolist() == [2] * 16
    other = window_of(usage, "other")
    assert (other.num_images, other.num_tokens) == (2, 1606)
    assert other.weights[0, [7, 9]].tolist() == pytest.approx([16, 16])


def test_an_alarm_stands_in_the_log_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    null = DriftNull(
        np.array([16, 64]), np.ones(2), np.ones(2), np.array([[4.5, 4.6, 4.7, 4.8]] * 2)
    )
    usage = opened(null, recent=16, long=64)
    strange = (np.zeros((1, 4, 4), np.int64), np.ones((1, 4, 4), np.float32))
    every = (np.arange(256).reshape(16, 4, 4), np.ones((16, 4, 4), np.float32))
    with caplog.at_level(logging.INFO):
        usage.add([strange] * 40)
        usage.states()
        assert caplog.messages == []
        usage.add([strange] * 16)
        usage.states()
        usage.states()
        assert caplog.messages == ["drift: images are not like those of fake@1 (recent)"]
        usage.add([strange] * 8 + [every])
        usage.states()
    assert caplog.messages[1:] == ["drift of images for fake@1 has ended (recent)"]


def test_a_model_that_is_opened_anew_begins_at_nought() -> None:
    first, second = opened(), opened()
    first.add([even()] * 5)
    assert (window_of(first).num_images, window_of(second).num_images) == (5, 0)


def test_measures_of_the_encoder_are_counted_too() -> None:
    manifest = replace(
        MANIFEST, outputs=("posterior_entropy", "tokens", "margins", "quantisation_error")
    )
    usage = PassingTokens(manifest, DriftReference(ReferenceUsage(np.ones(256, np.int64))))
    usage.add([(*even(), np.full((1, 4, 4), 0.25), np.full((1, 4, 4), 3.0))])
    values = window_of(usage).values
    assert values["quantisation_error"].summary().mean == pytest.approx(0.25)
    assert values["posterior_entropy"].summary().mean == pytest.approx(3)
