"""JSON: what is read and written, and what is refused with which words."""

import base64
import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import InvalidInput, InvalidTokens, MalformedBody, TooLarge
from vqtok.tokens import ImageTokens, ItemError, TokenBatch
from vqtok.wire import DecodeOptions, EncodeOptions
from vqtok.wire.json_format import decode_tokens, encode_tokens
from vqtok.wire.json_images import decode_image_answer, decode_images, encode_images
from vqtok.wire.json_reading import MAX_VALUES, no_repeated_keys

ANSWER = DecodeOptions(answer=True)


def test_the_envelope_is_the_documented_one() -> None:
    tokens = ImageTokens(np.array([[1, 2], [3, 4]], np.uint16), (7, 8))
    batch = TokenBatch("m@1", "c", "t", "pad", (tokens, ItemError("broken_image", "cut short")))
    assert json.loads(encode_tokens(batch)) == {
        "model": "m@1",
        "codebook_id": "c",
        "tokenizer_id": "t",
        "preprocess": "pad",
        "items": [
            {"grid": [2, 2], "size": [7, 8], "tokens": [[1, 2], [3, 4]]},
            {"error": {"code": "broken_image", "detail": "cut short"}},
        ],
    }


def test_depth_comes_last_and_flat_is_raster_order() -> None:
    tokens = np.arange(8, dtype=np.uint16).reshape(2, 2, 2)
    batch = TokenBatch(None, None, None, None, (ImageTokens(tokens, (4, 4)),))
    item = json.loads(encode_tokens(batch))["items"][0]
    assert (item["grid"], item["tokens"]) == ([2, 2, 2], tokens.tolist())
    item = json.loads(encode_tokens(batch, EncodeOptions(layout="flat")))["items"][0]
    assert (item["grid"], item["tokens"]) == ([2, 2, 2], list(range(8)))


@pytest.mark.parametrize("layout", ["grid", "flat"])
def test_margins_travel_when_asked_for(layout: str) -> None:
    margin = np.array([[0.5, 0.25, np.nan]], np.float32)
    item = ImageTokens(np.zeros((1, 3, 2), np.uint16), (4, 12), margin)
    batch = TokenBatch(None, None, None, None, (item,))
    back = decode_tokens(encode_tokens(batch, EncodeOptions(layout=layout, detail=True)), ANSWER)
    assert back.images[0].margin is not None
    np.testing.assert_array_equal(back.images[0].margin, margin)
    assert decode_tokens(encode_tokens(batch)).images[0].margin is None


def test_a_margin_beyond_all_floats_does_no_harm() -> None:
    item = decode_tokens(b'{"items": [{"tokens": [[1]], "margins": [[1e300]]}]}').images[0]
    assert item.margin is not None
    assert np.isinf(item.margin).all()


def test_an_answer_may_say_more_than_this_client_knows() -> None:
    batch = TokenBatch("m", None, None, None, (ImageTokens(np.zeros((1, 1), np.uint16), (4, 4)),))
    body = encode_tokens(batch, extra={"seed": 7}, item_extra=[{"bits": 1.5}])
    document = json.loads(body)
    assert (document["seed"], document["items"][0]["bits"]) == (7, 1.5)
    assert decode_tokens(body, ANSWER).model == "m"
    newer = encode_tokens(batch, extra={"entropy": 7})
    assert decode_tokens(newer, ANSWER).model == "m"
    with pytest.raises(MalformedBody, match="no key 'entropy'"):
        decode_tokens(newer)


def test_the_answer_of_sampling_may_be_sent_to_be_decoded() -> None:
    batch = TokenBatch("m", None, None, None, (ImageTokens(np.ones((1, 1), np.uint16), (4, 4)),))
    extra = {"prior": "position-table", "seed": 2**64 - 1, "temperature": 0.5}
    sent = decode_tokens(encode_tokens(batch, extra=extra, item_extra=[{"bits": 1.5}]))
    assert (sent.model, sent.images[0].tokens.tolist()) == ("m", [[1]])


def test_an_answer_with_failed_items_may_be_sent_to_be_decoded() -> None:
    failed = ItemError("broken_image", 'the PNG is cut short: "}"')
    batch = TokenBatch(
        "m", None, None, "pad", (ImageTokens(np.ones((1, 1), np.uint16), (4, 4)), failed)
    )
    assert decode_tokens(encode_tokens(batch)).items[1] == failed


