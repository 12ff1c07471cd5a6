"""The command `vqtok`: encode, decode, sample, calibrate, inspect, bench."""

import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import track

import vqtok
from vqtok.bench.command import bench
from vqtok.bundle import Bundle
from vqtok.calibration import calibrate as calibrated
from vqtok.calibration import joined, require_enough, write_calibrated
from vqtok.errors import (
    DeadlineExceeded,
    Draining,
    InvalidInput,
    InvalidParameter,
    KeyMissing,
    KeyRefused,
    NotReady,
    Overloaded,
    RemoteError,
    VqtokError,
)
from vqtok.images import PREPROCESS, write_image
from vqtok.inspection import describe
from vqtok.priors import SampleOptions
from vqtok.token_files import SUFFIXES as TOKEN_SUFFIXES
from vqtok.token_files import read_tokens, require_token_file, write_tokens
from vqtok.tokenizer import Tokenizer
from vqtok.tokens import ImageTokens, ItemError, TokenBatch
from vqtok.transport import KEY_VARIABLE
from vqtok.wire import parse_size
from vqtok.wire.npy_format import read_array

DEFAULT_BUNDLE = Path("bundles/cifar10-gmvq")
IMAGE_FORMATS = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
IMAGE_SUFFIXES = {*IMAGE_FORMATS, ".gif", ".bmp", ".tif", ".tiff"}
FILES_AT_ONCE = 32

EXIT_INPUT = 1
EXIT_SERVICE = 3
SERVICE_ERRORS = (
    *(RemoteError, KeyMissing, KeyRefused),
    *(Overloaded, NotReady, Draining, DeadlineExceeded),
)

Item = TypeVar("Item")

app = typer.Typer(
    help="Images to discrete tokens and back, with a bundle on this machine or a vqtok service.",
    epilog="Exit status: 0 done, 1 a file or bundle is at fault, 2 wrong usage, 3 the service "
    "is busy, refuses or cannot be reached.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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
    preprocess: Annotated[str, typer.Option(help=f"One of {', '.join(PREPROCESS)}.")] = "pad",
    image_size: Annotated[
        str | None, typer.Option(help="HxW for modes that resize; default: the native size.")
    ] = None,
) -> None:
    """Write the tokens of images to a file."""
    require_token_file(output)
    files = list(_expanded(images))
    with _open(bundle, url, device) as tokenizer:
        batch = _encode_files(tokenizer, files, preprocess, image_size)
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
    targets = _targets(output, names)
    with _open(bundle, url, device) as tokenizer:
        for part in _in_parts(list(zip(batch.items, targets, strict=True)), "decoding"):
            _decode_part(tokenizer, batch, part, quality)


