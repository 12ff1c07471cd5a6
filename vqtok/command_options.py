"""What several commands of `vqtok` share: options, opening a tokenizer, finding images, bars."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import track

from vqtok.calibration import joined
from vqtok.errors import InvalidInput, InvalidParameter
from vqtok.images import PREPROCESS
from vqtok.tokenizer import Tokenizer
from vqtok.tokens import TokenBatch
from vqtok.transport import KEY_VARIABLE
from vqtok.wire import parse_size

DEFAULT_BUNDLE = Path("bundles/cifar10-gmvq")
IMAGE_FORMATS = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
IMAGE_SUFFIXES = {*IMAGE_FORMATS, ".gif", ".bmp", ".tif", ".tiff"}
FILES_AT_ONCE = 32

Item = TypeVar("Item")

BundleOption = Annotated[
    Path | None,
    typer.Option(
        envvar="VQTOK_BUNDLE", help=f"Bundle to open; {DEFAULT_BUNDLE} where that exists."
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        envvar="VQTOK_URL",
        help=f"Service to use in place of a bundle; its key, if it wants one, in {KEY_VARIABLE}.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or auto; for a bundle only.")]
PreprocessOption = Annotated[str, typer.Option(help=f"One of {', '.join(PREPROCESS)}.")]
ImageSizeOption = Annotated[
    str | None, typer.Option(help="HxW for modes that resize; default: the native size.")
]


def open_tokenizer(bundle: Path | None, url: str | None, device: str) -> Tokenizer:
    """The tokenizer that the options name.

    Raises:
        typer.BadParameter: none, or two.
    """
    if bundle and url:
        raise typer.BadParameter(
            "give --bundle or --url, not both (VQTOK_BUNDLE and VQTOK_URL count)"
        )
    if url:
        return Tokenizer.connect(url, api_key=os.environ.get(KEY_VARIABLE) or None)
    return Tokenizer.open(chosen_bundle(bundle), device)


def chosen_bundle(bundle: Path | None) -> Path:
    """The bundle that is named, or the one that is there.

    Raises:
        typer.BadParameter: neither.
    """
    if bundle is None and not DEFAULT_BUNDLE.is_dir():
        raise typer.BadParameter("say which tokenizer: --bundle FOLDER or --url http://…")
    return bundle or DEFAULT_BUNDLE


def image_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files themselves, and the images in the folders, by name.

    Raises:
        InvalidInput: a folder without images.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise InvalidInput(f"{path} holds no image files.")
        yield from found


def encode_files(
    tokenizer: Tokenizer, files: Sequence[Path], preprocess: str, image_size: str | None = None
) -> TokenBatch:
    """The tokens of image files, with a progress bar."""
    size, parts = parsed_size(image_size), in_parts(files, "encoding")
    return joined([tokenizer.encode(some, preprocess, image_size=size) for some in parts])


def in_parts(items: Sequence[Item], what: str) -> Iterator[Sequence[Item]]:
    """Parts of the items, with a progress bar."""
    parts = [items[i : i + FILES_AT_ONCE] for i in range(0, len(items), FILES_AT_ONCE)]
    return iter(with_bar(parts, what, len(parts)))


def with_bar(items: Iterable[Item], what: str, total: int, /) -> Iterable[Item]:
    """The items, with a progress bar on a terminal when there are several."""
    console = Console(stderr=True)
    quiet = total < 2 or not console.is_terminal
    return track(items, what, total, console=console, transient=True, disable=quiet)


def picture_targets(output: Path, names: Sequence[str]) -> list[Path]:
    """Where each picture goes: `output` itself, or files in it that are named apart.

    Raises:
        InvalidParameter: several pictures for one file, or a file that is no image.
    """
    if len(names) == 1 and output.suffix.lower() in IMAGE_FORMATS and not output.is_dir():
        return [output]
    if output.suffix.lower() in IMAGE_FORMATS:
        raise InvalidParameter(
            f"{len(names)} images do not fit into {output.name}: name a folder as output."
        )
    if len(names) == 1 and output.suffix:
        raise InvalidParameter(f"{output.name}: images are {', '.join(IMAGE_FORMATS)} files.")
    output.mkdir(parents=True, exist_ok=True)
    plain = [re.sub(r"[^\w.-]", "_", name).lstrip(".") or "image" for name in names]
    unique = len(set(plain)) == len(plain)
    return [
        output / (f"{name}.png" if unique else f"{index:05d}-{name}.png")
        for index, name in enumerate(plain)
    ]


def parsed_size(text: str | None) -> tuple[int, int] | None:
    """(height, width) of the option `--image-size`."""
    return None if text is None else parse_size(text)
