"""What the process is doing: coming up, serving, shutting down.

The socket is open from the first moment. The bundle is opened, warmed up and proven in the
background; until then, and for good when that fails, the service is live but not ready.
"""

import logging
import time
from enum import StrEnum
from typing import Generic, TypeVar

from prometheus_client import Gauge

from vqtok.errors import BundleError, Draining, NotReady, RuntimeUnavailable, VqtokError

log = logging.getLogger(__name__)


class Phase(StrEnum):
    """Where the process is in its life, in order; `failed` is the end of a bundle that is not
    fit to serve.
    """

    OPENING_BUNDLE = "opening_bundle"
    OPENING_ENGINE = "opening_engine"
    CHECKING_GOLDEN_IMAGE = "checking_golden_image"
    WARMING_UP = "warming_up"
    READY = "ready"
    FAILED = "failed"
    DRAINING = "draining"


ModelT = TypeVar("ModelT")


class Lifecycle(Generic[ModelT]):
    """The phase, and the model once it is proven."""

    def __init__(self, ready_gauge: Gauge) -> None:
        self._ready_gauge = ready_gauge
        self._started = time.monotonic()
        self._model: ModelT | None = None
        self.phase = Phase.OPENING_BUNDLE
        self.failure: VqtokError | None = None

    def enter(self, phase: Phase) -> None:
        """Note that loading has come to `phase`."""
        if self.phase is not Phase.DRAINING:
            self.phase = phase
            log.debug("phase %s", phase)

    def became_ready(self, model: ModelT) -> None:
        """The model has passed every check: take requests."""
        self._model = model
        self.enter(Phase.READY)
        if self.phase is Phase.READY:
            self._ready_gauge.set(1)
            log.info("ready after %.1f s", time.monotonic() - self._started)

    def failed(self, error: VqtokError) -> None:
        """The model cannot serve; the process stays up to say why."""
        self.failure = error
        self.enter(Phase.FAILED)
        log.error("not ready: %s", error.detail)

    def drain(self) -> None:
        """Take nothing more. Called in a signal handler: no logging, no locks."""
        self.phase = Phase.DRAINING

    @property
    def loaded_model(self) -> ModelT | None:
        """The model if one was loaded, whatever the phase."""
        return self._model

    def require_ready(self) -> ModelT:
        """The model, when requests are taken.

        Raises:
            Draining: the process is shutting down.
            NotReady: naming the phase.
            BundleError, RuntimeUnavailable: why there will never be a model.
        """
        if self.phase is Phase.DRAINING:
            raise Draining("The service is shutting down. Send the request to another replica.")
        if self.failure is not None:
            raise _lasting(self.failure)
        if self._model is None or self.phase is not Phase.READY:
            raise NotReady(f"The model is not ready yet ({self.phase}). Try again in a moment.")
        return self._model


def _lasting(failure: VqtokError) -> VqtokError:
    """A new error, of a kind that tells callers not to try again."""
    is_lasting = isinstance(failure, (BundleError, RuntimeUnavailable))
    kind = type(failure) if is_lasting else BundleError
    return kind(f"The bundle cannot be served. {failure.detail}")
