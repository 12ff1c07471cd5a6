"""The clock at a model, read from another process, and what is made of it."""

import multiprocessing
import time
from pathlib import Path

from benchmarks.serving.added_cost import lines
from benchmarks.serving.session_clock import SessionClock


def _busy(seconds: float) -> None:
    started = time.thread_time()
    while time.thread_time() - started < seconds:
        pass


def _in_another_process(file: Path) -> None:
    clock = SessionClock(file)
    _busy(0.05)
    for _ in range(2):
        with clock.counting():
            _busy(0.1)
    time.sleep(0.1)


def test_it_counts_the_processor_time_of_what_is_inside_and_of_nothing_else(tmp_path: Path) -> None:
    clock = SessionClock(tmp_path / "clock")
    assert clock.seconds == 0.0
    process = multiprocessing.get_context("spawn").Process(
        target=_in_another_process, args=(tmp_path / "clock",)
    )
    process.start()
    process.join()
    assert 0.2 <= clock.seconds < 0.25


def test_what_is_added_is_told_beside_the_model_alone_and_beside_the_servers_own_calls() -> None:
    seen = {
        **{f"raw, {number} at a time": [1000e-6] for number in (1, 8, 64)},
        "plain, PNG without a model": [400e-6],
    }
    for server, added in (("service", 200e-6), ("plain", 600e-6)):
        for body in ("PNG", "npy of 64"):
            seen[f"{server}, {body}"] = [1000e-6 + added]
            seen[f"{server}, {body}, of it in the session"] = [960e-6]
    told = "\n".join(lines({"seconds_an_image": seen, "stolen_share": 0.0}))
    assert "service adds to a PNG, beside the model 8 at a time, 0.50 (0.50 to 0.50)" in told
    assert "plain adds to npy of 64 60.00 (60.00 to 60.00) % of the model, 64 at" in told
    assert "service, npy of 64: beside its own calls of the session 25.00 (25.00 to 25.00)" in told
