"""One HTTP request on its way through the service."""

import math
import random
import re
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from starlette.requests import Request
from starlette.types import Scope

from service.admission import Reservation
from service.token_cache import NOT_LOOKED_FOR, Origins

_SCOPE_KEY = "vqtok.call"
REQUEST_ID_BITS = 128
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class CallerLeft(Exception):
    """The caller closed the connection before its request was complete."""


@dataclass(eq=False)
class Arrival:
    """When a body must have arrived (monotonic), and whether somebody waits for it."""

    due: float = math.inf
    is_awaited: bool = False
    timed_out: bool = False
    _paused: float | None = None

    def due_from(self, now: float) -> float:
        """When it must have arrived, if it is waited for from now on."""
        return self.due if self._paused is None else self.due + now - self._paused

    def expire(self) -> bool:
        """Note that the time is over; whether somebody waits, and must be told."""
        self.due = math.inf
        self.timed_out = True
        return self.is_awaited

    @contextmanager
    def pause(self) -> Generator[None]:
        """The time inside does not count: it is not the caller who is late."""
        self._paused = time.monotonic()
        try:
            yield
        finally:
            self.due = self.due_from(time.monotonic())
            self._paused = None


@dataclass(eq=False)
class Call:
    """What is known of a request besides its bytes. Times are monotonic seconds.

    `route` is a label of the metrics; `deadline` is when the caller stops waiting; `preprocess`
    names what was done to the images, "none" where there are none. `caller` is the name of its key,
    None where no keys are asked for; `origins` says which tokens were in the cache. `stages` has
    the time in each stage, `spans` when it was. `headers` has the first of each name, in lower
    case. `on_leave` is called when the caller closes the connection.
    """

    route: str
    headers: Mapping[bytes, bytes]
    request_id: str
    started: float
    deadline: float
    body: Arrival = field(default_factory=Arrival)
    caller: str | None = None
    reservation: Reservation | None = None
    preprocess: str = "none"
    origins: Origins = NOT_LOOKED_FOR
    stages: dict[str, float] = field(default_factory=dict[str, float])
    spans: list[tuple[str, float, float]] = field(default_factory=list[tuple[str, float, float]])
    status: int | None = None
    answered: bool = False
    gone: bool = False
    on_leave: Callable[[], None] | None = None

    def header(self, name: bytes) -> str | None:
        """The value of a header as text; None when it was not sent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def stage(self, name: str) -> "Stage":
        """Add the time spent inside to a stage."""
        return Stage(self, name)

    def add(self, name: str, started: float, ended: float) -> None:
        """Add what lies between two moments to the time of a stage."""
        self.stages[name] = self.stages.get(name, 0.0) + ended - started
        self.spans.append((name, started, ended))

    def server_timing(self) -> str:
        """The value of the header `Server-Timing`: milliseconds in each stage, in the order in
        which they began, and in all until now.
        """
        milliseconds = [1000 * seconds for seconds in self.stages.values()]
        milliseconds.append(1000 * (time.monotonic() - self.started))
        return _server_timing(tuple(self.stages)) % tuple(milliseconds)


class Stage:
    """The time spent inside a `with` is added to a stage of a call."""

    def __init__(self, call: Call, name: str) -> None:
        self._call = call
        self._name = name
        self._started = time.monotonic()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._call.add(self._name, self._started, time.monotonic())


@lru_cache
def _server_timing(stages: tuple[str, ...]) -> str:
    return ", ".join(f"{name};dur=%.3f" for name in (*stages, "total"))


def attach(scope: Scope, call: Call) -> None:
    """Make `call` the one of this request."""
    scope[_SCOPE_KEY] = call


def call_in(scope: Scope) -> Call:
    """The call of a request's scope."""
    call = scope[_SCOPE_KEY]
    assert isinstance(call, Call)
    return call


def caller_left(scope: Mapping[str, Any]) -> None:
    """Tell the call of this request, if it has one yet, that its caller closed the connection."""
    call = scope.get(_SCOPE_KEY)
    if isinstance(call, Call) and call.on_leave is not None:
        call.on_leave()


def call_of(request: Request) -> Call:
    """The call of a request."""
    return call_in(request.scope)


def first_of_each(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name; of those sent several times the first."""
    return dict(reversed([*headers]))


def request_id_from(header: str | None) -> str:
    """The caller's own id if it is plain and at most 128 characters long, else a new one."""
    if header is not None and _REQUEST_ID.fullmatch(header):
        return header
    # It has to differ from all others, not to be a secret; to ask the system for random bytes would
    # let go of the interpreter.
    return f"{random.getrandbits(REQUEST_ID_BITS):032x}"
