"""The command `vqtok compress`."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from vqtok.bitstream import (
    AUTO,
    CHOICES,
    CHUNK_IMAGES,
    PRIOR,
    BitstreamReader,
    ScannedChunk,
    StreamEncoder,
    StreamHeader,
)
from vqtok.command_options import (
    FILES_AT_ONCE,
    BundleOption,
    DeviceOption,
    ImageSizeOption,
    PreprocessOption,
    chosen_bundle,
    image_files,
    parsed_size,
)
from vqtok.errors import BitstreamDamaged, InvalidInput, InvalidTokens, MalformedBody
from vqtok.images import PREPROCESS
from vqtok.pictures import require_mode
from vqtok.token_files import SUFFIXES, read_tokens
from vqtok.tokenizer import Tokenizer, require_codebook
from vqtok.tokens import ImageTokens

PART = ".part"

Named = tuple[ImageTokens, str | None]


def compress(  # noqa: PLR0913 - each is an option of the command
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Image files, or folders of them; or one .npy, .npz or .json of tokens."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The bitstream to write.")],
    bundle: BundleOption = None,
    device: DeviceOption = "auto",
    coder: Annotated[
        str, typer.Option(help=f"One of {', '.join(CHOICES)}; or {PRIOR}, with --machine-bound.")
    ] = AUTO,
    machine_bound: Annotated[
        bool,
        typer.Option(
            "--machine-bound",
            help=f"Take it that a stream of {PRIOR} is read by this runtime and processor alone.",
        ),
    ] = False,
    chunk_images: Annotated[
        int, typer.Option(help="Images a chunk at most, which is what can be read alone.", min=1)
    ] = CHUNK_IMAGES,
    preprocess: PreprocessOption = "pad",
    image_size: ImageSizeOption = None,
) -> None:
    """Write the tokens of images as a bitstream. Interrupted, it goes on where it stood."""
    with Tokenizer.open(chosen_bundle(bundle), device) as tokenizer:

        def encoder_of(header: StreamHeader) -> StreamEncoder:
            return StreamEncoder(
                header,
                tokenizer.coding,
                coder,
                chunk_images=chunk_images,
                machine_bound=machine_bound,
            )

        if len(sources) == 1 and sources[0].suffix in SUFFIXES:
            header, items, total = _of_tokens(sources[0], tokenizer)
            _write(output, encoder_of(header), items, total)
            return
        files, size = list(image_files(sources)), parsed_size(image_size)
        encoder = encoder_of(_header(tokenizer, preprocess))

        def items_from(first: int) -> Iterator[Named]:
            for start in range(first, len(files), FILES_AT_ONCE):
                some = files[start : start + FILES_AT_ONCE]
                batch = tokenizer.encode(some, preprocess, image_size=size)
                yield from zip(batch.images, (file.name for file in some), strict=True)

        names = [file.name for file in files]
        done = _resume(output, encoder, names, _one_size(tokenizer, preprocess, size))
        _write(output, encoder, items_from(done), len(files), done)


def _one_size(
    tokenizer: Tokenizer, preprocess: str, image_size: tuple[int, int] | None
) -> tuple[int, int] | None:
    """The size that all images are brought to; None where they keep their own."""
    require_mode(preprocess)
    if PREPROCESS[preprocess].keeps_size:
        return None
    return image_size or tokenizer.info.native_size


def _header(tokenizer: Tokenizer, preprocess: str | None) -> StreamHeader:
    info = tokenizer.info
    return StreamHeader(
        codebook_size=info.codebook_size,
        depth=info.depth,
        model=f"{info.name}@{info.version}",
        codebook_id=info.codebook_id,
        tokenizer_id=info.tokenizer_id,
        preprocess=preprocess,
    )


def _of_tokens(path: Path, tokenizer: Tokenizer) -> tuple[StreamHeader, Iterator[Named], int]:
    """Tokens of a file; those of an .npy are read as they are needed, and are the bundle's own."""
    if path.suffix == ".npy":
        array = _mapped(path, tokenizer.info.depth)
        header = _header(tokenizer, None)
        return header, ((ImageTokens(np.asarray(each)), None) for each in array), len(array)
    batch, names = read_tokens(path)
    require_codebook(tokenizer.info.codebook_id, batch.codebook_id)
    header = _header(tokenizer, batch.preprocess)
    return header, zip(batch.images, names, strict=True), len(names)


def _mapped(path: Path, depth: int) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidTokens(f"{path} is no array of tokens: {error}.") from error
    if array.ndim != 3 + (depth > 1):
        raise InvalidTokens(
            f"{path} holds an array of shape {array.shape}, not (N, h, w"
            f"{f', {depth}' if depth > 1 else ''})."
        )
    return array


def _write(
    output: Path, encoder: StreamEncoder, items: Iterator[Named], total: int, done: int = 0
) -> None:
    """Write the stream beside its place, and put it there when it is whole."""
    part = output.with_name(output.name + PART)
    console = Console(stderr=True)
    with (
        part.open("ab" if done else "wb") as file,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("compressing", total=total, completed=done)
        if not done:
            file.write(encoder.start())
        for item, name in items:
            piece = encoder.add(item, name)
            file.write(piece)
            if piece:
                file.flush()
            progress.advance(task)
        file.write(encoder.finish())
        file.flush()
        os.fsync(file.fileno())
    part.replace(output)


def _resume(
    output: Path, encoder: StreamEncoder, names: Sequence[str], size: tuple[int, int] | None
) -> int:
    """How many of the images an interrupted run has left behind; the broken rest is cut off. None
    of them count when it was about other images, ids or options.
    """
    if not output.absolute().parent.is_dir():
        raise InvalidInput(f"{output} cannot be written: there is no folder {output.parent}.")
    part = output.with_name(output.name + PART)
    if not part.is_file():
        return 0
    with part.open("r+b") as file:
        chunks = _whole_chunks(file, encoder.header)
        kept = [name for chunk in chunks for name in chunk.header.names]
        sizes = {each for chunk in chunks for each in chunk.header.sizes}
        if not kept or kept != names[: len(kept)] or (size is not None and sizes != {size}):
            return 0
        places = [chunk.place for chunk in chunks]
        file.truncate(places[-1].offset + places[-1].num_bytes)
    encoder.go_on_after((place.num_images, place.num_bytes) for place in places)
    return len(kept)


def _whole_chunks(file: BinaryIO, header: StreamHeader) -> list[ScannedChunk]:
    chunks: list[ScannedChunk] = []
    try:
        reader = BitstreamReader(file)
        if reader.header != header:
            return []
        for chunk in reader.scan():
            if chunk.damage is not None:
                break
            chunks.append(chunk)
    except BitstreamDamaged:
        pass
    except MalformedBody:
        return []
    return chunks
