"""The proof of a bundle: graphs that load and compute something else than they did are found."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.vqtok.spoilt_bundle import change_reference, change_weight, prove, reseal
from tests.vqtok.tiny_bundle import write_tiny_bundle
from vqtok.bundle import Bundle
from vqtok.errors import BundleCorrupt
from vqtok.runtime.onnx import open_engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path)


@pytest.mark.parametrize(("factor", "depth"), [(4, 1), (8, 1), (4, 3)])
def test_a_sound_bundle_opens_and_is_proven(tmp_path: Path, factor: int, depth: int) -> None:
    prove(write_tiny_bundle(tmp_path, factor=factor, depth=depth))


@pytest.mark.parametrize("file", ["encoder.onnx", "decoder.onnx"])
@pytest.mark.parametrize("which", [0, -1])
def test_a_perturbed_weight_with_a_fitting_digest_is_found(
    folder: Path, file: str, which: int
) -> None:
    def perturb(kernel: Any) -> Any:
        kernel.flat[kernel.size // 2] += 0.05
        return kernel

    change_weight(folder, file, perturb, which)
    Bundle.open(folder)
    with pytest.raises(BundleCorrupt, match=rf"{file} gives .* its weights"):
        prove(folder)


def test_a_change_that_the_golden_image_does_not_show_is_found_by_the_probe(folder: Path) -> None:
    """A code that stands nowhere in the golden tokens."""
    reference = Bundle.open(folder).reference
    unused = int(np.setdiff1d(np.arange(32), reference.golden_tokens)[0])
    model = onnx.load_from_string((folder / "decoder.onnx").read_bytes())
    (table,) = [c for c in model.graph.initializer if list(c.dims) == [32, 4]]
    values = numpy_helper.to_array(table).copy()
    values[unused] += 0.5
    table.CopyFrom(numpy_helper.from_array(values, table.name))
    reseal(folder, "decoder.onnx", model.SerializeToString())
    with pytest.raises(BundleCorrupt, match=r"decoder\.onnx gives the probe another picture"):
        prove(folder)
    change_reference(folder, probe_margins=None, probe_pixels=None)
    prove(folder)


def test_swapped_channels_with_a_fitting_digest_are_found(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    change_weight(folder, "encoder.onnx", lambda kernel: kernel[:, ::-1].copy(), 0)
    with pytest.raises(BundleCorrupt, match=r"encoder\.onnx .* channel order"):
        prove(folder)
    folder = write_tiny_bundle(tmp_path, "other")
    change_weight(folder, "decoder.onnx", lambda kernel: kernel[::-1].copy(), -1)
    with pytest.raises(BundleCorrupt, match=r"decoder\.onnx .* channel order"):
        prove(folder)


def test_a_graph_of_another_factor_is_found(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    other = write_tiny_bundle(tmp_path, "other", factor=8)
    reseal(folder, "encoder.onnx", (other / "encoder.onnx").read_bytes())
    with pytest.raises(BundleCorrupt, match=r"encoder\.onnx gives the golden image a grid of"):
        prove(folder)


def test_a_bundle_changed_after_it_was_opened_is_noticed_by_the_engine(folder: Path) -> None:
    bundle = Bundle.open(folder)
    (folder / "decoder.onnx").write_bytes(b"other")
    with pytest.raises(BundleCorrupt, match=r"decoder\.onnx"):
        open_engine(bundle, "cpu")
