"""The table of a diffusion prior's terms."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.tables import markdown_table

HEAD = (
    "T",
    "steps",
    "bits at most",
    "of tokens",
    "of the start",
    "of the steps",
    "KL(p_T, N)",
    "distance",
    "T2 / R",
    "T3 / R",
)
"""The columns: the bound and its three parts, KL(p_T || N(0, 1)) of Gaussian moments, the sliced
Wasserstein distance of samples, the two terms of paper 2506.00849 for R = 1 in nats."""


def terms_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of rows of `TimeTerms`; no distance where there were too few images."""
    return markdown_table(HEAD, [_cells(row) for row in rows])


def _cells(row: Mapping[str, Any]) -> list[str]:
    distance = f"{row['distance']:.4f} ± {row['distance_error']:.4f}"
    return [
        f"{row['time']:.1f}",
        str(row["passes"]),
        f"{row['bits_per_image']:.2f} ± {1.96 * row['standard_error']:.2f}",
        f"{row['token_bits']:.2f}",
        f"{row['start_bits']:.3f}",
        f"{row['step_bits']:.2f}",
        f"{row['gaussian_start_bits']:.3f}",
        distance if row["distance"] else "–",
        f"{row['encoder_term']:.3f}",
        f"{row['generator_term']:.3f}",
    ]
