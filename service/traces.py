"""Traces for an OpenTelemetry collector, where asked: a span a request, and in it one a stage."""

import threading
import time
from collections.abc import Mapping
from typing import Any

from service.call import Call
from service.settings import InvalidSettings, Settings, flag
from vqtok import __version__

EXPORT_SECONDS = 3.0
CLOSE_SECONDS = 2.0
LOOK_SECONDS = 0.0001
MOST_LOOKS = 5
NEEDS_PACKAGES = (
    f"{flag('otlp_endpoint')} needs two packages: "
    "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http."
)


class Traces:
    """Spans of answered requests, sent from a thread of their own and dropped when there are too
    many or nobody takes them. The caller's `traceparent` is continued.
    """

    def __init__(self, endpoint: str, ratio: float) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        except ImportError as error:
            raise InvalidSettings(NEEDS_PACKAGES) from error
        exporter = OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces", timeout=EXPORT_SECONDS)
        about = Resource.create({"service.name": "vqtok", "service.version": __version__})
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=about,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("vqtok.service")

    def record(self, method: str, call: Call, status: int, headers: Mapping[str, str]) -> None:
        """Note an answered request, whose headers may name the trace that it is part of."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # Spans are dated by the wall clock, and a request by one that does not jump.
        epoch = epoch_now()

        def date(monotonic: float) -> int:
            return int((epoch + monotonic) * 1e9)

        span = self._tracer.start_span(
            f"{method} {call.route}",
            context=TraceContextTextMapPropagator().extract(headers),
            kind=SpanKind.SERVER,
            attributes=_attributes(method, call, status),
            start_time=date(call.started),
        )
        if span.is_recording():
            inside = set_span_in_context(span)
            for name, started, ended in call.spans:
                stage = self._tracer.start_span(name, context=inside, start_time=date(started))
                stage.end(date(ended))
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(date(time.monotonic()))

    def close(self) -> None:
        """Send what is left; a collector that does not take it is not waited for."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def epoch_now() -> float:
    """What the wall clock says when the monotonic one says nought. Whoever is made to wait between
    looking at the two looks again.
    """
    looks: list[tuple[float, float]] = []
    while not looks or (looks[-1][0] > LOOK_SECONDS and len(looks) < MOST_LOOKS):
        before = time.monotonic()
        wall = time.time()
        after = time.monotonic()
        looks.append((after - before, wall - (before + after) / 2))
    return min(looks)[1]


def open_traces(settings: Settings) -> Traces | None:
    """What sends traces, where settings name a collector.

    Raises:
        InvalidSettings: the packages for it are not installed.
    """
    if not settings.otlp_endpoint:
        return None
    return Traces(settings.otlp_endpoint, settings.trace_ratio)


def _attributes(method: str, call: Call, status: int) -> dict[str, Any]:
    known = {
        "http.request.method": method,
        "http.route": call.route,
        "http.response.status_code": status,
        "vqtok.request_id": call.request_id,
        "vqtok.preprocess": call.preprocess,
        "vqtok.caller": call.caller,
    }
    return {name: value for name, value in known.items() if value is not None}
