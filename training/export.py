"""From a finished run to a bundle: graphs, parity gate, reference, figures, card."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import Autoencoder
from models.storage import SETTINGS_FILE, WEIGHTS_FILE
from training.bits import measure_bits
from training.card import CARD_FILE, Row, card
from training.data import Part, Splits, load_splits
from training.data.batches import whole_batches
from training.drift import with_drift_null
from training.evaluate import evaluate_engine, evaluate_model
from training.graphs import ENCODER_OUTPUTS, export_decoder, export_encoder
from training.memory import bytes_per_pixel
from training.metrics import psnr, ssim
from training.parity import measure_parity
from training.pictures import above, beside, grid_of_pairs, png
from training.progress import with_bar
from training.reference import build_reference
from training.results import read_result
from training.runs import load_run
from training.settings import RunSettings
from vqtok.bundle import Bundle, Reference, codebook_npy, golden_check, write_bundle
from vqtok.identity import ContentId, codebook_id, tokenizer_id
from vqtok.images import preprocess, read_image
from vqtok.manifest import ImageSpec, Manifest
from vqtok.runtime.engine import Engine
from vqtok.runtime.onnx import open_engine

PARITY_IMAGES = 2_000
SHOWN_IMAGES = 16
SOFT_FIGURES = ("soft_perplexity", "posterior_entropy", "mutual_information")


@dataclass(frozen=True)
class ExportOptions:
    """output: the bundle's folder. replace: write over a bundle that is there.

    For the card: beside, bundles of other methods; searched, results that settings were chosen by;
    photographs, image files; note, a sentence of the author's.
    """

    output: Path
    version: str = "1"
    beside: Sequence[Path] = ()
    searched: Sequence[Path] = ()
    photographs: Sequence[Path] = ()
    note: str = ""
    replace: bool = False


def export_run(run: Path, options: ExportOptions) -> Manifest:
    """Write the bundle of a finished run and give its manifest.

    Raises ExportRefused where ONNX and PyTorch do not agree, FileExistsError when the bundle exists
    and `replace` is off.
    """
    if options.output.exists() and not options.replace:
        raise FileExistsError(f"{options.output} exists; pass --replace to write it anew")
    torch.set_flush_denormal(True)
    settings, model = load_run(run)
    splits = load_splits(settings.data)
    height, width, _ = splits.train[0].shape
    draft = _draft(settings, model, (height, width), options.version)
    files = _graph_files(model, draft, run)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / draft.name
        write_bundle(place, draft, files | {"reference.npz": blank_reference(draft).to_npz()})
        engine = open_engine(Bundle.open(place), "cpu")
        manifest, extra = _measured(draft, model, engine, splits, options)
        manifest = dataclasses.replace(manifest, memory=bytes_per_pixel(place))
    manifest = dataclasses.replace(manifest, provenance=_provenance(read_result(run), splits))
    files |= extra | {CARD_FILE: _card(manifest, run, options).encode()}
    write_bundle(options.output, manifest, files, replace=options.replace)
    written = Bundle.open(options.output)
    golden_check(open_engine(written, "cpu"), written.reference)
    return written.manifest


def _draft(
    settings: RunSettings, model: Autoencoder, size: tuple[int, int], version: str
) -> Manifest:
    """The manifest with everything that needs no measuring."""
    quantizer, network = model.quantizer, model.settings.network
    grid = tuple(side // network.factor for side in size)
    table = quantizer.code_table().detach().float().numpy()
    return Manifest(
        name=settings.name,
        version=version,
        method=model.settings.method,
        image=ImageSpec(3, network.factor, size),
        grid=(*grid, quantizer.depth) if quantizer.depth > 1 else grid,
        depth=quantizer.depth,
        codebook_size=quantizer.codebook_size,
        code_dim=quantizer.code_dim,
        outputs=ENCODER_OUTPUTS,
        precision="float32",
        encoder_halo=model.encoder.halo,
        decoder_halo=model.decoder.halo,
        codebook_id=codebook_id(_arrays(model.decoder), table, quantizer.depth),
        tokenizer_id=tokenizer_id_of(model, "float32"),
    )


def tokenizer_id_of(
    model: Autoencoder, precision: str, constants: Mapping[str, NDArray[Any]] | None = None
) -> ContentId:
    """The id of the model's tokens in a precision, which may have `constants` of its own."""
    table = model.quantizer.code_table().detach().float().numpy()
    rule = {"method": model.settings.method, **model.quantizer.rule()}
    tensors = {**_arrays(model.encoder), "code_table": table, **(constants or {})}
    return tokenizer_id(tensors, rule, precision)


def _arrays(module: torch.nn.Module) -> dict[str, NDArray[Any]]:
    """Weights and statistics that the output depends on, by name."""
    state = module.state_dict()
    return {k: v.numpy() for k, v in state.items() if not k.endswith("num_batches_tracked")}


