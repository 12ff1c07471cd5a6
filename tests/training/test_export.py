"""Export: what is in a bundle, and what is refused."""

import copy
import dataclasses
import hashlib
import io
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

import training.export
import training.reference
from models import Autoencoder, load
from tests.training.tiny import torch_tokens
from training.data import Part, Splits, load_splits
from training.data.batches import to_pixels
from training.export import ExportOptions, export_run
from training.parity import ExportRefused, Parity, measure_parity
from training.reference import build_reference, count_tokens
from training.settings import load_settings
from vqtok.bundle import Bundle, golden_check
from vqtok.runtime.engine import Engine

Pixels = NDArray[np.uint8]


@pytest.fixture
def same_graphs(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports in this test write the graphs and memory figures of `bundle`, which takes no time."""
    graphs = {name: bundle.read(f"{name}.onnx") for name in ("encoder", "decoder")}
    memory = dict(bundle.manifest.memory)
    monkeypatch.setattr(training.export, "export_encoder", lambda *_: graphs["encoder"])
    monkeypatch.setattr(training.export, "export_decoder", lambda *_: graphs["decoder"])
    monkeypatch.setattr(training.export, "bytes_per_pixel", lambda _: memory)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_export_of_other_weights_writes_nothing(
    run: Path, tmp_path: Path, same_graphs: None
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("config.toml", "result.json"):
        (other / name).write_bytes((run / name).read_bytes())
    weights = load_file(run / "model.safetensors")
    weights["encoder.head.weight"] *= 1.2
    save_file(weights, other / "model.safetensors")
    with pytest.raises(ExportRefused, match="of the tokens differ"):
        export_run(other, ExportOptions(tmp_path / "bundle"))
    assert not (tmp_path / "bundle").exists()


def test_a_golden_image_that_is_not_clear_enough_is_refused(
    model: Autoencoder, engine: Engine, cifar: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the noise of its own tokens; that of other images does not count."""
    images, measured = Part(cifar[:20], 0, 20), list[Pixels]()

    def noisy(model: Autoencoder, engine: Engine, images: Pixels) -> Parity:
        measured.append(images)
        return dataclasses.replace(measure_parity(model, engine, images), margin_noise=0.5)

    monkeypatch.setattr(training.reference, "measure_parity", noisy)
    with pytest.raises(ExportRefused, match=r"margin of .* less than 100 times .*\(0\.5\)"):
        build_reference(engine, model, Splits(images, Part(cifar[:20], 20, 20), images))
    clearest = engine.encode(cifar[:20]).margins.reshape(20, -1).min(axis=1).argmax()
    assert [image.tolist() for image in measured] == [cifar[clearest][None].tolist()]


def test_the_bundle_opens_and_its_golden_image_holds(bundle: Bundle, engine: Engine) -> None:
    golden_check(engine, bundle.reference)
    assert bundle.reference.probe_margins is not None
    least = float(bundle.reference.golden_margins.min())
    assert least >= 100 * bundle.manifest.parity["margin_noise"]


def test_the_golden_image_is_the_clearest_of_the_last_training_images(
    bundle: Bundle, engine: Engine, run: Path
) -> None:
    train = load_splits(load_settings(run / "config.toml").data).train.images
    images = np.stack([train[index] for index in range(len(train))])
    clearest = engine.encode(images).margins.reshape(len(images), -1).min(axis=1).argmax()
    assert np.array_equal(bundle.reference.golden_image, images[clearest])


def test_usage_counts_the_training_images_and_no_others(
    bundle: Bundle, engine: Engine, run: Path
) -> None:
    train = load_splits(load_settings(run / "config.toml").data).train
    tokens = engine.encode(np.stack([train[i] for i in range(len(train))])).tokens
    assert np.array_equal(bundle.reference.usage, np.bincount(tokens.reshape(-1), minlength=16))
    counts = (tokens[..., None] == np.arange(16)).sum(axis=0)
    assert np.array_equal(bundle.reference.position_counts, counts)
    counted = count_tokens(engine, 16, train)
    assert np.array_equal(counted.position_counts, counts)
    assert np.array_equal(counted.tokens, tokens)


def test_the_manifest_says_what_the_run_was(bundle: Bundle, run: Path) -> None:
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.method) == ("tiny-gmvq", "1", "gmvq")
    assert (manifest.grid, manifest.depth) == ((8, 8), 1)
    assert (manifest.codebook_size, manifest.code_dim) == (16, 4)
    assert (manifest.image.factor, manifest.image.native_size) == (4, (32, 32))
    assert manifest.parity["images"] == 112
    origin = manifest.provenance
    assert (origin["training_images"], origin["steps"], origin["epochs"]) == (96, 36, 3)
    assert origin["settings"]["name"] == "tiny-gmvq"
    assert {"mse", "psnr", "ssim", "perplexity", "soft_perplexity"} <= set(manifest.metrics["test"])


def test_memory_is_measured_and_plausible(bundle: Bundle) -> None:
    memory = bundle.manifest.memory
    assert set(memory) == {"encoder_bytes_per_pixel", "decoder_bytes_per_pixel"}
    for figure in memory.values():
        assert 4 < figure < 5_000


def test_the_codebook_file_is_the_table_that_tokens_look_up(
    bundle: Bundle, model: Autoencoder
) -> None:
    assert np.array_equal(bundle.codebook, model.quantizer.code_table().detach().numpy())


