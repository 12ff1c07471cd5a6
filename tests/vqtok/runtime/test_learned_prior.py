"""The learned prior of a bundle: what its graph gives, whatever else is asked at the same time."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.vqtok.tiny_bundle import prior_spec, tiny_files, write_tiny_bundle
from tests.vqtok.tiny_model import TinyModel
from vqtok.bundle import Bundle, write_bundle
from vqtok.errors import BundleCorrupt, ModelFailure
from vqtok.manifest import Manifest
from vqtok.priors import TablePrior, Wish, draw_all
from vqtok.runtime.learned_prior import OnnxPrior, PriorSession
from vqtok.runtime.onnx import load_runtime, prior_of
from vqtok.runtime.sessions import open_session, runtime_errors, session_options

MODEL = TinyModel(prior=True)
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 33, (7, 64)).astype(np.int32)
LABELS = RNG.integers(0, 3, 7).astype(np.int32)
POSITIONS = RNG.integers(0, 64, (7, 50)).astype(np.int32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles"), prior=True))


def with_rows(bundle: Bundle, num_rows: int) -> OnnxPrior:
    ort = load_runtime()
    session = open_session(ort, bundle.read("prior.onnx"), "prior.onnx", session_options(ort))
    opened = PriorSession(session, runtime_errors(ort), num_rows, "00" * 32, "any runtime")
    return OnnxPrior(opened, bundle.manifest, prior_spec(MODEL))


def test_a_bundle_without_one_draws_from_its_table(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    assert isinstance(prior_of(bundle, bundle.reference, "cpu"), TablePrior)


@pytest.mark.parametrize("num_rows", [1, 4, 16])
def test_rows_and_positions_are_cut_and_filled_to_the_one_shape(
    bundle: Bundle, num_rows: int
) -> None:
    ort = load_runtime()
    session = ort.InferenceSession(bundle.read("prior.onnx"), providers=["CPUExecutionProvider"])
    feed = {"tokens": TOKENS, "labels": LABELS, "positions": POSITIONS}
    expected = session.run(["logits"], feed)[0]
    found = with_rows(bundle, num_rows).logits(TOKENS, LABELS, POSITIONS)
    assert found.shape == (7, 50, 32)
    assert np.allclose(found, expected, atol=1e-5)


def test_a_row_gives_the_same_bits_wherever_it_stands(bundle: Bundle) -> None:
    prior = with_rows(bundle, 4)
    whole = prior.logits(TOKENS, LABELS, POSITIONS)
    for row in range(7):
        alone = prior.logits(TOKENS[[row]], LABELS[[row]], POSITIONS[[row]])
        assert np.array_equal(alone[0], whole[row])


@pytest.mark.parametrize("depth", [1, 2])
def test_samples_of_any_depth(tmp_path: Path, depth: int) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path, prior=True, depth=depth))
    drawn = draw_all(prior_of(bundle, bundle.reference, "cpu"), Wish(3))
    assert drawn.tokens.shape == (3, *bundle.manifest.grid)


def test_a_token_that_is_no_code_is_a_failure_of_the_model(bundle: Bundle) -> None:
    with pytest.raises(ModelFailure, match="onnxruntime failed"):
        with_rows(bundle, 1).logits(TOKENS + 40, LABELS, POSITIONS)


def test_the_manifest_carries_it_there_and_back(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.prior == prior_spec(MODEL)
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"groups": (0,) * 63}, "groups and order do not fit"),
        ({"groups": (0,) * 63 + (2,)}, "groups and order do not fit"),
        ({"order": (0,) * 64}, "groups and order do not fit"),
    ],
)
def test_groups_that_do_not_fit_the_grid_are_refused(
    change: dict[str, tuple[int, ...]], words: str
) -> None:
    manifest, _ = tiny_files(MODEL)
    with pytest.raises(BundleCorrupt, match=words):
        dataclasses.replace(manifest, prior=dataclasses.replace(prior_spec(MODEL), **change))


def test_a_manifest_that_promises_a_prior_needs_its_graph(tmp_path: Path) -> None:
    manifest, files = tiny_files(MODEL)
    del files["prior.onnx"]
    write_bundle(tmp_path / "b", manifest, files)
    with pytest.raises(BundleCorrupt, match=r"no digest of prior.onnx"):
        Bundle.open(tmp_path / "b")


def test_a_graph_with_other_inputs_is_refused(tmp_path: Path) -> None:
    manifest, files = tiny_files(MODEL)
    graph = onnx.load_from_string(files["prior.onnx"])
    for node in graph.graph.node:
        node.input[:] = ["classes" if name == "labels" else name for name in node.input]
    graph.graph.input[1].name = "classes"
    write_bundle(tmp_path / "b", manifest, {**files, "prior.onnx": graph.SerializeToString()})
    with pytest.raises(BundleCorrupt, match="not the inputs 'tokens', 'labels'"):
        Bundle.open(tmp_path / "b")