def test_the_least_that_can_be_sent_is_tokens() -> None:
    batch = decode_tokens(b'{"items": [{"tokens": [[1, 2]]}]}')
    item = batch.images[0]
    assert (batch.model, batch.codebook_id, item.size) == (None, None, None)
    assert item.grid == (1, 2)
    assert item.tokens.dtype == np.int64


def test_a_size_beside_the_body_fills_those_left_out() -> None:
    body = b'{"items": [{"tokens": [[1]]}, {"tokens": [[1]], "size": [3, 4]}]}'
    sizes = [item.size for item in decode_tokens(body, DecodeOptions(size=(8, 9))).images]
    assert sizes == [(8, 9), (3, 4)]


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ("[[1.0]]", "must be integers, and one of them is a number with a point"),
        ("[[1e2]]", "must be integers, and one of them is a number with a point"),
        ("[[1, true]]", "must be integers, and one of them is true or false"),
        ("[[1, null]]", "must be integers, and one of them is null"),
        ('[[1, "2"]]', "must be integers, and one of them is a string"),
        ("[[1, {}]]", "must be integers, and one of them is an object"),
        ("[[1, [2]]]", "must be integers, and one of them is an array"),
        ("[[1, 2], [3]]", "is ragged"),
        ("[[1, 2], 3]", "is ragged"),
        ("[[[[1]]]]", "more than 3 levels"),
        ("[]", "is empty"),
        ("[[], []]", "is empty"),
        ("[1, 2]", "are flat"),
        ("7", "must be an array of integers, not an integer"),
        ("null", "must be an array of integers, not null"),
        ("[[18446744073709551616]]", "above 64 bits"),
        ("[[18446744073709551615]]", "beyond any codebook"),
        ("[[-9223372036854775809]]", "above 64 bits"),
        ('[[1]], "grid": [1, 2]', "shape \\[1, 1\\], its grid \\[1, 2\\]"),
        ('[1, 2, 3], "grid": [2, 2]', "its grid"),
        ('[1], "grid": [99999999999, 99999999999]', "positive integers"),
        ('[1], "grid": [1]', "positive integers"),
        ('[1], "grid": [0, 1]', "positive integers"),
        ('[[1]], "size": [0, 4]', "positive integers"),
        ('[[1]], "size": [4]', "positive integers"),
        ('[[1]], "size": [4.5, 4]', "must be integers"),
    ],
)
def test_wrong_tokens_are_named(tokens: str, words: str) -> None:
    with pytest.raises(InvalidTokens, match=words):
        decode_tokens(f'{{"items": [{{"tokens": {tokens}}}]}}'.encode())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "must be a JSON object, not an array"),
        ("null", "must be a JSON object, not null"),
        ("{}", 'no key "items"'),
        ('{"items": {}}', "must be a JSON array, not an object"),
        ('{"items": "x"}', "must be a JSON array, not a string"),
        ('{"items": []}', "items is empty"),
        ('{"items": [[1]]}', r"items\[0\] must be a JSON object"),
        ('{"items": [{}]}', r'items\[0\] has no key "tokens"'),
        ('{"items": [{"error": 7}]}', r"items\[0\].error must be a JSON object, not an integer"),
        ('{"items": [{"error": {}, "tokens": [[1]]}]}', r"items\[0\], .* has no key 'tokens'"),
        ('{"items": [{"error": {"status": 1}}]}', "error has no key 'status'"),
        ('{"items": [{"error": {"code": "a", "code": "b"}}]}', "key is repeated"),
        ('{"items": [{"tokens": [[1]], "bits": "1"}]}', r"items\[0\].bits must be a number"),
        ('{"items": [{"tokens": [[1]]}], "seed": {"a": 1}}', "seed must be a number, not an obj"),
        ('{"items": [{"tokens": [[1]]}], "temperature": []}', "temperature must be a number"),
        ('{"items": [{"tokens": [[1]]}], "prior": 1}', "prior must be a string, not an integer"),
        ('{"items": [{"tokens": [[1]]}], "seed": 1, "seed": 2}', "key is repeated"),
        ('{"items": [{"tokens": [[NaN]]}]}', "not JSON"),
        ('{"items": [{"tokens": [[1]]}], "model": 7}', "model must be a string"),
        ('{"items": [{"tokens": [[1]], "tokns": 1}]}', "no key 'tokns'"),
        ('{"items": [{"tokens": [[1]], "tokens": [[2]]}]}', "key is repeated"),
        ('{"items": [{"tokens": [[1]]}], "model": "a", "model": "b"}', "key is repeated"),
        ('{"items": [{"tokens": [[1]], "margins": ["x"]}]}', "margins must be numbers"),
        ("[" * 100_000, "not JSON"),
        ('{"items":' * 100_000, "not JSON"),
    ],
)
def test_a_malformed_body_is_named(body: str, words: str) -> None:
    with pytest.raises(MalformedBody, match=words):
        decode_tokens(body.encode())


