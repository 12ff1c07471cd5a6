"""Bits an image: what is measured is what the formats give, and the page says it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bits import LOSSY, SHEET, _coder, _compressed, _nearest, _sheets, measure
from benchmarks.bits_page import main as write_page
from benchmarks.bits_page import markdown, verdict
from tests.service.process import ROOT
from tests.vqtok.tiny_bundle import smooth_images, write_tiny_bundle
from training.data.cifar10 import read_packed
from vqtok import Tokenizer

PUBLISHED = ROOT / "docs" / "results" / "bits.json"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> dict[str, Any]:
    """Of twenty real images and a tiny bundle."""
    images = read_packed(data_dir / "cifar10" / "test.npz")[:20]
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("bits"))
    with Tokenizer.open(bundle, "cpu") as tokenizer:
        return json.loads(json.dumps(measure(tokenizer, images, 5)))


def test_every_figure_is_there_and_plausible(report: dict[str, Any]) -> None:
    assert report["coders"]["packed"]["code_length"] == 64 * 5
    reason = "the bundle holds no learned prior"
    assert report["coders"]["prior"] == {"bits": None, "reason": reason}
    for each in (each for each in report["coders"].values() if each["bits"] is not None):
        assert each["code_length"] <= each["bits"] <= each["code_length"] * 1.01 + 8 * 12
        assert each["encoded_tokens_per_second"] > 0 < each["decoded_tokens_per_second"]
    assert report["packers"]["uint16"]["bits"] == 64 * 16
    files = report["files"]
    assert files["PNG"]["bits"] < 8 * 3 * 1024 * 1.1
    assert files["WebP lossless"]["sheet_bits"] < files["PNG"]["bits"]


def test_a_learned_prior_is_measured_and_not_compared_with_files_that_travel(
    tmp_path: Path, report: dict[str, Any]
) -> None:
    with Tokenizer.open(write_tiny_bundle(tmp_path, prior=True), "cpu") as tokenizer:
        drawn = tokenizer.sample(20)
        found = _coder("prior", drawn.tokens.images, tokenizer)
    assert found["code_length"] == pytest.approx(drawn.bits.mean())
    assert found["bits"] > found["code_length"]
    assert found["encoded_tokens_per_second"] > 0 < found["decoded_tokens_per_second"]
    short = {**report, "coders": {**report["coders"], "prior": {**found, "bits": 1.0}}}
    travels = "nothing else here that other machines can read is as short"
    assert verdict(short) == verdict(report).replace("nothing else here is as short", travels)
    assert travels in verdict(short)
    page = markdown(short)
    assert "| `prior` | 1.0 |" in page
    assert f"the first 20 images, whose tokens by themselves take {64 * 5:.1f} by `packed`" in page
    assert "the first" not in markdown(report)


def test_sheets_hold_the_images_in_rows() -> None:
    images = smooth_images(SHEET**2 + 25, 4, 6)
    first, second = _sheets(images)
    assert (first.shape, second.shape) == ((40, 60, 3), (8, 60, 3))
    assert np.array_equal(first[4:8, 12:18], images[12])
    assert np.array_equal(second[4:8, 54:], images[119])


@pytest.mark.parametrize("name", LOSSY)
def test_the_quality_taken_has_the_nearest_error_of_all(name: str) -> None:
    images = smooth_images(8, 32, 32)
    wanted = _compressed(images, LOSSY[name], 55)[1] * 1.0001
    found = _nearest(name, images, LOSSY[name], wanted)
    every = {quality: _compressed(images, LOSSY[name], quality)[1] for quality in range(45, 65)}
    assert found["mse"] == min(every.values(), key=lambda each: abs(each - wanted))


def test_the_page_says_first_what_is_shorter_than_ours(report: dict[str, Any]) -> None:
    assert markdown(report).startswith(f"# Bits an image\n\n{verdict(report)}\n\n20 test")
    better = json.loads(json.dumps(report))
    better["packers"]["gzip"]["bits"] = 1.0
    assert verdict(better).startswith("Shorter than any coder of ours: ")
    assert "gzip (1)" in verdict(better)


def test_the_published_page_is_that_of_the_published_report(tmp_path: Path) -> None:
    for path in [PUBLISHED] if PUBLISHED.exists() else []:
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
        assert write_page([str(copy)]) == 0
        assert copy.with_suffix(".md").read_text() == path.with_suffix(".md").read_text()
