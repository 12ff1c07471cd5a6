"""`card.md`: what a bundle is, how it was made, what it reaches, and what it does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.pictures import SHOWN, cell
from vqtok.manifest import Manifest

METHODS = {
    "gmvq": "GM-VQ (arXiv 2410.10180)",
    "vq": "VQ-VAE (van den Oord et al. 2017)",
    "vq_ema": "VQ-VAE with moving averages",
}
LICENCES = {
    "cifar10": (
        "CIFAR-10 has no formal licence; its author asks to cite A. Krizhevsky, *Learning "
        "Multiple Layers of Features from Tiny Images*, 2009. It is a subset of 80 Million Tiny "
        "Images, which its authors withdrew in 2020."
    ),
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
    """A run in a table: what it is, and figures by name."""

    method: str
    settings: Mapping[str, Any]
    figures: Mapping[str, Any]
    seconds: float

    @staticmethod
    def of_result(result: Mapping[str, Any], split: str) -> "Row":
        settings = result["settings"]
        method = settings["model"]["method"]
        return Row(method, settings, result["metrics"][split], result["seconds"])


def results_table(rows: Sequence[Row]) -> str:
    """A Markdown table of runs, best MSE first."""
    head = [
        "method",
        "code_dim",
        "learning rate",
        "epochs",
        *(SHOWN[c][0] for c in COLUMNS),
        "minutes",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in sorted(rows, key=lambda row: row.figures["mse"]):
        settings = row.settings
        cells = [
            METHODS.get(row.method, row.method).split(" (")[0],
            str(settings["model"]["quantizer"]["code_dim"]),
            f"{settings['optimiser']['learning_rate']:g}",
            str(settings["schedule"]["epochs"]),
            *(cell(row.figures, c) for c in COLUMNS),
            f"{row.seconds / 60:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdict(own: Row, others: Sequence[Row]) -> str:
    """One sentence that says first which method has the lower error."""
    better = [row for row in others if row.figures["mse"] < own.figures["mse"]]
    if not others:
        return ""
    name = METHODS.get(own.method, own.method).split(" (")[0]
    if better:
        best = min(better, key=lambda row: row.figures["mse"])
        rival = METHODS.get(best.method, best.method).split(" (")[0]
        share = 1.0 - best.figures["mse"] / own.figures["mse"]
        return (
            f"**{rival} with the same network, start and number of steps has the lower error: "
            f"its MSE is {share:.1%} below {name}'s.**"
        )
    next_best = min(others, key=lambda row: row.figures["mse"])
    rival = METHODS.get(next_best.method, next_best.method).split(" (")[0]
    share = 1.0 - own.figures["mse"] / next_best.figures["mse"]
    return (
        f"With the same network, start and number of steps, {name}'s MSE is {share:.1%} below "
        f"{rival}'s."
    )


def card(
    manifest: Manifest, own: Row, others: Sequence[Row], searched: Sequence[Row], command: str
) -> str:
    """The whole card; `searched`: the runs that settings were chosen by, on validation images."""
    data = own.settings["data"]["kind"]
    sections = [
        f"# {manifest.name}, version {manifest.version}",
        verdict(own, others),
        _what(manifest),
        "![Originals above reconstructions](reconstructions.png)",
        "## Figures\n\nOver all test images, from the exported graphs' uint8 pixels, MSE on [0, "
        "1]. Perplexity is hard and pooled over the set; the soft figures are PyTorch's.\n\n"
        + results_table([own, *others]),
        _photographs(manifest),
        _search(searched),
        _training(manifest, own, command),
        _parity(manifest),
        _limits(manifest),
        "## Data\n\n" + LICENCES.get(data, f"The images of `{own.settings['data']['folder']}`."),
    ]
    return "\n\n".join(part for part in sections if part) + "\n"


def _what(manifest: Manifest) -> str:
    height, width = manifest.image.native_size
    tokens = " × ".join(map(str, manifest.grid))
    bits = manifest.codebook_size.bit_length() - 1
    return (
        f"{METHODS.get(manifest.method, manifest.method)}: an image of {height} × {width} "
        f"becomes {tokens} tokens of {manifest.codebook_size} codes ({bits} bits each), code_dim "
        f"{manifest.code_dim}, {manifest.image.factor} × {manifest.image.factor} pixels a token. "
        f"Any height and width will do.\n\n`codebook_id` `{manifest.codebook_id.short}` · "
        f"`tokenizer_id` `{manifest.tokenizer_id.short}`"
    )


def _limits(manifest: Manifest) -> str:
    height, width = manifest.image.native_size
    return (
        f"## Limits\n\nIt learned from images of {height} × {width} alone. Larger ones are cut "
        "into tokens by the same convolutions, so a token never stands for more than its few "
        "pixels: text and fine patterns blur. The margin of a token says how near the second-best "
        "code was, and is no probability."
    )


def _photographs(manifest: Manifest) -> str:
    photographs = manifest.metrics.get("photographs", {})
    if not photographs:
        return ""
    lines = [f"- {name}: {figures['psnr']:.2f} dB" for name, figures in photographs.items()]
    return (
        "Photographs at their own size, beside the test images' mean of "
        f"{manifest.metrics['test']['psnr']:.2f} dB:\n\n" + "\n".join(lines) + "\n\n"
        "![Photographs and their reconstructions](photographs.png)"
    )


def _search(searched: Sequence[Row]) -> str:
    if not searched:
        return ""
    return (
        "## How the settings were chosen\n\nOn the last 5,000 training images, which these runs "
        "did not train on; the test images were not looked at.\n\n" + results_table(searched)
    )


def _training(manifest: Manifest, own: Row, command: str) -> str:
    origin = manifest.provenance
    return (
        f"## Training\n\n{origin['epochs']} epochs over {origin['training_images']:,} images "
        f"({origin['steps']:,} steps), seed {origin['seed']}, {own.seconds / 60:.0f} minutes on "
        f"{origin['hardware']}, commit `{origin['commit']}`; `config.toml` has every "
        f"setting.\n\n```\n{command}\n```"
    )


def _parity(manifest: Manifest) -> str:
    parity = manifest.parity
    return (
        f"## ONNX against PyTorch\n\nOver {parity['images']:,} images "
        f"{parity['differing_tokens']:.4%} of the tokens differ, all near-ties (largest relative "
        f"gap {parity['largest_gap']:.1e}); pixels from the same tokens differ by at most "
        f"{parity['pixel_difference']}/255. Peak memory: "
        f"{manifest.memory['encoder_bytes_per_pixel']:.0f} bytes a pixel to encode, "
        f"{manifest.memory['decoder_bytes_per_pixel']:.0f} to decode."
    )
