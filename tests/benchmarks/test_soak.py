"""The soak test's own judgement, and a short run of it."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak import MEBIBYTE, Load, Sample, growth, judge, main
from tests.vqtok.tiny_bundle import write_tiny_bundle


def _samples(mebibytes_per_10000: float, noise: float, files: int = 10) -> list[Sample]:
    """Half an hour at 100 requests a second; `noise` in MiB."""
    rng = np.random.default_rng(0)
    slope = mebibytes_per_10000 * MEBIBYTE / 10_000
    return [
        Sample(
            seconds=float(second),
            requests=100 * second,
            resident=int(2e8 + slope * 100 * second + noise * MEBIBYTE * rng.normal()),
            files=files,
            threads=20,
        )
        for second in range(300, 1800, 2)
    ]


@pytest.mark.parametrize("slope", [0.0, 0.5, 3.0])
def test_growth_is_found_within_its_interval(slope: float) -> None:
    found, upper = growth(_samples(slope, noise=1.0))
    assert found < upper < found + 0.3
    assert found == pytest.approx(slope, abs=0.2)


def test_each_bound_fails_alone() -> None:
    sound = Load(statuses=Counter({200: 10, 400: 2}), checked=10)
    flat = _samples(0.0, 0.1)
    assert judge(flat, sound, 300.0, 24)["passed"]
    leaking = [*flat[:-1], Sample(1800.0, 180_000, flat[0].resident, files=11, threads=20)]
    for samples, load, sizes in (
        (_samples(2.0, 0.1), sound, 24),
        (leaking, sound, 24),
        (flat, Load(statuses=Counter({200: 9}), checked=9, wrong=["decode"]), 24),
        (flat, Load(statuses=Counter({200: 9, 500: 1}), checked=9), 24),
        (flat, Load(statuses=Counter({415: 9})), 24),
        (flat, sound, 19),
    ):
        report = judge(samples, load, 300.0, sizes)
        assert not report["passed"]
        assert sum(line.startswith("BROKEN") for line in report["verdicts"]) == 1


@pytest.mark.slow
def test_a_short_run_compares_answers_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_tiny_bundle(tmp_path)
    times = ["--minutes", "0.1", "--warm-up", "0"]
    main(["--bundle", str(bundle), "--output", str(tmp_path), *times])
    shown = capsys.readouterr().out
    report = json.loads((tmp_path / "soak.json").read_text())
    assert report["wrong"] == []
    assert report["requests"] > 50
    assert "held: 24 sizes of images" in shown
    assert (tmp_path / "soak.png").stat().st_size > 5_000
