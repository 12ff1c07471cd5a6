"""What the routes share: one object per app, made by `create_app`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import Scope

from service.admission import Admission
from service.budget import Budget
from service.keys import KeyRing
from service.lifecycle import Lifecycle
from service.memo import Memo
from service.metrics import Metrics
from service.model import Model
from service.pool import Pool
from service.settings import Settings
from service.token_cache import TokenCache
from service.traces import Traces
from vqtok.errors import NotReady, UnknownModel

log = logging.getLogger(__name__)

_SCOPE_KEY = "vqtok.service"


@dataclass(frozen=True, eq=False)
class Service:
    """The parts of a running service. `pixels` is the room for decoded images; without `keys`
    everybody is let in.
    """

    settings: Settings
    metrics: Metrics
    admission: Admission
    pool: Pool
    pixels: Budget
    lifecycle: Lifecycle[Model]
    keys: KeyRing | None = None
    cache: TokenCache | None = None
    traces: Traces | None = None
    memo: Memo = field(default_factory=Memo)

    def model(self, name: str | None = None) -> Model:
        """The loaded model, if it is the one that `name` (`name` or `name@version`) asks for.

        Raises:
            NotReady: no model is loaded yet. BundleError, RuntimeUnavailable: none will be.
            UnknownModel: another name or version.
        """
        model = self.lifecycle.loaded_model
        if model is None:
            self.lifecycle.require_ready()
            raise NotReady("The model is not ready yet.")
        manifest = model.manifest
        if name is not None and name not in (manifest.name, manifest.full_name):
            raise UnknownModel(
                f"There is no model {name[:80]!r} here; {manifest.full_name!r} is served."
            )
        return model

    def reload(self) -> None:
        """Read again what may change while the process runs: the callers' keys."""
        if self.keys is None:
            log.info("nothing to read again: there are no keys")
        else:
            self.keys.reload()

    def model_headers(self) -> Sequence[tuple[bytes, bytes]]:
        """The headers that name the model on every answer; none until there is one."""
        model = self.lifecycle.loaded_model
        return () if model is None else model.headers


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service = request.scope[_SCOPE_KEY]
    assert isinstance(service, Service)
    return service


def attach_service(scope: Scope, service: Service) -> None:
    """Make `service` the one that this request came to."""
    scope[_SCOPE_KEY] = service
