"""The process around the app: signals, and a shutdown that loses no request.

uvicorn's own shutdown closes the listener and every connection without a request in work at once.
A request that lies in a socket's buffer at that moment is lost without an answer. Here the socket
stays open while admitted requests are finished; what comes meanwhile is answered 503. Then the
listener goes, after its last waiting connections were taken, and each connection when it is idle.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Generator
from types import FrameType

import uvicorn

from service.listener import HANDSHAKE_SECONDS, accept_all, begin_no_handshakes
from service.protocol import ServiceProtocol

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
POLL_SECONDS = 0.02
LINGER_SECONDS = 2.0
FLUSH_SECONDS = 1.0
TICK_SECONDS = 1.0


class Server(uvicorn.Server):
    """Serves one app on one listening socket until SIGTERM or SIGINT.

    `on_drain` is called in the signal handler, `on_reload` on the loop after a SIGHUP.
    `num_unanswered` says how many admitted requests are not answered yet. After `drain_seconds`
    what is left is cut off; `num_cut` counts it.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        *,
        protocol: type[ServiceProtocol],
        on_drain: Callable[[], None],
        on_reload: Callable[[], None],
        num_unanswered: Callable[[], int],
        drain_seconds: float,
    ) -> None:
        super().__init__(config)
        self._protocol = protocol
        self._on_drain = on_drain
        self._on_reload = on_reload
        self._num_unanswered = num_unanswered
        self._drain_seconds = drain_seconds
        self.num_cut = 0
        self._ends = asyncio.Event()
        # A descriptor of our own keeps the socket open when the loop has closed its one.
        self._listener = listener.dup()
        self._given = listener

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal comes and everything is finished."""
        super().run(sockets=[self._given])

    def end(self) -> None:
        """Begin to end. For the event loop's thread, and for signal handlers."""
        self.should_exit = True
        asyncio.get_running_loop().call_soon_threadsafe(self._ends.set)

    async def main_loop(self) -> None:
        """As uvicorn's, which looks ten times a second whether it should end: for a model on the
        same core each look costs more than its own time, by what it throws out of the caches.
        """
        while not self.should_exit:
            # It writes the date of the answers.
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ends.wait(), TICK_SECONDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second SIGINT (Ctrl-C twice) cuts it short."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.end()
        self._on_drain()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn's, without raising the signal again at the end: a clean drain exits with 0."""
        loop = asyncio.get_running_loop()

        def reload(sig: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._on_reload)

        originals = {sig: signal.signal(sig, self.handle_exit) for sig in SIGNALS}
        originals[signal.SIGHUP] = signal.signal(signal.SIGHUP, reload)
        try:
            yield
        finally:
            for sig, handler in originals.items():
                signal.signal(sig, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what was admitted, answer the rest, close everything."""
        ends_at = time.monotonic() + self._drain_seconds
        log.info("draining, %d requests in work", self._num_unanswered())
        await _until(lambda: not self._num_unanswered() or self._is_over(ends_at))
        await self._close_listener()
        await self._close_connections(ends_at)
        self.num_cut = self._num_unanswered()
        if self.num_cut:
            log.error("cut off %d requests (drain_seconds)", self.num_cut)
        await self._abort_connections()
        if not self.num_cut:
            await self.lifespan.shutdown()

    def _is_over(self, ends_at: float) -> bool:
        return self.force_exit or time.monotonic() >= ends_at

    async def _close_listener(self) -> None:
        begin_no_handshakes(self._listener)
        await asyncio.sleep(HANDSHAKE_SECONDS)
        for server in self.servers:
            server.close()
        self._given.close()
        # No await from here to the last close: a connection made in between would be lost.
        waiting = accept_all(self._listener)
        self._listener.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            await loop.connect_accepted_socket(self._new_protocol, connection)

    def _new_protocol(self) -> ServiceProtocol:
        return self._protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def _close_connections(self, ends_at: float) -> None:
        # First the loop reads what has already arrived, so that it is answered.
        await asyncio.sleep(POLL_SECONDS)
        lingers_until = time.monotonic() + LINGER_SECONDS
        while self._connections() and not self._is_over(ends_at):
            for connection in self._connections():
                connection.close_if_idle()
            # A caller who never completes its request is not waited for; one who has not taken all
            # of its answer is.
            is_answering = any(connection.has_unsent for connection in self._connections())
            if time.monotonic() > lingers_until and not (is_answering or self._num_unanswered()):
                break
            await asyncio.sleep(POLL_SECONDS)

    async def _abort_connections(self) -> None:
        for connection in self._connections():
            connection.abort()
        for task in list(self.server_state.tasks):
            task.cancel()
        ends_at = time.monotonic() + FLUSH_SECONDS
        await _until(lambda: not self.server_state.tasks or time.monotonic() >= ends_at)

    def _connections(self) -> list[ServiceProtocol]:
        connections = list(self.server_state.connections)
        return [each for each in connections if isinstance(each, ServiceProtocol)]


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(POLL_SECONDS)
