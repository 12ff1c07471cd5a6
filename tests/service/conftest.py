"""A bundle and a running service, shared by the tests of a module."""

from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from tests.service.process import ROOT, ServiceProcess
from tests.vqtok.tiny_bundle import write_tiny_bundle

SHIPPED_BUNDLE = ROOT / "bundles" / "cifar10-gmvq"


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle of a few kilobytes."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="session")
def bundle(tiny_bundle: Path) -> Path:
    """The bundle in this repository, and the tiny one while there is none."""
    return SHIPPED_BUNDLE if (SHIPPED_BUNDLE / "manifest.json").exists() else tiny_bundle


@pytest.fixture(scope="module")
def service(bundle: Path) -> Generator[ServiceProcess]:
    """The service on `bundle`."""
    with ServiceProcess(["--bundle", str(bundle), "--device", "cpu"]) as running:
        yield running.wait_ready()


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Generator[httpx.Client]:
    """A client of `service`."""
    with httpx.Client(base_url=service.url, timeout=60) as opened:
        yield opened
