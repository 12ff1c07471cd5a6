"""One process: settings in, exit status out."""

import logging
import os
import sys
import threading
import time

import uvicorn

from service.app import OpenModel, create_app
from service.listener import CannotListen, listen
from service.logs import configure_logs
from service.metrics_port import open_metrics
from service.model import open_model
from service.protocol import ServiceProtocol
from service.server import Server
from service.settings import Settings

log = logging.getLogger(__name__)

THREAD_SECONDS = 0.5


def run(settings: Settings, open_model: OpenModel = open_model) -> int:
    """Serve until SIGTERM or SIGINT; the exit status.

    0 after a clean end; 1 when the address or the device cannot be opened, or when requests had to
    be cut off.
    """
    configure_logs(settings.log_level, settings.log_format)
    try:
        server = _Process(settings, open_model)
    except CannotListen as error:
        log.error("%s", error)
        return 1
    return server.run()


class _Process:
    def __init__(self, settings: Settings, open_model: OpenModel) -> None:
        self._listener = listen(settings.host, settings.port)
        self._is_fatal = False
        app = create_app(settings, open_model, on_fatal=self._stop)
        service = app.service
        self._service = service
        self._close_metrics = open_metrics(settings, service.metrics.registry)

        class Protocol(ServiceProtocol):
            stall_seconds = settings.request_timeout
            arrival_seconds = settings.body_timeout

        config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            loop="uvloop",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=settings.keep_alive_seconds,
        )
        self._server = Server(
            config,
            self._listener,
            protocol=Protocol,
            on_drain=service.lifecycle.drain,
            on_reload=service.reload,
            num_unanswered=lambda: service.admission.reserved.requests,
            drain_seconds=settings.drain_seconds,
        )

    def run(self) -> int:
        host, port = self._listener.getsockname()[:2]
        log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
        self._server.run()
        self._close_metrics()
        admitted = self._service.metrics.tally.num_admitted
        log.info("ended, admitted=%d cut=%d", admitted, self._server.num_cut)
        status = 1 if self._is_fatal or self._server.num_cut else 0
        _leave_threads_behind(status)
        _leave_the_log_behind(status)
        return status

    def _stop(self) -> None:
        self._is_fatal = True
        self._server.end()


def _leave_threads_behind(status: int) -> None:
    """End the process now if a thread is still at something that nobody waits for: opening a
    bundle, or an image of a request that was cut off.
    """
    ends_at = time.monotonic() + THREAD_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(max(0.0, ends_at - time.monotonic()))
            if thread.is_alive():
                logging.shutdown()
                os._exit(status)


def _leave_the_log_behind(status: int) -> None:
    """End the process now if nobody takes what is left of the log: the interpreter would make that
    its exit status.
    """
    try:
        sys.stderr.flush()
    except OSError:
        os._exit(status)
