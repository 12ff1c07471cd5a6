"""Traces, as a real collector would get them over HTTP."""

import itertools
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from service.settings import InvalidSettings
from service.traces import Traces, epoch_now
from tests.service.load import png
from tests.service.process import ServiceProcess

FAKE = "tests.service.fake_model"
PNG = {"Content-Type": "image/png"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STAGES = {"admit", "body", "decode", "queue", "model", "serialize"}


@contextmanager
def collector() -> Generator[tuple[str, list[Span]]]:
    """A collector's address, and the spans that it has got."""
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        server.server_close()


def _attributes(span: Span) -> dict[str, object]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_a_request_is_a_span_of_the_callers_trace_with_its_stages_inside() -> None:
    with collector() as (endpoint, spans):
        flags = ["--otlp-endpoint", endpoint, "--delay", "0.05"]
        with ServiceProcess(flags, FAKE) as service:
            service.wait_ready()
            sent = time.time_ns()
            headers = {**PNG, "traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "job-1"}
            answer = httpx.post(f"{service.url}/v1/encode", content=png(0), headers=headers)
            assert answer.status_code == 200
            assert httpx.post(f"{service.url}/v1/encode").status_code == 415
        ended = time.time_ns()
        requests = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
        assert [span.name for span in requests] == ["POST /v1/encode"] * 2
        first, second = requests
        assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, PARENT)
        assert sent - 5e6 < first.start_time_unix_nano < first.end_time_unix_nano < ended + 5e6
        known = _attributes(first)
        assert known["http.response.status_code"] == 200
        assert known["vqtok.request_id"] == "job-1"
        assert known["http.route"] == "/v1/encode"
        stages = {span.name: span for span in spans if span.parent_span_id == first.span_id}
        assert set(stages) == STAGES
        for stage in stages.values():
            assert stage.trace_id == first.trace_id
            assert first.start_time_unix_nano <= stage.start_time_unix_nano
            assert stage.end_time_unix_nano <= first.end_time_unix_nano
        model = stages["model"]
        assert model.end_time_unix_nano - model.start_time_unix_nano >= 0.05e9
        assert second.trace_id.hex() != TRACE
        assert _attributes(second)["http.response.status_code"] == 415


def test_who_is_held_up_between_two_clocks_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = time.time() - time.monotonic()
    wall, held_up = time.time, iter([0.2, 0.2])

    def late() -> float:
        now = wall()
        for seconds in itertools.islice(held_up, 1):
            time.sleep(seconds)
        return now

    monkeypatch.setattr("service.traces.time.time", late)
    assert epoch_now() == pytest.approx(expected, abs=0.02)


def test_what_is_not_sampled_is_not_sent_but_the_callers_choice_counts() -> None:
    with collector() as (endpoint, spans):
        flags = ["--otlp-endpoint", endpoint, "--trace-ratio", "0"]
        with ServiceProcess(flags, FAKE) as service:
            service.wait_ready()
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            for sent in ({}, headers):
                answer = httpx.get(f"{service.url}/v1/models", headers=sent)
                assert answer.status_code == 200
        assert [span.trace_id.hex() for span in spans] == [TRACE]


@pytest.mark.slow
def test_a_collector_that_is_gone_holds_nothing_up() -> None:
    with ServiceProcess(["--otlp-endpoint", "http://127.0.0.1:9"], FAKE) as service:
        service.wait_ready()
        for seed in range(20):
            answer = httpx.post(f"{service.url}/v1/encode", content=png(seed), headers=PNG)
            assert answer.status_code == 200
        started = time.monotonic()
        service.terminate()
        assert service.wait() == 0
        assert time.monotonic() - started < 8


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InvalidSettings, match="pip install opentelemetry-sdk"):
        Traces("http://127.0.0.1:9", 1.0)
