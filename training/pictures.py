"""What people look at: tables in the terminal, originals beside reconstructions."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.table import Table

Pixels = NDArray[np.uint8]
WHITE = 255
GAP = 8

SHOWN = {
    "mse": ("MSE × 10³", 1e3, ".3f"),
    "psnr": ("PSNR, dB", 1.0, ".2f"),
    "ssim": ("SSIM", 1.0, ".4f"),
    "perplexity": ("perplexity", 1.0, ".0f"),
    "used_codes": ("codes used", 1.0, ".0f"),
    "soft_perplexity": ("soft perplexity", 1.0, ".0f"),
    "posterior_entropy": ("H(c|x), nats", 1.0, ".2f"),
    "mutual_information": ("I(X;Z), nats", 1.0, ".2f"),
}
"""Figures that people read: label, factor, format."""


def cell(figures: Mapping[str, Any], name: str) -> str:
    """A figure as text; a dash where it was not measured."""
    _, scale, form = SHOWN[name]
    return format(figures[name] * scale, form) if name in figures else "–"


def metrics_table(metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    """Figures by split, as a table for the terminal."""
    table = Table("figure", *metrics)
    for name, (label, _, _) in SHOWN.items():
        table.add_row(label, *(cell(figures, name) for figures in metrics.values()))
    return table


def grid_of_pairs(images: Pixels, others: Pixels, *, columns: int, scale: int) -> Pixels:
    """Originals above reconstructions (N, H, W, 3), `columns` a row, enlarged `scale` times."""
    rows: list[Pixels] = []
    for start in range(0, len(images), columns):
        part = slice(start, start + columns)
        pair = [beside([_enlarged(image, scale) for image in x[part]]) for x in (images, others)]
        rows.append(above(pair, gap=2))
    return above(rows)


def beside(images: Sequence[Pixels], gap: int = GAP) -> Pixels:
    """Images (H, W, 3) in a row, tops aligned, on white."""
    height = max(image.shape[0] for image in images)
    width = sum(image.shape[1] for image in images) + gap * (len(images) - 1)
    canvas = np.full((height, width, 3), WHITE, np.uint8)
    left = 0
    for image in images:
        canvas[: image.shape[0], left : left + image.shape[1]] = image
        left += image.shape[1] + gap
    return canvas


def above(images: Sequence[Pixels], gap: int = GAP) -> Pixels:
    """Images in a column, left sides aligned, on white."""
    turned = beside([image.transpose(1, 0, 2) for image in images], gap)
    return np.ascontiguousarray(turned.transpose(1, 0, 2))


def png(image: Pixels) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _enlarged(image: Pixels, scale: int) -> Pixels:
    return image.repeat(scale, axis=0).repeat(scale, axis=1)