def test_escaped_quotation_marks_do_not_look_like_a_repeated_key() -> None:
    model = 'a "quoted" \\ name / \u00e9'
    body = json.dumps({"model": model, "items": [{"tokens": [[1]]}]}).encode()
    assert decode_tokens(body).model == model


@given(st.lists(st.text(st.sampled_from('\\"a/\n'), max_size=6), min_size=1, max_size=4))
def test_strings_are_counted_behind_any_escapes(texts: list[str]) -> None:
    body = json.dumps(texts).replace("/", r"\/").encode()
    no_repeated_keys(body, len(texts))
    with pytest.raises(MalformedBody, match="key is repeated"):
        no_repeated_keys(body, len(texts) - 1)


@pytest.mark.parametrize("escape", [rb"\/", rb"\\", rb"\""])
def test_a_body_of_escapes_is_counted_at_once(escape: bytes) -> None:
    body = b'"' + escape * 5_000_000 + b'"'
    start = time.process_time()
    no_repeated_keys(body, 1)
    assert time.process_time() - start < 0.4


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(MalformedBody):
        decode_tokens(b'{"model": "\xff", "items": [{"tokens": [[1]]}]}')


def test_more_values_than_memory_allows_are_refused_before_parsing() -> None:
    with pytest.raises(TooLarge, match="application/x-npy") as caught:
        decode_tokens(b"[" + b"[]," * MAX_VALUES)
    assert caught.value.limit == MAX_VALUES


def test_more_items_than_are_taken_are_refused_before_any_is_read() -> None:
    with pytest.raises(TooLarge, match="has 3 items; at most 2 are taken") as caught:
        decode_tokens(b'{"items": [{}, {}, {}]}', DecodeOptions(max_items=2))
    assert (caught.value.limit, caught.value.setting) == (2, "max_items")
    with pytest.raises(MalformedBody, match="no key"):
        decode_tokens(b'{"items": [{}, {}]}', DecodeOptions(max_items=2))
    with pytest.raises(TooLarge, match="has 3 images; at most 2 are taken"):
        decode_images(b'{"images": [1, 2, 3]}', max_items=2)
    assert len(decode_images(b'{"images": ["", ""]}', max_items=2)) == 2


def test_images_survive_the_round_trip() -> None:
    images = [b"first", b"", bytes(range(256))]
    body = encode_images(images)
    assert decode_images(body) == images


def test_image_files_with_escaped_slashes_are_the_same() -> None:
    image = b"\xff\xff\xff"
    body = encode_images([image]).replace(b"/", rb"\/")
    assert rb"\/" in body
    assert decode_images(body) == [image]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{}", "images must be a JSON array, not null"),
        ('{"images": []}', "images is empty"),
        ('{"images": [7]}', r"images\[0\] must be a string in base64, not an integer"),
        ('{"images": ["AA==", "A"]}', r"images\[1\] is not base64"),
        ('{"images": ["AA=="], "imges": 1}', "no key 'imges'"),
        ('{"images": ["AAAA"], "images": ["BBBB"]}', "key is repeated"),
        ('{"images": ["\u00e9"]}', "not base64"),
        ('{"images": ["AA==\\n"]}', "not base64"),
        ('{"images": ["data:image/png;base64,AA=="]}', "leave out the prefix"),
    ],
)
def test_malformed_images_are_named(body: str, words: str) -> None:
    with pytest.raises(MalformedBody, match=words):
        decode_images(body.encode())


def test_an_answer_carries_images_failures_and_more() -> None:
    error = ItemError("model_failure", "the model failed")
    body = encode_images([b"image", error], {"psnr": [30.5, None]})
    images, extra = decode_image_answer(body)
    assert images == [b"image", error]
    assert extra == {"psnr": [30.5, None]}


def test_base64_is_the_standard_one() -> None:
    document = json.loads(encode_images([b"\xfb\xff"]))
    assert document == {"images": [base64.b64encode(b"\xfb\xff").decode()]}


@pytest.mark.parametrize("answer", [b"{}", b'{"items": 7}', b'{"items": [{"error": 7}]}'])
def test_an_answer_that_is_none_is_refused(answer: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_tokens(answer, ANSWER)
