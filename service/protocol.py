"""uvicorn's HTTP/1.1 protocol with four additions: it knows when a connection is truly idle, it
bounds what it discards and what it takes as headers, it refuses broken HTTP with a problem, and it
drops callers who take nothing of their answer.
"""

import logging
import socket
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

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

    _receiving = False
    _header_bytes = 0
    _discarded_bytes = 0

    @property
    def has_unsent(self) -> bool:
        """A part of an answer waits for its caller to take it."""
        return self.transport.get_write_buffer_size() > 0

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

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
        self._header_bytes = 0
        self._discarded_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._count_header_bytes(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header_bytes(len(name) + len(value))
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle is not None and self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > MAX_DISCARDED_BYTES:
                self.transport.abort()

    def on_message_complete(self) -> None:
        self._receiving = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request; called by uvicorn when its parser gives up."""
        status, detail = HTTPStatus.BAD_REQUEST, "This is not an HTTP/1.1 request."
        if self._header_bytes > MAX_HEADER_BYTES:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            detail = f"The request line and headers may have {MAX_HEADER_BYTES} bytes together."
        body = problem_body(status, "malformed_request", detail)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {PROBLEM_MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def pause_writing(self) -> None:
        """Called when the caller takes its answer more slowly than it is made."""
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def _watch_reader(self, unsent: int) -> None:
        self.loop.call_later(self.stall_seconds, self._check_reader, unsent)

    def _check_reader(self, unsent_before: int) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent >= unsent_before and self.flow.write_paused:
            self.transport.abort()
        elif self.flow.write_paused:
            self._watch_reader(unsent)

    def _count_header_bytes(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError("headers too large")


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
