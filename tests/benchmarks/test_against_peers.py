"""Whether every server is asked for the same image, and tuned by answers only."""

import argparse
import base64
import contextlib
import json
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.serving import against_peers
from benchmarks.serving.contenders import CONTENDERS, PEERS, Contender
from benchmarks.serving.processes import ROOT
from benchmarks.serving.wrk import Burst

NAMED = pytest.mark.parametrize("contender", CONTENDERS, ids=lambda each: each.name)
PEER_NAMES = {each.name for each in CONTENDERS if each.python is not None}


@NAMED
def test_its_request_holds_the_very_jpeg(contender: Contender) -> None:
    jpeg = against_peers.picture()
    body = contender.body(jpeg)
    assert jpeg in body.data or base64.b64encode(jpeg) in body.data
    if "Inference-Header-Content-Length" in body.headers:
        length = int(body.headers["Inference-Header-Content-Length"])
        (tensor,) = json.loads(body.data[:length])["inputs"]
        assert tensor["parameters"]["binary_data_size"] == len(body.data) - length


@NAMED
def test_a_peer_has_its_files_and_is_tuned_over_at_least_six_settings(contender: Contender) -> None:
    if contender.name not in PEER_NAMES:
        return
    assert (PEERS / contender.name / "serve.py").exists()
    pinned = contender.requirements.read_text().splitlines()
    assert "==" in pinned[0]
    assert len(contender.candidates) >= 6
    assert len({json.dumps(each) for each in contender.candidates}) == len(contender.candidates)


def test_all_run_the_onnxruntime_that_we_run() -> None:
    ours = (ROOT / "requirements" / "serve-cpu.txt").read_text()
    for name in PEER_NAMES:
        (line,) = (
            line
            for line in (PEERS / name / "requirements.txt").read_text().splitlines()
            if line.startswith("onnxruntime")
        )
        assert f"\n{line} " in ours


def test_settings_that_refuse_requests_are_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {0: (900, 5), 1: (500, 0), 2: (600, 0)}
    current: dict[str, int] = {}

    @contextlib.contextmanager
    def running(contender: Contender, settings: Any, chosen: Any) -> Generator[Any]:
        current["number"] = settings["number"]
        yield argparse.Namespace(url="")

    def burst(url: str, body: Any, **load: Any) -> Burst:
        requests, refused = rates[current["number"]]
        return Burst(requests, 1.0, refused, 0, 0.0, 0.0, 0.0)

    monkeypatch.setattr(against_peers, "running", running)
    monkeypatch.setattr(against_peers, "burst", burst)
    candidates = [{"number": number} for number in rates]
    tuned = against_peers.tune(
        replace(CONTENDERS[0], candidates=candidates), b"", argparse.Namespace()
    )
    assert tuned["settings"] == {"number": 2}
    assert [each["unanswered"] for each in tuned["tried"]] == [5, 0, 0]
