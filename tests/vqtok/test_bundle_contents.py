"""Files of a bundle whose digests fit and whose contents do not: refused, with the reason."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.vqtok.spoilt_bundle import change_manifest, change_reference, prove, reseal
from tests.vqtok.tiny_bundle import write_tiny_bundle
from vqtok.bundle import Bundle, codebook_npy
from vqtok.errors import BundleCorrupt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path)


@pytest.mark.parametrize(
    "table",
    [
        np.zeros((32, 5), np.float32),
        np.zeros((31, 4), np.float32),
        np.zeros((1, 32, 4), np.float32),
        np.full((32, 4), np.nan, np.float32),
    ],
)
def test_a_codebook_of_wrong_shape_or_values_is_refused(folder: Path, table: Any) -> None:
    reseal(folder, "codebook.npy", codebook_npy(table))
    with pytest.raises(BundleCorrupt, match=r"codebook\.npy"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["codebook.npy", "reference.npz", "encoder.onnx", "decoder.onnx"])
@pytest.mark.parametrize("data", [b"", b"rubbish", b"\x93NUMPY", b"PK\x03\x04"])
def test_a_file_that_does_not_read_is_named(folder: Path, name: str, data: bytes) -> None:
    reseal(folder, name, data)
    with pytest.raises(BundleCorrupt, match=name):
        Bundle.open(folder)


REFERENCES: list[dict[str, Any]] = [
    {"usage": np.zeros(31, np.int64)},
    {"usage": np.full(32, -1, np.int64)},
    {"position_counts": np.zeros((8, 7, 32), np.uint32)},
    {"golden_tokens": np.full((8, 8), 32, np.int32)},
    {"golden_tokens": np.zeros((8, 8, 1), np.int32)},
    {"golden_margins": np.zeros((4, 4), np.float32)},
    {"golden_image": np.zeros((32, 32), np.uint8)},
    {"golden_reconstruction": np.zeros((32, 31, 3), np.uint8)},
]


@pytest.mark.parametrize("change", REFERENCES, ids=range(len(REFERENCES)))
def test_a_reference_array_that_does_not_fit_is_named(folder: Path, change: dict[str, Any]) -> None:
    change_reference(folder, **change)
    with pytest.raises(BundleCorrupt, match=rf"reference\.npz: {next(iter(change))}"):
        Bundle.open(folder)


def test_a_reference_without_an_array_names_it(folder: Path) -> None:
    with np.load(folder / "reference.npz") as archive:
        kept = {name: archive[name] for name in archive.files if name != "usage"}
    np.savez(folder / "other.npz", **kept)
    reseal(folder, "reference.npz", (folder / "other.npz").read_bytes())
    with pytest.raises(BundleCorrupt, match=r"reference\.npz lacks an array: .*usage"):
        Bundle.open(folder)


def test_a_reference_may_hold_more_than_this_reader_knows(folder: Path) -> None:
    with np.load(folder / "reference.npz") as archive:
        arrays = {**archive, "of_a_later_version": np.zeros(3)}
    np.savez(folder / "other.npz", **arrays)
    reseal(folder, "reference.npz", (folder / "other.npz").read_bytes())
    prove(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"codebook_size": 64}, r"reference\.npz: usage"),
        ({"code_dim": 8}, r"codebook\.npy"),
        ({"outputs": ["tokens", "margins", "posterior_entropy"]}, r"encoder\.onnx has no output"),
    ],
)
def test_a_manifest_that_does_not_fit_its_files_is_refused(
    folder: Path, changes: dict[str, Any], reason: str
) -> None:
    change_manifest(folder, lambda d: d.update(changes))
    with pytest.raises(BundleCorrupt, match=reason):
        Bundle.open(folder)


def test_graphs_of_another_rank_or_swapped_graphs_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    deep = write_tiny_bundle(tmp_path, "deep", depth=2)
    encoder = (folder / "encoder.onnx").read_bytes()
    reseal(folder, "encoder.onnx", (deep / "encoder.onnx").read_bytes())
    with pytest.raises(BundleCorrupt, match=r"encoder\.onnx: tokens has rank 4, not 3"):
        Bundle.open(folder)
    reseal(folder, "encoder.onnx", (folder / "decoder.onnx").read_bytes())
    with pytest.raises(BundleCorrupt, match=r"encoder\.onnx takes \['tokens'\]"):
        Bundle.open(folder)
    reseal(folder, "encoder.onnx", encoder)
    prove(folder)


def test_a_fixed_batch_axis_or_another_input_type_is_refused(folder: Path) -> None:
    original = (folder / "encoder.onnx").read_bytes()
    model = onnx.load_from_string(original)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    reseal(folder, "encoder.onnx", model.SerializeToString())
    with pytest.raises(BundleCorrupt, match="axis 0 of pixels is fixed to 1"):
        Bundle.open(folder)
    model = onnx.load_from_string(original)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    reseal(folder, "encoder.onnx", model.SerializeToString())
    with pytest.raises(BundleCorrupt, match="pixels is float32, not uint8"):
        Bundle.open(folder)
