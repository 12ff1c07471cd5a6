"""The command `vqtok sample`."""

import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vqtok.command_options import (
    IMAGE_FORMATS,
    BundleOption,
    DeviceOption,
    UrlOption,
    open_tokenizer,
    picture_targets,
)
from vqtok.images import write_image
from vqtok.priors import SampleOptions
from vqtok.token_files import SUFFIXES as TOKEN_SUFFIXES
from vqtok.token_files import read_tokens, require_token_file, write_tokens
from vqtok.wire.npy_format import read_array


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
    targets = [] if is_tokens else picture_targets(output, [f"{i:05d}" for i in range(count)])
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
    with open_tokenizer(bundle, url, device) as tokenizer:
        samples = tokenizer.sample(count, **options)
    if is_tokens:
        write_tokens(output, samples.tokens)
    for picture, target in zip(samples.images, targets, strict=False):
        target.write_bytes(write_image(picture, IMAGE_FORMATS[target.suffix.lower()]))
    mean = samples.bits.mean()
    Console(stderr=True).print(f"Seed {chosen}; {mean:.1f} bits an image.", highlight=False)
