"""Requests to a vqtok service: tried again while it is busy, its problems turned into errors."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

import httpx
import orjson

import vqtok
from vqtok.errors import (
    DeadlineExceeded,
    InvalidParameter,
    Overloaded,
    RemoteError,
    TooLarge,
    VqtokError,
    error_from_problem,
)

PROBLEM = "application/problem+json"
ATTEMPTS = 6
CONNECT_SECONDS = 5.0
FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 10.0
EXCERPT = 200
KEY_VARIABLE = "VQTOK_API_KEY"
"""Where commands take a key from: the command line can be seen by everyone on the machine."""

# What passes with time. Other 503s, such as a damaged bundle, will be the same a second later.
PASSING_CODES = frozenset({"overloaded", "not_ready", "draining"})


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request; `files` are the parts named "images" of a multipart body."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content: bytes | None = None
    files: Sequence[bytes] = ()


class Transport:
    """A connection pool to one service; safe to use from several threads."""

    def __init__(
        self, url: str, timeout: float, *, api_key: str | None = None, attempts: int = ATTEMPTS
    ) -> None:
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise InvalidParameter("api_key has characters that no header can carry.")
        authorization = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        try:
            self._client = httpx.Client(
                base_url=url,
                timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
                headers={
                    "User-Agent": f"vqtok/{vqtok.__version__}",
                    # So that the service drops what nobody waits for any more.
                    "Vqtok-Timeout-Ms": str(max(1, int(timeout * 1000))),
                    **authorization,
                },
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise RemoteError(f"{url!r} is no URL: {error}.") from error
        self._url = url
        self._timeout = timeout
        self._attempts = attempts

    def send(self, call: Call) -> httpx.Response:
        """The answer to a call, which has status 200.

        Refusals for want of room or readiness and broken connections are tried again, a few times
        and after the pause that the service asks for: every call of the service may be repeated.

        Raises:
            VqtokError: what the service's problem says; DeadlineExceeded when it does not answer in
            time; RemoteError for anything that is no answer of a vqtok service.
        """
        for attempt in range(self._attempts):
            try:
                response = self._send_once(call)
                if response.status_code == HTTPStatus.OK:
                    return response
                error, delay = _problem(response), _delay(response, attempt)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as broken:
                error, delay = self._unreachable(broken), _backoff(attempt)
            if delay is None or attempt == self._attempts - 1:
                raise error
            time.sleep(delay)
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _send_once(self, call: Call) -> httpx.Response:
        try:
            return self._client.request(
                call.method,
                call.path,
                params=dict(call.params),
                headers=dict(call.headers),
                content=call.content,
                files=[("images", (f"{i}", data)) for i, data in enumerate(call.files)] or None,
            )
        except httpx.ConnectError as error:
            raise self._unreachable(error) from error
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(
                f"{self._url} did not answer within {self._timeout:g} s."
            ) from error
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            raise
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> RemoteError:
        return RemoteError(f"{self._url} cannot be reached: {error or type(error).__name__}.")


def _problem(response: httpx.Response) -> VqtokError:
    """The error that an answer other than 200 stands for."""
    document = _document(response)
    code, detail = document.get("code"), document.get("detail")
    if not isinstance(code, str) or not isinstance(detail, str):
        return RemoteError(
            f"{response.url} answered {response.status_code}, which is no answer of a vqtok "
            "service.",
            status=response.status_code,
            body=response.text[:EXCERPT],
        )
    error = error_from_problem(code, detail)
    if isinstance(error, TooLarge):
        return TooLarge(detail, limit=document.get("limit"), setting=document.get("setting"))
    if isinstance(error, Overloaded):
        return Overloaded(detail, _asked_for(response) or FIRST_DELAY_SECONDS)
    if isinstance(error, RemoteError):
        return RemoteError(error.detail, status=response.status_code, body=response.text[:EXCERPT])
    return error


def _document(response: httpx.Response) -> dict[str, Any]:
    if not response.headers.get("content-type", "").startswith(PROBLEM):
        return {}
    try:
        document = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def _delay(response: httpx.Response, attempt: int) -> float | None:
    """Seconds to wait before another attempt; None when another would be in vain."""
    status = response.status_code
    passing = status == HTTPStatus.TOO_MANY_REQUESTS or (
        status == HTTPStatus.SERVICE_UNAVAILABLE
        and _document(response).get("code", "not_ready") in PASSING_CODES
    )
    if not passing:
        return None
    asked = _asked_for(response)
    if asked is not None and asked > LONGEST_DELAY_SECONDS:
        return None
    return max(asked or 0.0, _backoff(attempt))


def _asked_for(response: httpx.Response) -> float | None:
    """The pause that the service names, in seconds."""
    for header, scale in (("vqtok-retry-after-ms", 1000), ("retry-after", 1)):
        text = response.headers.get(header, "")
        if text.isascii() and text.isdigit():
            return int(text) / scale
    return None


def _backoff(attempt: int) -> float:
    """A pause that doubles, with chance in it, so that refused callers do not return together."""
    return min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**attempt) * random.uniform(0.5, 1)
