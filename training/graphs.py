"""The ONNX graphs of a bundle: uint8 pixels to tokens, tokens to uint8 pixels, and its prior."""

import copy
import logging
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from models import Autoencoder
from models.priors import DiffusionPrior, Prior

ENCODER_OUTPUTS = ("tokens", "margins")


def with_fixed_table(model: Autoencoder) -> Autoencoder:
    """The model with its code table as numbers.

    The exporter folds no large constants: a table that is made of others (a map of frozen codes, a
    grid) would be made anew by each runtime, to its own rounding.
    """
    fixed = copy.deepcopy(model)
    table = model.quantizer.code_table().detach().clone()
    fixed.quantizer.code_table = lambda: table
    return fixed


class EncoderGraph(nn.Module):
    """pixels uint8 (N, H, W, 3) -> tokens int32 (N, h, w[, depth]), margins float32 (N, h, w)."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = with_fixed_table(model)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        unit = pixels.permute(0, 3, 1, 2).to(self.model.encoder.head.weight.dtype) / 255.0
        indices, margins = self.model.quantizer.assign(self.model.encoder(unit))
        return indices.to(torch.int32), margins


class DecoderGraph(nn.Module):
    """tokens int32 (N, h, w[, depth]) -> pixels uint8 (N, H, W, 3), rounded to the nearest."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = with_fixed_table(model)

    def forward(self, tokens: Tensor) -> Tensor:
        pixels = self.model.decode(tokens.to(torch.int64))
        return (pixels * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1)


class PriorGraph(nn.Module):
    """tokens int32 (N, positions), labels int32 (N,), positions int32 (N, P) -> logits float32
    (N, P, K). Tokens that are not known are K; the last label stands for none.
    """

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, tokens: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        rows = (each.to(torch.int64) for each in (tokens, labels, positions))
        return self.prior.logits(*rows).float()


def export_encoder(model: Autoencoder, native_size: tuple[int, int]) -> bytes:
    """The encoder as an ONNX file; batch, height and width are dynamic."""
    factor = model.settings.network.factor
    height, width = (torch.export.Dim(name, min=1, max=1 << 20) for name in ("h", "w"))
    example = torch.randint(0, 256, (2, *native_size, 3), dtype=torch.uint8)
    shapes = {0: torch.export.Dim("n", min=1, max=1 << 20), 1: factor * height, 2: factor * width}
    return _export(EncoderGraph(model), (example,), {"pixels": shapes}, ENCODER_OUTPUTS)


def export_decoder(model: Autoencoder, grid: tuple[int, ...]) -> bytes:
    """The decoder as an ONNX file; batch and grid are dynamic."""
    names = ("n", "h", "w")
    dims = {axis: torch.export.Dim(name, min=1, max=1 << 20) for axis, name in enumerate(names)}
    example = torch.randint(0, model.quantizer.codebook_size, (2, *grid), dtype=torch.int32)
    return _export(DecoderGraph(model), (example,), {"tokens": dims}, ("pixels",))


def export_prior(prior: Prior) -> bytes:
    """A learned prior as an ONNX file; batch and number of positions are dynamic."""
    rows, asked = (torch.export.Dim(name, min=1, max=1 << 20) for name in ("n", "p"))
    shape = prior.shape
    example = (
        torch.full((2, shape.num_positions), shape.unknown, dtype=torch.int32),
        torch.full((2,), shape.no_label, dtype=torch.int32),
        torch.zeros((2, min(2, shape.num_positions)), dtype=torch.int32),
    )
    shapes = {"tokens": {0: rows}, "labels": {0: rows}, "positions": {0: rows, 1: asked}}
    return _export(PriorGraph(prior), example, shapes, ("logits",))


class StepGraph(nn.Module):
    """x float32 (N, positions, D), times float32 (N, 2) of now and then, labels int32 (N,), normal
    numbers like x -> latents float32 like x: one ancestral step.
    """

    def __init__(self, prior: DiffusionPrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor, times: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        return self.prior.step(x, times, labels.to(torch.int64), noise)


def export_step(prior: DiffusionPrior) -> bytes:
    """The step of a diffusion prior as an ONNX file; the batch is dynamic."""
    rows = torch.export.Dim("n", min=1, max=1 << 20)
    size = (2, prior.shape.num_positions, prior.shape.code_dim)
    labels = torch.full((2,), prior.shape.no_label, dtype=torch.int32)
    times = torch.tensor([[1.0, 0.9], [0.1, 0.0]])
    example = (torch.zeros(size), times, labels, torch.zeros(size))
    shapes = {name: {0: rows} for name in ("x", "times", "labels", "noise")}
    return _export(StepGraph(prior), example, shapes, ("latents",))


def _export(
    graph: nn.Module,
    example: tuple[Tensor, ...],
    shapes: dict[str, dict[int, torch.export.Dim]],
    outputs: tuple[str, ...],
) -> bytes:
    # The exporter suggests torchvision on every call, which nothing here has a use for.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch uses a part of its own that it calls deprecated.
        warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
        # Inputs of one batch share its axis, as they should.
        warnings.filterwarnings("ignore", "# The axis name: n will not be used", UserWarning)
        # The example of one would freeze the batch; two is what the exporter treats as "many".
        program = torch.onnx.export(
            graph.eval(),
            example,
            dynamo=True,
            input_names=list(shapes),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        program.save(str(path), external_data=False)
        return without_traces(onnx.load(path))


def without_traces(graph: onnx.ModelProto) -> bytes:
    """The file without the stack traces and source paths that the exporter writes into it."""
    for node in graph.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output):
        value.ClearField("metadata_props")
    graph.graph.ClearField("metadata_props")
    graph.ClearField("metadata_props")
    graph.graph.ClearField("value_info")
    onnx.checker.check_model(graph, full_check=True)
    return graph.SerializeToString(deterministic=True)
