"""Bundles: what is refused, with the file and the reason named, and how they are written."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.vqtok.tiny_bundle import TinyModel, tiny_files, write_tiny_bundle
from vqtok.bundle import Bundle, Reference, codebook_npy, golden_check, write_bundle
from vqtok.errors import BundleCorrupt, BundleError, BundleUnsupported
from vqtok.runtime.onnx import open_engine

FILES = ("encoder.onnx", "decoder.onnx", "codebook.npy", "reference.npz", "card.md")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path)


def reseal(folder: Path, name: str, data: bytes) -> None:
    """Put other bytes in place with a digest that fits, as a careless hand would."""
    (folder / name).write_bytes(data)
    change_manifest(folder, lambda d: d["digests"].update({name: hashlib.sha256(data).hexdigest()}))


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / "manifest.json").read_bytes())
    change(document)
    (folder / "manifest.json").write_text(json.dumps(document))


def change_reference(folder: Path, **changes: Any) -> None:
    reference = Reference.from_npz((folder / "reference.npz").read_bytes())
    reseal(folder, "reference.npz", replace(reference, **changes).to_npz())


def change_weight(folder: Path, file: str, change: Callable[[Any], Any], which: int = 0) -> None:
    """Change one convolution kernel of a graph, its digest with it."""
    model = onnx.load_from_string((folder / file).read_bytes())
    kernels = [c for c in model.graph.initializer if len(c.dims) == 4]
    changed = change(numpy_helper.to_array(kernels[which]).copy())
    kernels[which].CopyFrom(numpy_helper.from_array(changed, kernels[which].name))
    reseal(folder, file, model.SerializeToString())


def prove(folder: Path) -> None:
    bundle = Bundle.open(folder)
    engine = open_engine(bundle, "cpu", num_threads=1)
    golden_check(engine, bundle.reference)


@pytest.mark.parametrize(("factor", "depth"), [(4, 1), (8, 1), (4, 3)])
def test_a_sound_bundle_opens_and_is_proven(tmp_path: Path, factor: int, depth: int) -> None:
    prove(write_tiny_bundle(tmp_path, factor=factor, depth=depth))


def test_an_opened_bundle_holds_codebook_and_reference(folder: Path) -> None:
    bundle = Bundle.open(folder)
    assert bundle.codebook.shape == (bundle.manifest.codebook_size, bundle.manifest.code_dim)
    assert bundle.reference.usage.sum() == 64 * 64
    assert bundle.read("card.md").startswith(b"# tiny")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_refused_naming_the_file(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleCorrupt, match=rf"{name} is not the file .* sha256 differs"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleCorrupt, match=f"{name} is missing"):
        Bundle.open(folder)


def test_a_folder_that_does_not_exist_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json is missing from the bundle"):
        Bundle.open(tmp_path / "nowhere")


def test_a_folder_in_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "codebook.npy").unlink()
    (folder / "codebook.npy").mkdir()
    with pytest.raises(BundleCorrupt, match=r"codebook\.npy cannot be read"):
        Bundle.open(folder)


def test_a_required_file_without_digest_is_refused(folder: Path) -> None:
    change_manifest(folder, lambda d: d["digests"].pop("encoder.onnx"))
    with pytest.raises(BundleCorrupt, match=r"no digest of encoder\.onnx"):
        Bundle.open(folder)


def test_every_byte_of_the_manifest_may_flip_without_another_kind_of_error(folder: Path) -> None:
    """Flips inside a text may go unnoticed; what is noticed is a BundleError, nothing else."""
    original = (folder / "manifest.json").read_bytes()
    refused = 0
    for position in range(0, len(original), 7):
        spoilt = bytearray(original)
        spoilt[position] ^= 0x10
        (folder / "manifest.json").write_bytes(spoilt)
        try:
            Bundle.open(folder)
        except BundleError:
            refused += 1
    assert refused > len(original) / 7 / 2


def test_a_newer_schema_and_an_unknown_requirement_are_unsupported(folder: Path) -> None:
    change_manifest(folder, lambda d: d.update(requires={"mirrors": 2}))
    with pytest.raises(BundleUnsupported, match="mirrors"):
        Bundle.open(folder)
    change_manifest(folder, lambda d: d.update(schema_version="2.0"))
    with pytest.raises(BundleUnsupported, match=r"2\.0"):
        Bundle.open(folder)


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


def test_equal_inputs_give_equal_bundles(tmp_path: Path) -> None:
    one, other = write_tiny_bundle(tmp_path / "a"), write_tiny_bundle(tmp_path / "b")
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {
        p.name: p.read_bytes() for p in other.iterdir()
    }


def test_an_existing_folder_is_kept_unless_replace_is_asked_for(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, seed=1)
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(FileExistsError):
        write_tiny_bundle(tmp_path, seed=2)
    assert (folder / "manifest.json").read_bytes() == before
    write_tiny_bundle(tmp_path, seed=2, replace=True)
    assert (folder / "manifest.json").read_bytes() != before
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny"]
    prove(folder)


def test_an_incomplete_bundle_is_not_written(tmp_path: Path) -> None:
    manifest, files = tiny_files(TinyModel())
    del files["decoder.onnx"]
    with pytest.raises(ValueError, match=r"decoder\.onnx"):
        write_bundle(tmp_path / "tiny", manifest, files)
    assert not list(tmp_path.iterdir())


WRITER = """
    import sys
    from pathlib import Path
    from tests.vqtok.tiny_bundle import TinyModel, tiny_files
    from vqtok.bundle import write_bundle

    contents = [tiny_files(TinyModel(seed=seed)) for seed in (1, 2)]
    print("ready", flush=True)
    while True:
        for manifest, files in contents:
            write_bundle(Path(sys.argv[1]), manifest, files, replace=True)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_bundle(tmp_path: Path) -> None:
    target = tmp_path / "tiny"
    target_ids = set[str]()
    for wait in (0.001, 0.01, 0.02, 0.03, 0.05):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(target)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        process.stdout.readline()
        while not target.exists():
            os.sched_yield()
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        prove(target)
        target_ids.add(Bundle.open(target).manifest.tokenizer_id)
    assert target_ids
