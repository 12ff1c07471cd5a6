"""What a caller is told: every refusal has its status and code, and says what to do."""

import re
import socket
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.load import png
from tests.service.process import ServiceProcess
from vqtok.bitstream import Coding, StreamHeader, stream_bytes
from vqtok.images import write_image
from vqtok.tokens import ImageTokens
from vqtok.wire.npy_format import write_array

PNG = {"Content-Type": "image/png"}
NPY = {"Content-Type": "application/x-npy"}
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
STREAM = {"Content-Type": "application/vnd.vqtok.tokens"}
ACCEPT_STREAM = {"Accept": "application/vnd.vqtok.tokens"}
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
NO_BOUNDARY = {"Content-Type": "multipart/form-data"}
GRID = np.zeros((1, 8, 8), np.int64)


@pytest.fixture(scope="module")
def service() -> Generator[ServiceProcess]:
    """The fake model: 256 codes, factor 4; small limits."""
    flags = ["--max-items", "3", "--max-pixels", "10000", "--max-request-pixels", "20000"]
    body = ["--max-body-bytes", "100000"]
    with ServiceProcess([*flags, *body], "tests.service.fake_model") as running:
        yield running.wait_ready()


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Generator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as opened:
        yield opened


@dataclass(frozen=True)
class Case:
    """A request, and the status, code and words of its refusal."""

    name: str
    path: str
    status: int
    code: str
    words: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    method: str = "POST"


def _npy(*shape: int, dtype: Any = np.uint8) -> bytes:
    return write_array(np.zeros(shape, dtype))


def _stream(
    codebook_id: str | None = "ab" * 32,
    model: str | None = "made@1",
    grid: tuple[int, int] = (2, 2),
    count: int = 1,
    codes: int = 256,
) -> bytes:
    items = [ImageTokens(np.zeros(grid, np.uint8))] * count
    header = StreamHeader(codebook_size=codes, codebook_id=codebook_id, model=model)
    return b"".join(stream_bytes(items, header, Coding(codes)))


def _tokens(text: str) -> bytes:
    return f'{{"items":[{{"tokens":{text}}}]}}'.encode()


ENCODE, DECODE, SAMPLE = "/v1/encode", "/v1/decode", "/v1/sample"
PARAMETER, TOKENS, ACCEPT = "invalid_parameter", "invalid_tokens", "not_acceptable"
LARGE, BODY, MEDIA = "too_large", "malformed_body", "unsupported_media_type"

