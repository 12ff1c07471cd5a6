"""The client's patience, on a server that answers from a script."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import pytest

from vqtok.client import connect_tokenizer
from vqtok.errors import (
    BundleCorrupt,
    DeadlineExceeded,
    Draining,
    InvalidTokens,
    ModelFailure,
    Overloaded,
    RemoteError,
    TooLarge,
    VqtokError,
)
from vqtok.transport import Call, Transport

PING = Call(method="GET", path="/ping")


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b"fine"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def problem(
    status: int, code: str, headers: dict[str, str] | None = None, **more: object
) -> Answer:
    body = orjson.dumps({"code": code, "detail": f"It is {code}.", **more})
    return Answer(status, body, {"Content-Type": "application/problem+json", **(headers or {})})


@dataclass
class Script:
    """A server that gives `answers` in turn and the last one for ever; None hangs up."""

    answers: Sequence[Answer | None]
    seen: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(*answers: Answer | None) -> Iterator[Script]:
    script = Script(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = script.answers[min(len(script.seen), len(script.answers) - 1)]
            script.seen.append(self.headers["Vqtok-Timeout-Ms"])
            if answer is None:
                self.connection.close()
                return
            time.sleep(answer.delay)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(script: Script, timeout: float = 5.0) -> bytes:
    transport = Transport(script.url, timeout, attempts=3)
    try:
        return transport.send(PING).content
    finally:
        transport.close()


def test_a_busy_service_is_asked_again_after_the_pause_it_names() -> None:
    busy = problem(429, "overloaded", {"Retry-After": "1", "Vqtok-Retry-After-Ms": "700"})
    with serving(busy, Answer()) as script:
        started = time.monotonic()
        assert send(script) == b"fine"
        assert 0.7 <= time.monotonic() - started < 3
        assert len(script.seen) == 2


def test_patience_ends_and_the_error_keeps_the_pause() -> None:
    with serving(problem(429, "overloaded", {"Vqtok-Retry-After-Ms": "1"})) as script:
        with pytest.raises(Overloaded) as caught:
            send(script)
        assert len(script.seen) == 3
        assert caught.value.retry_after_seconds == 0.001


def test_a_pause_beyond_patience_is_not_waited_for() -> None:
    with serving(problem(429, "overloaded", {"Retry-After": "3600"})) as script:
        with pytest.raises(Overloaded) as caught:
            send(script)
        assert len(script.seen) == 1
        assert caught.value.retry_after_seconds == 3600


@pytest.mark.parametrize("passing", [problem(503, "not_ready"), problem(503, "draining"),
                                     Answer(503, b"<h1>upstream</h1>"), None],
                         ids=["not ready", "draining", "load balancer", "hung up"])  # fmt: skip
def test_what_passes_is_tried_again(passing: Answer | None) -> None:
    with serving(passing, Answer()) as script:
        assert send(script) == b"fine"
        assert len(script.seen) == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(503, "bundle_corrupt"), BundleCorrupt),
        (problem(503, "model_failure"), ModelFailure),
        (problem(504, "deadline_exceeded"), DeadlineExceeded),
        (problem(422, "invalid_tokens"), InvalidTokens),
        (problem(500, "internal_error"), RemoteError),
        (Answer(404, b"no such page"), RemoteError),
        (Answer(200, b"{}", {"Location": "/"}), None),
        (Answer(307, b"", {"Location": "/elsewhere"}), RemoteError),
        (Answer(400, b"{}", {"Content-Type": "application/problem+json"}), RemoteError),
        (Answer(400, b"{", {"Content-Type": "application/problem+json"}), RemoteError),
        (Answer(400, b"[1]", {"Content-Type": "application/problem+json"}), RemoteError),
    ],
    ids=range(11),
)
def test_what_stays_is_an_error_at_once(answer: Answer, error: type[VqtokError] | None) -> None:
    with serving(answer) as script:
        if error is None:
            assert send(script) == b"{}"
        else:
            with pytest.raises(error):
                send(script)
        assert len(script.seen) == 1


def test_a_limit_comes_with_its_setting() -> None:
    answer = problem(413, "too_large", limit=5, setting="max_items")
    with serving(answer) as script, pytest.raises(TooLarge) as caught:
        send(script)
    assert (caught.value.limit, caught.value.setting) == (5, "max_items")


def test_an_answer_that_is_none_of_ours_keeps_status_and_body() -> None:
    with serving(Answer(418, b"teapot" * 100)) as script, pytest.raises(RemoteError) as caught:
        send(script)
    assert caught.value.status == 418
    assert caught.value.body.startswith("teapot")
    assert len(caught.value.body) == 200


def test_a_slow_service_is_a_deadline_and_is_told_so_beforehand() -> None:
    with serving(Answer(delay=2)) as script:
        with pytest.raises(DeadlineExceeded, match=r"within 0\.3 s"):
            send(script, timeout=0.3)
        assert script.seen == ["300"]


def test_nobody_there_is_one_sentence() -> None:
    for url in (
        "http://127.0.0.1:9",
        "http://no-such-host.invalid",
        "ftp://x",
        "nonsense",
        "http://[",
    ):
        with pytest.raises(RemoteError):
            connect_tokenizer(url, timeout=2)


def test_a_service_that_drains_for_good_is_draining() -> None:
    with serving(problem(503, "draining", {"Vqtok-Retry-After-Ms": "1"})) as script:
        with pytest.raises(Draining):
            send(script)
        assert len(script.seen) == 3


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"models": []}', b'{"models": [{}]}'])
def test_a_web_server_of_another_kind_is_not_understood(body: bytes) -> None:
    with serving(Answer(body=body)) as script, pytest.raises(RemoteError, match="not understood"):
        connect_tokenizer(script.url)