@app.command()
def sample(  # noqa: PLR0913 - each is an option of the command
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="An image file; a folder for several; .npz, .npy or .json."
        ),
    ],
    count: Annotated[int, typer.Option("-n", help="How many.", min=1)] = 1,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same samples.")] = None,
    label: Annotated[str | None, typer.Option(help="A class, by number or name.")] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest everywhere.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Only the k likeliest codes; 0 is all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Only the likeliest that reach p.")] = 1.0,
    cfg_scale: Annotated[float, typer.Option(help="How far to guide towards the label.")] = 0.0,
    passes: Annotated[int | None, typer.Option(help="Calls of the prior.")] = None,
    known: Annotated[
        Path | None, typer.Option(help="File of tokens of one image, to paint the rest in.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help=".npy of the grid's shape, true where tokens are known.")
    ] = None,
    bundle: BundleOption = None,
    url: UrlOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw new images, or their tokens, and say how many bits each is worth."""
    is_tokens = output.suffix in TOKEN_SUFFIXES
    if is_tokens:
        require_token_file(output)
    targets = [] if is_tokens else _targets(output, [f"{i:05d}" for i in range(count)])
    chosen = secrets.randbits(32) if seed is None else seed
    options: SampleOptions = {
        "seed": chosen,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "cfg_scale": cfg_scale,
        "label": int(label) if label and label.isdecimal() else label,
        "passes": passes,
        "known": None if known is None else read_tokens(known)[0].images[0].tokens,
        "mask": None if mask is None else read_array(mask.read_bytes()),
    }
    with _open(bundle, url, device) as tokenizer:
        samples = tokenizer.sample(count, **options)
    if is_tokens:
        write_tokens(output, samples.tokens)
    for picture, target in zip(samples.images, targets, strict=False):
        target.write_bytes(write_image(picture, IMAGE_FORMATS[target.suffix.lower()]))
    mean = samples.bits.mean()
    Console(stderr=True).print(f"Seed {chosen}; {mean:.1f} bits an image.", highlight=False)


@app.command()
def calibrate(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    folder: Annotated[Path, typer.Argument(help="Images as the service will get them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The bundle to write.")],
    device: DeviceOption = "auto",
    preprocess: Annotated[
        str, typer.Option(help=f"As callers will ask for it: {', '.join(PREPROCESS)}.")
    ] = "pad",
    replace: Annotated[bool, typer.Option(help="Replace a bundle that is there.")] = False,
) -> None:
    """Write a copy of a bundle that raises an alarm when images are no longer like these."""
    if output.exists() and not replace:
        raise InvalidParameter(f"{output} exists; --replace writes it anew.")
    opened = Bundle.open(bundle)
    files = list(_expanded([folder]))
    require_enough(len(files), 0, opened.manifest)
    with Tokenizer.open(bundle, device) as tokenizer:
        batch = _encode_files(tokenizer, files, preprocess)
    calibration = calibrated(opened.manifest, batch, _shown)
    origin = {"preprocess": preprocess, "other_grids": calibration.other_grids}
    write_calibrated(opened, calibration, origin, output, overwrite=replace)
    least, most = calibration.null.range
    typer.echo(
        f"{output} is written: drift is judged in windows of {least} to {most} images, against the "
        f"tokens of {calibration.reference_images} images."
    )


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A bundle's folder, or a file of tokens.")],
) -> None:
    """Show what a bundle or a file of tokens holds."""
    Console().print(describe(path))


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


def _open(bundle: Path | None, url: str | None, device: str) -> Tokenizer:
    if bundle and url:
        raise typer.BadParameter(
            "give --bundle or --url, not both (VQTOK_BUNDLE and VQTOK_URL count)"
        )
    if url:
        return Tokenizer.connect(url, api_key=os.environ.get(KEY_VARIABLE) or None)
    if bundle is None and not DEFAULT_BUNDLE.is_dir():
        raise typer.BadParameter("say which tokenizer: --bundle FOLDER or --url http://…")
    return Tokenizer.open(bundle or DEFAULT_BUNDLE, device)


def _expanded(paths: Sequence[Path]) -> Iterator[Path]:
    """The files themselves, and the images in the folders, by name."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise InvalidInput(f"{path} holds no image files.")
        yield from found


def _encode_files(
    tokenizer: Tokenizer, files: Sequence[Path], preprocess: str, image_size: str | None = None
) -> TokenBatch:
    size = _parsed_size(image_size)
    parts = _in_parts(files, "encoding")
    return joined([tokenizer.encode(some, preprocess, image_size=size) for some in parts])


def _in_parts(items: Sequence[Item], what: str) -> Iterator[Sequence[Item]]:
    """Parts of the items, with a progress bar."""
    parts = [items[i : i + FILES_AT_ONCE] for i in range(0, len(items), FILES_AT_ONCE)]
    return iter(_shown(parts, what, len(parts)))


def _shown(items: Iterable[Item], what: str, total: int, /) -> Iterable[Item]:
    """The items, with a progress bar on a terminal when there are several."""
    console = Console(stderr=True)
    quiet = total < 2 or not console.is_terminal
    return track(items, what, total, console=console, transient=True, disable=quiet)


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


def _targets(output: Path, names: Sequence[str]) -> list[Path]:
    """Where each picture goes: `output` itself, or files in it that are named apart."""
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


def _parsed_size(text: str | None) -> tuple[int, int] | None:
    return None if text is None else parse_size(text)