WITH_TYPE = "-H 'Content-Type: application/json'"
RESIZE = f"{ENCODE}?preprocess=resize&image_size=9"
CASES = [
    Case("no type", ENCODE, 415, MEDIA, "multipart/form-data", {}, png(1)),
    Case("text", ENCODE, 415, MEDIA, "image/*", {"Content-Type": "text/plain"}),
    Case("no bitstream", DECODE, 400, BODY, "no vqtok bitstream", STREAM, b"hello"),
    Case(
        *("cut bitstream", DECODE, 400, "bitstream_truncated", "ends", STREAM),
        _stream(codebook_id=None, model=None)[:-9],
    ),
    Case("other bitstream", DECODE, 409, "codebook_mismatch", "abababababab", STREAM, _stream()),
    Case(
        *("damaged bitstream", DECODE, 400, "bitstream_damaged", "header is damaged"),
        *(STREAM, _stream().replace(b"made@1", b"made@2")),
    ),
    Case(
        *("large bitstream", DECODE, 413, LARGE, "max_pixels", STREAM),
        _stream(codebook_id=None, model=None, grid=(26, 26)),
    ),
    Case(
        *("many bitstream images", DECODE, 413, LARGE, "max_items", STREAM),
        _stream(codebook_id=None, model=None, count=4),
    ),
    Case(
        *("bitstream of another size", DECODE, 422, TOKENS, "300 codes", STREAM),
        _stream(codebook_id=None, model=None, codes=300),
    ),
    Case(
        *("bitstream by no coder", f"{ENCODE}?coder=zip", 422, PARAMETER, "auto, packed"),
        *({**PNG, **ACCEPT_STREAM}, png(1)),
    ),
    Case(
        *("coder without tables", f"{ENCODE}?coder=context", 422, PARAMETER, "no coder tables"),
        *({**PNG, **ACCEPT_STREAM}, png(1)),
    ),
    Case(
        *("gzip", ENCODE, 415, MEDIA, "content coding"),
        {**PNG, "Content-Encoding": "gzip"},
        png(1),
    ),
    Case("no image", ENCODE, 415, "unsupported_image", "PNG", PNG, b"hello"),
    Case("svg", ENCODE, 415, "unsupported_image", "JPEG", {"Content-Type": "image/svg"}, b"<svg/>"),
    Case("empty image", ENCODE, 400, "broken_image", "empty", PNG),
    Case("cut image", ENCODE, 400, "broken_image", "PNG", PNG, png(1)[:100]),
    Case(
        *("too many pixels", ENCODE, 413, LARGE, "max_pixels", PNG),
        write_image(np.zeros((200, 100, 3), np.uint8)),
    ),
    Case("large npy", ENCODE, 413, LARGE, "max_pixels", NPY, _npy(1, 104, 104, 3)),
    Case("much npy", ENCODE, 413, LARGE, "max_request_pixels", NPY, _npy(3, 84, 84, 3)),
    Case("many images", ENCODE, 413, LARGE, "max_items", NPY, _npy(4, 4, 4, 3)),
    Case("large body", ENCODE, 413, LARGE, "max_body_bytes", PNG, bytes(100_001)),
    Case("float images", ENCODE, 422, PARAMETER, "uint8", NPY, _npy(1, 8, 8, 3, dtype="<f4")),
    Case("grey images", ENCODE, 422, PARAMETER, "(N, H, W, 3)", NPY, _npy(1, 8, 8)),
    Case("no npy", ENCODE, 400, BODY, "npy", NPY, b"hello"),
    Case("cut npy", ENCODE, 400, BODY, "arrived", NPY, _npy(1, 8, 8, 3)[:-1]),
    Case("no json", ENCODE, 400, BODY, "JSON", JSON, b"{"),
    Case("no base64", ENCODE, 400, BODY, "base64", JSON, b'{"images":["*"]}'),
    Case("no images", ENCODE, 400, BODY, "empty", JSON, b'{"images":[]}'),
    Case("no boundary", ENCODE, 400, BODY, "boundary", NO_BOUNDARY),
    Case("cut form", ENCODE, 400, BODY, "multipart", FORM, b"--x\r\n"),
    Case(
        "exact", f"{ENCODE}?preprocess=exact", 422, PARAMETER,
        "multiples of 4", NPY, _npy(1, 5, 8, 3),
    ),
    Case("preprocess", f"{ENCODE}?preprocess=crop", 422, PARAMETER, "center_crop", PNG),
    Case("misspelt", f"{ENCODE}?preproces=exact", 422, PARAMETER, "preprocess", PNG),
    Case("twice", f"{ENCODE}?dtype=int32&dtype=int64", 422, PARAMETER, "twice", PNG),
    Case("image_size", RESIZE, 422, PARAMETER, "multiples of 4", PNG, png(1)),
    Case("image_size text", f"{ENCODE}?image_size=big", 422, PARAMETER, "256x384", PNG),
    Case("dtype", f"{ENCODE}?dtype=float32", 422, PARAMETER, "uint16", PNG),
    Case("layout", f"{ENCODE}?layout=1d", 422, PARAMETER, "flat", PNG),
    Case("model", f"{ENCODE}?model=other@2", 404, "unknown_model", "fake@1", PNG),
    Case("html", ENCODE, 406, ACCEPT, "application/json", {**PNG, "Accept": "text/html"}),
    Case(
        *("items as npy", f"{ENCODE}?on_error=item", 406, ACCEPT, "application/json"),
        {**PNG, "Accept": "application/x-npy"},
    ),
    Case("float tokens", DECODE, 422, TOKENS, "integers", NPY, _npy(1, 8, 8, dtype="<f4")),
    Case("a float token", DECODE, 422, TOKENS, "integers", JSON, _tokens("[[1.5]]")),
    Case("too large token", DECODE, 422, TOKENS, "0 .. 255", JSON, _tokens("[[256]]")),
    Case("negative token", DECODE, 422, TOKENS, "-1", JSON, _tokens("[[-1]]")),
    Case("ragged", DECODE, 422, TOKENS, "ragged", JSON, _tokens("[[1],[1,2]]")),
    Case("rank", DECODE, 422, TOKENS, "(h, w)", JSON, _tokens("[[[1]]]")),
    Case("no grid", DECODE, 422, TOKENS, "grid", NPY, _npy(1, 64, dtype="<u2")),
    Case("grid text", f"{DECODE}?grid=8", 422, PARAMETER, "8x8", NPY),
    Case("size", f"{DECODE}?size=33x1", 422, PARAMETER, "32x32", NPY, write_array(GRID)),
    Case("quality", f"{DECODE}?quality=0", 422, PARAMETER, "1 .. 100", NPY),
    Case(
        "ids", f"{DECODE}?require_ids=true", 422, PARAMETER,
        "codebook_id", NPY, write_array(GRID),
    ),
    Case(
        *("another codebook", DECODE, 409, "codebook_mismatch", "c0c0c0c0c0c0"),
        {**NPY, "Vqtok-Codebook-Id": "abcdefabcdef"},
        write_array(GRID),
    ),
    Case(
        *("another codebook in JSON", DECODE, 409, "codebook_mismatch", "abcdefabcdef", JSON),
        b'{"codebook_id":"abcdefabcdef","items":[{"tokens":[[1]]}]}',
    ),
    Case(
        *("another model in JSON", DECODE, 404, "unknown_model", "'other'", JSON),
        b'{"model":"other","items":[{"tokens":[[1]]}]}',
    ),
    Case("many pictures", DECODE, 406, ACCEPT, "application/zip", NPY, _npy(2, 8, 8, dtype="<u2")),
    Case("huge grid", DECODE, 413, LARGE, "max_pixels", NPY, _npy(1, 26, 26, dtype="<u2")),
    Case("label", SAMPLE, 422, PARAMETER, "label", JSON, b'{"label":3}'),
    Case("cfg_scale", SAMPLE, 422, PARAMETER, "cfg_scale", JSON, b'{"cfg_scale":2}'),
    Case("top_k", SAMPLE, 422, PARAMETER, "top_k", JSON, b'{"top_k":-5}'),
    Case("top_p", SAMPLE, 422, PARAMETER, "top_p", JSON, b'{"top_p":1.5}'),
    Case("flat grid", SAMPLE, 422, PARAMETER, "grid", JSON, b'{"grid":[4]}'),
    Case("known tokens", SAMPLE, 422, PARAMETER, "tokens", JSON, b'{"tokens":[[1]]}'),
    Case("n", SAMPLE, 422, PARAMETER, "n must", JSON, b'{"n":0}'),
    Case("n true", SAMPLE, 422, PARAMETER, "n is", JSON, b'{"n":true}'),
    Case("n many", SAMPLE, 413, LARGE, "max_items", JSON, b'{"n":4}'),
    Case("seed", SAMPLE, 422, PARAMETER, "seed", JSON, b'{"seed":-1}'),
    Case("temperature", SAMPLE, 422, PARAMETER, "temperature", JSON, b'{"temperature":-1}'),
    Case("unknown option", SAMPLE, 400, BODY, "temperature", JSON, b'{"temprature":1}'),
    Case("seed twice", SAMPLE, 400, BODY, "repeated", JSON, b'{"seed":7,"seed":8}'),
    Case("seed escaped", SAMPLE, 400, BODY, "repeated", JSON, b'{"seed":7,"se\\u0065d":8}'),
    Case("sample form", SAMPLE, 415, MEDIA, WITH_TYPE, URLENCODED, b'{"n":1}'),
    Case("decode form", DECODE, 415, MEDIA, WITH_TYPE, URLENCODED, _tokens("[[1]]")),
    Case(
        "items refused as JSON", f"{DECODE}?on_error=item", 406, ACCEPT, "application/json",
        {**NPY, "Accept": "application/json;q=0, */*"}, write_array(GRID),
    ),
    Case(
        "grid beside JSON", f"{DECODE}?grid=1x1", 422, PARAMETER, "application/x-npy",
        JSON, _tokens("[[1]]"),
    ),
    Case("sample pictures", SAMPLE, 406, ACCEPT, "zip", JSON, b'{"n":2}'),
    Case("no path", "/v2/encode", 404, "not_found", "/docs"),
    Case("no method", ENCODE, 405, "method_not_allowed", "POST", method="GET"),
    Case(
        "codebook as text", "/v1/codebook", 406, ACCEPT, "npy",
        {"Accept": "text/csv"}, b"", "GET",
    ),
    Case("query of models", "/v1/models?x=1", 422, PARAMETER, "x", method="GET"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_refusal_has_its_status_and_says_what_to_do(client: httpx.Client, case: Case) -> None:
    answer = client.request(case.method, case.path, content=case.body, headers=case.headers)
    assert (answer.status_code, answer.json()["code"]) == (case.status, case.code), answer.text
    assert case.words in answer.json()["detail"], answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["vqtok-model"] == "fake@1"


def test_a_request_id_comes_back_if_it_is_a_plain_one(client: httpx.Client) -> None:
    sent = client.get("/health/live", headers={"X-Request-Id": "job-7.a:b_c"})
    assert sent.headers["x-request-id"] == "job-7.a:b_c"
    for bad in (b"a b", b"x" * 129, "é".encode()):
        answer = client.get("/health/live", headers={b"X-Request-Id": bad})
        assert len(answer.headers["x-request-id"]) == 32


def test_blanks_around_the_value_of_a_header_do_not_count(service: ServiceProcess) -> None:
    body = write_array(GRID)
    answer = _raw(
        service,
        b"POST /v1/decode HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        b"Content-Type: application/x-npy\r\nVqtok-Timeout-Ms: 20000 \r\n"
        b"Vqtok-Codebook-Id: c0c0c0c0c0c0 \t\r\nVqtok-Image-Size: 30x30 \r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body,
        ends=False,
    )
    assert answer.startswith(b"HTTP/1.1 200"), answer


def test_every_answer_says_its_total_time(client: httpx.Client) -> None:
    answers = [
        client.get("/health/live"),
        client.head("/health/ready"),
        client.get("/v1/models"),
        client.get("/none"),
        client.get(ENCODE),
        client.post(SAMPLE),
    ]
    for answer in answers:
        assert re.search(r"(^|, )total;dur=[0-9]+\.[0-9]{3}$", answer.headers["server-timing"])
        assert len(answer.headers["x-request-id"]) == 32


def _raw(service: ServiceProcess, request: bytes, *, ends: bool = True) -> bytes:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(request)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"POST /v1/encode HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"431"),
    ],
)
def test_what_is_no_http_is_answered_with_a_problem(
    service: ServiceProcess, request_bytes: bytes, status: bytes
) -> None:
    answer = _raw(service, request_bytes)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"application/problem+json" in answer
    assert re.search(rb"\r\nx-request-id: [0-9a-f]{32}\r\n", answer)


def test_no_refusal_of_this_module_was_a_defect(service: ServiceProcess) -> None:
    assert not [line for line in service.log if "defect" in line or "Traceback" in line]
