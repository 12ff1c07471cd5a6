"""The page at `/docs`, in a browser that can reach nothing but this machine."""

import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.service.process import ServiceProcess

BROWSER = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]
NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


def test_the_page_shows_every_call_with_the_network_cut(
    service: ServiceProcess, client: httpx.Client, tmp_path: Path
) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    options = (NO_NETWORK, f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000")
    command = [chromium, *BROWSER, *options, "--dump-dom", f"{service.url}/docs"]
    page = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    paths = client.get("/openapi.json").json()["paths"]
    assert len(paths) >= 9
    assert not [path for path in paths if f'data-path="{path}"' not in page]