def test_loading_the_bundle_gives_the_module_with_the_same_tokens(
    bundle: Bundle, engine: Engine, cifar: Pixels
) -> None:
    module = load(bundle.folder)
    assert not module.training
    tokens = torch_tokens(module, cifar[:50])
    assert np.mean(tokens != engine.encode(cifar[:50]).tokens) <= 1e-3
    pixels = to_pixels(torch.from_numpy(cifar[:2])).requires_grad_()
    module.decoder(module.encoder(pixels)[:, :4]).sum().backward()
    assert pixels.grad is not None


def test_files_hold_no_paths_and_no_stack_traces(bundle: Bundle) -> None:
    for name in ("encoder.onnx", "decoder.onnx"):
        data = bundle.read(name)
        for trace in (b"/work", b"/tmp", b"/home", b"site-packages", b".py", b"forward("):
            assert trace not in data, f"{trace!r} in {name}"


def test_graphs_hold_their_weights_and_name_their_ports(bundle: Bundle) -> None:
    for name, ports in (
        ("encoder", ["pixels", "tokens", "margins"]),
        ("decoder", ["tokens", "pixels"]),
    ):
        graph = onnx.load_from_string(bundle.read(f"{name}.onnx")).graph
        assert [port.name for port in (*graph.input, *graph.output)] == ports
        assert all(not tensor.external_data for tensor in graph.initializer)


def test_a_second_export_of_a_run_writes_the_same_bytes(
    run: Path, bundle: Bundle, tmp_path: Path, same_graphs: None
) -> None:
    export_run(run, ExportOptions(tmp_path / "again"))
    assert contents(tmp_path / "again") == contents(bundle.folder)


def test_an_existing_bundle_is_left_untouched_without_replace(
    run: Path, tmp_path: Path, same_graphs: None
) -> None:
    target = tmp_path / "bundle"
    export_run(run, ExportOptions(target))
    before = contents(target)
    with pytest.raises(FileExistsError, match="--replace"):
        export_run(run, ExportOptions(target, version="2"))
    assert contents(target) == before
    assert export_run(run, ExportOptions(target, version="2", replace=True)).version == "2"
    assert Bundle.open(target).manifest.version == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def ids_of(model: Autoencoder, run: Path) -> tuple[str, str]:
    draft = training.export._draft(load_settings(run / "config.toml"), model, (32, 32), "1")
    return draft.codebook_id, draft.tokenizer_id


@pytest.mark.parametrize(
    ("part", "same_codebook", "same_tokenizer"),
    [
        ("encoder.body.0.0.weight", True, False),
        ("encoder.body.0.1.running_mean", True, False),
        ("encoder.head.bias", True, False),
        ("quantizer.offset", True, False),
        ("decoder.to_pixels.weight", False, True),
        ("decoder.body.1.body.1.1.running_var", False, True),
        ("quantizer.codebook", False, False),
        ("encoder.body.0.1.num_batches_tracked", True, True),
    ],
)
def test_ids_change_with_what_they_name(
    run: Path, model: Autoencoder, part: str, same_codebook: bool, same_tokenizer: bool
) -> None:
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.state_dict()[part].add_(1)
    before, after = ids_of(model, run), ids_of(changed, run)
    assert (before[0] == after[0], before[1] == after[1]) == (same_codebook, same_tokenizer)


def test_the_manifest_has_these_ids(run: Path, bundle: Bundle, model: Autoencoder) -> None:
    manifest = bundle.manifest
    assert (manifest.codebook_id, manifest.tokenizer_id) == ids_of(model, run)


def test_photographs_are_reconstructed_at_their_own_size(
    run: Path, bundle: Bundle, data_dir: Path, tmp_path: Path, same_graphs: None
) -> None:
    photograph = data_dir / "odd-images" / "valid" / "scikit-image" / "chelsea.png"
    options = ExportOptions(tmp_path / "b", beside=[bundle.folder], photographs=[photograph])
    manifest = export_run(run, options)
    assert 5 < manifest.metrics["photographs"]["chelsea"]["psnr"] < 40
    written = Bundle.open(tmp_path / "b")
    assert "chelsea: " in written.read("card.md").decode()
    picture = Image.open(io.BytesIO(written.read("photographs.png")))
    with Image.open(photograph) as original:
        height = original.height
    assert height <= picture.height < height + 20


def test_a_run_without_test_images_is_exported_without_figures(
    run: Path, real_images: Path, tmp_path: Path, same_graphs: None
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("config.toml", "result.json", "model.safetensors"):
        (other / name).write_bytes((run / name).read_bytes())
    config = (other / "config.toml").read_text()
    (other / "config.toml").write_text(config.replace(str(real_images), str(real_images / "train")))
    manifest = export_run(other, ExportOptions(tmp_path / "bundle"))
    assert "test" not in manifest.metrics
    assert "## Figures" not in (tmp_path / "bundle" / "card.md").read_text()


def test_every_file_has_the_digest_of_the_manifest(bundle: Bundle) -> None:
    names = {path.name for path in bundle.folder.iterdir()} - {"manifest.json"}
    assert names == set(bundle.manifest.digests)
    for name, digest in bundle.manifest.digests.items():
        assert hashlib.sha256((bundle.folder / name).read_bytes()).hexdigest() == digest
    assert {"model.safetensors", "config.toml", "card.md", "reconstructions.png"} <= names
