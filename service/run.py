"""One process: settings in, exit status out."""

import logging
import os

import uvicorn

from service.app import OpenModel, create_app
from service.logs import configure_logs
from service.model import open_model
from service.protocol import ServiceProtocol
from service.server import Server, listen
from service.settings import Settings
from service.state import Service

log = logging.getLogger(__name__)


def run(settings: Settings, open_model: OpenModel = open_model) -> int:
    """Serve until SIGTERM or SIGINT; the exit status.

    0 after a clean end; 1 when the address or the device cannot be opened, or when requests had to
    be cut off.
    """
    configure_logs(settings.log_level, settings.log_format)
    try:
        server = _Process(settings, open_model)
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        log.error("cannot listen on %s: %s", where, error.strerror or error)
        return 1
    return server.run()


class _Process:
    def __init__(self, settings: Settings, open_model: OpenModel) -> None:
        self._listener = listen(settings.host, settings.port)
        self._is_fatal = False
        app = create_app(settings, open_model, on_fatal=self._stop)
        service = app.state.service
        assert isinstance(service, Service)
        self._service = service

        class Protocol(ServiceProtocol):
            stall_seconds = settings.request_timeout

        config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            loop="uvloop",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_seconds,
        )
        self._server = Server(
            config,
            self._listener,
            protocol=Protocol,
            on_drain=service.lifecycle.drain,
            num_unanswered=lambda: service.admission.reserved.requests,
            drain_seconds=settings.drain_seconds,
        )

    def run(self) -> int:
        host, port = self._listener.getsockname()[:2]
        log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
        self._server.run()
        log.info(
            "ended, admitted=%d cut=%d",
            self._service.metrics.admitted_count(),
            self._server.num_cut,
        )
        if self._server.num_cut:
            # A thread that still works on what was cut would keep the process alive.
            logging.shutdown()
            os._exit(1)
        return 1 if self._is_fatal else 0

    def _stop(self) -> None:
        self._is_fatal = True
        self._server.should_exit = True
