"""Three ways in which GM-VQ goes wrong, and the test that shows it where the loss does not.

1. The printed latent regulariser, E |z - μ_c|² under q(c) q(z|x), pulls all codes onto their mean.
2. Without the k-means start few codes are near any vector.
3. Codes that fit nothing let the amplitude of the noise carry the image: z = μ_j + σ_j ε tells the
   decoder σ_j, a continuous number a token, which evaluation does not have. The training error
   looks well.

The leak test decodes sampled codes with their own noise, with the noise of other tokens, and with
none. Where all three errors agree, the codes carry the image.

    python -m examples.pitfalls --epochs 0.2 --output runs/pitfalls

It reads CIFAR-10 below `VQTOK_DATA`, and goes on with the runs that the folder holds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from examples.short_runs import markdown_table, parse, run, settings_with, write_results
from models import Autoencoder, Noise, Progress, load
from models.quantizers.base import to_grid, to_tokens
from training.data import Part, load_splits
from training.data.batches import to_pixels, whole_batches

VARIANTS: dict[str, dict[str, Any]] = {
    "commit": {},
    "literal": {"model.quantizer.regulariser": "literal"},
    "no k-means": {"schedule.kmeans_vectors": 0},
}
LEAK_IMAGES, BATCH = 1_000, 100


@torch.no_grad()
def leak_test(model: Autoencoder, images: Part) -> dict[str, float]:
    """MSE of sampled codes with their own noise, with other tokens' noise, and with none.

    To give a token another's σ and ε is to permute σ alone, since all ε are drawn alike.
    """
    model.eval().quantizer.train()
    errors = {"own": 0.0, "permuted": 0.0, "none": 0.0}
    part = Part(images.images, images.start, min(images.start + LEAK_IMAGES, images.stop))
    for number, batch in enumerate(whole_batches(part, BATCH)):
        pixels = to_pixels(torch.from_numpy(batch))
        seen = torch.arange(len(batch)) + number * BATCH
        quantized = model.quantizer(model.encoder(pixels), Progress(0, 1, Noise(0, 0, seen)))
        codes = model.quantizer.lookup(quantized.indices)
        noise = quantized.z_q - codes
        tokens = to_tokens(noise)
        order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(number))
        added = {"own": noise, "permuted": to_grid(tokens[order], noise), "none": 0.0}
        for name, part_noise in added.items():
            x_hat = model.decoder(codes + part_noise).clamp(0.0, 1.0)
            errors[name] += float((x_hat - pixels).square().sum())
    model.eval()
    count = len(part) * part[0].size
    return {name: error / count for name, error in errors.items()}


def experiment(changes: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """A run of each variant and its leak test on validation images."""
    runs: list[dict[str, Any]] = []
    for name, change in VARIANTS.items():
        chosen = {**changes, **change}
        folder = name.replace(" ", "-")
        figures = run(folder, chosen, output)
        images = load_splits(settings_with(chosen).data).validation
        runs.append({**figures, "name": name, "leak": leak_test(load(output / folder), images)})
    return {"runs": runs}


def page(result: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    rows = [
        [
            each["name"],
            f"{1e3 * each['mse']:.2f}",
            *(f"{each[name]:.1f}" for name in ("perplexity", "soft_perplexity")),
            *(f"{1e3 * each['leak'][name]:.2f}" for name in ("own", "permuted", "none")),
        ]
        for each in result["runs"]
    ]
    head = ["variant", "MSE × 10³", "perplexity", "soft perplexity"]
    head += [f"MSE × 10³, {noise}" for noise in ("own noise", "permuted noise", "no noise")]
    one = result["runs"][0]
    return f"""# Pitfalls of GM-VQ

Runs of {one["steps"]:,} steps, {one["images"]:,} images, that differ in one setting; figures of
validation images, the first three columns noise-free with the best code, the last three with
sampled codes. `commit` is the default; `literal` is the regulariser as the paper prints it.

{markdown_table(head, rows)}

Commit `{one["commit"]}`, seed {one["seed"]}, {one["hardware"]}. `python -m examples.pitfalls` makes
these figures.
"""


def picture(result: Mapping[str, Any], path: Path) -> None:
    """The leak test's errors, a group of bars a variant."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.0, 4.0), layout="constrained")
    places = np.arange(len(result["runs"]))
    for shift, name in enumerate(("own", "permuted", "none")):
        heights = [each["leak"][name] for each in result["runs"]]
        axes.bar(places + 0.27 * (shift - 1), heights, 0.25, label=name)
    axes.set_xticks(places, [each["name"] for each in result["runs"]])
    axes.set_yscale("log")
    axes.set_ylabel("MSE of sampled codes")
    axes.legend(title="noise")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the variants; write pitfalls.json, .md and .png."""
    description = "Three ways in which GM-VQ goes wrong."
    asked = parse(arguments, description, name="pitfalls", epochs=0.2)
    result = experiment(asked.changes, asked.output)
    path = asked.output / "pitfalls"
    write_results(path, result, page(result))
    picture(result, path.with_suffix(".png"))
    print(page(result))


if __name__ == "__main__":
    main()
