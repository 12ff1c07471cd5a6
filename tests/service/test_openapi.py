"""The OpenAPI document: it is about what is served, and its examples work when they are sent."""

import io
import re
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from service.openapi import openapi_document
from service.openapi.examples import example_pixels
from service.problems import STATUSES
from service.routes import ROUTES, WORKING_CALLS, decode, encode, reconstruct, sample
from tests.service.process import ROOT
from tests.service.streams import example_stream
from vqtok.images import write_image
from vqtok.wire.bitstream_format import MEDIA_TYPE as BITSTREAM
from vqtok.wire.npy_format import write_array

DOCUMENT = openapi_document("test")
COMPONENTS = DOCUMENT["components"]
ROUTE_PARAMETERS = {
    "/v1/encode": encode.PARAMETERS,
    "/v1/decode": decode.PARAMETERS,
    "/v1/sample": sample.PARAMETERS,
    "/v1/reconstruct": reconstruct.PARAMETERS,
}


def _operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _resolved(node: Any) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        _, _, kind, name = node["$ref"].split("/")
        node = COMPONENTS[kind][name]
    return node


def _check(document: Any, schema: dict[str, Any]) -> None:
    Draft202012Validator({**schema, "components": COMPONENTS}).validate(document)


def _binary_body(path: str, media_type: str) -> bytes:
    pixels = example_pixels()
    if media_type == "image/*":
        return write_image(pixels)
    if media_type == BITSTREAM:
        return example_stream()
    if path == "/v1/decode":
        return write_array(np.zeros((1, 2, 2), np.uint16))
    return write_array(pixels[None])


def _sent(path: str, media_type: str, content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if media_type == "multipart/form-data":
        yield {"files": [("images", ("a.png", io.BytesIO(write_image(example_pixels()))))]}
    elif media_type != "application/json":
        headers = {"Content-Type": media_type.replace("*", "png")}
        yield {"content": _binary_body(path, media_type), "headers": headers}
    for example in content.get("examples", {}).values():
        _check(example["value"], content["schema"])
        yield {"json": example["value"]}


def test_every_route_is_described_and_nothing_else() -> None:
    routes = {route.path for router in ROUTES for route in router.routes}  # type: ignore[attr-defined]
    shown = {path for path in routes if not re.fullmatch(r"/|/docs.*", path)}
    assert shown == set(DOCUMENT["paths"])


def test_every_parameter_of_a_route_is_described_and_nothing_else() -> None:
    for path, _, operation in _operations():
        if path in ROUTE_PARAMETERS:
            described = [_resolved(each) for each in operation["parameters"]]
            query = {each["name"] for each in described if each["in"] == "query"}
            assert query == set(ROUTE_PARAMETERS[path]), path


def test_the_working_routes_describe_every_status_that_an_error_can_have() -> None:
    # 500 and 502 belong to errors that no request can cause.
    possible = {str(status) for status in STATUSES.values()} - {"500", "502", "409"} | {"200"}
    for path in WORKING_CALLS:
        described = set(DOCUMENT["paths"][path]["post"]["responses"])
        assert described - {"409"} == possible
    assert "409" in DOCUMENT["paths"]["/v1/decode"]["post"]["responses"]


def test_the_examples_of_answers_fit_their_schemas() -> None:
    for _, _, operation in _operations():
        for content in operation["responses"]["200"]["content"].values():
            for example in content.get("examples", {}).values():
                _check(example["value"], content["schema"])


@pytest.mark.parametrize("path", sorted(WORKING_CALLS))
def test_every_example_can_be_sent_and_every_answer_is_as_described(
    client: httpx.Client, path: str
) -> None:
    operation = DOCUMENT["paths"][path]["post"]
    answers = operation["responses"]["200"]
    replayed = 0
    for media_type, content in operation["requestBody"]["content"].items():
        for request in _sent(path, media_type, content):
            for accept, described in answers["content"].items():
                accepting = {**request, "headers": {**request.get("headers", {}), "Accept": accept}}
                answer = client.post(path, **accepting)
                too_many = answer.status_code == 406 and accept.startswith("image/")
                assert too_many or answer.status_code == 200, (media_type, accept, answer.text)
                if not too_many:
                    assert answer.headers["content-type"] == accept
                    _check_headers(answer, answers["headers"])
                if answer.status_code == 200 and accept == "application/json":
                    _check(answer.json(), described["schema"])
                replayed += 1
    assert replayed >= len(operation["requestBody"]["content"]) * len(answers["content"])


def _check_headers(answer: httpx.Response, described: dict[str, Any]) -> None:
    own = {name for name in answer.headers if name.startswith(("vqtok-", "x-", "server-timing"))}
    assert own <= {name.lower() for name in described}
    for name in ("x-request-id", "vqtok-model", "vqtok-codebook-id", "vqtok-tokenizer-id"):
        assert name in own
    assert {"vqtok-preprocess", "server-timing"} <= own


@pytest.mark.parametrize(
    "path", [path for path, method, _ in _operations() if method == "get" and "{" not in path]
)
def test_every_answer_to_a_get_is_as_described(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    (described,) = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"].items()
    assert answer.headers["content-type"].startswith(described[0])
    if described[0] == "application/json":
        _check(answer.json(), described[1]["schema"])


def _property_names(schema: dict[str, Any]) -> Iterator[str]:
    for name, each in schema.get("properties", {}).items():
        yield name
        yield from _property_names(each)
    for part in (*schema.get("anyOf", ()), *filter(None, [schema.get("items")])):
        yield from _property_names(part)


def test_the_statistics_page_names_every_figure() -> None:
    page = (ROOT / "docs/statistics.md").read_text()
    names = set(_property_names(COMPONENTS["schemas"]["StatisticsWindow"]))
    names |= set(COMPONENTS["schemas"]["Statistics"]["properties"])
    assert {"kl_bits", "js_bits", "dead_codes", "num_tokens", "usage_counts"} <= names
    known = set(re.findall(r"\w+", page))
    # Named as a group there: p01, p05, … and q50, q95, …
    left = {name for name in names if not re.fullmatch(r"[pq][0-9.]+", name)} - known
    assert left == set()


def test_a_model_is_found_by_name_and_by_version(client: httpx.Client) -> None:
    (short,) = client.get("/v1/models").json()["models"]
    for name in (short["name"], f"{short['name']}@{short['version']}"):
        answer = client.get(f"/v1/models/{name}")
        _check(answer.json(), COMPONENTS["schemas"]["Model"])
        limits = answer.json()["limits"]
        assert limits["max_requests"] == 256
        assert (limits["multipart_parts"], limits["header_bytes"]) == (65_536, 65_536)
        assert limits["json_values"] == 4_194_304
        assert client.post(f"/v1/sample?model={name}").status_code == 200
    unknown = client.post("/v1/sample?model=other")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_model")


def test_problems_are_as_described(client: httpx.Client) -> None:
    for answer in (client.get("/nothing"), client.put("/v1/encode"), client.post("/v1/encode")):
        assert answer.headers["content-type"] == "application/problem+json"
        _check(answer.json(), COMPONENTS["schemas"]["Problem"])


def test_the_document_is_served_and_the_page_loads_nothing_from_outside(
    client: httpx.Client,
) -> None:
    served = client.get("/openapi.json").json()
    assert served["paths"].keys() == DOCUMENT["paths"].keys()
    redirect = client.get("/")
    assert (redirect.status_code, redirect.headers["location"]) == (307, "docs")
    page = client.get("/docs").text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(loaded) == 3
    for each in loaded:
        assert "://" not in each
        assert client.get(f"/{each}").status_code == 200, each
    assert "://" not in page
