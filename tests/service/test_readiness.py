"""Coming up: live at once, ready when proven, and never ready on a bundle that is not sound."""

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from service.lifecycle import Lifecycle, Phase
from service.metrics import Metrics
from service.model import open_model
from service.problems import status_of
from service.settings import Settings
from tests.service.load import Load
from tests.service.process import ServiceProcess, counter
from vqtok.bundle import Bundle, write_bundle
from vqtok.errors import (
    BundleError,
    BundleUnsupported,
    ModelFailure,
    RuntimeUnavailable,
    VqtokError,
)
from vqtok.reference import Reference
from vqtok.transport import PASSING_CODES


def test_it_is_live_at_once_and_ready_when_the_model_is() -> None:
    flags = ["--open-delay", "1.5"]
    with ServiceProcess(flags, "tests.service.fake_model") as service:
        assert httpx.get(f"{service.url}/health/live").status_code == 200
        waiting = httpx.get(f"{service.url}/health/ready")
        assert (waiting.status_code, waiting.json()["code"]) == (503, "not_ready")
        assert waiting.json()["phase"] == "opening_bundle"
        refused = httpx.post(f"{service.url}/v1/encode", content=b"x")
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert httpx.get(f"{service.url}/v1/models").status_code == 503
        assert "vqtok_ready 0.0" in httpx.get(f"{service.url}/metrics").text
        service.wait_ready()
        assert "vqtok_ready 1.0" in httpx.get(f"{service.url}/metrics").text


def _rewrite(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file and seal the bundle again, so that only its behaviour gives it away."""
    bundle = Bundle.open(folder)
    files = {each: bundle.read(each) for each in bundle.manifest.digests}
    write_bundle(folder, bundle.manifest, {**files, name: change(files[name])}, replace=True)


def _flip_byte(folder: Path) -> None:
    path = folder / "encoder.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _remove_file(folder: Path) -> None:
    (folder / "decoder.onnx").unlink()


def _change_shape(folder: Path) -> None:
    def shortened(data: bytes) -> bytes:
        reference = Reference.from_npz(data)
        return replace(reference, golden_tokens=reference.golden_tokens[:-1]).to_npz()

    bundle = Bundle.open(folder)
    files = {each: bundle.read(each) for each in bundle.manifest.digests}
    files["reference.npz"] = shortened(files["reference.npz"])
    write_bundle(folder, bundle.manifest, files, replace=True)


def _raise_schema(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"schema_version": "1.0"', '"schema_version": "2.0"'))


def _perturb_weight(folder: Path) -> None:
    def perturbed(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        weight = max(model.graph.initializer, key=lambda each: len(each.raw_data))
        values = numpy_helper.to_array(weight).copy()
        values.flat[0] += 5.0
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        return model.SerializeToString()

    _rewrite(folder, "encoder.onnx", perturbed)


def _swap_channels(folder: Path) -> None:
    def swapped(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        order = numpy_helper.from_array(np.array([2, 1, 0], np.int64), "swapped_order")
        model.graph.initializer.append(order)
        for node in model.graph.node:
            node.input[:] = ["swapped" if name == "pixels" else name for name in node.input]
        gather = onnx.helper.make_node("Gather", ["pixels", "swapped_order"], ["swapped"], axis=3)
        model.graph.node.insert(0, gather)
        return model.SerializeToString()

    _rewrite(folder, "encoder.onnx", swapped)


SPOILT = {
    "a flipped byte": (_flip_byte, "encoder.onnx", "sha256"),
    "a missing file": (_remove_file, "decoder.onnx", "missing"),
    "a wrong shape": (_change_shape, "reference.npz", "shape"),
    "a newer schema": (_raise_schema, "manifest.json", "2.0"),
    "a perturbed weight": (_perturb_weight, "encoder.onnx", "golden image"),
    "swapped channels": (_swap_channels, "encoder.onnx", "golden image"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_bundle_is_refused_naming_file_and_reason(
    kind: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    spoil, file, reason = SPOILT[kind]
    folder = tmp_path / "spoilt"
    shutil.copytree(tiny_bundle, folder)
    spoil(folder)
    phases: list[Phase] = []
    with pytest.raises(BundleError) as caught:
        open_model(Settings(bundle=folder, device="cpu"), Metrics([], "test"), phases.append)
    assert file in caught.value.detail
    assert reason in caught.value.detail


def test_on_a_spoilt_bundle_the_process_stays_up_and_says_why(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(tiny_bundle, folder)
    _flip_byte(folder)
    with ServiceProcess(["--bundle", str(folder)]) as service:
        service.wait_for(re.compile(r"not ready: encoder\.onnx .*sha256"))
        answer = httpx.get(f"{service.url}/health/ready")
        assert answer.status_code == 503
        assert "encoder.onnx" in answer.json()["detail"]
        assert answer.json()["detail"].startswith("The bundle cannot be served. ")
        assert (answer.json()["phase"], answer.json()["code"]) == ("failed", "bundle_corrupt")
        assert httpx.get(f"{service.url}/health/live").status_code == 200
        for refused in (
            httpx.post(f"{service.url}/v1/sample"),
            httpx.get(f"{service.url}/v1/models"),
        ):
            assert (refused.status_code, refused.json()["code"]) == (503, "bundle_corrupt")
            assert refused.json()["code"] not in PASSING_CODES
            assert "encoder.onnx" in refused.json()["detail"]
        metrics = httpx.get(f"{service.url}/metrics").text
        assert counter(metrics, "vqtok_requests_refused_total", reason="not_ready") == 1
        service.terminate()
        assert service.wait() == 0


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (BundleUnsupported("Too new."), BundleUnsupported),
        (BundleError("Odd."), BundleError),
        (RuntimeUnavailable("No runtime."), RuntimeUnavailable),
        (ModelFailure("It failed on the golden image."), BundleError),
    ],
)
def test_a_lasting_failure_is_told_as_what_it_is_each_time(
    failure: VqtokError, kind: type[VqtokError]
) -> None:
    lifecycle: Lifecycle[object] = Lifecycle(Metrics([], "test").ready)
    lifecycle.failed(failure)
    for _ in range(2):
        with pytest.raises(VqtokError, match=failure.detail) as caught:
            lifecycle.require_ready()
        assert type(caught.value) is kind
        assert status_of(caught.value) == 503
        assert caught.value is not failure


def test_a_device_that_does_not_open_ends_the_process(tiny_bundle: Path) -> None:
    with ServiceProcess(["--bundle", str(tiny_bundle), "--device", "cuda"]) as service:
        assert service.wait(30) == 1
        assert any("CUDA" in line for line in service.log)
        assert not any("Traceback" in line for line in service.log)


def test_draining_shows_in_readiness_and_refuses_what_comes() -> None:
    with ServiceProcess(["--delay", "1.0"], "tests.service.fake_model") as service:
        service.wait_ready()
        with httpx.Client(base_url=service.url) as client:
            client.get("/health/live")
            load = Load(service.port, 1, keep_alive=False)
            load.start()
            time.sleep(0.3)
            service.terminate()
            time.sleep(0.1)
            answer = client.get("/health/ready")
            assert (answer.status_code, answer.json()["code"]) == (503, "draining")
            assert client.get("/health/live").status_code == 200
            refused = client.post("/v1/sample")
            assert (refused.status_code, refused.json()["code"]) == (503, "draining")
            assert load.finish()["200"] == 1
        assert service.wait() == 0
