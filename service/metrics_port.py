"""`/metrics` on a port of its own, so that who may call the service need not see it."""

import logging
from collections.abc import Callable

from prometheus_client import CollectorRegistry, start_http_server

from service.listener import CannotListen
from service.settings import Settings

log = logging.getLogger(__name__)


def open_metrics(settings: Settings, registry: CollectorRegistry) -> Callable[[], None]:
    """Serves the registry on `metrics_port`, where there is one, in a thread that ends with a call
    of what is returned. Raises CannotListen.
    """
    port = settings.metrics_port
    if port is None:
        return lambda: None
    try:
        server, thread = start_http_server(port, settings.host, registry)
    except OSError as error:
        raise CannotListen(settings.host, port, error) from error
    log.info("metrics on port %d", port)

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return close
