"""Export: graphs that tokenize as PyTorch does, for every quantizer, or no bundle at all."""

import copy
import dataclasses
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

import training.export
from models import Autoencoder, load
from models.quantizers import QUANTIZERS
from tests.training.tiny import tiny_settings
from training.card import card, verdict
from training.data import Part, load_splits
from training.data.batches import to_pixels
from training.export import ExportOptions, export_run
from training.graphs import export_decoder, export_encoder
from training.loop import Trainer
from training.parity import NEAR_TIE, ExportRefused, measure_parity
from training.reference import build_reference, count_positions
from training.settings import load_settings
from training.tables import Row
from vqtok.bundle import Bundle, golden_check
from vqtok.runtime.engine import Engine
from vqtok.runtime.onnx import open_engine

Pixels = NDArray[np.uint8]
REPRESENTATIVE = "gmvq"
METHODS = [
    method if method == REPRESENTATIVE else pytest.param(method, marks=pytest.mark.slow)
    for method in QUANTIZERS
]


@pytest.fixture
def engine(bundle: Bundle) -> Engine:
    return open_engine(bundle, "cpu", num_threads=1)


@pytest.fixture
def model(run: Path) -> Autoencoder:
    return load(run)


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


def torch_tokens(model: Autoencoder, images: Pixels) -> NDArray[np.int64]:
    with torch.no_grad():
        return model.encode(to_pixels(torch.from_numpy(images))).numpy()


@dataclasses.dataclass
class InMemory:
    """Graphs that no folder holds."""

    manifest: Any
    files: dict[str, bytes]

    def read(self, name: str) -> bytes:
        return self.files[name]


def exported(settings_model: Autoencoder, bundle: Bundle) -> Engine:
    """An engine on freshly exported graphs of a model of the bundle's shapes."""
    files = {
        "encoder.onnx": export_encoder(settings_model, (32, 32)),
        "decoder.onnx": export_decoder(settings_model, (8, 8)),
    }
    return open_engine(InMemory(bundle.manifest, files), "cpu", num_threads=1)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def _engines() -> dict[str, tuple[Autoencoder, Engine]]:
    return {}


@pytest.fixture(params=METHODS)
def pair(
    request: pytest.FixtureRequest,
    _engines: dict[str, tuple[Autoencoder, Engine]],
    bundle: Bundle,
    run: Path,
    real_images: Path,
    tmp_path: Path,
) -> tuple[Autoencoder, Engine]:
    """A trained model of each quantizer and its graphs."""
    method: str = request.param
    if method not in _engines:
        if method == REPRESENTATIVE:
            _engines[method] = load(run), open_engine(bundle, "cpu", num_threads=1)
        else:
            settings = tiny_settings(method, real_images, {"data.image_size": 32})
            trainer = Trainer(settings, load_splits(settings.data), tmp_path)
            trainer.run()
            _engines[method] = trainer.model.eval(), exported(trainer.model.eval(), bundle)
    return _engines[method]


