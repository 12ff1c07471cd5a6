"""The tokenizer in this process, on a real bundle: one answer for a picture, however it comes."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.vqtok.tiny_bundle import smooth_images, write_tiny_bundle
from vqtok.bundle import Bundle
from vqtok.errors import (
    BrokenImage,
    BundleCorrupt,
    CodebookMismatch,
    InvalidInput,
    InvalidParameter,
    InvalidTokens,
    TooLarge,
    UnsupportedImage,
)
from vqtok.images import ImageLimits
from vqtok.local import LocalTokenizer
from vqtok.runtime.fake import FakeEngine
from vqtok.runtime.onnx import open_engine
from vqtok.tokenizer import Tokenizer
from vqtok.tokens import ImageTokens, TokenBatch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.open(folder, device="cpu")


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_bytes_paths_arrays_and_pillow_images_give_the_same_tokens(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    pixels = smooth_images(1, 33, 50)[0]
    file = tmp_path / "one.png"
    file.write_bytes(png(pixels))
    batch = tokenizer.encode([pixels, png(pixels), file, str(file), Image.fromarray(pixels)])
    first, *others = batch.images
    assert first.size == (33, 50)
    assert first.tokens.shape == (9, 13)
    assert first.tokens.dtype == np.uint16
    assert first.margin is not None
    assert first.margin.shape == (9, 13)
    for other in others:
        assert np.array_equal(other.tokens, first.tokens)


def test_a_batch_carries_the_ids_of_the_model(tokenizer: Tokenizer) -> None:
    batch = tokenizer.encode(list(smooth_images(1, 32, 32)), "exact")
    info = tokenizer.info
    assert (batch.codebook_id, batch.tokenizer_id) == (info.codebook_id, info.tokenizer_id)
    assert (batch.model, batch.preprocess) == ("tiny@1", "exact")


def test_images_of_many_sizes_come_back_in_order(tokenizer: Tokenizer) -> None:
    sizes = [(32, 32)] * 11 + [(5, 70), (32, 32), (1, 1), (70, 5)] + [(16, 16)] * 3
    images = [smooth_images(1, *size, seed=i)[0] for i, size in enumerate(sizes)]
    batch = tokenizer.encode(images)
    for image, item in zip(images, batch.images, strict=True):
        (single,) = tokenizer.encode([image]).images
        assert np.array_equal(single.tokens, item.tokens)
    pictures = tokenizer.decode(batch)
    assert [picture.shape[:2] for picture in pictures] == sizes


def test_reconstructing_is_decoding_the_tokens(tokenizer: Tokenizer) -> None:
    images = list(smooth_images(3, 30, 41))
    direct = tokenizer.reconstruct(images)
    stepwise = tokenizer.decode(tokenizer.encode(images))
    assert all(np.array_equal(a, b) for a, b in zip(direct, stepwise, strict=True))


def test_a_large_picture_in_tiles_is_the_picture_as_a_whole(folder: Path) -> None:
    bundle = Bundle.open(folder)
    image = smooth_images(1, 150, 203)[0]
    whole = LocalTokenizer(bundle, open_engine(bundle, "cpu"))
    tiled = LocalTokenizer(bundle, open_engine(bundle, "cpu"), tile_pixels=5000)
    (expected,), (item,) = whole.encode([image]).images, tiled.encode([image]).images
    assert np.array_equal(item.tokens, expected.tokens)
    assert item.margin is not None
    assert item.margin.shape == item.tokens.shape
    assert np.array_equal(tiled.decode([item])[0], whole.decode([expected])[0])


def test_modes_that_resize_go_to_the_native_size_or_the_one_asked_for(
    tokenizer: Tokenizer,
) -> None:
    image = smooth_images(1, 60, 90)[0]
    assert tokenizer.encode([image], "center_crop").images[0].size == (32, 32)
    resized = tokenizer.encode([image], "resize", image_size=(64, 16))
    assert resized.images[0].tokens.shape == (16, 4)


def test_tokens_of_any_integer_type_decode_alike(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(list(smooth_images(1, 32, 32))).images[0].tokens
    expected = tokenizer.decode([tokens])[0]
    for dtype in (np.uint8, np.int32, np.int64, np.uint64, ">i4"):
        assert np.array_equal(tokenizer.decode([tokens.astype(dtype)])[0], expected)
    assert np.array_equal(tokenizer.decode(tokens[None])[0], expected)


@pytest.mark.parametrize(
    "grid",
    [np.full((4, 4), 32), np.full((4, 4), -1), np.zeros((4, 4)), np.zeros((2, 2, 2), np.int64),
     np.zeros((0, 4), np.int64)],
    ids=["too large", "negative", "floats", "depth", "empty"],
)  # fmt: skip
def test_tokens_that_cannot_be_are_refused(tokenizer: Tokenizer, grid: np.ndarray) -> None:
    with pytest.raises(InvalidTokens):
        tokenizer.decode([grid])


def test_a_single_grid_in_place_of_a_list_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidInput, match="list"):
        tokenizer.decode(np.zeros((4, 4), np.int64))


def test_tokens_of_another_codebook_are_refused_naming_both(tokenizer: Tokenizer) -> None:
    items = (ImageTokens(np.zeros((4, 4), np.int64)),)
    own = tokenizer.info.codebook_id
    tokenizer.decode(TokenBatch(None, own.short, None, None, items))
    with pytest.raises(CodebookMismatch, match=f"f0f0f0f0f0f0.*{own.short}"):
        tokenizer.decode(TokenBatch(None, "f0" * 32, None, None, items))


def test_a_size_beyond_the_grid_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidParameter, match="17x16"):
        tokenizer.decode([ImageTokens(np.zeros((4, 4), np.int64), (17, 16))])


def test_an_error_says_which_image_it_is_about(tokenizer: Tokenizer, tmp_path: Path) -> None:
    good = smooth_images(1, 8, 8)[0]
    with pytest.raises(BrokenImage, match=r"^Image 1: "):
        tokenizer.encode([good, png(good)[:40]])
    with pytest.raises(InvalidInput, match=r"missing\.png cannot be read: No such file"):
        tokenizer.encode([tmp_path / "missing.png"])
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UnsupportedImage, match=r"notes\.txt: "):
        tokenizer.encode([tmp_path / "notes.txt"])
    with pytest.raises(InvalidParameter, match=r"^Image 1: .*multiples of 4"):
        tokenizer.encode([good, good[:7]], "exact")
    for wrong in (good.astype(np.float32), good[..., :1], good[None]):
        with pytest.raises(InvalidInput, match=r"^Image 0: An image array is uint8"):
            tokenizer.encode([wrong])


def test_an_unknown_mode_is_no_image_s_fault(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidParameter, match=r"^preprocess is one of exact, pad"):
        tokenizer.encode([], "stretch")


def test_pixels_above_the_limit_are_refused_naming_the_setting(folder: Path) -> None:
    bundle = Bundle.open(folder)
    limits = ImageLimits(max_pixels=1000)
    tokenizer = LocalTokenizer(bundle, open_engine(bundle, "cpu"), limits=limits)
    image = smooth_images(1, 40, 40)[0]
    for source in (image, png(image), Image.fromarray(image)):
        with pytest.raises(TooLarge, match="max_pixels") as caught:
            tokenizer.encode([source])
        assert caught.value.limit == 1000


def test_a_model_that_is_not_tileable_refuses_large_pictures(folder: Path) -> None:
    bundle = Bundle.open(folder)
    manifest = replace(bundle.manifest, requires={"tileable": False})
    whole = Bundle(folder, manifest, bundle.codebook, bundle.reference)
    tokenizer = LocalTokenizer(whole, FakeEngine(manifest), tile_pixels=1000)
    with pytest.raises(TooLarge, match="cannot be run in tiles"):
        tokenizer.encode([smooth_images(1, 64, 64)[0]])
    with pytest.raises(TooLarge, match="tiles"):
        tokenizer.decode([np.zeros((16, 16), np.int64)])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK", "YCbCr"])
def test_a_pillow_image_of_any_mode_is_its_file(tokenizer: Tokenizer, mode: str) -> None:
    image = Image.fromarray(smooth_images(1, 16, 16)[0])
    image = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    assert tokenizer.encode([image]).images[0].size == (16, 16)


def test_a_pillow_image_with_an_orientation_is_turned(tokenizer: Tokenizer) -> None:
    image = Image.fromarray(smooth_images(1, 16, 40)[0])
    image.getexif()[0x0112] = 6
    assert tokenizer.encode([image]).images[0].size == (40, 16)


def test_samples_are_a_function_of_seed_and_number(tokenizer: Tokenizer) -> None:
    five, two = tokenizer.sample(5, seed=9), tokenizer.sample(2, seed=9)
    assert [image.shape for image in five.images] == [(32, 32, 3)] * 5
    assert five.bits.shape == (5,)
    for index in range(2):
        assert np.array_equal(five.images[index], two.images[index])
        assert five.bits[index] == two.bits[index]
    assert np.array_equal(tokenizer.decode(five.tokens)[3], five.images[3])


def test_the_codebook_is_a_copy(tokenizer: Tokenizer) -> None:
    table = tokenizer.codebook()
    table[:] = 0
    assert tokenizer.codebook().any()


def test_opening_proves_the_bundle_on_its_golden_image(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    other = write_tiny_bundle(tmp_path, "other", seed=1)
    bundle = Bundle.open(folder)
    assert bundle.manifest.digests["encoder.onnx"]
    text = (folder / "manifest.json").read_text()
    new = Bundle.open(other).manifest.digests["encoder.onnx"]
    (folder / "manifest.json").write_text(
        text.replace(bundle.manifest.digests["encoder.onnx"], new)
    )
    (folder / "encoder.onnx").write_bytes((other / "encoder.onnx").read_bytes())
    with pytest.raises(BundleCorrupt, match=r"encoder\.onnx"):
        Tokenizer.open(folder)


def test_a_tokenizer_is_a_context_manager(folder: Path) -> None:
    with Tokenizer.open(folder, device="cpu") as tokenizer:
        tokenizer.encode([smooth_images(1, 8, 8)[0]])
