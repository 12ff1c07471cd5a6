"""`vqtok compress`, `decompress` and `inspect` on files and folders."""

from pathlib import Path

import numpy as np
import pytest

from tests.vqtok.command import Command
from tests.vqtok.tiny_bundle import smooth_images, write_tiny_bundle
from vqtok.bitstream import BitstreamReader, CoderTables
from vqtok.bundle import Bundle
from vqtok.images import read_image, write_image
from vqtok.local import LocalTokenizer
from vqtok.tokenizer import Tokenizer

SIZES = [(32, 32)] * 70 + [(45, 60), (33, 31)] + [(32, 32)] * 8


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty images of three sizes."""
    folder = tmp_path_factory.mktemp("images")
    for i, size in enumerate(SIZES):
        (folder / f"{i:03d} image.png").write_bytes(write_image(smooth_images(1, *size, i)[0]))
    return folder


def tables_of(bundle: Path) -> CoderTables:
    tables = CoderTables.of(Bundle.open(bundle).reference)
    assert tables is not None
    return tables


def test_a_folder_becomes_a_stream_and_pictures_again(
    vqtok: Command, bundle: Path, folder: Path
) -> None:
    vqtok.succeed("compress", folder, "-o", "all.vqt", "--bundle", bundle, "--chunk-images", 32)
    vqtok.succeed("decompress", "all.vqt", "-o", "out", "--bundle", bundle)
    sources = sorted(folder.iterdir())
    with Tokenizer.open(bundle, "cpu") as tokenizer:
        expected = tokenizer.reconstruct(sources)
    written = sorted((vqtok.folder / "out").iterdir())
    assert [path.name for path in written] == [path.name.replace(" ", "_") for path in sources]
    for path, picture in zip(written, expected, strict=True):
        assert np.array_equal(read_image(path.read_bytes()), picture)
    assert not list(vqtok.folder.glob("*.part"))
    with (vqtok.folder / "all.vqt").open("rb") as file:
        counts = [place.num_images for place in BitstreamReader(file).index()]
    assert counts == [32, 32, 6, 1, 1, 8]


@pytest.mark.parametrize("mode", ["pad", "center_crop"])
def test_an_interrupted_run_goes_on_where_it_stood(
    vqtok: Command, bundle: Path, folder: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--bundle", bundle, "--chunk-images", 16, "--preprocess", mode)
    vqtok.succeed("compress", folder, "-o", "whole.vqt", *options)
    encoded = list[int]()
    encode = LocalTokenizer.encode

    def interrupted(self: LocalTokenizer, images: list[Path], *rest: str, **named: object):
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.append(len(images))
        return encode(self, images, *rest, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(LocalTokenizer, "encode", interrupted)
        vqtok("compress", folder, "-o", "all.vqt", *options)
    part = vqtok.folder / "all.vqt.part"
    assert encoded == [32, 32]
    assert not (vqtok.folder / "all.vqt").exists()
    # As if the machine had gone down in the middle of a chunk.
    part.write_bytes(part.read_bytes()[:-5])
    encoded.clear()

    def counted(self: LocalTokenizer, images: list[Path], *rest: str, **named: object):
        encoded.append(len(images))
        return encode(self, images, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalTokenizer, "encode", counted)
    vqtok.succeed("compress", folder, "-o", "all.vqt", *options)
    assert sum(encoded) == 80 - 32
    whole = (vqtok.folder / "whole.vqt").read_bytes()
    assert (vqtok.folder / "all.vqt").read_bytes() == whole


@pytest.mark.parametrize("other", [("--preprocess", "exact"), ("--image-size", "64x64")])
def test_what_other_options_left_behind_does_not_count(
    vqtok: Command, bundle: Path, folder: Path, other: tuple[str, str]
) -> None:
    files = sorted(folder.iterdir())[:4]
    options = ("--bundle", bundle, "--chunk-images", 2, "--preprocess", "resize")
    vqtok.succeed("compress", *files, "-o", "a.vqt", *options)
    data = (vqtok.folder / "a.vqt").read_bytes()
    (vqtok.folder / "b.vqt.part").write_bytes(data[:-30])
    vqtok.succeed("compress", *files, "-o", "b.vqt", *options, *other)
    vqtok.succeed("compress", *files, "-o", "c.vqt", *options, *other)
    fresh = (vqtok.folder / "c.vqt").read_bytes()
    assert (vqtok.folder / "b.vqt").read_bytes() == fresh != data


def test_an_array_of_tokens_becomes_a_stream_and_an_array_again(
    vqtok: Command, bundle: Path
) -> None:
    with Tokenizer.open(bundle, "cpu") as tokenizer:
        items = tokenizer.encode(list(smooth_images(50, 32, 32))).images
    tokens = np.stack([item.tokens for item in items])
    np.save(vqtok.folder / "tokens.npy", tokens)
    sizes: dict[str, int] = {}
    for coder in ("packed", "static", "position", "context", "auto"):
        vqtok.succeed("compress", "tokens.npy", "-o", f"{coder}.vqt", "--bundle", bundle,
                      "--coder", coder, "--chunk-images", 20)  # fmt: skip
        vqtok.succeed("decompress", f"{coder}.vqt", "-o", "back.npy", "--bundle", bundle)
        back = np.load(vqtok.folder / "back.npy")
        assert back.dtype == np.uint16
        assert np.array_equal(back, tokens)
        sizes[coder] = (vqtok.folder / f"{coder}.vqt").stat().st_size
    assert sizes["static"] < sizes["packed"]
    assert sizes["auto"] <= min(sizes.values()) + 22
    # Without any bundle, as nothing is needed.
    vqtok.succeed("decompress", "packed.vqt", "-o", "bare.npy")
    assert np.array_equal(np.load(vqtok.folder / "bare.npy"), tokens)


def test_files_of_tokens_keep_their_names_and_sizes(
    vqtok: Command, bundle: Path, folder: Path
) -> None:
    files = sorted(folder.iterdir())[69:72]
    vqtok.succeed("encode", *files, "-o", "tokens.npz", "--bundle", bundle)
    vqtok.succeed("compress", "tokens.npz", "-o", "a.vqt", "--bundle", bundle)
    chunks = list(BitstreamReader((vqtok.folder / "a.vqt").read_bytes()).scan())
    assert [chunk.header.sizes for chunk in chunks] == [((32, 32),), ((45, 60),), ((33, 31),)]
    assert [chunk.header.names for chunk in chunks] == [(file.stem,) for file in files]
    message = vqtok.fail(1, "decompress", "a.vqt", "-o", "a.npy", "--bundle", bundle)
    assert "the bitstream has 3: name a folder" in message


def test_decompress_goes_on_where_pictures_are_missing(
    vqtok: Command, bundle: Path, folder: Path
) -> None:
    options = ("--bundle", bundle)
    vqtok.succeed("compress", folder, "-o", "all.vqt", *options, "--chunk-images", 10)
    vqtok.succeed("decompress", "all.vqt", "-o", "out", *options)
    written = sorted((vqtok.folder / "out").iterdir())
    written[15].unlink()
    kept = written[5]
    kept.write_bytes(b"mine")
    vqtok.succeed("decompress", "all.vqt", "-o", "out", *options, "--resume")
    assert kept.read_bytes() == b"mine"
    assert written[15].is_file()
    vqtok.succeed("decompress", "all.vqt", "-o", "out", *options)
    assert kept.read_bytes() != b"mine"


def test_inspect_shows_header_chunks_and_damage(vqtok: Command, bundle: Path, folder: Path) -> None:
    files = sorted(folder.iterdir())[60:76]
    vqtok.succeed("compress", *files, "-o", "a.vqt", "--bundle", bundle, "--chunk-images", 5)
    shown = vqtok.succeed("inspect", "a.vqt")
    manifest = Bundle.open(bundle).manifest
    tables = tables_of(bundle)
    for text in (
        *("tiny@1", manifest.codebook_id.short, manifest.tokenizer_id.short, "pad", "12 x 15"),
        *(*tables.ids.values(), "whole", "bits an image", "5 chunks"[2:]),
    ):
        assert text in shown, text
    assert "damaged" not in shown
    path = vqtok.folder / "a.vqt"
    data = bytearray(path.read_bytes())
    place = BitstreamReader(path.read_bytes())
    second = place.index()[1]
    data[second.offset + second.num_bytes - 1] ^= 1
    path.write_bytes(bytes(data))
    done = vqtok("inspect", "a.vqt")
    assert done.status == 1
    assert "damaged" in done.stdout
    assert "payload of chunk 1 is damaged" in done.stderr
    path.write_bytes(bytes(data[: second.offset + 3]))
    done = vqtok("inspect", "a.vqt")
    assert done.status == 1
    assert "the 1 chunks before it are whole" in " ".join(done.stderr.split())


def test_what_cannot_be_is_said_in_one_line(vqtok: Command, bundle: Path, folder: Path) -> None:
    other = write_tiny_bundle(vqtok.folder, "other", seed=1)
    files = sorted(folder.iterdir())[:2]
    vqtok.succeed("compress", *files, "-o", "a.vqt", "--bundle", bundle)
    message = vqtok.fail(1, "decompress", "a.vqt", "-o", "out", "--bundle", other)
    ids = [Bundle.open(each).manifest.codebook_id.short for each in (bundle, other)]
    assert all(each in message for each in ids)
    assert "coder is one of" in vqtok.fail(
        1, "compress", *files, "-o", "a.vqt", "--bundle", bundle, "--coder", "zip"
    )
    np.save(vqtok.folder / "flat.npy", np.zeros((3, 64), np.uint16))
    assert "not (N, h, w)" in vqtok.fail(
        1, "compress", "flat.npy", "-o", "a.vqt", "--bundle", bundle
    )
    (vqtok.folder / "no.vqt").write_bytes(b"hello")
    assert "no vqtok bitstream" in vqtok.fail(1, "inspect", "no.vqt")
