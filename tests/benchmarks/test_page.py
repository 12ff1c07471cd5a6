"""The page of servers: ratios over rounds, and a first sentence that hides nothing."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.serving.page import main, markdown, ratio, verdict
from benchmarks.serving.processes import ROOT

PUBLISHED = ROOT / "docs" / "results" / "serving.json"


def _rounds(scale: float, seed: int) -> list[dict[str, float]]:
    noise = np.random.default_rng(seed).normal(1.0, 0.01, 10)
    base = {
        "rate": 900.0 / scale,
        "processor_seconds": 1e-3 + 2e-4 * scale,
        "p50": 0.01,
        "p99": 0.02 * scale,
        "lone_p50": 0.001 * scale,
        "lone_p99": 0.003 * scale,
        "offered_p50": 0.002,
        "offered_p99": 0.004 * scale,
        "memory_bytes": 1e8 * scale,
    }
    return [{key: value * each for key, value in base.items()} for each in noise]


@pytest.fixture
def report() -> dict[str, Any]:
    tried = [
        {"settings": {"size": size}, "rate": 100.0 * size, "unanswered": 0} for size in range(3)
    ]
    return {
        "hardware": "a machine",
        "rounds": 10,
        "seconds": 3.0,
        "jpeg_bytes": 900,
        "generator_requests_per_second": 9000.0,
        "offered_per_second": 150.0,
        "model_seconds": [1e-3] * 10,
        "tuned": {
            "vqtok": {"settings": {}, "tried": [{"settings": {}, "rate": 900, "unanswered": 0}]},
            "peer": {"settings": {"size": 2}, "tried": tried},
        },
        "seen": {"vqtok": _rounds(1.0, 0), "peer": _rounds(2.0, 1)},
    }


def test_what_is_added_may_be_below_zero_in_a_round(report: dict[str, Any]) -> None:
    report["model_seconds"][3] = 2e-3
    middle, low, high = ratio(report, "peer", "added")
    assert low < 2.0 < high
    assert middle == pytest.approx(2.0, rel=0.1)


def test_a_ratio_is_of_rounds_and_its_interval_holds_the_truth(report: dict[str, Any]) -> None:
    middle, low, high = ratio(report, "peer", "memory_bytes")
    assert low < 2.0 < high
    assert high - low < 0.1
    assert middle == pytest.approx(2.0, rel=0.02)


def test_what_a_server_adds_is_without_the_model(report: dict[str, Any]) -> None:
    for rounds, used in ((report["seen"]["vqtok"], 1.2e-3), (report["seen"]["peer"], 1.6e-3)):
        for each in rounds:
            each["processor_seconds"] = used
    assert ratio(report, "peer", "added")[0] == pytest.approx(3.0)


def test_the_page_says_first_where_another_is_ahead(report: dict[str, Any]) -> None:
    assert verdict(report).startswith("No server is ahead")
    better = copy.deepcopy(report)
    for each in better["seen"]["peer"]:
        each["memory_bytes"] = 1e7
    page = markdown(better, "serving.png")
    assert page.split("\n\n")[1] == "Ahead of vqtok, beyond the interval: peer in memory."
    assert "| **0.10 [" in page
    assert "| size = 2 | **200** | 0 |" in page


def test_a_picture_stands_beside_it(report: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "serving.json"
    path.write_text(json.dumps(report))
    assert main([str(path)]) == 0
    assert "(serving.png)" in (tmp_path / "serving.md").read_text()
    with Image.open(tmp_path / "serving.png") as picture:
        assert min(picture.size) > 100
        assert len(set(picture.convert("L").resize((64, 16)).tobytes())) > 4


def test_the_published_page_is_what_its_report_gives() -> None:
    page = markdown(json.loads(PUBLISHED.read_text()), "serving.png")
    assert PUBLISHED.with_suffix(".md").read_text() == page


@pytest.mark.parametrize(
    ("stolen", "words"),
    [({}, "on a machine: one core"), ({"stolen_share": 0.07}, "(others took 7 % of the")],
)
def test_a_loud_machine_is_told_where_it_was_looked_at(
    report: dict[str, Any], stolen: dict[str, float], words: str
) -> None:
    assert words in markdown({**report, **stolen}, "picture.png")
