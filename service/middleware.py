"""What every request passes: its id and headers, counting, and the first gate. Pure ASGI, because
only so does a caller's leaving reach us while the model works.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.admission import Admission, Refusal, Reservation
from service.call import (
    Call,
    CallerLeft,
    attach,
    call_in,
    first_of_each,
    request_id_from,
)
from service.metrics import Metrics
from service.problems import internal_error, problem_of
from service.routes import Endpoint
from service.traces import Traces
from vqtok.errors import DeadlineExceeded, Draining, InvalidParameter, VqtokError

log = logging.getLogger(__name__)

TIMEOUT_HEADER = b"vqtok-timeout-ms"
CALLER_LEFT = 499
CHUNK_BYTES = 256 * 1024
TRACED = "/v1/"
LEAST_TIMER = 0.001
"""A body that nobody waits for would keep the clock busy once its time is nearly over."""


class RequestScope:
    """Outermost: gives a request its id, its answer's headers, and its place in the metrics.

    `model_headers` gives the headers that name the model, once there is one. The last resort
    against a defect of our own is here too.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        request_timeout: float,
        model_headers: Callable[[], Sequence[tuple[bytes, bytes]]],
        traces: Traces | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._traces = traces
        self._request_timeout = request_timeout
        self._model_headers = model_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        now = time.monotonic()
        headers = first_of_each(scope["headers"])
        given_id = headers.get(b"x-request-id")
        call = Call(
            route=self._metrics.route_label(scope["path"]),
            headers=headers,
            request_id=request_id_from(None if given_id is None else given_id.decode("latin-1")),
            started=now,
            deadline=now + self._request_timeout,
        )
        attach(scope, call)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._headers(call)]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        # A defect of our own must still be answered, and must not end in uvicorn's plain text.
        except Exception:
            log.exception("defect on %s, request_id=%s", call.route, call.request_id)
            if call.status is None:
                await internal_error(call.request_id)(scope, receive, send_with_headers)
        finally:
            self._count(call)
            if self._traces is not None and call.route.startswith(TRACED):
                headers = dict(Headers(scope=scope))
                self._traces.record(scope["method"], call, _status(call), headers)

    def _headers(self, call: Call) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"X-Request-Id", call.request_id.encode()),
            *self._model_headers(),
            (b"Vqtok-Preprocess", call.preprocess.encode()),
            (b"Server-Timing", call.server_timing().encode()),
        ]
        if call.origins.total:
            headers.append((b"Cache-Status", call.origins.header().encode()))
        return headers

    def _count(self, call: Call) -> None:
        status = _status(call)
        is_timed = status == 200 and call.reservation is not None
        self._metrics.tally.answer(call.route, status, call.stages if is_timed else None)
        if call.origins.total:
            for outcome, count in asdict(call.origins).items():
                self._metrics.cache_images.labels(outcome).inc(count)


def _status(call: Call) -> int:
    return CALLER_LEFT if call.gone or call.status is None else call.status


