"""`card.md`: what a bundle is, how it was made, what it reaches, and what it does not."""

import re
from collections.abc import Sequence

from training.bits import bits_sentence
from training.tables import METHODS, SOURCES, Row, results_table
from vqtok.manifest import Manifest

CARD_FILE = "card.md"

LICENCES = {
    "cifar10": (
        "CIFAR-10 has no formal licence; its author asks to cite A. Krizhevsky, *Learning "
        "Multiple Layers of Features from Tiny Images*, 2009. It is a subset of 80 Million Tiny "
        "Images, which its authors withdrew in 2020."
    ),
}


def verdict(own: Row, others: Sequence[Row]) -> str:
    """One sentence that says first which method has the lower error; empty without another."""
    if not all("mse" in row.figures for row in (own, *others)) or not others:
        return ""
    rival = min(others, key=lambda row: row.figures["mse"])
    ratio = rival.figures["mse"] / own.figures["mse"]
    same = "with the same network, start and number of steps"
    if ratio < 1.0:
        return (
            f"**{rival.label} {same} has the lower error: its MSE is {1.0 - ratio:.1%} below that "
            f"of {own.label}.**"
        )
    return f"{own.label} has an MSE {1.0 - 1.0 / ratio:.1%} below that of {rival.label} {same}."


def card(
    manifest: Manifest,
    own: Row,
    others: Sequence[Row],
    searched: Sequence[Row],
    command: str,
    note: str = "",
) -> str:
    """The whole card; `searched`: the runs that settings were chosen by, on validation images.

    `note` is what its author says beside the verdict.
    """
    data = own.settings["data"]["kind"]
    sections = [
        f"# {manifest.name}, version {manifest.version}",
        verdict(own, others),
        note,
        _what(manifest),
        "![Originals above reconstructions](reconstructions.png)",
        _figures(own, others),
        _photographs(manifest),
        _search(searched),
        bits_sentence(manifest),
        _training(manifest, own, command),
        _parity(manifest),
        _limits(manifest),
        "## Data\n\n" + LICENCES.get(data, f"The images of `{own.settings['data']['folder']}`."),
    ]
    return "\n\n".join(part for part in sections if part) + "\n"


def with_prior(text: str, manifest: Manifest) -> str:
    """A card with its section on the prior anew, before the one on training or at the end."""
    kept = re.sub(r"## Prior\n.*?(?=^## |\Z)", "", text, flags=re.DOTALL | re.MULTILINE)
    before, title, after = kept.rstrip("\n").partition("## Training\n")
    parts = [before.rstrip("\n"), _prior(manifest), title + after]
    return "\n\n".join(part for part in parts if part) + "\n"


def _prior(manifest: Manifest) -> str:
    spec = manifest.prior
    if spec is None:
        return ""
    origin = spec.provenance
    bits = origin.get("test", origin["validation"])["bits_per_image"]
    height, width = manifest.image.native_size
    held_out = "test" if "test" in origin else "validation"
    return (
        f"## Prior\n\n{spec.kind.capitalize()}, {spec.parameters:,} parameters, "
        f"{origin['images']:,} images seen ({origin['steps']:,} steps, "
        f"{origin['seconds'] / 60:.0f} minutes on {origin['hardware']}, commit "
        f"`{origin['commit']}`). It reveals a grid by {spec.schedule}, in "
        f"{max(spec.groups) + 1} passes, and takes {bits:.1f} bits an image "
        f"({bits / (height * width):.3f} a pixel) over the {held_out} images, no label given."
    )


def _method(manifest: Manifest) -> str:
    source = SOURCES.get(manifest.method)
    name = METHODS.get(manifest.method, manifest.method)
    return f"{name} ({source})" if source else name


def _what(manifest: Manifest) -> str:
    height, width = manifest.image.native_size
    tokens = " × ".join(map(str, manifest.grid))
    bits = (manifest.codebook_size - 1).bit_length()
    return (
        f"{_method(manifest)}: an image of {height} × {width} "
        f"becomes {tokens} tokens of {manifest.codebook_size} codes ({bits} bits each), code_dim "
        f"{manifest.code_dim}, {manifest.image.factor} × {manifest.image.factor} pixels a "
        f"{'token' if manifest.depth == 1 else 'cell'}. "
        f"Any height and width will do.\n\n`codebook_id` `{manifest.codebook_id.short}` · "
        f"`tokenizer_id` `{manifest.tokenizer_id.short}`"
    )


def _figures(own: Row, others: Sequence[Row]) -> str:
    if "mse" not in own.figures:
        return ""
    return (
        "## Figures\n\nOver all test images, from the exported graphs' uint8 pixels, MSE on [0, "
        "1]. Perplexity is hard and pooled over the set; the soft figures are PyTorch's.\n\n"
        + results_table([own, *others])
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
    test = manifest.metrics.get("test", {})
    mean = f", beside the test images' mean of {test['psnr']:.2f} dB" if "psnr" in test else ""
    return (
        f"Photographs at their own size{mean}:\n\n" + "\n".join(lines) + "\n\n"
        "![Photographs and their reconstructions](photographs.png)"
    )


def _search(searched: Sequence[Row]) -> str:
    if not searched:
        return ""
    kept = searched[0].settings["data"]["validation_images"]
    return (
        f"## How the settings were chosen\n\nOn the last {kept:,} training images, which these "
        "runs did not train on; the test images were not looked at.\n\n" + results_table(searched)
    )


def _training(manifest: Manifest, own: Row, command: str) -> str:
    origin = manifest.provenance
    return (
        f"## Training\n\n{origin['epochs']:g} epochs over {origin['training_images']:,} images "
        f"({origin['steps']:,} steps), seed {origin['seed']}, {origin['seconds'] / 60:.0f} minutes "
        f"on {origin['hardware']}, commit `{origin['commit']}`; `config.toml` has every "
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
