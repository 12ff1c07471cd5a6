"""Drift as an operator sees it: real images at a service on a calibrated bundle."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.codebook_metrics import MARGIN_QUANTILES
from tests.representative import few_of
from tests.service.conftest import SHIPPED_BUNDLE
from tests.service.process import ServiceProcess, counter
from tests.vqtok.statistics.strange_images import STRANGE, cifar
from training.data.cifar10 import read_packed
from vqtok.bundle import Bundle, write_bundle
from vqtok.runtime.onnx import open_engine
from vqtok.statistics import resample_null
from vqtok.wire.npy_format import write_array

NPY = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
CALIBRATING = 1024
IMAGES = 255

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="session")
def calibrated_bundle(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped bundle with a null distribution from test images, as export makes it."""
    opened = Bundle.open(SHIPPED_BUNDLE)
    images = read_packed(data_dir / "cifar10" / "test.npz")[:CALIBRATING]
    engine = open_engine(opened, "cpu")
    tokens = np.concatenate(
        [engine.encode(images[start : start + 64]).tokens for start in range(0, CALIBRATING, 64)]
    )
    null = resample_null(tokens, opened.reference.usage, num_windows=4000)
    files = {name: opened.read(name) for name in opened.manifest.digests}
    files["reference.npz"] = opened.reference.with_drift_null(null).to_npz()
    folder = tmp_path_factory.mktemp("calibrated") / "cifar10-gmvq"
    write_bundle(folder, opened.manifest, files)
    return folder


@pytest.fixture
def calibrated(calibrated_bundle: Path) -> Generator[ServiceProcess]:
    with ServiceProcess(["--bundle", str(calibrated_bundle), "--device", "cpu"]) as running:
        yield running.wait_ready()


def encode(service: ServiceProcess, images: Pixels) -> None:
    """In requests of several sizes."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        for part in filter(len, np.array_split(images, [1, 3, 40, 41, 140])):
            answer = client.post("/v1/encode", content=write_array(part), headers=NPY)
            assert answer.status_code == 200


def seen(service: ServiceProcess) -> tuple[dict[str, Any], str]:
    stats = httpx.get(f"{service.url}/v1/codebook/stats").json()
    return stats, httpx.get(f"{service.url}/metrics").text


@pytest.mark.parametrize("name", few_of(STRANGE, ["inverted"]))
def test_255_strange_images_raise_the_alarm(
    calibrated: ServiceProcess, data_dir: Path, name: str
) -> None:
    encode(calibrated, STRANGE[name](data_dir, IMAGES))
    stats, metrics = seen(calibrated)
    drift = stats["native"]["recent"]["drift"]
    assert (drift["alarm"], drift["windows_above"], drift["alarms"]) == (True, 3, 1)
    assert drift["kl_bits"] > drift["threshold_bits"]["q99.9"] > drift["expected_bits"]
    assert drift["z"] > 3
    assert counter(metrics, "vqtok_drift_alarm", window="recent") == 1
    assert counter(metrics, "vqtok_drift_alarms_total", window="recent") == 1
    assert counter(metrics, "vqtok_drift_z", window="recent") == pytest.approx(drift["z"])
    assert any(
        "drift: images are not like those of cifar10-gmvq@2" in line for line in calibrated.log
    )


@pytest.mark.slow
def test_test_images_raise_none_and_other_grids_never_do(
    calibrated: ServiceProcess, data_dir: Path
) -> None:
    clean = cifar(data_dir, IMAGES)
    encode(calibrated, clean)
    encode(calibrated, 255 - clean[:, :28, :28])
    stats, metrics = seen(calibrated)
    drift = stats["native"]["recent"]["drift"]
    assert (drift["calibrated"], drift["alarm"], drift["alarms"]) == (True, False, 0)
    assert counter(metrics, "vqtok_drift_alarm", window="recent") == 0
    assert 'vqtok_drift_alarm{window="recent"} 0.0' in metrics
    since_start, other = stats["native"]["since_start"], stats["other"]["since_start"]
    assert (since_start["num_images"], since_start["num_tokens"]) == (IMAGES, 64 * IMAGES)
    assert (other["num_images"], other["num_tokens"]) == (IMAGES, 49 * IMAGES)
    assert other["drift"]["kl_bits"] > since_start["drift"]["kl_bits"]
    for name in ("since_start", "recent", "long"):
        other_drift = stats["other"][name]["drift"]
        assert (other_drift["calibrated"], other_drift["alarm"]) == (False, None)


def test_the_figures_are_those_of_the_tokens(calibrated: ServiceProcess, data_dir: Path) -> None:
    """Against formulas on the tokens that the service itself gave."""
    images = cifar(data_dir, 150)
    with httpx.Client(base_url=calibrated.url, timeout=60) as client:
        answer = client.post(
            "/v1/encode?detail=margin",
            content=write_array(images),
            headers={**NPY, "Accept": "application/json"},
        ).json()
        counted = client.get("/v1/codebook/stats?counts=true").json()
        assert client.get("/v1/codebook/stats?counts=yes").status_code == 422
    tokens = np.array([item["tokens"] for item in answer["items"]])
    counts = np.bincount(tokens.ravel(), minlength=1024)
    assert counted["usage_counts"] == [counts.tolist()]
    windows = counted["native"]
    for name, part in (("since_start", tokens), ("recent", tokens[64:128])):
        shares = np.bincount(part.ravel(), minlength=1024) / part.size
        shares = shares[shares > 0]
        (usage,) = windows[name]["usage"]
        assert usage["num_tokens"] == windows[name]["num_tokens"] == part.size
        nats = -(shares * np.log(shares)).sum()
        assert usage["perplexity"] == pytest.approx(np.exp(nats))
        assert usage["perplexity_miller_madow"] == pytest.approx(
            np.exp(nats + (len(shares) - 1) / (2 * part.size))
        )
        assert usage["dead_codes"] == 1024 - len(shares)
    assert windows["recent"]["num_windows"] == 2
    assert windows["long"]["reason"] == (
        "No window of 1024 images is complete yet; 150 of them have come."
    )
    margins = np.array([item["margins"] for item in answer["items"]])
    found = windows["since_start"]["margins"]
    assert found["mean"] == pytest.approx(margins.mean(), rel=1e-4)
    for name, share in (("p01", 0.01), ("p05", 0.05), ("p50", 0.5)):
        assert found["quantiles"][name] == pytest.approx(np.quantile(margins, share), rel=0.13)


def series(metrics: str) -> set[str]:
    """Names and labels of this model's figures."""
    prefixes = ("vqtok_code", "vqtok_drift", "vqtok_dead", "vqtok_margin", "vqtok_new", "vqtok_win")
    return {line.rsplit(" ", 1)[0] for line in metrics.splitlines() if line.startswith(prefixes)}


