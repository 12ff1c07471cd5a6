"""The client against the real service, which must answer as the tokenizer in process does."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.service.process import ServiceProcess
from tests.vqtok.tiny_bundle import smooth_images, write_tiny_bundle
from vqtok.client import HttpTokenizer
from vqtok.errors import (
    BrokenImage,
    CodebookMismatch,
    InvalidInput,
    InvalidParameter,
    InvalidTokens,
    TooLarge,
    UnknownModel,
    UnsupportedImage,
)
from vqtok.images import write_image
from vqtok.tokenizer import Tokenizer
from vqtok.tokens import ImageTokens, TokenBatch

AS_JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def service(bundle: Path) -> Iterator[ServiceProcess]:
    flags = ["--bundle", str(bundle), "--device", "cpu", "--max-items", "50"]
    with ServiceProcess([*flags, "--max-pixels", "100000"]) as process:
        yield process.wait_ready()


@pytest.fixture(scope="module")
def remote(service: ServiceProcess) -> Iterator[Tokenizer]:
    with Tokenizer.connect(service.url) as tokenizer:
        yield tokenizer


@pytest.fixture(scope="module")
def local(bundle: Path) -> Iterator[Tokenizer]:
    with Tokenizer.open(bundle, device="cpu") as tokenizer:
        yield tokenizer


def assert_equal_tokens(one: TokenBatch, other: TokenBatch) -> None:
    assert one.preprocess == other.preprocess
    assert (one.codebook_id, one.tokenizer_id) == (other.codebook_id, other.tokenizer_id)
    for a, b in zip(one.images, other.images, strict=True):
        assert a.size == b.size
        assert a.tokens.dtype == b.tokens.dtype
        assert np.array_equal(a.tokens, b.tokens)


def test_it_describes_the_model_as_the_bundle_does(remote: Tokenizer, local: Tokenizer) -> None:
    assert isinstance(remote, HttpTokenizer)
    assert remote.info == local.info
    assert np.array_equal(remote.codebook(), local.codebook())


def test_more_images_than_a_request_holds_come_back_in_order(
    remote: Tokenizer, local: Tokenizer
) -> None:
    images = list(smooth_images(230, 32, 32))
    batch = remote.encode(images)
    assert_equal_tokens(batch, local.encode(images))
    for ours, theirs in zip(remote.decode(batch), local.decode(batch), strict=True):
        assert np.array_equal(ours, theirs)


def test_arrays_files_and_pillow_images_of_many_sizes_mix(
    remote: Tokenizer, local: Tokenizer, tmp_path: Path
) -> None:
    arrays = [smooth_images(1, 20 + 3 * i, 50 - 2 * i, seed=i)[0] for i in range(9)]
    (tmp_path / "three.png").write_bytes(write_image(arrays[3]))
    sources = [
        *arrays[:3],
        tmp_path / "three.png",
        *(write_image(array, "jpeg") for array in arrays[4:6]),
        *(Image.fromarray(array) for array in arrays[6:]),
    ]
    batch = remote.encode(sources)
    assert_equal_tokens(batch, local.encode(sources))
    pictures = remote.decode(batch)
    assert [p.shape for p in pictures] == [array.shape for array in arrays]
    for ours, theirs in zip(pictures, local.decode(batch), strict=True):
        assert np.array_equal(ours, theirs)


def test_modes_and_sizes_are_passed_on(remote: Tokenizer, local: Tokenizer) -> None:
    images = list(smooth_images(2, 60, 90))
    assert_equal_tokens(remote.encode(images, "center_crop"), local.encode(images, "center_crop"))
    ours = remote.encode(images, "resize", image_size=(64, 16))
    assert_equal_tokens(ours, local.encode(images, "resize", image_size=(64, 16)))


def test_reconstructions_and_samples_are_those_of_the_process(
    remote: Tokenizer, local: Tokenizer
) -> None:
    images = list(smooth_images(3, 30, 41))
    for ours, theirs in zip(remote.reconstruct(images), local.reconstruct(images), strict=True):
        assert np.array_equal(ours, theirs)
    ours, theirs = (each.sample(7, seed=3, temperature=0.7) for each in (remote, local))
    assert_equal_tokens(ours.tokens, theirs.tokens)
    assert np.array_equal(ours.bits, theirs.bits)
    assert ours.seed == theirs.seed == 3
    assert all(np.array_equal(a, b) for a, b in zip(ours.images, theirs.images, strict=True))


def test_numbers_of_numpy_and_sides_of_squares_are_taken(
    remote: Tokenizer, local: Tokenizer
) -> None:
    given: dict[str, Any] = {"n": np.int64(2), "seed": np.int64(5), "temperature": np.float32(0.5)}
    ours, theirs = (each.sample(**given) for each in (remote, local))
    assert_equal_tokens(ours.tokens, theirs.tokens)
    assert np.array_equal(ours.bits, theirs.bits)
    assert type(ours.seed) is type(theirs.seed) is int
    images = list(smooth_images(2, 60, 90))
    sizes: list[Any] = [16, np.int64(16), [16, 16], (np.int64(16), 16)]
    for size in sizes:
        batches = [each.encode(images, "resize", image_size=size) for each in (remote, local)]
        assert_equal_tokens(*batches)
        assert batches[0].images[0].size == (16, 16)


@pytest.mark.parametrize("seed", [0, 2**53 + 1, 2**63, 2**64 - 1])
def test_every_seed_gives_the_samples_of_the_process(
    remote: Tokenizer, local: Tokenizer, seed: int
) -> None:
    ours, theirs = (each.sample(1, seed=seed) for each in (remote, local))
    assert_equal_tokens(ours.tokens, theirs.tokens)


def complaint(call: Callable[[], object]) -> tuple[type[InvalidInput], str]:
    with pytest.raises(InvalidInput) as caught:
        call()
    return caught.type, caught.value.detail


@pytest.mark.parametrize(
    "options",
    [
        {"n": 0},
        {"n": 2**64},
        {"n": 1.0},
        {"n": "2"},
        {"seed": -1},
        {"seed": 2**64},
        {"seed": 1.5},
        {"seed": None},
        {"temperature": "x"},
        {"temperature": "1"},
        {"temperature": None},
        {"temperature": -0.5},
        {"temperature": np.nan},
        {"temperature": 10**400},
    ],
    ids=str,
)
def test_options_of_sampling_are_refused_with_the_words_of_the_process(
    remote: Tokenizer, local: Tokenizer, options: dict[str, Any]
) -> None:
    ours, theirs = (complaint(partial(t.sample, **options)) for t in (remote, local))
    assert ours == theirs
    assert ours[0] is InvalidParameter
    assert next(iter(options)) in ours[1]


@pytest.mark.parametrize("size", [0, -16, 16.0, "16", (16,), (16, 16, 3), (16, 0), (16, None)])
def test_sizes_are_refused_with_the_words_of_the_process(
    remote: Tokenizer, local: Tokenizer, size: Any
) -> None:
    image = smooth_images(1, 60, 90)[0]
    both = (remote, local)
    ours, theirs = (complaint(partial(t.encode, [image], "resize", image_size=size)) for t in both)
    assert ours == theirs
    assert ours[0] is InvalidParameter


def test_an_image_that_does_not_fit_is_named_as_in_the_process(
    remote: Tokenizer, local: Tokenizer, tmp_path: Path
) -> None:
    both = (remote, local)
    path = tmp_path / "odd.png"
    path.write_bytes(write_image(smooth_images(1, 7, 8)[0]))
    good = smooth_images(1, 8, 8)[0]
    cases: list[tuple[list[Any], str, int | None]] = [
        ([path], "exact", None),
        ([good[:7]], "exact", None),
        ([good, path], "exact", None),
        ([path], "resize", 18),
    ]
    for images, mode, size in cases:
        ours, theirs = (complaint(partial(t.encode, images, mode, image_size=size)) for t in both)
        assert ours == theirs


def test_a_sequence_of_nothing_is_a_batch_of_nothing(remote: Tokenizer) -> None:
    assert len(remote.encode([])) == 0
    assert remote.decode([]) == []


def test_a_broken_image_is_named_by_its_place_or_its_file(
    remote: Tokenizer, tmp_path: Path
) -> None:
    good = smooth_images(1, 8, 8)[0]
    data = write_image(good)
    with pytest.raises(BrokenImage, match=r"^Image 70: The PNG"):
        remote.encode([*[data] * 70, data[:60], data])
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UnsupportedImage, match=r"notes\.txt: "):
        remote.encode([tmp_path / "notes.txt"])
    with pytest.raises(InvalidInput, match=r"missing\.png cannot be read"):
        remote.encode([tmp_path / "missing.png"])
    with pytest.raises(InvalidParameter, match="multiples of 4"):
        remote.encode([good[:7]], "exact")


def test_limits_of_the_service_are_errors_with_their_setting(remote: Tokenizer) -> None:
    with pytest.raises(TooLarge, match="max_pixels") as caught:
        remote.encode([smooth_images(1, 400, 400)[0]])
    assert (caught.value.limit, caught.value.setting) == (100_000, "max_pixels")
    with pytest.raises(TooLarge) as caught:
        remote.sample(51)
    assert caught.value.setting == "max_items"


def test_tokens_that_cannot_be_decoded_are_refused(remote: Tokenizer) -> None:
    grid = np.zeros((4, 4), np.int64)
    with pytest.raises(InvalidTokens):
        remote.decode([grid + 32])
    with pytest.raises(CodebookMismatch):
        remote.decode(TokenBatch(None, "f0" * 32, None, None, (ImageTokens(grid),)))
    with pytest.raises(InvalidParameter):
        remote.sample(1, temperature=-1)


def test_json_of_sampling_is_decoded_as_it_came(service: ServiceProcess) -> None:
    asked = {"n": 2, "seed": 2**64 - 1, "temperature": 0.5}
    sampled = httpx.post(f"{service.url}/v1/sample", json=asked, headers=AS_JSON)
    headers = {**AS_JSON, "Content-Type": "application/json"}
    answer = httpx.post(f"{service.url}/v1/decode", content=sampled.content, headers=headers)
    assert answer.status_code == 200
    assert len(answer.json()["images"]) == 2


def test_json_with_failed_items_is_decoded_where_items_fail_alone(service: ServiceProcess) -> None:
    good = write_image(smooth_images(1, 8, 8)[0])
    encoded = httpx.post(
        f"{service.url}/v1/encode?on_error=item",
        files=[("images", ("0", good)), ("images", ("1", good[:60]))],
        headers=AS_JSON,
    )
    assert "error" in encoded.json()["items"][1]
    headers = {**AS_JSON, "Content-Type": "application/json"}
    url = f"{service.url}/v1/decode"
    answer = httpx.post(f"{url}?on_error=item", content=encoded.content, headers=headers)
    assert answer.status_code == 200
    first, second = answer.json()["images"]
    assert (type(first), second["error"]["code"]) == (str, "invalid_tokens")
    refused = httpx.post(url, content=encoded.content, headers=headers)
    assert refused.status_code == 422
    assert refused.json()["detail"] == "Image 1: The item is an error and holds no tokens."


def test_another_model_is_unknown(service: ServiceProcess) -> None:
    with pytest.raises(UnknownModel, match="elsewhere"):
        Tokenizer.connect(service.url, model="elsewhere")
    with Tokenizer.connect(service.url, model="tiny@1") as tokenizer:
        assert tokenizer.info.name == "tiny"
