"""The app is built, not found: `create_app` makes one from settings and a way to open the model."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any, TypeAlias

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.admission import Admission, AdmissionLimits
from service.batch import Observer
from service.budget import Budget
from service.call import call_of
from service.codebook_metrics import CodebookMetrics
from service.cross_origin import cors
from service.key_gate import KeyGate
from service.keys import KeyRing
from service.lag import watch_lag
from service.lifecycle import Lifecycle, Phase
from service.metrics import Metrics
from service.middleware import AdmissionGate, RequestScope
from service.model import Model, Report, open_model
from service.openapi import openapi_document
from service.pool import Pool
from service.problems import internal_error, problem, problem_of
from service.quotas import Quotas
from service.routes import ROUTES, WORKING_CALLS, route_paths
from service.settings import Settings
from service.state import Service, attach_service
from service.token_cache import TokenCache
from service.traces import open_traces
from vqtok import __version__
from vqtok.errors import BundleError, RuntimeUnavailable, VqtokError

log = logging.getLogger(__name__)

OpenModel: TypeAlias = Callable[[Settings, Observer, Report], Model]
"""Opens and proves a model, in a thread of its own; `open_model` is the one for bundles."""


class _Documented(FastAPI):
    def openapi(self) -> dict[str, Any]:
        return openapi_document(self.version)


class App:
    """The service as an ASGI app. Calls that run the model go straight to their endpoints, and
    everything else through `fastapi`; both through the gates.
    """

    def __init__(self, service: Service, fastapi: FastAPI) -> None:
        self.service = service
        self.fastapi = fastapi
        self._gates = _gates(service, fastapi)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        attach_service(scope, self.service)
        app = self.fastapi if scope["type"] == "lifespan" else self._gates
        await app(scope, receive, send)

    def lifespan(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """Inside, the model is opened and requests can be answered; for use without a server."""
        return self.fastapi.router.lifespan_context(self.fastapi)


def create_app(
    settings: Settings,
    open_model: OpenModel = open_model,
    on_fatal: Callable[[], None] = lambda: None,
) -> App:
    """The service as an ASGI app. Raises InvalidSettings for keys or traces that cannot be had.

    The model is opened in the background once the app starts. `on_fatal` is called when that fails
    for a reason that no other bundle would mend: the device cannot be opened.
    """
    service = _service(settings)
    fastapi = _Documented(
        title="vqtok",
        version=__version__,
        lifespan=_lifespan(service, open_model, on_fatal),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in ROUTES:
        fastapi.include_router(router)
    fastapi.add_exception_handler(VqtokError, _vqtok_error)
    fastapi.add_exception_handler(HTTPException, _http_error)
    fastapi.add_exception_handler(Exception, _defect)
    return App(service, fastapi)


def _gates(service: Service, app: ASGIApp) -> ASGIApp:
    """What every request passes on its way to `app`, outermost last."""
    settings = service.settings
    app = AdmissionGate(
        app,
        endpoints=WORKING_CALLS,
        admission=service.admission,
        metrics=service.metrics,
        require_ready=service.lifecycle.require_ready,
        body_timeout=settings.body_timeout,
    )
    if service.keys is not None:
        app = KeyGate(
            app,
            keys=service.keys,
            on_refusal=lambda reason: service.metrics.refused.labels(reason).inc(),
        )
    if settings.cors_origins:
        app = CORSMiddleware(app, **cors(settings.cors_origins))
    return RequestScope(
        app,
        metrics=service.metrics,
        request_timeout=settings.request_timeout,
        model_headers=service.model_headers,
        traces=service.traces,
    )


def _service(settings: Settings) -> Service:
    metrics = Metrics(route_paths(), __version__)
    limits = AdmissionLimits(
        requests=settings.max_requests,
        body_bytes=settings.max_body_bytes,
        total_bytes=settings.max_total_body_bytes,
        seconds=settings.max_queue_seconds,
    )
    share = settings.key_share
    quotas = Quotas(share, settings.key_burst_seconds) if share is not None else None
    admission = Admission(limits, lambda reason: metrics.refused.labels(reason).inc(), quotas)
    metrics.watch_admission(lambda: admission.reserved)
    cache = TokenCache(settings.cache_bytes) if settings.cache_bytes else None
    if cache is not None:
        metrics.watch_cache(cache)
    lifecycle: Lifecycle[Model] = Lifecycle(metrics.ready)
    metrics.registry.register(CodebookMetrics(lambda: lifecycle.loaded_model))
    return Service(
        settings=settings,
        metrics=metrics,
        admission=admission,
        pool=Pool(settings.image_threads),
        pixels=Budget(settings.max_decoded_pixels),
        lifecycle=lifecycle,
        cache=cache,
        traces=open_traces(settings),
        keys=KeyRing(settings.api_keys, settings.api_keys_file) if settings.has_keys else None,
    )


def _lifespan(
    service: Service, open_model: OpenModel, on_fatal: Callable[[], None]
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        tasks = [
            asyncio.create_task(_load(service, open_model, on_fatal)),
            asyncio.create_task(watch_lag(service.metrics.loop_lag)),
        ]
        yield
        for task in tasks:
            task.cancel()
        model = service.lifecycle.loaded_model
        if model is not None:
            await asyncio.to_thread(model.close)
        service.pool.close()
        if service.traces is not None:
            await asyncio.to_thread(service.traces.close)

    return lifespan


async def _load(service: Service, open_model: OpenModel, on_fatal: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def report(phase: Phase) -> None:
        loop.call_soon_threadsafe(service.lifecycle.enter, phase)

    try:
        model = await _in_thread(lambda: open_model(service.settings, service.metrics, report))
    except VqtokError as error:
        service.lifecycle.failed(error)
        if isinstance(error, RuntimeUnavailable):
            on_fatal()
        return
    # Whatever else a damaged file makes a library raise, the process must be able to say so.
    except Exception as error:
        log.exception("the bundle cannot be opened")
        reason = f"{type(error).__name__}: {error}"
        service.lifecycle.failed(
            BundleError(f"{service.settings.bundle} cannot be opened ({reason}).")
        )
        return
    service.admission.set_runners(model.engine.num_runners)
    service.metrics.watch_queue(lambda: model.batcher.num_queued)
    service.lifecycle.became_ready(model)


async def _in_thread(function: Callable[[], Model]) -> Model:
    """As `asyncio.to_thread`, in a thread that nobody waits for when the process ends meanwhile."""
    loop = asyncio.get_running_loop()
    result: Future[Model] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:  # noqa: BLE001 - whoever awaits the result gets it
            result.set_exception(error)

    threading.Thread(target=run, name="opening", daemon=True).start()
    return await asyncio.wrap_future(result, loop=loop)


async def _vqtok_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, VqtokError)
    return problem_of(error)


async def _defect(request: Request, error: Exception) -> Response:
    return internal_error(call_of(request).request_id)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(404, "not_found", f"There is no {path}. /docs lists what there is.")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return problem(
            405,
            "method_not_allowed",
            f"{path} takes {allowed}, not {request.method}.",
            headers=error.headers,
        )
    return problem(error.status_code, "http_error", str(error.detail), headers=error.headers)
