"""The command `vqtok`: encode, decode, sample, compress, decompress, calibrate, inspect, bench."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import vqtok
from vqtok.bench.command import bench
from vqtok.calibrating import calibrate
from vqtok.command_options import (
    IMAGE_FORMATS,
    BundleOption,
    DeviceOption,
    ImageSizeOption,
    PreprocessOption,
    UrlOption,
    encode_files,
    image_files,
    in_parts,
    open_tokenizer,
    picture_targets,
)
from vqtok.compressing import compress
from vqtok.decompressing import decompress
from vqtok.errors import (
    DeadlineExceeded,
    Draining,
    KeyMissing,
    KeyRefused,
    NotReady,
    Overloaded,
    RemoteError,
    VqtokError,
)
from vqtok.images import write_image
from vqtok.inspection import describe
from vqtok.sampling import sample
from vqtok.stream_inspection import describe_stream, is_stream
from vqtok.token_files import read_tokens, require_token_file, write_tokens
from vqtok.tokenizer import Tokenizer
from vqtok.tokens import ImageTokens, ItemError, TokenBatch

EXIT_INPUT = 1
EXIT_SERVICE = 3
SERVICE_ERRORS = (
    *(RemoteError, KeyMissing, KeyRefused),
    *(Overloaded, NotReady, Draining, DeadlineExceeded),
)

app = typer.Typer(
    help="Images to discrete tokens and back, with a bundle on this machine or a vqtok service.",
    epilog="Exit status: 0 done, 1 a file or bundle is at fault, 2 wrong usage, 3 the service "
    "is busy, refuses or cannot be reached.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def start(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Images to discrete tokens and back, with a bundle on this machine or a vqtok service."""
    if version:
        typer.echo(vqtok.__version__)
        raise typer.Exit


@app.command()
def encode(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="An .npz, .npy or .json file.")],
    bundle: BundleOption = None,
    url: UrlOption = None,
    device: DeviceOption = "auto",
    preprocess: PreprocessOption = "pad",
    image_size: ImageSizeOption = None,
) -> None:
    """Write the tokens of images to a file."""
    require_token_file(output)
    files = list(image_files(images))
    with open_tokenizer(bundle, url, device) as tokenizer:
        batch = encode_files(tokenizer, files, preprocess, image_size)
    write_tokens(output, batch, [file.stem for file in files])


@app.command()
def decode(
    tokens: Annotated[Path, typer.Argument(help="A file written by `vqtok encode`.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="An image file; a folder for several images.")
    ],
    bundle: BundleOption = None,
    url: UrlOption = None,
    device: DeviceOption = "auto",
    quality: Annotated[int, typer.Option(help="1 .. 100, for WebP and JPEG.")] = 90,
) -> None:
    """Write the pictures of a file of tokens."""
    batch, names = read_tokens(tokens)
    targets = picture_targets(output, names)
    with open_tokenizer(bundle, url, device) as tokenizer:
        for part in in_parts(list(zip(batch.items, targets, strict=True)), "decoding"):
            _decode_part(tokenizer, batch, part, quality)


@app.command()
def inspect(
    path: Annotated[
        Path, typer.Argument(help="A bundle's folder, a file of tokens, or a bitstream.")
    ],
) -> None:
    """Show what a bundle, a file of tokens or a bitstream holds, and what of it is damaged."""
    if not is_stream(path):
        Console().print(describe(path))
        return
    shown, damage = describe_stream(path)
    Console().print(shown)
    if damage is not None:
        raise damage


app.command()(sample)
app.command()(compress)
app.command()(decompress)
app.command()(calibrate)
app.command()(bench)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command, with those of the process unless `arguments` are given. It ends with
    SystemExit; errors are one sentence on stderr and an exit status.
    """
    try:
        app(arguments)
    except VqtokError as error:
        Console(stderr=True).print(f"Error: {error.detail}", style="red", markup=False)
        sys.exit(EXIT_SERVICE if isinstance(error, SERVICE_ERRORS) else EXIT_INPUT)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        Console(stderr=True).print(f"Error: {name}{error.strerror}.", style="red", markup=False)
        sys.exit(EXIT_INPUT)


def _decode_part(
    tokenizer: Tokenizer,
    batch: TokenBatch,
    part: Sequence[tuple[ImageTokens | ItemError, Path]],
    quality: int,
) -> None:
    items = tuple(item for item, _ in part)
    some = TokenBatch(batch.model, batch.codebook_id, batch.tokenizer_id, batch.preprocess, items)
    for picture, (_, target) in zip(tokenizer.decode(some), part, strict=True):
        target.write_bytes(write_image(picture, IMAGE_FORMATS[target.suffix.lower()], quality))
