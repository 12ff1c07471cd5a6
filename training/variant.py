"""A faster bundle from one that is there: the same tokenizer in int8, held against it."""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import load
from models.storage import SETTINGS_FILE, WEIGHTS_FILE
from training.bits import measure_bits
from training.card import CARD_FILE, with_prior
from training.data import Part, Splits, load_splits
from training.data.batches import whole_batches
from training.drift import with_drift_null
from training.evaluate import evaluate_engine
from training.export import blank_reference, reconstructions, tokenizer_id_of
from training.int8 import constants, in_int8
from training.memory import bytes_per_pixel
from training.parity import ExportRefused
from training.progress import with_bar
from training.reference import golden_candidates, measure_tables, reference_of
from training.settings import load_settings
from vqtok.bundle import Bundle, golden_check, write_bundle
from vqtok.manifest import Manifest
from vqtok.priors.spec import PRIOR_FILE
from vqtok.runtime.engine import Engine
from vqtok.runtime.onnx import open_engine

MOST_RISE = 0.01
"""By so much the squared error may rise, or the variant may not serve."""
BATCH = 100
CARD = """\
`{origin}` with its convolutions in int8, the first and the last in float32 still: on the
processor that made it {encode:.1f} times as fast to encode and {decode:.1f} times to decode. Its
own card says how it was trained.

Over {images:,} validation images {agreement:.1%} of the tokens are those of float32, and the
squared error is {mse:.3f} × 10⁻³ instead of {float32:.3f} × 10⁻³."""
TEST = """\
Over all test images: MSE {mse:.3f} × 10⁻³, PSNR {psnr:.2f} dB, SSIM {ssim:.4f}, perplexity
{perplexity:.0f}, {used_codes:.0f} codes used."""
LIMITS = """\
Tokens of the two are decoded by either (one `codebook_id`) and are not equal (two
`tokenizer_id`s). A processor whose int8 arithmetic rounds otherwise gives other tokens still: the
golden image finds that out, and the service does not become ready."""
SPEED_IMAGES, SPEED_REPEATS = 8, 15


@dataclass(frozen=True)
class VariantOptions:
    """output: the bundle's folder. data: the data's folder, where not that of the bundle's
    settings. images: how many training images the ranges of activations are taken from.
    """

    output: Path
    data: str | None = None
    images: int = 512
    replace: bool = False


def make_int8(folder: Path, options: VariantOptions) -> Manifest:
    """Write the int8 variant of a bundle and give its manifest.

    Raises ExportRefused where its squared error over the validation images is more than 1 % above
    that of the bundle, ValueError for a bundle that is a variant itself, FileExistsError when the
    output exists and `replace` is off.
    """
    if options.output.exists() and not options.replace:
        raise FileExistsError(f"{options.output} exists; pass --replace to write it anew")
    bundle = Bundle.open(folder)
    if bundle.manifest.precision != "float32":
        raise ValueError(f"{folder} is in {bundle.manifest.precision}: name the float32 bundle")
    data = load_settings(folder / SETTINGS_FILE).data
    splits = load_splits(data.model_copy(update={"folder": options.data} if options.data else {}))
    engine = open_engine(bundle, "cpu", num_threads=1)
    files = _files(bundle, engine, splits.train, options.images)
    draft = _draft(bundle, folder, files["encoder.onnx"], options)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / draft.name
        blank = {"reference.npz": blank_reference(draft).to_npz()}
        write_bundle(place, draft, files | blank)
        variant = open_engine(Bundle.open(place), "cpu", num_threads=1)
        manifest, extra = _measured(draft, bundle.codebook, engine, variant, splits)
        manifest = dataclasses.replace(manifest, memory=bytes_per_pixel(place))
    files |= extra | {CARD_FILE: _card(bundle.manifest, manifest).encode()}
    write_bundle(options.output, manifest, files, replace=options.replace)
    written = Bundle.open(options.output)
    golden_check(open_engine(written, "cpu"), written.reference)
    return written.manifest


