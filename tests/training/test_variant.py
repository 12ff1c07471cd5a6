"""The int8 variant of a bundle: the same codebook, other tokens, and a gate before it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import training.variant
from models import load
from training.int8 import constants, in_int8
from training.parity import ExportRefused
from training.variant import VariantOptions, make_int8
from vqtok.bundle import Bundle, golden_check
from vqtok.runtime.onnx import open_engine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def variant(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of the tiny bundle, which may lose more than a trained one."""
    folder = tmp_path_factory.mktemp("variant") / "int8"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.variant, "MOST_RISE", 0.5)
        make_int8(bundle.folder, VariantOptions(folder, images=64))
    return Bundle.open(folder)


def test_its_tokens_are_its_own_and_its_codebook_is_not(bundle: Bundle, variant: Bundle) -> None:
    ours, theirs = variant.manifest, bundle.manifest
    assert ours.precision == "int8"
    assert ours.codebook_id == theirs.codebook_id
    assert ours.tokenizer_id != theirs.tokenizer_id
    assert ours.name == f"{theirs.name}-int8"
    np.testing.assert_array_equal(variant.codebook, bundle.codebook)
    golden_check(open_engine(variant, "cpu"), variant.reference)


def test_all_convolutions_but_two_compute_in_int8(bundle: Bundle, variant: Bundle) -> None:
    for name in ("encoder.onnx", "decoder.onnx"):
        number = sum(n.op_type == "Conv" for n in _nodes(bundle, name))
        in_eight_bits = {i.name for i in _graph(variant, name).initializer if i.data_type == 3}
        weights = [each for each in in_eight_bits if each.endswith("_quantized")]
        assert len(weights) == number - 2


def _graph(bundle: Bundle, name: str) -> onnx.GraphProto:
    return onnx.load_from_string(bundle.read(name)).graph


def _nodes(bundle: Bundle, name: str) -> list[onnx.NodeProto]:
    return list(_graph(bundle, name).node)


def test_a_token_does_not_depend_on_its_company(variant: Bundle, cifar: NDArray[np.uint8]) -> None:
    engine = open_engine(variant, "cpu")
    together = engine.encode(cifar[:20])
    for index in range(20):
        alone = engine.encode(cifar[index : index + 1])
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[index])


def test_what_it_lost_is_measured(variant: Bundle) -> None:
    parity = variant.manifest.parity
    assert 0.3 < parity["token_agreement"] < 1.0
    assert parity["mse"] < 1.5 * parity["float32_mse"]
    assert parity["encode_speed"] > 0
    assert variant.manifest.provenance["calibration_images"] == 64
    assert "int8" in (variant.folder / "card.md").read_text()


def test_its_weights_are_those_that_it_was_made_from(bundle: Bundle, variant: Bundle) -> None:
    ours, theirs = load(variant.folder).state_dict(), load(bundle.folder).state_dict()
    assert all(bool((ours[name] == theirs[name]).all()) for name in theirs)


def test_where_the_error_rises_too_much_nothing_is_written(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.variant, "MOST_RISE", -0.9)
    with pytest.raises(ExportRefused, match=r"rises by .* stays in float32"):
        make_int8(bundle.folder, VariantOptions(tmp_path / "int8", images=64))
    assert not (tmp_path / "int8").exists()


def test_a_variant_of_a_variant_is_refused(variant: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is in int8: name the float32 bundle"):
        make_int8(variant.folder, VariantOptions(tmp_path / "again"))


def test_other_calibration_is_another_tokenizer(bundle: Bundle, cifar: NDArray[np.uint8]) -> None:
    graph = bundle.read("encoder.onnx")
    one, other = (
        constants(in_int8(graph, [{"pixels": some}])) for some in (cifar[:16], cifar[16:32] // 2)
    )
    assert one.keys() == other.keys()
    assert any(not np.array_equal(one[name], other[name]) for name in one)
    again = constants(in_int8(graph, [{"pixels": cifar[:16]}]))
    assert all(np.array_equal(one[name], again[name]) for name in one)
