"""The model that is served: a bundle, opened on a device, warmed up and proven."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.batch import Observer
from service.batch_limits import ENCODE_ALONE, BatchLimits
from service.batcher import Batcher
from service.costs import CostModel, measure
from service.lifecycle import Phase
from service.passes import REVEAL, unpacked
from service.quality import SSIM_WINDOW, compare
from service.rows import Arrays
from service.settings import Settings
from service.usage import PassingTokens
from vqtok.bitstream import CoderTables, Coding
from vqtok.bundle import Bundle, codebook_npy, golden_check
from vqtok.manifest import Manifest
from vqtok.priors import Prior, TablePrior, Wish, draw_all, most_rows
from vqtok.runtime.engine import Engine
from vqtok.runtime.learned_prior import OnnxPrior
from vqtok.runtime.onnx import open_engine, prior_of
from vqtok.statistics import (
    CodebookDistances,
    DriftReference,
    codebook_distances,
    measures_of,
)

log = logging.getLogger(__name__)

Report = Callable[[Phase], None]


@dataclass(frozen=True, eq=False)
class Model:
    """Everything that a request needs of the model.

    `codebook` is (K, D) or (depth, K, D), `training_usage` (K,) or (depth, K). `usage` counts the
    tokens since `opened_at`, which is ISO 8601, and compares them with `drift`: all of it begins
    anew with each model that is opened. `coding` writes and reads bitstreams.
    """

    manifest: Manifest
    engine: Engine
    batcher: Batcher
    costs: CostModel
    prior: Prior
    usage: PassingTokens
    drift: DriftReference
    training_usage: NDArray[np.int64]
    codebook: NDArray[np.float32]
    codebook_file: bytes
    coding: Coding
    opened_at: str
    _distances: list[CodebookDistances] = field(default_factory=list[CodebookDistances])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def distances(self) -> list[CodebookDistances]:
        """Distances within the code table of each level of depth; computed once, on first use."""
        with self._lock:
            if not self._distances:
                tables = self.codebook.reshape(-1, *self.codebook.shape[-2:])
                self._distances.extend(codebook_distances(table) for table in tables)
            return self._distances

    @cached_property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """What names the model on every answer."""
        manifest = self.manifest
        return (
            (b"Vqtok-Model", manifest.full_name.encode()),
            (b"Vqtok-Codebook-Id", manifest.codebook_id.short.encode()),
            (b"Vqtok-Tokenizer-Id", manifest.tokenizer_id.short.encode()),
        )

    @property
    def runs_whole_requests(self) -> bool:
        """Whether a runner may decode images and write answers too, which saves a small request two
        changes of threads: on a CPU, where the model and they take turns on the same cores anyway.
        """
        return self.engine.device == "cpu"

    def close(self) -> None:
        """End the runners and give the device back."""
        if self.batcher.close():
            self.engine.close()


def open_model(settings: Settings, observer: Observer, report: Report) -> Model:
    """Open the bundle that the settings name and prove that it computes what it should. Blocking.

    Raises:
        BundleError: the bundle is damaged or not supported; the sentence names file and reason.
        RuntimeUnavailable: the device cannot be opened.
    """
    bundle = Bundle.open(settings.bundle)
    report(Phase.OPENING_ENGINE)
    engine = open_engine(
        bundle,
        settings.device,
        num_threads=settings.threads,
        graph_sizes=settings.graph_sizes,
    )
    log.info(
        "opened %s on %s, %d runners", bundle.manifest.full_name, engine.device, engine.num_runners
    )
    return prove_model(
        bundle,
        engine=engine,
        prior=prior_of(bundle, bundle.reference, engine.device),
        settings=settings,
        observer=observer,
        report=report,
    )


def prove_model(
    bundle: Bundle,
    *,
    engine: Engine,
    prior: Prior | None = None,
    settings: Settings,
    observer: Observer,
    report: Report,
) -> Model:
    """Check the golden image on an open engine, warm it up, and put a batcher before it. Without a
    prior the table of the reference is it.

    Raises:
        BundleCorrupt: the golden image comes out otherwise than at export.
    """
    manifest, reference, codebook = bundle.manifest, bundle.reference, bundle.codebook
    report(Phase.CHECKING_GOLDEN_IMAGE)
    golden_check(engine, reference)
    report(Phase.WARMING_UP)
    prior = prior or TablePrior(reference.position_counts, reference.usage)
    learned = prior if isinstance(prior, OnnxPrior) else None
    costs = measure(engine, manifest, partial(_draw_rows, prior))
    drift = reference.drift_reference()
    _warm_up_figures()
    return Model(
        manifest=manifest,
        engine=engine,
        batcher=_batcher(engine, prior, manifest, costs, settings, observer),
        costs=costs,
        prior=prior,
        usage=PassingTokens(manifest, drift, settings.window_sizes),
        drift=drift,
        training_usage=reference.usage,
        codebook=codebook,
        codebook_file=codebook_npy(codebook),
        coding=Coding(manifest.codebook_size, manifest.depth, CoderTables.of(reference), learned),
        opened_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _draw_rows(prior: Prior, count: int) -> int:
    """Draw as many samples, and give how many rows of the prior that took."""
    wish = Wish(count)
    draw_all(prior, wish)
    return most_rows(prior, wish)


def _batcher(
    engine: Engine,
    prior: Prior,
    manifest: Manifest,
    costs: CostModel,
    settings: Settings,
    observer: Observer,
) -> Batcher:
    measures = measures_of(manifest)

    def encode(images: NDArray[Any]) -> Arrays:
        encoded = engine.encode(images)
        return (encoded.tokens, encoded.margins, *(getattr(encoded, name) for name in measures))

    def decode(tokens: NDArray[Any]) -> Arrays:
        return (engine.decode(tokens),)

    def reveal(rows: NDArray[Any]) -> Arrays:
        return (prior.logits(*unpacked(rows, manifest)),)

    limits = BatchLimits(
        engine,
        manifest,
        costs,
        batch_pixels=settings.batch_pixels,
        loop_seconds=settings.loop_seconds,
    )
    return Batcher(
        {"encode": encode, ENCODE_ALONE: encode, "decode": decode, REVEAL: reveal},
        max_rows=limits.in_thread,
        num_runners=engine.num_runners,
        observer=observer,
        rows_on_loop=limits.on_loop,
    )


def _warm_up_figures() -> None:
    """SSIM imports a second's worth of code on first use; better spent before anyone waits."""
    image = np.zeros((SSIM_WINDOW, SSIM_WINDOW, 3), np.uint8)
    compare(image, image)