def _files(bundle: Bundle, engine: Engine, training: Part, count: int) -> dict[str, bytes]:
    places = np.linspace(0, len(training) - 1, min(count, len(training))).astype(int)
    images = np.stack([training[int(place)] for place in places])
    batches = np.array_split(images, -(-len(images) // 32))
    tokens = [engine.encode(batch).tokens for batch in batches]
    # The prior is of the same codes.
    prior = (PRIOR_FILE,) if bundle.manifest.prior else ()
    kept = ("codebook.npy", WEIGHTS_FILE, SETTINGS_FILE, *prior)
    return {
        "encoder.onnx": in_int8(bundle.read("encoder.onnx"), [{"pixels": b} for b in batches]),
        "decoder.onnx": in_int8(bundle.read("decoder.onnx"), [{"tokens": t} for t in tokens]),
        **{name: bundle.read(name) for name in kept},
    }


def _draft(bundle: Bundle, folder: Path, encoder: bytes, options: VariantOptions) -> Manifest:
    origin = bundle.manifest
    return dataclasses.replace(
        origin,
        name=f"{origin.name}-int8",
        precision="int8",
        tokenizer_id=tokenizer_id_of(load(folder), "int8", constants(encoder)),
        digests={},
        parity={},
        metrics={},
        provenance={
            **origin.provenance,
            "variant_of": origin.full_name,
            "calibration_images": options.images,
        },
    )


def _measured(
    draft: Manifest,
    codebook: NDArray[np.float32],
    engine: Engine,
    variant: Engine,
    splits: Splits,
) -> tuple[Manifest, dict[str, bytes]]:
    held = splits.validation if len(splits.validation) else splits.train
    parity = _hold(_against(engine, variant, held))
    last = golden_candidates(splits)
    reference = reference_of(variant, measure_tables(variant, codebook, splits), last)
    reference = with_drift_null(variant, reference, splits.test)
    shown = splits.test if len(splits.test) else last
    files = {
        "reference.npz": reference.to_npz(),
        "reconstructions.png": reconstructions(variant, shown),
    }
    metrics: dict[str, Any] = {"bits": measure_bits(variant, draft, reference, shown)}
    if len(splits.test):
        metrics["test"] = evaluate_engine(
            variant,
            draft.codebook_size,
            splits.test,
            lambda items, total: with_bar("test images", items, total),
            depth=draft.depth,
        )
    parity |= _speed(engine, variant, last)
    return dataclasses.replace(draft, parity=parity, metrics=metrics), files


def _against(engine: Engine, variant: Engine, images: Part) -> dict[str, Any]:
    """Token agreement and squared errors of both over the images."""
    equal = total = values = 0
    errors = np.zeros(2)
    num_batches = -(-len(images) // BATCH)
    for batch in with_bar("validation images", whole_batches(images, BATCH), num_batches):
        tokens = [each.encode(batch).tokens for each in (engine, variant)]
        equal += int((tokens[0] == tokens[1]).sum())
        total += tokens[0].size
        values += batch.size
        pixels = [each.decode(t) for each, t in zip((engine, variant), tokens, strict=True)]
        errors += [np.square((batch - each.astype(np.float64)) / 255.0).sum() for each in pixels]
    float32, int8 = (float(each) for each in errors / values)
    return {
        "images": len(images),
        "token_agreement": equal / total,
        "float32_mse": float32,
        "mse": int8,
    }


def _hold(parity: dict[str, Any]) -> dict[str, Any]:
    rise = parity["mse"] / parity["float32_mse"] - 1
    # Not "rise > MOST_RISE", which a NaN passes unseen.
    if not rise <= MOST_RISE:
        raise ExportRefused(
            f"the squared error rises by {rise:.2%} (from {parity['float32_mse']:.6f} to "
            f"{parity['mse']:.6f}), more than {MOST_RISE:.0%}: this tokenizer stays in float32"
        )
    return parity


def _speed(engine: Engine, variant: Engine, images: Part) -> dict[str, float]:
    """How many times as fast the variant is here, on one core, in turns with the other."""
    some = np.stack([images[index] for index in range(min(SPEED_IMAGES, len(images)))])
    tokens = engine.encode(some).tokens
    return {
        "encode_speed": _ratio(lambda: engine.encode(some), lambda: variant.encode(some)),
        "decode_speed": _ratio(lambda: engine.decode(tokens), lambda: variant.decode(tokens)),
    }


def _ratio(slow: Callable[[], object], fast: Callable[[], object]) -> float:
    ratios: list[float] = []
    for _ in range(SPEED_REPEATS):
        taken: list[float] = []
        for run in (slow, fast):
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
        ratios.append(taken[0] / taken[1])
    return statistics.median(ratios)


def _card(origin: Manifest, manifest: Manifest) -> str:
    parity, test = manifest.parity, manifest.metrics.get("test")
    paragraphs = [
        f"# {manifest.full_name}",
        CARD.format(
            origin=origin.full_name,
            encode=parity["encode_speed"],
            decode=parity["decode_speed"],
            images=parity["images"],
            agreement=parity["token_agreement"],
            mse=1e3 * parity["mse"],
            float32=1e3 * parity["float32_mse"],
        ),
    ]
    if test is not None:
        paragraphs.append(TEST.format(**{**test, "mse": 1e3 * test["mse"]}))
    return with_prior("\n\n".join([*paragraphs, LIMITS]) + "\n", manifest)
