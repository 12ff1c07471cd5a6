"""What schemathesis makes of the OpenAPI document: right and wrong calls of every route, with
bodies of the binary types from strategies of our own, against the running service.
"""

import sys
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from schemathesis.core.result import Ok
from schemathesis.schemas import PayloadAlternatives
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from service.openapi import openapi_document
from tests.representative import few_of
from tests.service.process import ServiceProcess
from tests.service.streams import example_stream
from vqtok.images import write_image
from vqtok.wire.bitstream_format import MEDIA_TYPE as BITSTREAM
from vqtok.wire.npy_format import write_array

UNCHECKED: Sequence[HealthCheck] = list(HealthCheck)  # type: ignore[arg-type]
NAMES_OF_THINGS = {"model", "codebook_id", "tokenizer_id", "Vqtok-Codebook-Id", "Vqtok-Timeout-Ms"}
SIZES = {"size", "grid", "image_size", "Vqtok-Image-Size"}
Answers = dict[tuple[int, str], Counter[int]]
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
    """The same bytes, most often; or cut short, or with one of them changed. Requests have several
    pictures, and one that cannot be read ends them all.
    """
    cut = st.integers(0, len(data)).map(lambda end: data[:end])
    changed = st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)).map(
        lambda change: data[: change[0]] + bytes([change[1]]) + data[change[0] + 1 :]
    )
    return st.sampled_from([st.just(data)] * 4 + [cut, changed]).flatmap(lambda kind: kind)


PICTURES = st.builds(
    lambda height, width, name: write_image(np.full((height, width, 3), 99, np.uint8), name),
    SIDES,
    SIDES,
    st.sampled_from(["png", "jpeg", "webp"]),
).flatmap(_mutated)
FEW = st.integers(1, 3)
OF_IMAGES = st.tuples(FEW, SIDES, SIDES, st.just(3))
OF_TOKENS = st.tuples(FEW, st.integers(1, 8), st.integers(1, 8))
OF_ANYTHING = arrays.array_shapes(min_side=0, max_dims=5, max_side=9)


def _arrays(shapes: st.SearchStrategy[tuple[int, ...]], *dtypes: str) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda shape, dtype, value: write_array(np.full(shape, value, dtype)),
        shapes,
        st.sampled_from(dtypes),
        st.integers(0, 120),
    )


RIGHT_ARRAYS = st.one_of(_arrays(OF_IMAGES, "u1"), _arrays(OF_TOKENS, "<u2", "<i4", "<i8"))
ARRAYS = st.one_of(
    RIGHT_ARRAYS, _arrays(OF_ANYTHING, "u1", "<u2", "<i4", "<i8", "<f4", "?")
).flatmap(_mutated)


STREAMS = st.one_of(_mutated(example_stream()), st.binary(max_size=99))


def _of_one_type(operation: schemathesis.APIOperation) -> Iterator[schemathesis.APIOperation]:
    """The operation with each type of body for itself: a draw of the type as well would leave it
    to chance how often each is sent.
    """
    for body in operation.body:
        yield replace(operation, body=PayloadAlternatives([body]))


@pytest.fixture(scope="module")
def seen() -> Answers:
    """How often each operation answered with each status, by `num_calls` and its label."""
    return defaultdict(Counter)


schemathesis.openapi.media_type("application/x-npy", ARRAYS)
schemathesis.openapi.media_type(BITSTREAM, STREAMS)
schemathesis.openapi.media_type("image/*", PICTURES)
schemathesis.openapi.format("binary", PICTURES)
schemathesis.openapi.format("byte", PICTURES.map(lambda data: b64encode(data).decode()))
schema = schemathesis.openapi.from_dict(openapi_document("test"))
OPERATIONS = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
drawn = settings(derandomize=True, deadline=None, suppress_health_check=UNCHECKED)
BY_TYPE = [part for each in OPERATIONS for part in (list(_of_one_type(each)) or [each])]
WITH_BODY = [each for each in OPERATIONS if each.body]
NUM_CALLS = pytest.mark.parametrize("num_calls", few_of([30, 100], [30]))


def _label(operation: schemathesis.APIOperation) -> str:
    return " ".join([operation.label, *(body.media_type for body in operation.body)])


@pytest.mark.parametrize("operation", BY_TYPE, ids=map(_label, BY_TYPE))
@NUM_CALLS
def test_calls_that_fit_the_document_are_answered_as_it_says(
    operation: schemathesis.APIOperation,
    num_calls: int,
    service: ServiceProcess,
    seen: Answers,
) -> None:
    @settings(drawn, max_examples=num_calls)
    @given(
        operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE), st.booleans()
    )
    def call(case: schemathesis.Case, with_sizes: bool) -> None:
        _leave_out(case, NAMES_OF_THINGS if with_sizes else NAMES_OF_THINGS | SIZES)
        response = case.call(base_url=service.url)
        seen[num_calls, _label(operation)][response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    call()


@pytest.mark.parametrize("operation", WITH_BODY, ids=map(_label, WITH_BODY))
@NUM_CALLS
def test_calls_that_do_not_fit_it_are_refused_as_it_says(
    operation: schemathesis.APIOperation, num_calls: int, service: ServiceProcess
) -> None:
    @settings(drawn, max_examples=num_calls)
    @given(operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    def call(case: schemathesis.Case) -> None:
        case.validate_response(case.call(base_url=service.url), checks=CHECKS)

    call()


def _leave_out(case: schemathesis.Case, names: Set[str]) -> None:
    """A made-up value of these ends nearly every call before anything else is looked at."""
    for part in ("query", "headers", "body"):
        sent = getattr(case, part)
        if isinstance(sent, Mapping) and names & {*sent}:
            # Not in place: it may be the example of the document itself.
            setattr(case, part, {name: sent[name] for name in sent if name not in names})


@NUM_CALLS
def test_every_type_of_body_was_sent_and_most_were_read(
    num_calls: int, seen: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = Counter[int]()
    for label in (_label(each) for each in BY_TYPE if each.body):
        of_this = seen[num_calls, label]
        with capsys.disabled():
            sys.stdout.write(f"\n{label}: {dict(sorted(of_this.items()))}")
        assert of_this.total() >= num_calls / 2
        answers += of_this
    assert answers[400] + answers[415] < answers.total() / 2
