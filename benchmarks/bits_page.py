"""What `benchmarks.bits` measured, as a page.

python -m benchmarks.bits_page docs/results/bits.json
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HOW = (
    "{images:,} test images of CIFAR-10, {tokens} tokens each of {codebook_size} codes of "
    "`{model}`, whose pictures have a mean squared error of {mse:.3f} × 10⁻³. Bits are those of "
    "whole files, headers included, over the number of images. By `{command}` at commit "
    "`{commit}` on {hardware}."
)
CODERS = (
    "Streams of chunks of at most 256 images. The code alone is −log₂ of what the tables give the "
    "tokens; the difference is what headers, checksums and the coder's ends cost. Speeds are of "
    "one core, from tokens to a stream in memory and back."
)
PRIOR = (
    "`prior` runs a network for every image, and can be read on the machine alone that wrote it. "
    "Its figures are of the first {images:,} images, whose tokens by themselves take {beside}."
)
FILES = (
    "JPEG (optimised, 4:2:0) and WebP (method 6) are of the quality whose error is nearest to that "
    "of the tokens. A sheet is a picture of 10 × 10 images, which spares each of them a file's "
    "header; its error and quality are its own."
)
PACKERS = "The same tokens as uint16, all images in one piece."


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page beside the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    path: Path = parser.parse_args(arguments).report
    path.with_suffix(".md").write_text(markdown(json.loads(path.read_text())))
    return 0


def markdown(report: Mapping[str, Any]) -> str:
    """The page."""
    parts = [
        "# Bits an image",
        verdict(report),
        HOW.format(**{**report, "mse": report["mse"] * 1e3}),
        "## Tokens as bitstreams",
        _coders(report),
        CODERS,
        *_prior(report),
        "## Tokens by general packers",
        _packers(report),
        PACKERS,
        "## Image files",
        _files(report),
        FILES,
    ]
    return "\n\n".join(parts) + "\n"


def verdict(report: Mapping[str, Any]) -> str:
    """Which is the shortest, and what it saves: first where it is not ours."""
    # What one machine alone can read is no rival of files that travel.
    measured = {name: each for name, each in report["coders"].items() if each["bits"]}
    portable = {name: each for name, each in measured.items() if name != "prior"}
    coders = {name: each["bits"] for name, each in portable.items()}
    others = {name: each["bits"] for name, each in report["packers"].items()}
    lossy = {name: each for name, each in report["files"].items() if each["mse"]}
    others |= {name: each["bits"] for name, each in lossy.items()}
    others |= {f"{name} in sheets": each["sheet_bits"] for name, each in lossy.items()}
    best = min(coders, key=lambda name: coders[name])
    shorter = [f"{name} ({bits:.0f})" for name, bits in others.items() if bits < coders[best]]
    saved = 1 - coders[best] / coders["packed"]
    ours = f"`{best}` takes {coders[best]:.1f} bits an image, {saved:.1%} less than `packed`"
    if shorter:
        return f"Shorter than any coder of ours: {', '.join(shorter)}. {ours}."
    among = "" if portable == measured else " that other machines can read"
    return f"{ours}; nothing else here{among} is as short."


def _coders(report: Mapping[str, Any]) -> str:
    rows = [
        "| coder | bits an image | the code alone | bits a pixel | tokens/s written | and read |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, each in report["coders"].items():
        if each["bits"] is None:
            rows.append(f"| `{name}` | {each['reason']} | | | | |")
            continue
        rows.append(
            f"| `{name}` | {each['bits']:.1f} | {each['code_length']:.1f} "
            f"| {each['bits'] / report['pixels']:.3f} "
            f"| {each['encoded_tokens_per_second']:,.0f} "
            f"| {each['decoded_tokens_per_second']:,.0f} |"
        )
    return "\n".join(rows)


def _prior(report: Mapping[str, Any]) -> list[str]:
    """What has to be known of the prior's figures, where there are any."""
    found = report["coders"].get("prior", {})
    if not found.get("bits"):
        return []
    beside = ", ".join(f"{bits:.1f} by `{name}`" for name, bits in found["beside"].items())
    return [PRIOR.format(images=found["images"], beside=beside)]


def _packers(report: Mapping[str, Any]) -> str:
    rows = ["| packer | bits an image | by |", "| --- | --- | --- |"]
    for name, each in report["packers"].items():
        rows.append(f"| {name} | {each['bits']:.1f} | {each['by']} |")
    return "\n".join(rows)


def _files(report: Mapping[str, Any]) -> str:
    rows = [
        "| format | bits an image | MSE × 10³ | quality | in sheets: bits | MSE × 10³ | quality |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, each in report["files"].items():
        cells = [name]
        for prefix in ("", "sheet_"):
            cells += [
                f"{each[f'{prefix}bits']:.0f}",
                f"{each[f'{prefix}mse'] * 1e3:.3f}",
                str(each.get(f"{prefix}quality", "lossless")),
            ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