def test_graphs_pass_the_gate_and_give_the_tokens_and_pixels_of_pytorch(
    pair: tuple[Autoencoder, Engine], cifar: Pixels
) -> None:
    model, engine = pair
    images = cifar[200:400]
    parity = measure_parity(model, engine, images)
    assert (parity.images, parity.tokens) == (200, 200 * 64)
    assert parity.differing_tokens <= 1e-3
    assert parity.largest_gap <= NEAR_TIE
    assert parity.pixel_difference <= 1
    assert parity.margin_noise < 1e-3
    tokens = engine.encode(images).tokens
    assert np.mean(tokens != torch_tokens(model, images)) == parity.differing_tokens
    assert len(np.unique(tokens)) > 2


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (8, 4), (64, 32), (20, 52)])
def test_graphs_run_at_any_batch_and_grid(
    pair: tuple[Autoencoder, Engine], batch: int, size: tuple[int, int], cifar: Pixels
) -> None:
    model, engine = pair
    height, width = size
    tiled = np.tile(cifar[:batch], (1, 2, 2, 1))[:, :height, :width]
    encoded = engine.encode(np.ascontiguousarray(tiled))
    grid = (batch, height // 4, width // 4)
    assert encoded.tokens.shape == encoded.margins.shape == grid
    assert encoded.tokens.dtype == np.int32
    assert np.mean(encoded.tokens != torch_tokens(model, tiled)) <= 1e-3
    assert float(encoded.margins.min()) >= 0.0
    assert float(encoded.margins.max()) <= 1.0
    pixels = engine.decode(encoded.tokens)
    assert pixels.shape == (batch, height, width, 3)
    assert pixels.dtype == np.uint8


def test_a_model_with_other_weights_is_refused_with_the_figures(
    model: Autoencoder, engine: Engine, cifar: Pixels
) -> None:
    with torch.no_grad():
        model.encoder.head.weight.mul_(1.2)
    with pytest.raises(ExportRefused, match=r"\d+\.\d+% of the tokens differ; .*gap \d"):
        measure_parity(model, engine, cifar[:100])


def test_a_decoder_with_other_weights_is_refused_with_the_figure(
    model: Autoencoder, engine: Engine, cifar: Pixels
) -> None:
    with torch.no_grad():
        assert model.decoder.to_pixels.bias is not None
        model.decoder.to_pixels.bias.add_(0.05)
    with pytest.raises(ExportRefused, match=r"pixels differ by [67]/255"):
        measure_parity(model, engine, cifar[:100])


class Altered:
    """An engine with some tokens or pixels changed."""

    def __init__(self, engine: Engine, cells: int = 0, brightness: int = 0) -> None:
        self.engine, self.cells, self.brightness = engine, cells, brightness

    def encode(self, images: Pixels) -> Any:
        encoded = self.engine.encode(images)
        tokens = encoded.tokens.copy()
        tokens.reshape(-1)[: self.cells] = (tokens.reshape(-1)[: self.cells] + 1) % 16
        return dataclasses.replace(encoded, tokens=tokens) if self.cells else encoded

    def decode(self, tokens: NDArray[np.int32]) -> Pixels:
        pixels = self.engine.decode(tokens).astype(np.int16)
        return np.clip(pixels + self.brightness, 0, 255).astype(np.uint8)


def test_a_single_token_that_is_no_near_tie_is_refused(
    model: Autoencoder, engine: Engine, cifar: Pixels
) -> None:
    with pytest.raises(ExportRefused, match=r"agree: a token differs that is no near-tie \(gap"):
        measure_parity(model, Altered(engine, cells=1), cifar[:100])  # type: ignore[arg-type]


def test_graphs_that_agree_nowhere_are_refused_with_the_figure(
    model: Autoencoder, engine: Engine, cifar: Pixels
) -> None:
    with pytest.raises(ExportRefused, match=r"100\.000% of the tokens differ"):
        measure_parity(model, Altered(engine, cells=6400), cifar[:100])  # type: ignore[arg-type]


def test_margins_that_are_no_numbers_are_refused(
    model: Autoencoder, engine: Engine, cifar: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = engine.encode(cifar[:200])
    encoded.margins[0, 0, 0] = np.nan
    monkeypatch.setattr(engine, "encode", lambda images: encoded)
    monkeypatch.setattr("training.parity.BATCH", 200)
    with pytest.raises(ExportRefused, match="margins are not numbers"):
        measure_parity(model, engine, cifar[:200])


@pytest.mark.parametrize(("brightness", "passes"), [(0, True), (1, None), (3, False)])
def test_pixels_may_differ_by_rounding_alone(
    model: Autoencoder, engine: Engine, cifar: Pixels, brightness: int, passes: bool | None
) -> None:
    altered: Any = Altered(engine, brightness=brightness)
    if passes is False:
        with pytest.raises(ExportRefused, match=r"pixels differ by [34]/255"):
            measure_parity(model, altered, cifar[:20])
    else:
        assert measure_parity(model, altered, cifar[:20]).pixel_difference == brightness


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
    model: Autoencoder, engine: Engine, cifar: Pixels
) -> None:
    parity = measure_parity(model, engine, cifar[:20])
    noisy = dataclasses.replace(parity, margin_noise=0.5)
    images = Part(cifar, 0, 20)
    with pytest.raises(ExportRefused, match=r"margin of .* less than 100 times .*\(0\.5\)"):
        build_reference(engine, 16, images, images, noisy)


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
    assert np.array_equal(count_positions(engine, 16, train), counts)


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


def test_a_rival_without_figures_stands_last_and_settles_nothing(
    bundle: Bundle, rivals: tuple[Row, Row, Row]
) -> None:
    own, better, _ = rivals
    unmeasured = dataclasses.replace(better, figures={})
    text = card(bundle.manifest, own, [unmeasured], [], "")
    assert verdict(own, [unmeasured]) == verdict(unmeasured, [own]) == ""
    rows = [line for line in text.splitlines() if line.startswith(("| VQ", "| GM"))]
    assert [row.split(" | ")[0] for row in rows] == ["| GM-VQ", "| VQ-VAE"]


@pytest.fixture
def rivals(bundle: Bundle) -> tuple[Row, Row, Row]:
    """The bundle's own row, and rows of VQ-VAE with less and with more error."""
    manifest = bundle.manifest
    figures, origin = manifest.metrics["test"], manifest.provenance
    own = Row(origin["settings"], figures)
    vq = copy.deepcopy(dict(origin["settings"]))
    vq["model"]["method"] = "vq"
    better, worse = ({**figures, "mse": figures["mse"] * factor} for factor in (0.8, 1.25))
    return own, Row(vq, better), Row(vq, worse)


def test_the_verdict_names_the_better_method_first(rivals: tuple[Row, Row, Row]) -> None:
    own, better, worse = rivals
    lost = verdict(own, [worse, better]).lstrip("*")
    won = verdict(own, [worse])
    assert lost.startswith("VQ-VAE")
    assert "GM-VQ" in lost
    assert won.startswith("GM-VQ")
    assert "VQ-VAE" in won
    assert "20.0%" in lost
    assert "20.0%" in won
    assert verdict(own, []) == ""


def test_the_card_puts_the_verdict_above_the_tables(
    bundle: Bundle, rivals: tuple[Row, Row, Row]
) -> None:
    own, better, _ = rivals
    text = card(bundle.manifest, own, [better], [own, better], "python -m training train")
    assert text.index("# tiny-gmvq") < text.index(verdict(own, [better])) < text.index("| method")
    assert text.count("| method") == 2
    rows = [line for line in text.splitlines() if line.startswith("| ") and "VQ" in line]
    assert [line.split(" | ")[0] for line in rows[:2]] == ["| VQ-VAE", "| GM-VQ"]
    assert "16 codes (4 bits each)" in text
    assert bundle.manifest.codebook_id.short in text


def test_the_bundle_s_card_has_its_figures(bundle: Bundle) -> None:
    text = bundle.read("card.md").decode()
    figures = bundle.manifest.metrics["test"]
    assert f"{figures['mse'] * 1e3:.3f}" in text
    assert f"{bundle.manifest.memory['encoder_bytes_per_pixel']:.0f} bytes a pixel" in text
    assert "reconstructions.png" in text
    assert "nan" not in text.lower()


def test_codes_that_are_no_power_of_two_need_the_next_whole_bits(
    bundle: Bundle, rivals: tuple[Row, Row, Row]
) -> None:
    manifest = dataclasses.replace(bundle.manifest, codebook_size=1000)
    assert "1000 codes (10 bits each)" in card(manifest, rivals[0], [], [], "")


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
