"""Tables of runs, best first, for cards and reports."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.pictures import SHOWN, cell

METHODS = {"gmvq": "GM-VQ", "vq": "VQ-VAE", "vq_ema": "VQ-VAE, moving averages"}
SOURCES = {"gmvq": "arXiv 2410.10180", "vq": "van den Oord et al. 2017"}
COLUMNS = (
    "mse",
    "psnr",
    "ssim",
    "perplexity",
    "used_codes",
    "soft_perplexity",
    "posterior_entropy",
)


@dataclass(frozen=True)
class Row:
    """A run in a table: its settings, and its figures by name."""

    settings: Mapping[str, Any]
    figures: Mapping[str, Any]

    @staticmethod
    def of_result(result: Mapping[str, Any], split: str) -> "Row":
        """The row of a `result.json`. Raises ValueError when it has no figures of the split."""
        if split not in result["metrics"]:
            raise ValueError(f"the run {result['name']} has no {split} figures")
        return Row(result["settings"], result["metrics"][split])

    @property
    def method(self) -> str:
        """The method as people call it."""
        method: str = self.settings["model"]["method"]
        return METHODS.get(method, method)

    @property
    def label(self) -> str:
        """The method, and where its posterior has one precision a token instead of D."""
        scalar = self.settings["model"]["quantizer"].get("precision") == "scalar"
        return f"{self.method} (scalar precision)" if scalar else self.method

    def cells(self) -> list[str]:
        """The row as text."""
        settings = self.settings
        return [
            self.label,
            str(settings["model"]["quantizer"]["code_dim"]),
            f"{settings['optimiser']['learning_rate']:g}",
            f"{settings['schedule']['epochs']:g}",
            *(cell(self.figures, column) for column in COLUMNS),
        ]


def results_table(rows: Sequence[Row]) -> str:
    """A Markdown table of runs, best MSE first."""
    labels = [SHOWN[column][0].replace("|", r"\|") for column in COLUMNS]
    head = ["method", "code_dim", "learning rate", "epochs", *labels]
    ordered = sorted(rows, key=lambda row: row.figures.get("mse", math.inf))
    lines = [head, ["---"] * len(head), *(row.cells() for row in ordered)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
