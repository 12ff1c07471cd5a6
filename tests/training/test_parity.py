"""The parity gate: graphs that tokenize as PyTorch does, for every quantizer, or no bundle."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from models import Autoencoder, load
from models.quantizers import QUANTIZERS
from tests.representative import few_of
from tests.training.tiny import VARIANTS, tiny_settings, torch_tokens
from training.data import load_splits
from training.graphs import DecoderGraph, export_decoder, export_encoder
from training.loop import Trainer
from training.parity import NEAR_TIE, ExportRefused, measure_parity
from vqtok.bundle import Bundle
from vqtok.runtime.engine import Engine
from vqtok.runtime.onnx import open_engine

Pixels = NDArray[np.uint8]
REPRESENTATIVE = "gmvq"
METHODS = few_of([*QUANTIZERS, *VARIANTS], [REPRESENTATIVE])


@dataclasses.dataclass
class InMemory:
    """Graphs that no folder holds."""

    manifest: Any
    files: dict[str, bytes]

    def read(self, name: str) -> bytes:
        return self.files[name]


def tail_of(model: Autoencoder) -> tuple[int, ...]:
    """The axis that depth adds to tokens."""
    return () if model.quantizer.depth == 1 else (model.quantizer.depth,)


def exported(model: Autoencoder, bundle: Bundle) -> Engine:
    """An engine on freshly exported graphs of a model of the bundle's image size and grid."""
    grid = (8, 8, *tail_of(model))
    files = {
        "encoder.onnx": export_encoder(model, (32, 32)),
        "decoder.onnx": export_decoder(model, grid),
    }
    manifest = dataclasses.replace(bundle.manifest, grid=grid, depth=model.quantizer.depth)
    return open_engine(InMemory(manifest, files), "cpu", num_threads=1)  # type: ignore[arg-type]


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
    assert (parity.images, parity.tokens) == (200, 200 * 64 * model.quantizer.depth)
    assert parity.differing_tokens <= 1e-3
    assert parity.largest_gap <= NEAR_TIE
    assert parity.pixel_difference <= 1
    # The margin is a ratio: where both scores lie near 0, rounding is a larger part of it.
    assert parity.margin_noise < 1e-2
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
    assert encoded.tokens.shape == (*grid, *tail_of(model))
    assert encoded.margins.shape == grid
    assert encoded.tokens.dtype == np.int32
    assert np.mean(encoded.tokens != torch_tokens(model, tiled)) <= 1e-3
    assert float(encoded.margins.min()) >= 0.0
    assert float(encoded.margins.max()) <= 1.0
    pixels = engine.decode(encoded.tokens)
    assert pixels.shape == (batch, height, width, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("method", "options"),
    [("simvq", {"codebook_size": 1024, "code_dim": 64}), ("fsq", {"levels": [8, 8, 8, 6, 5]})],
)
def test_the_decoder_holds_the_code_table_bit_by_bit(method: str, options: dict[str, Any]) -> None:
    """Tables that PyTorch computes from other tensors."""
    settings = tiny_settings(method, "images", {"model.quantizer": options})
    model = Autoencoder(settings.model).eval()
    graph = onnx.load_from_string(export_decoder(model, (4, 4))).graph
    table = model.quantizer.code_table().detach().numpy()
    constants = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    assert any(np.array_equal(table, constant) for constant in constants)
    assert not {"Gemm", "MatMul", "Mod"} & {node.op_type for node in graph.node}


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
    """An engine with some tokens changed."""

    def __init__(self, engine: Engine, cells: int) -> None:
        self.engine, self.cells = engine, cells

    def encode(self, images: Pixels) -> Any:
        encoded = self.engine.encode(images)
        tokens = encoded.tokens.copy()
        tokens.reshape(-1)[: self.cells] = (tokens.reshape(-1)[: self.cells] + 1) % 16
        return dataclasses.replace(encoded, tokens=tokens)

    def decode(self, tokens: NDArray[np.int32]) -> Pixels:
        return self.engine.decode(tokens)


class Brightened(Altered):
    """An engine whose pixels are PyTorch's, brighter by some steps of 255."""

    def __init__(self, engine: Engine, model: Autoencoder, steps: int) -> None:
        super().__init__(engine, cells=0)
        self.graph, self.steps = DecoderGraph(model), steps

    @torch.no_grad()
    def decode(self, tokens: NDArray[np.int32]) -> Pixels:
        pixels = self.graph(torch.from_numpy(tokens)).numpy().astype(np.int16)
        return np.clip(pixels + self.steps, 0, 255).astype(np.uint8)


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


@pytest.mark.parametrize("steps", [0, 1])
def test_pixels_may_differ_by_rounding(
    model: Autoencoder, engine: Engine, cifar: Pixels, steps: int
) -> None:
    altered: Any = Brightened(engine, model, steps)
    assert measure_parity(model, altered, cifar[:20]).pixel_difference == steps


def test_pixels_may_not_differ_by_more(model: Autoencoder, engine: Engine, cifar: Pixels) -> None:
    altered: Any = Brightened(engine, model, steps=2)
    with pytest.raises(ExportRefused, match="pixels differ by 2/255"):
        measure_parity(model, altered, cifar[:20])
