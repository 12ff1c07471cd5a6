"""uvicorn's HTTP/1.1 protocol with five additions: it knows when a connection is truly idle, it
bounds what it discards and what it takes as headers, it refuses broken HTTP with a problem, it
drops callers who take nothing of their answer, and it does not wait for ever for a request.
"""

import asyncio
import fcntl
import logging
import socket
import sys
import termios
from http import HTTPStatus
from typing import Any, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.call import caller_left, request_id_from
from service.problems import PROBLEM_MEDIA_TYPE, problem_body

log = logging.getLogger(__name__)

MAX_HEADER_BYTES = 64 * 1024
MAX_DISCARDED_BYTES = 64 * 1024 * 1024


class ServiceProtocol(HttpToolsProtocol):
    """One connection.

    A request that was answered before its body had arrived (429, 413, 415) leaves the connection
    open, and the rest of the body is read and thrown away. To close at once would make the kernel
    reset the connection, and a caller in the middle of sending could lose the answer.
    """

    cycle: RequestResponseCycle | None  # pyright: ignore[reportIncompatibleVariableOverride]
    stall_seconds = 30.0
    """A caller who takes nothing of its answer for so long is cut off."""
    arrival_seconds = 20.0
    """How long the head of a request may take, and what follows of a request after its answer."""

    _receiving = False
    _is_in_head = True
    _awaited: Literal["head", "rest"] | None = None
    _arrival_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _discarded_bytes = 0

    @property
    def has_unsent(self) -> bool:
        """A part of an answer waits for its caller to take it."""
        return self.transport.get_write_buffer_size() > 0

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _due(self) -> Literal["head", "rest"] | None:
        """What the caller has to send: the head of a request, or the rest of an answered one."""
        if self.transport.is_closing() or self._is_answering or self.pipeline:
            return None
        if self._receiving and not self._is_in_head:
            return "rest"
        return "head" if self._receiving or self.cycle is None else None

    def connection_made(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        self._watch_arrival()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.cycle is not None and not self.cycle.response_complete:
            caller_left(dict(self.cycle.scope))
        _cancel(self._arrival_timer)
        self._stop_watching_reader()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_arrival()
        is_idle = not (self._receiving or self._is_answering or self.pipeline)
        # uvicorn forgets to wait for the next request when the last one outlasted its answer.
        if is_idle and self.cycle is not None and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_arrival()
        if self.transport.is_closing():
            self._close()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def close_if_idle(self) -> None:
        """Close the connection if nothing of a request is being received, worked on, answered, or
        waiting in the socket, so that its caller sees the end before it sends anything.
        """
        is_busy = self._receiving or self._is_answering or self.pipeline
        if self.transport.is_closing() or is_busy:
            return
        if _end_unless_readable(self.transport.get_extra_info("socket")):
            self.transport.close()

    def abort(self) -> None:
        """Drop the connection with whatever is still on its way."""
        self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._receiving = True
        self._is_in_head = True
        self._header_bytes = 0
        self._discarded_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._count_header_bytes(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header_bytes(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle is not None and self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > MAX_DISCARDED_BYTES:
                self.transport.abort()

    def on_message_complete(self) -> None:
        self._receiving = False
        super().on_message_complete()
        # Whoever has the whole body asks for nothing more, and the caller's leaving must be seen.
        if not self.pipeline:
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request; called by uvicorn when its parser gives up."""
        status, detail = HTTPStatus.BAD_REQUEST, "This is not an HTTP/1.1 request."
        if self._header_bytes > MAX_HEADER_BYTES:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            detail = f"The request line and headers may have {MAX_HEADER_BYTES} bytes together."
        self._refuse(status, "malformed_request", detail)

    def _refuse(self, status: HTTPStatus, code: str, detail: str) -> None:
        body = problem_body(status, code, detail)
        given = dict(self.headers or ()).get(b"x-request-id", b"").decode("latin-1")
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {PROBLEM_MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id_from(given)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self._close()

    def _close(self) -> None:
        """Close the connection once what is written has gone out, or its caller takes no more."""
        self.transport.close()
        if self.has_unsent and self._reader_timer is None:
            self._watch_reader()

    def _watch_arrival(self) -> None:
        due = self._due
        if due == self._awaited:
            return
        self._awaited = due
        _cancel(self._arrival_timer)
        self._arrival_timer = None
        if due is not None:
            self._unset_keepalive_if_required()
            self._arrival_timer = self.loop.call_later(self.arrival_seconds, self._is_late)

    def _is_late(self) -> None:
        if self._awaited == "rest":
            self._close()
        elif not self._receiving:
            self.transport.abort()
        else:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                "body_timeout",
                f"The head of the request did not arrive within {self.arrival_seconds:g} s "
                "(body_timeout).",
            )

    def pause_writing(self) -> None:
        """Called when the caller takes its answer more slowly than it is made."""
        super().pause_writing()
        if self._reader_timer is None:
            self._watch_reader()

    def resume_writing(self) -> None:
        """Called when the caller has taken nearly all that was written."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_watching_reader()

    def _stop_watching_reader(self) -> None:
        _cancel(self._reader_timer)
        self._reader_timer = None

    def _watch_reader(self) -> None:
        # Nothing is written from here to the end of the watch, so what is left only shrinks.
        left = self._num_left()
        self._reader_timer = self.loop.call_later(self.stall_seconds, self._check_reader, left)

    def _check_reader(self, left_before: int) -> None:
        self._reader_timer = None
        if not self.has_unsent:
            return
        if self._num_left() < left_before:
            self._watch_reader()
            return
        log.warning("cut off a caller who took nothing of its answer for %g s", self.stall_seconds)
        self.transport.abort()

    def _num_left(self) -> int:
        """Bytes that the caller has not taken, those in the kernel's buffer included: it asks for
        more only when much of that is free, which takes a slow caller long.
        """
        in_kernel = _bytes_in_kernel(self.transport.get_extra_info("socket"))
        return self.transport.get_write_buffer_size() + in_kernel

    def _count_header_bytes(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError("headers too large")


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _bytes_in_kernel(transport_socket: Any) -> int:
    """Bytes that the kernel has taken for the caller and that have not arrived there."""
    try:
        found = fcntl.ioctl(transport_socket.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(found, sys.byteorder)


def _end_unless_readable(transport_socket: Any) -> bool:
    """Send the end of the stream if the kernel holds nothing to read; whether it did.

    To leave that to the transport would be later by a turn of the event loop, and what arrives in
    between would be lost.
    """
    view = socket.socket(
        transport_socket.family, socket.SOCK_STREAM, fileno=transport_socket.fileno()
    )
    try:
        view.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        view.shutdown(socket.SHUT_WR)
        return True
    except OSError:
        return True
    else:
        return False
    finally:
        view.detach()
