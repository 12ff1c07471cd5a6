"""Metrics: a real Prometheus scrapes them, and counts equal what was sent."""

import base64
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from service.metrics import STAGES
from tests.service.load import png
from tests.service.process import ROOT, ServiceProcess, counter
from vqtok.bundle import Bundle

PNG = {"Content-Type": "image/png"}
SCRAPE_CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: vqtok
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
NAMES = {
    "vqtok_requests_admitted_total": "counter",
    "vqtok_requests_refused_total": "counter",
    "vqtok_requests_total": "counter",
    "vqtok_images_total": "counter",
    "vqtok_stage_seconds": "histogram",
    "vqtok_queue_items": "gauge",
    "vqtok_queue_seconds": "histogram",
    "vqtok_batch_size": "histogram",
    "vqtok_event_loop_lag_seconds": "histogram",
    "vqtok_abandoned_total": "counter",
    "vqtok_build_info": "gauge",
    "vqtok_ready": "gauge",
    "vqtok_model_info": "gauge",
    "vqtok_code_perplexity": "gauge",
    "vqtok_dead_codes": "gauge",
    "vqtok_margin": "gauge",
    "vqtok_drift_kl": "gauge",
    "vqtok_drift_alarm": "gauge",
    "vqtok_drift_alarms_total": "counter",
    "vqtok_windows_total": "counter",
}


@pytest.fixture(scope="module")
def scraped(service: ServiceProcess) -> str:
    """The metrics after two images encoded, one decoded, three sampled, one rebuilt, and errors."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        files = [("images", png(1)), ("images", png(2))]
        tokens = client.post("/v1/encode", files=files).json()
        client.post("/v1/decode", json={"items": tokens["items"][:1]})
        client.post("/v1/sample", json={"n": 3}, headers={"Accept": "application/json"})
        client.post("/v1/reconstruct", content=png(3), headers=PNG)
        client.post("/v1/encode", content=b"no image", headers=PNG)
        client.post("/v1/encode", json={"images": [base64.b64encode(b"x").decode()]})
        client.get("/v1/models/none")
        client.get("/a/path/that/nobody/knows")
        return client.get("/metrics").text


def test_every_metric_is_there_under_its_name(scraped: str) -> None:
    for name, kind in NAMES.items():
        assert f"# TYPE {name} {kind}" in scraped


def test_every_metric_that_the_statistics_page_and_the_alert_rules_name_is_there(
    scraped: str,
) -> None:
    there = set(re.findall(r"(?m)^# TYPE (\w+)", scraped))
    for document in ("docs/statistics.md", "docker/alerts.yml"):
        named = set(re.findall(r"vqtok_\w+", (ROOT / document).read_text()))
        assert named
        assert named <= there, document


def test_the_statistics_page_names_every_metric_of_codes_and_drift(scraped: str) -> None:
    page = (ROOT / "docs/statistics.md").read_text()
    about = r"(?m)^# TYPE (vqtok_(?:code|dead|drift|margin|new|quant|poster|window)\w*)"
    names = re.findall(about, scraped)
    assert len(names) >= 15
    assert [name for name in names if name not in page] == []


def test_requests_are_counted_as_sent(scraped: str) -> None:
    sent = {
        ("/v1/encode", "200"): 1,
        ("/v1/encode", "415"): 2,
        ("/v1/decode", "200"): 1,
        ("/v1/sample", "200"): 1,
        ("/v1/reconstruct", "200"): 1,
        ("/v1/models/{name}", "404"): 1,
        ("other", "404"): 1,
    }
    for (route, status), count in sent.items():
        assert counter(scraped, "vqtok_requests_total", route=route, status=status) == count
    assert counter(scraped, "vqtok_requests_admitted_total") == 6
    assert "nobody" not in scraped


def test_images_are_counted_as_sent(scraped: str, bundle: Path) -> None:
    sent = {"encode": 2, "decode": 1, "sample": 3, "reconstruct": 1}
    for kind, count in sent.items():
        assert counter(scraped, "vqtok_images_total", kind=kind) == count
    prior = Bundle.open(bundle).manifest.prior
    passes = 0 if prior is None else max(prior.groups) + 1
    assert counter(scraped, "vqtok_batch_size_sum") == 2 + 1 + 2 + 3 * passes


def test_every_answered_request_counts_once_in_every_stage(scraped: str) -> None:
    for route in ("/v1/encode", "/v1/decode", "/v1/sample", "/v1/reconstruct"):
        for stage in STAGES:
            labels = {"stage": stage, "route": route}
            assert counter(scraped, "vqtok_stage_seconds_count", **labels) == 1


@pytest.fixture
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    return path


def test_promtool_finds_nothing_to_say(scraped: str, promtool: str) -> None:
    ran = subprocess.run(
        [promtool, "check", "metrics"], input=scraped, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_promtool_takes_the_alert_rules(promtool: str) -> None:
    command = [promtool, "check", "rules", str(ROOT / "docker" / "alerts.yml")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture
def prometheus(service: ServiceProcess, promtool: str, tmp_path: Path) -> Generator[httpx.Client]:
    (tmp_path / "prometheus.yml").write_text(SCRAPE_CONFIG.format(port=service.port))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    running = subprocess.Popen(
        [*command, f"--web.listen-address={address}"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://{address}") as client:
            yield client
    finally:
        running.terminate()
        running.wait(20)


def test_a_real_prometheus_scrapes_it(prometheus: httpx.Client, scraped: str) -> None:
    expected = counter(scraped, "vqtok_images_total", kind="sample")
    ends_at = time.monotonic() + 40
    while True:
        try:
            query = {"query": 'vqtok_images_total{kind="sample"}'}
            found = prometheus.get("/api/v1/query", params=query).json()["data"]["result"]
        except (httpx.TransportError, KeyError, ValueError):
            found = []
        if found:
            assert float(found[0]["value"][1]) == expected
            return
        assert time.monotonic() < ends_at, "Prometheus has nothing"
        time.sleep(0.3)
