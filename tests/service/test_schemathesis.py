"""What schemathesis makes of the OpenAPI document: right and wrong calls of every route, with
bodies of the binary types from strategies of our own, against the running service.
"""

import sys
from base64 import b64encode
from collections import Counter
from collections.abc import MutableMapping, Sequence

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from service.openapi import openapi_document
from service.routes import WORKING_CALLS
from tests.representative import few_of
from tests.service.process import ServiceProcess
from tests.service.streams import example_stream
from vqtok.images import write_image
from vqtok.wire.bitstream_format import MEDIA_TYPE as BITSTREAM
from vqtok.wire.npy_format import write_array

UNCHECKED: Sequence[HealthCheck] = list(HealthCheck)  # type: ignore[arg-type]
NAMES_OF_THINGS = {"model", "codebook_id", "tokenizer_id", "Vqtok-Codebook-Id", "Vqtok-Timeout-Ms"}
SIDES = st.integers(1, 40)


def no_500(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """A call may come too late (504) by its own header, but none may find a defect."""
    assert response.status_code != 500


CHECKS = [
    no_500,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]


def _mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """The same bytes, cut short, or with one of them changed."""
    cut = st.integers(0, len(data)).map(lambda end: data[:end])
    changed = st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)).map(
        lambda change: data[: change[0]] + bytes([change[1]]) + data[change[0] + 1 :]
    )
    return st.one_of(st.just(data), cut, changed)


PICTURES = st.builds(
    lambda height, width, name: write_image(np.full((height, width, 3), 99, np.uint8), name),
    SIDES,
    SIDES,
    st.sampled_from(["png", "jpeg", "webp"]),
).flatmap(_mutated)
SHAPES = st.one_of(
    st.tuples(st.integers(0, 3), SIDES, SIDES, st.just(3)),
    arrays.array_shapes(max_dims=5, max_side=9),
)
ARRAYS = st.builds(
    lambda shape, dtype, value: write_array(np.full(shape, value, dtype)),
    SHAPES,
    st.sampled_from(["u1", "<u2", "<i4", "<i8", "<f4", "?"]),
    st.integers(0, 120),
).flatmap(_mutated)


STREAMS = st.integers(0, 3).flatmap(
    lambda kind: _mutated(example_stream()) if kind else st.binary(max_size=99)
)


@pytest.fixture(scope="module")
def seen() -> Counter[tuple[int, str, str, int]]:
    """How often each route answered a body of each type with each status, by `num_calls`."""
    return Counter()


schemathesis.openapi.media_type("application/x-npy", ARRAYS)
schemathesis.openapi.media_type(BITSTREAM, STREAMS)
schemathesis.openapi.media_type("image/*", PICTURES)
schemathesis.openapi.format("binary", PICTURES)
schemathesis.openapi.format("byte", PICTURES.map(lambda data: b64encode(data).decode()))
schema = schemathesis.openapi.from_dict(openapi_document("test"))
OPERATIONS = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
drawn = settings(derandomize=True, deadline=None, suppress_health_check=UNCHECKED)
LEAST_CALLS = 5
"""Of all calls of a route, those that every type of body must have had."""
NUM_CALLS = pytest.mark.parametrize("num_calls", few_of([100, 300], [100]))


def _operations(method: str | None = None) -> pytest.MarkDecorator:
    some = [each for each in OPERATIONS if method in (None, each.method.upper())]
    return pytest.mark.parametrize("operation", some, ids=[each.label for each in some])


@_operations()
@NUM_CALLS
def test_calls_that_fit_the_document_are_answered_as_it_says(
    operation: schemathesis.APIOperation,
    num_calls: int,
    service: ServiceProcess,
    seen: Counter[tuple[int, str, str, int]],
) -> None:
    @settings(drawn, max_examples=num_calls)
    @given(operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
    def call(case: schemathesis.Case) -> None:
        _reach_further(case)
        response = case.call(base_url=service.url)
        seen[num_calls, case.path, case.media_type or "", response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    call()


@_operations("POST")
@NUM_CALLS
def test_calls_that_do_not_fit_it_are_refused_as_it_says(
    operation: schemathesis.APIOperation, num_calls: int, service: ServiceProcess
) -> None:
    @settings(drawn, max_examples=num_calls)
    @given(operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    def call(case: schemathesis.Case) -> None:
        case.validate_response(case.call(base_url=service.url), checks=CHECKS)

    call()


def _reach_further(case: schemathesis.Case) -> None:
    """Leave out what a made-up value of ends nearly every call before anything is looked at."""
    for sent in (case.query, case.headers, case.body):
        if isinstance(sent, MutableMapping):
            for name in NAMES_OF_THINGS & {*sent}:
                del sent[name]


@NUM_CALLS
def test_every_type_of_body_was_sent_and_most_were_read(
    num_calls: int,
    seen: Counter[tuple[int, str, str, int]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    unread = Counter[bool]()
    for path in WORKING_CALLS:
        for media_type in schema.raw_schema["paths"][path]["post"]["requestBody"]["content"]:
            wanted = (num_calls, path, media_type)
            sent = {key[3]: n for key, n in seen.items() if key[:3] == wanted}
            with capsys.disabled():
                sys.stdout.write(f"\n{path} {media_type}: {dict(sorted(sent.items()))}")
            assert sum(sent.values()) >= LEAST_CALLS
            for status, number in sent.items():
                unread[status in (400, 415)] += number
    assert unread[True] < unread[False]