class AdmissionGate:
    """The first gate, for the calls that cost something: `POST` on one of `endpoints`, which it
    calls itself. Everything else goes on to `app`.

    A refusal is answered without calling `receive`. Whoever is let in is watched: when the caller
    leaves or the deadline passes, the request is cancelled, and with it what it has queued.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        endpoints: Mapping[str, Endpoint],
        admission: Admission,
        metrics: Metrics,
        require_ready: Callable[[], object],
        body_timeout: float,
    ) -> None:
        self._app = app
        self._body_timeout = body_timeout
        self._endpoints = endpoints
        self._admission = admission
        self._metrics = metrics
        self._require_ready = require_ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        endpoint = self._endpoints.get(scope["path"]) if is_post else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        call = call_in(scope)
        try:
            call.reservation = self._enter(call)
        except VqtokError as error:
            await problem_of(error)(scope, receive, send)
            return
        try:
            await _Watched(endpoint, call, scope, receive, send).run()
        finally:
            call.reservation.release(time.monotonic() - call.started)

    def _enter(self, call: Call) -> Reservation:
        entered = time.monotonic()
        self._check_ready()
        call.deadline = _deadline(call, call.header(TIMEOUT_HEADER))
        call.body.due = call.started + self._body_timeout
        reservation = self._admission.enter(_announced_bytes(call), call.caller)
        call.add("admit", entered, time.monotonic())
        self._metrics.tally.admit()
        return reservation

    def _check_ready(self) -> None:
        try:
            self._require_ready()
        except VqtokError as error:
            reason: Refusal = "draining" if isinstance(error, Draining) else "not_ready"
            self._metrics.refused.labels(reason).inc()
            raise


class _Watched:
    """Runs one admitted request until it is answered, its caller leaves or its time is over.

    When it has to end early it is cancelled and waited for: a thread in the middle of an image ends
    in its own time, and holds its room until then, but a caller whose time is over is answered
    first.
    """

    def __init__(
        self, endpoint: Endpoint, call: Call, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._endpoint = endpoint
        self._call = call
        self._scope = scope
        self._receive = receive
        self._send_inner = send
        self._is_over = False
        self._refusal: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = self._next_timer()

    async def run(self) -> None:
        self._call.on_leave = self._leave
        try:
            await self._respond()
        except CallerLeft:
            self._call.gone = True
        except asyncio.CancelledError:
            if not self._is_over or self._task.uncancel():
                raise
        finally:
            self._timer.cancel()
            self._call.on_leave = None
            if self._refusal is not None:
                await self._refusal

    def _leave(self) -> None:
        if not (self._call.answered or self._is_over):
            self._call.gone = self._is_over = True
            self._task.cancel()

    def _next_timer(self) -> asyncio.TimerHandle:
        """One timer for both times: that of the body is nearly always over when it matters."""
        now = time.monotonic()
        moment = min(self._call.body.due_from(now), self._call.deadline)
        return self._loop.call_later(max(LEAST_TIMER, moment - now), self._look_at_clock)

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        if now >= self._call.deadline:
            self._expire()
            return
        if now >= self._call.body.due_from(now) and self._call.body.expire():
            self._task.cancel()
        self._timer = self._next_timer()

    def _expire(self) -> None:
        # Who has begun to get its answer gets the rest; one who takes nothing of it is cut off by
        # the protocol.
        if self._call.status is None and not self._is_over:
            self._is_over = True
            self._refusal = self._loop.create_task(self._out_of_time())
            self._task.cancel()

    async def _respond(self) -> None:
        try:
            response = await self._endpoint(Request(self._scope, self._receive))
        except VqtokError as error:
            response = problem_of(error)
        await response(self._scope, self._receive, self._send)

    async def _send(self, message: Message) -> None:
        """Pass an answer on in pieces, so that who reads slowly keeps its slot until the end."""
        if self._is_over:
            return
        if message["type"] != "http.response.body":
            await self._send_inner(message)
            return
        if len(message.get("body", b"")) <= CHUNK_BYTES:
            self._call.answered = not message.get("more_body", False)
            await self._send_inner(message)
            return
        body = memoryview(message["body"])
        more_follows = message.get("more_body", False)
        for start in range(0, len(body), CHUNK_BYTES):
            chunk = bytes(body[start : start + CHUNK_BYTES])
            more = more_follows or start + CHUNK_BYTES < len(body)
            self._call.answered = not more
            await self._send_inner({"type": "http.response.body", "body": chunk, "more_body": more})

    async def _out_of_time(self) -> None:
        milliseconds = round((self._call.deadline - self._call.started) * 1000)
        error = DeadlineExceeded(
            f"No answer within {milliseconds} ms (request_timeout, or the header "
            "Vqtok-Timeout-Ms if that is less). Send fewer images or allow more time."
        )
        await problem_of(error)(self._scope, self._receive, self._send_inner)
        self._call.answered = True


def _deadline(call: Call, header: str | None) -> float:
    if header is None:
        return call.deadline
    header = header.strip()
    if not (header.isascii() and header.isdigit() and 0 < len(header) <= 12 and int(header)):
        raise InvalidParameter(
            f"The header Vqtok-Timeout-Ms takes whole milliseconds from 1, not {header[:40]!r}."
        )
    return min(call.deadline, call.started + int(header) / 1000)


def _announced_bytes(call: Call) -> int | None:
    """The body's length by its header; the server has refused what is no number."""
    length = call.header(b"content-length")
    return int(length) if length is not None and length.isdigit() else None
