"""The command `vqtok decompress`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from vqtok.bitstream import (
    CODERS,
    PRIOR,
    BitstreamReader,
    Chunk,
    ChunkHeader,
    CoderTables,
    CodingPrior,
)
from vqtok.bundle import Bundle
from vqtok.command_options import (
    DEFAULT_BUNDLE,
    IMAGE_FORMATS,
    BundleOption,
    DeviceOption,
    chosen_bundle,
)
from vqtok.compressing import PART
from vqtok.errors import BitstreamDamaged, InvalidParameter, NotAcceptable
from vqtok.images import write_image
from vqtok.tokenizer import Tokenizer
from vqtok.tokens import TokenBatch, token_dtype


def decompress(
    stream: Annotated[Path, typer.Argument(help="A bitstream, as `vqtok compress` writes it.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="A folder for the pictures; or an .npy for the tokens."
        ),
    ],
    bundle: BundleOption = None,
    device: DeviceOption = "auto",
    suffix: Annotated[
        str, typer.Option(help=f"The pictures' format: one of {', '.join(IMAGE_FORMATS)}.")
    ] = ".png",
    quality: Annotated[int, typer.Option(help="1 .. 100, for WebP and JPEG.")] = 90,
    resume: Annotated[
        bool, typer.Option("--resume", help="Pass over chunks all of whose pictures are there.")
    ] = False,
) -> None:
    """Write the pictures of a bitstream, or its tokens. A damaged one gives what lies before."""
    if suffix not in IMAGE_FORMATS:
        raise InvalidParameter(f"suffix is one of {', '.join(IMAGE_FORMATS)}, not {suffix!r}.")
    with stream.open("rb") as file:
        if output.suffix == ".npy":
            _write_tokens(file, output, bundle, device)
        else:
            with Tokenizer.open(chosen_bundle(bundle), device) as tokenizer:
                _write_pictures(file, output, tokenizer, (suffix, quality), resume=resume)


def _write_tokens(file: BinaryIO, output: Path, bundle: Path | None, device: str) -> None:
    """All tokens as one array, which is filled chunk by chunk."""
    own = bundle or (DEFAULT_BUNDLE if DEFAULT_BUNDLE.is_dir() else None)
    opened = None if own is None else Bundle.open(own)
    is_bound = BitstreamReader(file).header.coder == CODERS[PRIOR].number
    file.seek(0)
    reader = BitstreamReader(
        file,
        tables=None if opened is None else CoderTables.of(opened.reference),
        prior=_prior(own, device) if own is not None and is_bound else None,
        codebook_id=opened.manifest.codebook_id if opened and bundle else None,
    )
    headers = [chunk.header for chunk in reader.scan()]
    grids = {header.grid for header in headers}
    if len(grids) != 1:
        raise NotAcceptable(
            f"One npy array carries tokens of one grid, and the bitstream has {len(grids)}: name a "
            "folder for the pictures."
        )
    total = sum(header.num_images for header in headers)
    depth = (reader.header.depth,) if reader.header.depth > 1 else ()
    part = output.with_name(output.name + PART)
    array = np.lib.format.open_memmap(
        part,
        mode="w+",
        dtype=token_dtype(reader.header.codebook_size).newbyteorder("<"),
        shape=(total, *grids.pop(), *depth),
    )
    for chunk in _shown(reader.chunks(), total):
        array[chunk.first_image : chunk.first_image + len(chunk.tokens)] = chunk.tokens
    array.flush()
    part.replace(output)


def _prior(bundle: Path, device: str) -> CodingPrior | None:
    """The learned prior of a bundle. To read tokens takes no runtime otherwise."""
    with Tokenizer.open(bundle, device) as tokenizer:
        return tokenizer.coding.prior


def _write_pictures(
    file: BinaryIO,
    output: Path,
    tokenizer: Tokenizer,
    written_as: tuple[str, int],
    *,
    resume: bool,
) -> None:
    suffix, quality = written_as
    reader = BitstreamReader(
        file,
        tables=tokenizer.coding.tables,
        prior=tokenizer.coding.prior,
        codebook_id=tokenizer.info.codebook_id,
    )
    output.mkdir(parents=True, exist_ok=True)
    names, labels = _Names(suffix), (None, reader.header.codebook_id, None, None)
    for chunk in _shown(reader.chunks(), _total(reader)):
        targets = [output / name for name in names.of(chunk.header, chunk.first_image)]
        if resume and all(target.is_file() for target in targets):
            continue
        pictures = tokenizer.decode(TokenBatch(*labels, tuple(chunk.images)))
        for picture, target in zip(pictures, targets, strict=True):
            # A half-written picture must not pass for one that is there.
            part = target.with_name(target.name + PART)
            part.write_bytes(write_image(picture, IMAGE_FORMATS[suffix], quality))
            part.replace(target)


def _total(reader: BitstreamReader) -> int | None:
    """How many images there are; None where the end is missing."""
    try:
        return sum(place.num_images for place in reader.index())
    except BitstreamDamaged:
        return None


class _Names:
    """Names of files, the same in every run: those of the images, told apart by their number."""

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._used = set[str]()

    def of(self, header: ChunkHeader, first_image: int) -> list[str]:
        """A name for each image of a chunk."""
        known = header.names or [""] * header.num_images
        return [self._one(name, first_image + i) for i, name in enumerate(known)]

    def _one(self, name: str, number: int) -> str:
        plain = re.sub(r"[^\w.-]", "_", Path(name).stem).lstrip(".")[:120]
        if not plain or plain in self._used:
            plain = f"{number:06d}-{plain}".rstrip("-")
        self._used.add(plain)
        return plain + self._suffix


def _shown(chunks: Iterator[Chunk], total: int | None) -> Iterator[Chunk]:
    """The chunks, with a progress bar on a terminal that counts their images."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("decompressing", total=total)
        for chunk in chunks:
            yield chunk
            progress.advance(task, len(chunk.tokens))
