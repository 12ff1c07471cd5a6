"""Samples of a bundle held against test images: every figure, and the images to look at."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from models.storage import WEIGHTS_FILE
from training.judge.draw import Source, checked_prior, sampled_set
from training.judge.frechet import NUM_GROUPS, frechet_distance
from training.judge.kept import Kept, digest
from training.judge.runs import Seen, load_classifier, see, train_classifier
from training.judge.sets import ImageSet, RealSets, real_sets, reconstructions_of
from training.judge.settings import JudgeSettings
from training.progress import Show, bar, with_bar
from training.results import commit, hardware
from vqtok.bundle import Bundle
from vqtok.manifest import Manifest
from vqtok.runtime.onnx import open_engine

OF_CLASSIFIER = (
    "parameters",
    "num_features",
    "label_names",
    "training_images",
    "accuracy",
    "steps",
    "processor_seconds",
    "hardware",
    "commit",
)
"""What the store keeps of the result of the classifier's run."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """document: what the store holds. sets: what it is about, the test images first. label_names:
    what their labels mean.
    """

    document: dict[str, Any]
    sets: list[ImageSet]
    label_names: tuple[str, ...]


def judge_samples(settings: JudgeSettings, work: Path, command: str, show: Show = bar) -> Judgement:
    """Train the classifier below `work` unless it is there, draw and measure what is not kept
    there, and write the store. `command`: what the store says makes it.

    Raises, before anything is trained, SettingsError where the data have too few images, or no
    classes, and as `checked_prior`.
    """
    bundle, real = Bundle.open(settings.bundle), real_sets(settings)
    for each in settings.samples:
        checked_prior(bundle, each)
    classifier = train_classifier(settings, work / "classifier", show)
    sets = _sets(settings, bundle, real, Kept(work / "samples"), show)
    seen = _seen(sets, work)
    reference = seen[0]
    pairs = list(zip(sets, seen, strict=True))
    measured = with_bar("distances", pairs[1:], len(pairs) - 1)
    document: dict[str, Any] = {
        "title": settings.title,
        "images": settings.num_images,
        "seed": settings.seed,
        "groups": NUM_GROUPS,
        **_about(bundle.manifest),
        "classifier": {
            **{name: classifier[name] for name in OF_CLASSIFIER},
            "epochs": settings.classifier.schedule.epochs,
            "test_accuracy": _accuracy(sets[0], reference),
        },
        "rows": [_row(each, found, reference) for each, found in measured],
        "commit": commit(),
        "hardware": hardware(torch.device("cpu")),
        "command": command,
    }
    settings.store.parent.mkdir(parents=True, exist_ok=True)
    settings.store.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    return Judgement(document, sets, real.label_names)


def _sets(
    settings: JudgeSettings, bundle: Bundle, real: RealSets, kept: Kept, show: Show
) -> list[ImageSet]:
    engine, bundle_digest = open_engine(bundle, "cpu"), _digest_of(bundle.manifest)
    source = Source(bundle, bundle_digest, engine, kept, show)
    again, others = (
        reconstructions_of(each, f"reconstructions of the {each.name}", engine, bundle_digest)
        for each in (real.test, real.new)
    )
    return [
        real.test,
        real.new,
        real.learned,
        replace(again, paired=True),
        others,
        *(sampled_set(source, each, settings.seed, real.test_labels) for each in settings.samples),
    ]


def _seen(sets: Sequence[ImageSet], work: Path) -> list[Seen]:
    """What the classifier makes of each set."""
    classifier, kept = load_classifier(work / "classifier"), Kept(work / "features")
    weights = hashlib.sha256((work / "classifier" / WEIGHTS_FILE).read_bytes()).hexdigest()

    def seen(each: ImageSet) -> Seen:
        def make() -> dict[str, Any]:
            return vars(see(classifier, each.at, each.size, f"features of {each.name}"))

        return Seen(**kept.get(each.name, {**each.origin, "classifier": weights}, make))

    return [seen(each) for each in sets]


def _row(each: ImageSet, seen: Seen, reference: Seen) -> dict[str, Any]:
    found = frechet_distance(seen.features, reference.features, paired=each.paired)
    return {
        "name": each.name,
        "kind": each.kind,
        "paired": each.paired,
        "distance": found.value,
        "standard_error": found.standard_error,
        "accuracy": _accuracy(each, seen),
        "bits": each.bits,
    }


def _accuracy(each: ImageSet, seen: Seen) -> float | None:
    """How many images are named as they are meant; None of images of no class."""
    return None if each.labels is None else float((seen.predicted == each.labels).mean())


def _digest_of(manifest: Manifest) -> str:
    """Of all that a bundle is: the manifest has the digests of its files."""
    return digest({"manifest": manifest.to_json().decode()})


def _about(manifest: Manifest) -> dict[str, Any]:
    prior = manifest.prior
    return {
        "model": manifest.full_name,
        "tokenizer_id": str(manifest.tokenizer_id),
        "prior": None
        if prior is None
        else {
            "kind": prior.kind,
            "schedule": prior.schedule,
            "passes": max(prior.groups) + 1,
            "parameters": prior.parameters,
            "test": prior.provenance.get("test", {}),
            "images": prior.provenance.get("images", 0),
        },
    }
