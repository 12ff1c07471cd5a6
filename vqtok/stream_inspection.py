"""What `vqtok inspect` shows of a bitstream."""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table

from vqtok.bitstream import AUTO, NUMBERS, BitstreamReader, ScannedChunk, StreamHeader
from vqtok.bitstream.coders import AUTO_NUMBER
from vqtok.bitstream.layout import MAGIC, MAJOR
from vqtok.errors import BitstreamDamaged

MOST_CHUNKS = 20


def is_stream(path: Path) -> bool:
    """Whether a file is a bitstream, by its name or its first bytes."""
    if path.suffix == ".vqt" or not path.is_file():
        return path.suffix == ".vqt"
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def describe_stream(path: Path) -> tuple[RenderableType, BitstreamDamaged | None]:
    """Tables about a bitstream, every checksum verified but that of the tokens, which need the
    model's tables; and the first damage, if there is any.

    Raises:
        MalformedBody, BitstreamUnsupported: there is no header to show.
    """
    chunks: list[ScannedChunk] = []
    damage: BitstreamDamaged | None = None
    with path.open("rb") as file:
        reader = BitstreamReader(file)
        try:
            chunks.extend(reader.scan())
        except BitstreamDamaged as error:
            damage = error
    damaged = [chunk.damage for chunk in chunks if chunk.damage is not None]
    rows = _header_rows(reader.header) | _sums(reader.header, chunks, path.stat().st_size)
    if damage is not None:
        damaged.append(damage)
    rows["state"] = "; ".join(each.detail for each in damaged) or "whole"
    return Group(_rows(rows), _chunks(chunks)), damaged[0] if damaged else None


def _header_rows(header: StreamHeader) -> dict[str, str]:
    coder = AUTO if header.coder == AUTO_NUMBER else _coder(header.coder)
    tables = [f"{_coder(number)} {table}" for number, table in header.table_ids.items()]
    return {
        "version": f"{MAJOR}.{header.minor}",
        "model": header.model or "not stated",
        "codebook id": (header.codebook_id or "not stated")[:12],
        "tokenizer id": (header.tokenizer_id or "not stated")[:12],
        "preprocess": header.preprocess or "not stated",
        "codebook": f"{header.codebook_size} codes, {header.depth} a cell",
        "coder": coder,
        "tables": ", ".join(tables) or "none",
        **({"runtime": header.runtime} if header.runtime else {}),
    }


def _sums(header: StreamHeader, chunks: list[ScannedChunk], num_bytes: int) -> dict[str, str]:
    images = sum(chunk.header.num_images for chunk in chunks)
    rows = {
        "chunks": f"{len(chunks):,}",
        "images": f"{images:,}",
        "tokens": f"{sum(chunk.header.num_tokens(header.depth) for chunk in chunks):,}",
        "bytes": f"{num_bytes:,}",
    }
    if images:
        payload = 8 * sum(chunk.header.payload_bytes for chunk in chunks) / images
        rows["bits an image"] = f"{8 * num_bytes / images:.1f}, {payload:.1f} of them tokens"
    return rows


def _chunks(chunks: list[ScannedChunk]) -> Table:
    table = Table("chunk", "images", "grid", "coder", "bytes", "bits an image", "state")
    table.title = "Chunks"
    for chunk in chunks[:MOST_CHUNKS]:
        header, place = chunk.header, chunk.place
        table.add_row(
            str(chunk.index),
            str(header.num_images),
            " x ".join(map(str, header.grid)),
            _coder(header.coder),
            f"{place.num_bytes:,}",
            f"{8 * place.num_bytes / header.num_images:.1f}",
            "whole" if chunk.damage is None else "damaged",
        )
    if len(chunks) > MOST_CHUNKS:
        table.add_row(f"and {len(chunks) - MOST_CHUNKS} more", *[""] * 6)
    return table


def _rows(rows: dict[str, str]) -> Table:
    table = Table(title="Bitstream", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _coder(number: int) -> str:
    return NUMBERS.get(number, f"number {number}")
