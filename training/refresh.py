"""The tables of a bundle that is there, measured anew on its data."""

import dataclasses
from pathlib import Path

from models.storage import SETTINGS_FILE
from training.bits import LINE, bits_sentence, measure_bits
from training.card import CARD_FILE
from training.data import Part, load_splits
from training.drift import with_drift_null
from training.reference import measure_tables, with_tables
from training.settings import load_settings
from vqtok.bundle import Bundle, golden_check, write_bundle
from vqtok.manifest import Manifest
from vqtok.reference import REFERENCE_FILE
from vqtok.runtime.learned_prior import OnnxPrior
from vqtok.runtime.onnx import open_engine, prior_of


def refresh_reference(folder: Path, data: str | None = None) -> Manifest:
    """Count the tokens of a bundle's training images through its own encoder, estimate its coder
    tables and its null distribution of drift (unless it is calibrated on images of an operator's),
    and write the bundle anew in one step. Graphs, ids and golden image stay.

    `data` replaces the data's folder that the bundle's settings name. Streams that were coded by
    other tables than come out are no longer read; the same data give the same tables.
    """
    bundle = Bundle.open(folder)
    settings = load_settings(folder / SETTINGS_FILE).data
    splits = load_splits(settings.model_copy(update={"folder": data} if data else {}))
    engine = open_engine(bundle, "cpu")
    tables = measure_tables(engine, bundle.codebook, splits)
    reference = with_tables(bundle.reference, tables)
    if reference.drift_usage is None:
        reference = with_drift_null(engine, reference, splits.test)
    images = splits.train.images
    last = Part(images, max(0, len(images) - len(images) // 10), len(images))
    held_out = splits.test if len(splits.test) else splits.validation or last
    prior = prior_of(bundle, reference, "cpu")
    learned = prior if isinstance(prior, OnnxPrior) else None
    bits = measure_bits(engine, bundle.manifest, reference, held_out, learned)
    manifest = dataclasses.replace(
        bundle.manifest, metrics={**bundle.manifest.metrics, "bits": bits}
    )
    files = {name: bundle.read(name) for name in bundle.manifest.digests}
    files[REFERENCE_FILE] = reference.to_npz()
    if CARD_FILE in files:
        files[CARD_FILE] = _with_bits(files[CARD_FILE].decode(), bits_sentence(manifest)).encode()
    write_bundle(folder, manifest, files, replace=True)
    written = Bundle.open(folder)
    golden_check(open_engine(written, "cpu"), written.reference)
    return written.manifest


def _with_bits(card: str, sentence: str) -> str:
    """The card with its sentence on bits, in the place of the one that was there, or at its end."""
    paragraphs = card.rstrip("\n").split("\n\n")
    places = [i for i, each in enumerate(paragraphs) if each.startswith(f"{LINE}, ")]
    if places:
        paragraphs[places[0]] = sentence
    else:
        before = [i for i, each in enumerate(paragraphs) if each.startswith("## Training")]
        paragraphs.insert(before[0] if before else len(paragraphs), sentence)
    return "\n\n".join(paragraphs) + "\n"
