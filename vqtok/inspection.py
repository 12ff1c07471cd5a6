"""What `vqtok inspect` shows."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from rich.console import Group, RenderableType
from rich.table import Table

from vqtok.bundle import Bundle
from vqtok.statistics import codebook_distances, effective_dimension, summarise
from vqtok.token_files import read_tokens

MOST_ITEMS = 20


def describe(path: Path) -> RenderableType:
    """Tables about a bundle's folder, every digest verified, or about a file of tokens.

    Raises:
        BundleError: a folder that is no sound bundle.
        InvalidInput: a file that holds no tokens.
    """
    return _describe_bundle(path) if path.is_dir() else _describe_tokens(path)


def _describe_bundle(folder: Path) -> RenderableType:
    bundle = Bundle.open(folder)
    manifest = bundle.manifest
    height, width = manifest.image.native_size
    rows = {
        "name": manifest.full_name,
        "method": manifest.method,
        "native image": f"{height} x {width}, factor {manifest.image.factor}",
        "grid": _times(manifest.grid),
        "codebook": f"{manifest.codebook_size} codes of {manifest.code_dim} dimensions",
        "encoder outputs": ", ".join(manifest.outputs),
        "precision": manifest.precision,
        "codebook id": manifest.codebook_id.short,
        "tokenizer id": manifest.tokenizer_id.short,
        "schema": manifest.schema_version,
        "files": ", ".join(sorted(manifest.digests)),
    }
    codebook = _codebook_rows(bundle) | _drift_rows(bundle)
    tables = [_table("Bundle", rows), _table("Codebook", codebook)]
    for title in ("metrics", "parity", "memory", "provenance"):
        figures = getattr(manifest, title)
        if figures:
            tables.append(_table(title.capitalize(), dict(_flat(figures))))
    return Group(*tables)


def _codebook_rows(bundle: Bundle) -> dict[str, str]:
    depth = bundle.manifest.depth
    tables = bundle.codebook.reshape(depth, *bundle.codebook.shape[-2:])
    rows: dict[str, str] = {}
    for level, (table, counts) in enumerate(
        zip(tables, bundle.reference.usage.reshape(depth, -1), strict=True)
    ):
        usage, distances = summarise(counts), codebook_distances(table)
        prefix = f"level {level}: " if depth > 1 else ""
        rows[f"{prefix}training tokens"] = f"{usage.num_tokens:,}"
        rows[f"{prefix}codes used"] = f"{usage.used_codes} of {usage.codebook_size}"
        if usage.perplexity is not None:
            rows[f"{prefix}perplexity"] = f"{usage.perplexity:.1f} (training tokens)"
        rows[f"{prefix}nearest neighbour"] = (
            f"min {distances.nearest_min:.4g}, median {distances.nearest_median:.4g}"
        )
        rows[f"{prefix}duplicates"] = str(distances.duplicates)
        dimension = effective_dimension(table, counts)
        if dimension.participation_ratio is not None:
            rows[f"{prefix}effective dimension"] = (
                f"{dimension.participation_ratio:.1f} of {dimension.code_dim}"
            )
    return rows


def _drift_rows(bundle: Bundle) -> dict[str, str]:
    drift = bundle.reference.drift_reference()
    if drift.null is None:
        return {"drift": "never calibrated (`vqtok calibrate`)"}
    least, most = drift.null.range
    tokens = f"{int(drift.usage.counts[0].sum()):,}"
    origin = "training" if drift.source == "training" else "an operator's images"
    return {"drift": f"windows of {least} to {most} images, against {tokens} tokens of {origin}"}


def _describe_tokens(path: Path) -> RenderableType:
    batch, names = read_tokens(path)
    images = batch.images
    rows = {
        "model": batch.model or "not stated",
        "codebook id": (batch.codebook_id or "not stated")[:12],
        "tokenizer id": (batch.tokenizer_id or "not stated")[:12],
        "preprocess": batch.preprocess or "not stated",
        "images": str(len(images)),
        "tokens": f"{sum(item.tokens.size for item in images):,}",
        "dtype": ", ".join(sorted({str(item.tokens.dtype) for item in images})),
    }
    items = Table("name", "grid", "size (height x width)", "different codes", title="Images")
    for name, item in list(zip(names, images, strict=True))[:MOST_ITEMS]:
        size = _times(item.size) if item.size else "the whole grid"
        items.add_row(name, _times(item.grid), size, str(len(set(item.tokens.ravel().tolist()))))
    if len(images) > MOST_ITEMS:
        items.add_row(f"and {len(images) - MOST_ITEMS} more", "", "", "")
    return Group(_table("Tokens", rows), items)


def _table(title: str, rows: dict[str, str]) -> Table:
    table = Table(title=title, show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _times(sides: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in sides)


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names with dots in place of nested objects."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(cast("Mapping[str, Any]", value), f"{prefix}{name}.")
        else:
            yield prefix + name, f"{value:.6g}" if isinstance(value, float) else str(value)
