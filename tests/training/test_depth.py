"""Several tokens a cell, all the way: trained, exported, opened, and served over HTTP."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

import training.export
from models import load
from tests.service.process import ServiceProcess
from tests.training.tiny import (
    one_thread,
    smooth_images,
    tiny_settings,
    torch_tokens,
    write_images,
)
from training.data.batches import to_pixels
from training.export import ExportOptions, export_run
from training.results import read_result
from training.runs import evaluate_folder, train
from vqtok.bundle import Bundle
from vqtok.images import write_image
from vqtok.tokenizer import Tokenizer
from vqtok.wire.npy_format import read_array, write_array

DEPTH, K, D, GRID = 3, 16, 4, (4, 4)
pytestmark = pytest.mark.slow
NPY = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
JSON_BODY = {"Content-Type": "application/json", "Accept": "application/x-npy"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of residual VQ, 48 images to train on and 16 to validate."""
    folder = tmp_path_factory.mktemp("depth")
    images = write_images(folder / "images" / "train", smooth_images(64)).parent
    write_images(images / "test", smooth_images(24, seed=1))
    changes = {"model.quantizer.depth": DEPTH, "schedule.epochs": 4}
    with one_thread():
        train(tiny_settings("rvq", images, changes), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """What its export writes; the figures of memory are made up."""
    folder = tmp_path_factory.mktemp("bundles") / "rvq"
    figures = {"encoder_bytes_per_pixel": 100.0, "decoder_bytes_per_pixel": 100.0}
    with pytest.MonkeyPatch.context() as patched, one_thread():
        patched.setattr(training.export, "bytes_per_pixel", lambda _: figures)
        export_run(run, ExportOptions(folder))
    return Bundle.open(folder)


@pytest.fixture(scope="module")
def local(bundle: Bundle) -> Iterator[Tokenizer]:
    with Tokenizer.open(bundle.folder, device="cpu") as tokenizer:
        yield tokenizer


@pytest.fixture(scope="module")
def service(bundle: Bundle) -> Iterator[ServiceProcess]:
    with ServiceProcess(["--bundle", str(bundle.folder), "--device", "cpu"]) as process:
        yield process.wait_ready()


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as opened:
        yield opened


def pictures(count: int = 5) -> np.ndarray:
    return smooth_images(count, seed=9)


def test_the_bundle_states_depth_everywhere(bundle: Bundle) -> None:
    manifest, reference = bundle.manifest, bundle.reference
    assert (manifest.depth, manifest.grid) == (DEPTH, (*GRID, DEPTH))
    assert bundle.codebook.shape == (DEPTH, K, D)
    assert reference.usage.shape == (DEPTH, K)
    assert reference.position_counts.shape == (*GRID, DEPTH, K)
    assert reference.golden_tokens.shape == (*GRID, DEPTH)
    assert reference.golden_margins.shape == GRID
    assert reference.usage.sum(axis=1).tolist() == [48 * 16] * DEPTH
    assert "4 × 4 × 3 tokens of 16 codes (4 bits each)" in bundle.read("card.md").decode()


def test_graphs_have_the_tokens_of_pytorch(bundle: Bundle, run: Path, local: Tokenizer) -> None:
    expected = torch_tokens(load(run), pictures())
    found = np.stack([each.tokens for each in local.encode(list(pictures())).images])
    assert found.shape == (5, *GRID, DEPTH)
    assert np.mean(found != expected) <= 1e-3
    assert bundle.manifest.parity["differing_tokens"] <= 1e-3
    for level in range(DEPTH):
        assert len(np.unique(found[..., level])) > 3


def test_each_level_lowers_the_error(run: Path) -> None:
    quantizer = load(run).quantizer
    with torch.no_grad():
        rest = load(run).encoder(to_pixels(torch.from_numpy(pictures(40))))
    tokens, errors = quantizer.indices(rest), [float(rest.square().mean())]
    for table, chosen in zip(quantizer.code_table(), tokens.unbind(-1), strict=True):
        rest = rest - table[chosen].permute(0, 3, 1, 2)
        errors.append(float(rest.square().mean()))
    assert errors == sorted(errors, reverse=True)


def test_figures_of_the_run_and_of_the_graphs_agree(run: Path, bundle: Bundle) -> None:
    from_graphs = evaluate_folder(bundle.folder, "test")
    from_pytorch = evaluate_folder(run, "test")
    for name in ("perplexity", "bits_per_cell", "used_codes", "num_tokens"):
        assert from_graphs[name] == pytest.approx(from_pytorch[name], rel=1e-3), name
    assert from_graphs["num_tokens"] == 24 * 16 * DEPTH
    assert 1.0 < from_graphs["perplexity"] <= K
    assert from_graphs["bits_per_cell"] == pytest.approx(DEPTH * np.log2(from_graphs["perplexity"]))
    assert bundle.manifest.metrics["test"]["perplexity"] == from_graphs["perplexity"]
    assert read_result(run)["metrics"]["validation"]["soft_perplexity"] <= K


def test_tokens_over_http_are_those_in_process(client: httpx.Client, local: Tokenizer) -> None:
    expected = np.stack([each.tokens for each in local.encode(list(pictures())).images])
    array = client.post("/v1/encode", content=write_array(pictures()), headers=NPY)
    np.testing.assert_array_equal(read_array(array.content), expected)
    body = {"images": [base64.b64encode(write_image(each)).decode() for each in pictures()]}
    for item, tokens in zip(
        client.post("/v1/encode", json=body).json()["items"], expected, strict=True
    ):
        assert item["grid"] == [*GRID, DEPTH]
        np.testing.assert_array_equal(item["tokens"], tokens)
    flat = client.post("/v1/encode?layout=flat", json=body).json()["items"]
    np.testing.assert_array_equal([item["tokens"] for item in flat], expected.reshape(5, -1))


def test_pictures_over_http_are_those_in_process(client: httpx.Client, local: Tokenizer) -> None:
    batch = local.encode(list(pictures()))
    expected = np.stack(local.decode(batch))
    tokens = np.stack([each.tokens for each in batch.images])
    array = client.post("/v1/decode", content=write_array(tokens), headers=NPY)
    np.testing.assert_array_equal(read_array(array.content), expected)
    one = {"items": [{"grid": [*GRID, DEPTH], "tokens": tokens[0].tolist()}]}
    png = client.post("/v1/decode", json=one, headers={"Accept": "image/png"})
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png.content))), expected[0])
    rebuilt = client.post("/v1/reconstruct", content=write_array(pictures()), headers=NPY)
    np.testing.assert_array_equal(read_array(rebuilt.content), expected)


