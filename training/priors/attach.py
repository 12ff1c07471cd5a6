"""From a finished run of a prior to a bundle that samples from it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.priors import TABLES, Prior
from training.card import CARD_FILE, with_prior
from training.graphs import export_prior
from training.parity import ExportRefused
from training.priors.measure import bits_of_images, standard_error
from training.priors.runs import TOKENS_FILE, load_prior
from training.priors.settings import PriorSettings
from training.priors.tokens import TokenPart, TokenSplits, load_tokens
from training.results import read_result
from vqtok.bundle import Bundle, write_bundle
from vqtok.manifest import Manifest
from vqtok.priors import Prior as RunningPrior
from vqtok.priors.likelihood import bits_of
from vqtok.priors.spec import PRIOR_FILE, PriorSpec
from vqtok.runtime.onnx import prior_of

PARITY_IMAGES = 200
MOST_DIFFERENCE = 1e-3
"""Of the bits of an image; the graphs of the shipped prior differ by a thousandth of this."""


@dataclass(frozen=True)
class AttachOptions:
    """output: the bundle to write. tokens_file: where the run kept its tokens, when not in its
    folder. replace: write over a bundle that is there.
    """

    output: Path
    tokens_file: Path | None = None
    replace: bool = False


def add_prior(run: Path, options: AttachOptions) -> Manifest:
    """Write the bundle that a prior was trained on anew, with the prior, and give its manifest.

    Raises ExportRefused where ONNX and PyTorch need other bits, ValueError for a prior that is a
    table or another tokenizer's, FileExistsError when the output exists and `replace` is off.
    """
    if options.output.exists() and not options.replace:
        raise FileExistsError(f"{options.output} exists; pass --replace to write it anew")
    settings, prior = load_prior(run)
    if settings.prior.kind in TABLES:
        raise ValueError(f"{settings.prior.kind} is a table; bundles have theirs without a graph")
    bundle, result = Bundle.open(settings.bundle), read_result(run)
    if result["tokenizer_id"] != str(bundle.manifest.tokenizer_id):
        raise ValueError(f"{run} was trained on tokens of another tokenizer than {settings.bundle}")
    tokens = load_tokens(bundle, settings.data, options.tokens_file or run / TOKENS_FILE)
    spec = _spec(prior, settings, tokens, result)
    files = {name: bundle.read(name) for name in bundle.manifest.digests}
    files[PRIOR_FILE] = export_prior(prior)
    manifest = dataclasses.replace(bundle.manifest, prior=spec, digests={})
    if CARD_FILE in files:
        files[CARD_FILE] = with_prior(files[CARD_FILE].decode(), manifest).encode()
    write_bundle(options.output, manifest, files, replace=options.replace)
    written = Bundle.open(options.output)
    held = tokens.test if len(tokens.test) else tokens.train
    _hold(prior, prior_of(written, written.reference, "cpu"), held)
    return written.manifest


def _spec(
    prior: Prior, settings: PriorSettings, tokens: TokenSplits, result: dict[str, Any]
) -> PriorSpec:
    provenance = {
        "settings": settings.to_table(),
        "commit": result["commit"],
        "steps": result["steps"],
        "images": result["images"],
        "seconds": result["seconds"],
        "hardware": result["hardware"],
        "validation": result["validation"],
        "schedules": result["schedules"],
    }
    if len(tokens.test):
        bits = bits_of_images(prior, tokens.test, labelled=False, description="test images")
        provenance["test"] = {
            "bits_per_image": float(bits.mean()),
            "standard_error": standard_error(bits),
        }
    groups: NDArray[np.int64] = prior.groups.numpy()
    return PriorSpec(
        kind=settings.prior.kind,
        schedule=prior.schedule,
        groups=tuple(groups.tolist()),
        order=tuple(prior.order.tolist()),
        any_order=prior.any_order,
        labels=tokens.label_names,
        parameters=result["parameters"],
        provenance=provenance,
    )


def _hold(prior: Prior, running: RunningPrior, held: TokenPart) -> None:
    """Compare the bits of some images in PyTorch and as they will be served."""
    part = TokenPart(held.tokens[:PARITY_IMAGES], held.labels[:PARITY_IMAGES])
    expected = bits_of_images(prior, part, labelled=True, description="PyTorch")
    found = bits_of(running, part.tokens, part.labels)
    worst = float(np.abs(found - expected).max())
    # Not "worst > MOST_DIFFERENCE", which a NaN passes unseen.
    if not worst <= MOST_DIFFERENCE:
        raise ExportRefused(
            f"an image takes {worst:.2g} bits more or less in ONNX than in PyTorch, more than "
            f"{MOST_DIFFERENCE:g}"
        )
