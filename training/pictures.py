"""What people look at: tables in the terminal, originals beside reconstructions."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

_SHOWN = {
    "mse": ("MSE × 10³", 1e3, ".3f"),
    "psnr": ("PSNR, dB", 1.0, ".2f"),
    "ssim": ("SSIM", 1.0, ".4f"),
    "perplexity": ("perplexity", 1.0, ".0f"),
    "used_codes": ("codes used", 1.0, ".0f"),
    "soft_perplexity": ("soft perplexity", 1.0, ".0f"),
    "posterior_entropy": ("H(c|x), nats", 1.0, ".2f"),
    "mutual_information": ("I(X;Z), nats", 1.0, ".2f"),
}


def metrics_table(metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    """Figures by split, as a table for the terminal."""
    table = Table("figure", *metrics)
    for name, (label, scale, form) in _SHOWN.items():
        cells = [
            format(figures[name] * scale, form) if name in figures else "–"
            for figures in metrics.values()
        ]
        table.add_row(label, *cells)
    return table