def _graph_files(model: Autoencoder, draft: Manifest, run: Path) -> dict[str, bytes]:
    return {
        "encoder.onnx": export_encoder(model, draft.image.native_size),
        "decoder.onnx": export_decoder(model, draft.grid),
        "codebook.npy": codebook_npy(model.quantizer.code_table().detach().float().numpy()),
        "model.safetensors": (run / WEIGHTS_FILE).read_bytes(),
        "config.toml": (run / SETTINGS_FILE).read_bytes(),
    }


def blank_reference(draft: Manifest) -> Reference:
    """A reference of zeros, for the draft that the figures are measured on."""
    codes, image = draft.codebook_size, (*draft.image.native_size, 3)
    usage = (draft.depth, codes) if draft.depth > 1 else (codes,)
    return Reference(
        usage=np.zeros(usage, np.int64),
        position_counts=np.zeros((*draft.grid, codes), np.uint32),
        golden_image=np.zeros(image, np.uint8),
        golden_tokens=np.zeros(draft.grid, np.int32),
        golden_margins=np.zeros(draft.grid[:2], np.float32),
        golden_reconstruction=np.zeros(image, np.uint8),
    )


def _measured(
    draft: Manifest, model: Autoencoder, engine: Engine, splits: Splits, options: ExportOptions
) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest with parity and figures, and the files that come of measuring."""
    images = splits.train.images
    last = Part(images, max(0, len(images) - PARITY_IMAGES), len(images))
    parity = measure_parity(model, engine, np.concatenate(list(whole_batches(last, 100))))
    reference = build_reference(engine, model, splits)
    reference = with_drift_null(engine, reference, splits.test)
    files = {"reference.npz": reference.to_npz()}
    metrics: dict[str, Any] = {}
    shown = splits.test if len(splits.test) else last
    if len(splits.test):
        metrics["test"] = _test_figures(draft, model, engine, splits.test)
    metrics["bits"] = measure_bits(engine, draft, reference, shown)
    files["reconstructions.png"] = reconstructions(engine, shown)
    if options.photographs:
        metrics["photographs"], files["photographs.png"] = _photographs(draft, engine, options)
    return dataclasses.replace(draft, parity=parity.as_dict(), metrics=metrics), files


def _test_figures(
    draft: Manifest, model: Autoencoder, engine: Engine, test: Part
) -> dict[str, float]:
    """Figures of the exported graphs; what needs the posterior is PyTorch's."""
    hard = evaluate_engine(
        engine,
        draft.codebook_size,
        test,
        lambda i, n: with_bar("graphs", i, n),
        depth=draft.depth,
    )
    soft = evaluate_model(model, test, lambda i, n: with_bar("posterior", i, n))
    return {**hard, **{name: soft[name] for name in SOFT_FIGURES}}


def reconstructions(engine: Engine, part: Part) -> bytes:
    """A PNG of the part's first images, each above its reconstruction."""
    images = np.stack([part[index] for index in range(min(SHOWN_IMAGES, len(part)))])
    decoded = engine.decode(engine.encode(images).tokens)
    return png(grid_of_pairs(images, decoded, columns=SHOWN_IMAGES // 2, scale=3))


def _photographs(
    draft: Manifest, engine: Engine, options: ExportOptions
) -> tuple[dict[str, dict[str, float]], bytes]:
    figures: dict[str, dict[str, float]] = {}
    rows: list[NDArray[np.uint8]] = []
    for path in options.photographs:
        image = read_image(path.read_bytes())
        prepared = preprocess(image, "pad", factor=draft.image.factor)
        decoded = engine.decode(engine.encode(prepared.pixels[None]).tokens)[0]
        decoded = decoded[: image.shape[0], : image.shape[1]]
        mse = float(np.square(image / 255.0 - decoded / 255.0).mean())
        structure = ssim(image / 255.0, decoded / 255.0)
        figures[path.stem] = {"mse": mse, "psnr": float(psnr(mse)), "ssim": structure}
        rows.append(beside([image, decoded]))
    return figures, png(above(rows))


def _provenance(result: dict[str, Any], splits: Splits) -> dict[str, Any]:
    settings = result["settings"]
    return {
        "settings": settings,
        "commit": result["commit"],
        "data": f"{settings['data']['kind']}, {len(splits.train):,} training images",
        "training_images": len(splits.train),
        "seed": result["seed"],
        "epochs": settings["schedule"]["epochs"],
        "steps": result["steps"],
        "images": result["images"],
        "seconds": result["seconds"],
        "hardware": result["hardware"],
    }


def _card(manifest: Manifest, run: Path, options: ExportOptions) -> str:
    own = _row_of_manifest(manifest)
    others = [_row_of_manifest(Bundle.open(folder).manifest) for folder in options.beside]
    searched = [Row.of_result(read_result(path), "validation") for path in options.searched]
    command = f"python -m training train {SETTINGS_FILE} --output runs/{run.name}"
    return card(manifest, own, others, searched, command, options.note)


def _row_of_manifest(manifest: Manifest) -> Row:
    origin = manifest.provenance
    figures = manifest.metrics.get("test", {})
    return Row(origin["settings"], figures)
