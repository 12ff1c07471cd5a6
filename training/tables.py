"""Tables of runs, best first, for cards and reports."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.quantizers import build_quantizer
from training.pictures import SHOWN, cell

METHODS = {
    "gmvq": "GM-VQ",
    "vq": "VQ-VAE",
    "vq_ema": "VQ-VAE, moving averages",
    "sqvae": "SQ-VAE",
    "gumbel": "Gumbel-VQVAE",
    "em": "EM soft VQ-VAE",
    "fsq": "FSQ",
    "ibq": "IBQ",
    "simvq": "SimVQ",
    "rvq": "Residual VQ",
}
SOURCES = {
    "gmvq": "arXiv 2410.10180",
    "vq": "van den Oord et al. 2017",
    "vq_ema": "van den Oord et al. 2017, appendix A.1",
    "sqvae": "Takida et al. 2022",
    "gumbel": "Esser et al. 2021",
    "em": "Roy et al. 2018",
    "fsq": "arXiv 2309.15505",
    "ibq": "arXiv 2412.02692",
    "simvq": "arXiv 2411.02038",
    "rvq": "arXiv 2107.03312",
}
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
    """A run in a table: its settings, its figures by name, and the epochs of the run that it
    started from.
    """

    settings: Mapping[str, Any]
    figures: Mapping[str, Any]
    earlier_epochs: float | None = None

    @staticmethod
    def of_result(result: Mapping[str, Any], split: str) -> "Row":
        """The row of a `result.json`. Raises ValueError when it has no figures of the split."""
        if split not in result["metrics"]:
            raise ValueError(f"the run {result['name']} has no {split} figures")
        start = result.get("start", {}).get("settings")
        earlier = None if start is None else start["schedule"]["epochs"]
        return Row(result["settings"], result["metrics"][split], earlier)

    @property
    def method(self) -> str:
        """The method as people call it."""
        method: str = self.settings["model"]["method"]
        return METHODS.get(method, method)

    @property
    def label(self) -> str:
        """The method, what is added to it, and where a token has one precision instead of D."""
        options = self.settings["model"]["quantizer"]
        scalar = " (scalar precision)" if options.get("precision") == "scalar" else ""
        frozen = (self.settings.get("start") or {}).get("frozen", ())
        kept = f", then with frozen {' and '.join(frozen)}" if frozen else ""
        return " + ".join([self.method, *_additions(options)]) + scalar + kept

    @property
    def code_dim(self) -> int:
        """D, also of methods for which it follows from other options."""
        model = self.settings["model"]
        stated: int | None = model["quantizer"].get("code_dim")
        return stated or build_quantizer(model["method"], model["quantizer"]).code_dim

    def _rates(self) -> str:
        optimiser = self.settings["optimiser"]
        muon: float = optimiser.get("muon_learning_rate", 0.0)
        return f"{optimiser['learning_rate']:g}" + (f", Muon {muon:g}" if muon else "")

    def _epochs(self) -> str:
        epochs = f"{self.settings['schedule']['epochs']:g}"
        return epochs if self.earlier_epochs is None else f"{self.earlier_epochs:g} + {epochs}"

    def cells(self) -> list[str]:
        """The row as text."""
        return [
            self.label,
            str(self.code_dim),
            self._rates(),
            self._epochs(),
            *(cell(self.figures, column) for column in COLUMNS),
        ]


def _additions(options: Mapping[str, Any]) -> list[str]:
    """The options of VQ-VAE that are on, as Table 1 of GM-VQ calls and orders them."""
    affine = options.get("affine", "off")
    inner, share = (bool(options.get(name)) for name in ("inner_rate", "task_share"))
    present = {
        "l2": bool(options.get("normalise")),
        "affine": affine == "learned",
        "affine of statistics": affine == "statistics",
        "OPT": inner and share,
        "inner step": inner and not share,
        "task share": share and not inner,
        "replace": options.get("replace_after") is not None,
    }
    return [name for name, on in present.items() if on]


def results_table(rows: Sequence[Row]) -> str:
    """A Markdown table of runs, best MSE first."""
    labels = [SHOWN[column][0] for column in COLUMNS]
    head = ["method", "code_dim", "learning rate", "epochs", *labels]
    ordered = sorted(rows, key=lambda row: row.figures.get("mse", math.inf))
    return markdown_table(head, [row.cells() for row in ordered])


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars in cells are escaped."""
    lines = [[cell.replace("|", r"\|") for cell in cells] for cells in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
