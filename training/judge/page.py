"""A judgement as a page, made from its store and from nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.tables import markdown_table

Rows = Sequence[Mapping[str, Any]]

NAME = "Fréchet distance of classifier features"
WHAT = (
    "**{name}**: a small network that tells the classes of these images apart was trained here. "
    "The {features} features before its last layer, of {images:,} images of each set, are fitted "
    "by a normal distribution, and so are those of the {images:,} test images. The distance is the "
    "squared one between the two fits, d² = |μ − μ′|² + tr(Σ + Σ′ − 2 (ΣΣ′)^½). It compares the "
    "rows of this page, and has nothing in common with figures from another network's features. "
    "± is 1.96 standard errors, by a jackknife over {groups} groups of each set."
)
READING = (
    "The floor is how far apart two sets of real images are found: the estimate is above zero for "
    "any finite sets. It is of images that the classifier did not learn from, since it may "
    "remember the others. Reconstructions of the test images are of the very images that they are "
    "held against. Reconstructions of other images are what samples of a perfect prior over these "
    "tokens would look like: what they lack is the decoder's. *Bits an image* is the code length "
    "of samples under the prior that they were drawn from."
)
PICTURE = "Of each class the first images, or the first of all where there are none."
CLASSIFIER = (
    "{parameters:,} parameters, trained on {training_images:,} images for {epochs:g} epochs "
    "({steps:,} steps, {processor_seconds:,.0f} s of processor time) on {hardware}, at commit "
    "`{commit}`. It names {test_accuracy:.1%} of the test images rightly, of {num_classes} "
    "classes, and {accuracy:.1%} of the held-out training images. *Named as meant* is of images of "
    "a known class, and of samples that were drawn of one."
)
PRIOR = (
    "Samples and reconstructions are of `{model}`. Its learned prior is {kind}, of {parameters:,} "
    "parameters, and draws by the schedule {schedule} in {passes} passes{test}. Tables are of "
    "the bundle's training tokens."
)
ORIGIN = "By `{command}` at commit `{commit}`, seed {seed}, on {hardware}."


def samples_page(document: Mapping[str, Any], picture: str) -> str:
    """Markdown of a store; `picture` is the file beside it."""
    classifier, rows = document["classifier"], document["rows"]
    parts = [
        f"# {document['title']}",
        verdict(rows),
        WHAT.format(name=NAME, features=classifier["num_features"], **document),
        _table(rows),
        READING,
        f"![Test images, reconstructions and samples beside one another]({picture})",
        PICTURE,
        "## The prior",
        _prior(document),
        "## The classifier",
        CLASSIFIER.format(num_classes=len(classifier["label_names"]), **classifier),
        "## Where it comes from",
        ORIGIN.format(**document),
    ]
    return "\n\n".join(parts) + "\n"


def verdict(rows: Rows) -> str:
    """The samples that lie nearest, beside what the decoder allows and what real images reach."""
    ordered = sorted((row for row in rows if row["kind"] == "samples"), key=_distance)
    best, *others = ordered
    perfect, floor = _figure(_perfect(rows)), _figure(_floor(rows))
    sentence = (
        f"{best['name'][:1].upper()}{best['name'][1:]} lie nearest to the test images, at "
        f"{_figure(best)}; a perfect prior over these tokens would reach {perfect}, and other real "
        f"images {floor}."
    )
    further = ", ".join(f"{row['name']} at {_figure(row)}" for row in others)
    return sentence + (f" Further away: {further}." if others else "")


def _floor(rows: Rows) -> Mapping[str, Any]:
    """Real images that the classifier did not learn from: the first row."""
    return next(row for row in rows if row["kind"] == "real")


def _perfect(rows: Rows) -> Mapping[str, Any]:
    """Reconstructions of images that are not the test images."""
    return next(row for row in rows if row["kind"] == "reconstructions" and not row["paired"])


def _distance(row: Mapping[str, Any]) -> float:
    return row["distance"]


def _table(rows: Rows) -> str:
    floor = _floor(rows)
    head = ["images", NAME, "× floor", "named as meant", "bits an image"]
    return markdown_table(head, [_cells(row, floor) for row in rows])


def _cells(row: Mapping[str, Any], floor: Mapping[str, Any]) -> list[str]:
    accuracy, bits = row["accuracy"], row["bits"]
    return [
        row["name"] + (" (the floor)" if row is floor else ""),
        _figure(row),
        f"{row['distance'] / floor['distance']:.1f}",
        "" if accuracy is None else f"{accuracy:.1%}",
        "" if bits is None else f"{bits:.1f}",
    ]


def _figure(row: Mapping[str, Any]) -> str:
    """A distance and 1.96 standard errors."""
    error = 1.96 * row["standard_error"]
    digits = 2 if row["distance"] >= 1 else 3
    return f"{row['distance']:.{digits}f} ± {error:.{digits}f}"


def _prior(document: Mapping[str, Any]) -> str:
    prior = document["prior"]
    if prior is None:
        return f"Samples and reconstructions are of `{document['model']}`, without a learned prior."
    bits = prior["test"].get("bits_per_image")
    test = "" if bits is None else f"; test images take it {bits:.1f} bits each"
    return PRIOR.format(**{**prior, "model": document["model"], "test": test})
