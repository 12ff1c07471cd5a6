"""SIGTERM: what was admitted gets its whole answer, and nothing sent later is lost in silence."""

import random
import time
from collections import Counter

import pytest

from tests.service.load import OUTCOMES_AFTER_DRAIN, Load
from tests.service.process import ServiceProcess

FAKE = "tests.service.fake_model"


def drain_under_load(seed: int) -> None:
    rng = random.Random(seed)
    with ServiceProcess(["--delay", "0.01", "--runners", "2"], FAKE) as service:
        service.wait_ready()
        loads = [
            Load(service.port, 6, keep_alive=True),
            Load(service.port, 4, keep_alive=True, pause=0.05),
            Load(service.port, 4, keep_alive=False),
        ]
        for load in loads:
            load.start()
        time.sleep(rng.uniform(0.1, 0.5))
        service.terminate()
        seen = sum((load.finish() for load in loads), Counter[str]())
        assert service.wait() == 0, service.log
        assert set(seen) <= OUTCOMES_AFTER_DRAIN, seen
        assert seen["200"] == service.admitted() > 0, seen


@pytest.mark.parametrize("seed", range(3))
def test_every_admitted_request_is_answered_when_sigterm_comes_under_load(seed: int) -> None:
    drain_under_load(seed)


@pytest.mark.slow
def test_twenty_sigterms_under_load_lose_nothing() -> None:
    for seed in range(100, 120):
        drain_under_load(seed)