@pytest.mark.slow
def test_no_image_adds_a_series_of_its_own(calibrated: ServiceProcess, data_dir: Path) -> None:
    encode(calibrated, cifar(data_dir, IMAGES))
    encode(calibrated, cifar(data_dir, IMAGES)[:, :28, :28])
    before = series(seen(calibrated)[1])
    encode(calibrated, 255 - cifar(data_dir, 20))
    encode(calibrated, cifar(data_dir, 200)[:, :12, :20])
    after = seen(calibrated)[1]
    assert series(after) == before
    assert len(before) < 100
    for percentile in MARGIN_QUANTILES:
        labels = {"window": "recent", "grid": "native", "percentile": percentile}
        assert 0 < counter(after, "vqtok_margin", **labels) < 1
    bundle = Bundle.open(SHIPPED_BUNDLE).manifest
    ids = {"codebook_id": bundle.codebook_id.short, "tokenizer_id": bundle.tokenizer_id.short}
    assert counter(after, "vqtok_model_info", model=bundle.full_name, **ids) == 1


def test_without_drift_arrays_there_are_figures_and_no_threshold(
    tiny_bundle: Path, data_dir: Path
) -> None:
    flags = ["--bundle", str(tiny_bundle), "--device", "cpu", "--recent-images", "16"]
    with ServiceProcess(flags) as running:
        encode(running.wait_ready(), cifar(data_dir, 160))
        stats, metrics = seen(running)
    drift = stats["native"]["recent"]["drift"]
    assert (drift["calibrated"], drift["alarm"], drift["threshold_bits"]) == (False, None, None)
    assert "vqtok calibrate" in drift["reason"]
    assert drift["kl_bits"] > 0
    assert stats["native"]["recent"]["window_images"] == 16
    assert stats["reference"]["calibrated_images"] is None
    assert counter(metrics, "vqtok_drift_kl", window="recent", grid="native") > 0
    assert 'vqtok_drift_alarm{window="recent"}' not in metrics