def test_the_client_gives_what_the_bundle_gives(
    service: ServiceProcess, local: Tokenizer, bundle: Bundle
) -> None:
    with Tokenizer.connect(service.url) as remote:
        assert remote.info.depth == DEPTH
        np.testing.assert_array_equal(remote.codebook(), bundle.codebook)
        ours, theirs = (each.encode(list(pictures())) for each in (local, remote))
        for one, other in zip(ours.images, theirs.images, strict=True):
            np.testing.assert_array_equal(one.tokens, other.tokens)
        for one, other in zip(local.decode(ours), remote.decode(theirs), strict=True):
            np.testing.assert_array_equal(one, other)
        here, there = (each.sample(3, seed=5) for each in (local, remote))
        np.testing.assert_array_equal(np.stack(here.images), np.stack(there.images))


@pytest.mark.parametrize(
    "shape", [(1, 4, 4), (1, 4, 4, 2), (1, 3, 4, 4)], ids=["no depth", "less", "depth first"]
)
def test_tokens_of_another_depth_are_refused(client: httpx.Client, shape: tuple[int, ...]) -> None:
    answer = client.post("/v1/decode", content=write_array(np.zeros(shape, np.uint16)), headers=NPY)
    assert answer.status_code == 422
    assert "depth" in answer.json()["detail"] or "(h, w, 3)" in answer.json()["detail"]


def test_samples_have_depth_and_codes_that_stood_there(
    client: httpx.Client, bundle: Bundle
) -> None:
    answer = client.post("/v1/sample", json={"n": 20, "seed": 3}, headers=JSON_BODY)
    tokens = read_array(answer.content)
    assert tokens.shape == (20, *GRID, DEPTH)
    assert len(answer.headers["vqtok-bits"].split(",")) == 20
    for level in range(DEPTH):
        seen = np.flatnonzero(bundle.reference.usage[level])
        assert set(np.unique(tokens[..., level])) <= set(seen)


def test_statistics_have_an_entry_for_each_level(client: httpx.Client, bundle: Bundle) -> None:
    client.post("/v1/encode", content=write_array(pictures()), headers=NPY)
    stats = client.get("/v1/codebook/stats").json()
    observed = stats["native"]["since_start"]["usage"]
    for name in ("training", "distances"):
        assert len(stats[name]) == DEPTH, name
    assert len(observed) == DEPTH
    usage = bundle.reference.usage
    for level, entry in enumerate(stats["training"]):
        shares = usage[level][usage[level] > 0] / usage[level].sum()
        assert entry["perplexity"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
        assert observed[level]["num_tokens"] == observed[0]["num_tokens"] > 0
    table = read_array(client.get("/v1/codebook").content)
    np.testing.assert_array_equal(table, bundle.codebook)
