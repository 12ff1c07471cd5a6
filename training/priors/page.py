"""A comparison of priors as a page with a picture, made from its store and from nothing else."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from training.priors.terms import terms_table
from training.tables import markdown_table

HOW = (
    "{rows} priors over the tokens of one bundle, {images:,} test images, no labels given. {rates} "
    "Bits are exact: the sum of -log2 p of all tokens, as the prior's own schedule factorises "
    "them.{bounded}"
)
SEARCHED = (
    "Every learned prior was trained with each learning rate of the search over {share:.0%} of the "
    "budget, the best by validation bits over all of it{others}."
)
ONE_RATE = "Every learned prior was trained with one learning rate; none was searched."
BOUNDED = (
    " Not so those of {names}, marked ≤: they are a bound on what the sampler's tokens would take, "
    "and say nothing of by how much; no difference to other rows is one of code lengths."
)
TERMS = (
    "By the time T that the latents diffuse for, over validation images, of the same weights and "
    "equal steps. Bits at most are the sum of the three columns after them; KL(p_T, N) is what "
    "the start has wrong of a Gaussian with the latents' moments, in bits. The distance is the "
    "sliced Wasserstein one of samples to held-out latents, and the shortest T within its error "
    "of the least was taken: {schedule}. T2 and T3 are the terms of arXiv 2506.00849 in nats for "
    "R = 1."
)
SCHEDULES = (
    "Validation bits an image by schedule, of the same weights; the one of a token a pass is not "
    "among those that are chosen from."
)
NEAR = 0.05
"""How much further than the autoregressive prior a masked one may be, before the page says so."""


def priors_page(document: Mapping[str, Any], picture: str) -> str:
    """Markdown of a store, the best prior last but first in the text."""
    rows: Sequence[Mapping[str, Any]] = document["rows"]
    names = ", ".join(row["name"] for row in rows if not _is_exact(row))
    has_search = any(row["searched"] for row in rows)
    alone = [row["name"] for row in rows if row["history"] and not row["searched"]]
    others = f"; but {', '.join(alone)} with one rate alone" if alone else ""
    how = HOW.format(
        rows=len(rows),
        images=rows[0]["test"]["images"],
        rates=SEARCHED.format(share=document["search_share"], others=others)
        if has_search
        else ONE_RATE,
        bounded=BOUNDED.format(names=names) if names else "",
    )
    parts = [
        f"# {document['title']}",
        verdict(rows),
        how,
        document["remark"],
        _table(rows),
        f"![Bits an image of each prior, and the learning curves]({picture})",
        *(["## The search", _search(rows)] if has_search else []),
        *_schedules([row for row in rows if _is_exact(row)]),
        *(_terms(row) for row in rows if not _is_exact(row)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each prior against the one before it, and the masked one against the autoregressive one; of
    those whose bits are bounded the bound alone.
    """
    exact = [row for row in rows if _is_exact(row)]
    ordered = sorted(exact, key=lambda row: -row["test"]["bits_per_image"])
    sentences = [
        f"{after['name']} takes {_share(after, before)} than {before['name']}"
        for before, after in pairwise(ordered)
    ]
    masked, autoregressive = (
        [row for row in rows if row["kind"] == kind] for kind in ("masked", "autoregressive")
    )
    if len(masked) == len(autoregressive) == 1:
        sentences += _distance(masked[0], autoregressive[0])
    sentences += [
        f"{row['name']} takes at most {row['test']['bits_per_image']:.2f} bits"
        for row in rows
        if not _is_exact(row)
    ]
    return "; ".join(sentences) + "." if sentences else ""


def _distance(masked: Mapping[str, Any], autoregressive: Mapping[str, Any]) -> list[str]:
    bits, least = (each["test"]["bits_per_image"] for each in (masked, autoregressive))
    behind = bits / least - 1.0
    within = "within" if behind <= NEAR else "NOT within"
    return [
        f"{masked['name']} is {behind:+.2%} from {autoregressive['name']}, {within} {NEAR:.0%}",
        *_why(masked, autoregressive),
    ]


def _why(masked: Mapping[str, Any], autoregressive: Mapping[str, Any]) -> list[str]:
    """Whether it is the tokens of a pass, drawn independently, that a masked prior is behind by;
    all of the same validation images.
    """
    if "one_by_one" not in masked or not masked["schedules"] or not autoregressive["history"]:
        return []
    bits = {each["schedule"]: each["bits_per_image"] for each in masked["schedules"]}
    chosen, alone = bits[masked["schedule"]], masked["one_by_one"]["bits_per_image"]
    other = autoregressive["history"][-1]["bits_per_image"]
    sentence = (
        f"of the distance on the validation images ({chosen:.1f} to {other:.1f} bits) "
        f"{chosen - alone:.1f} would go if masked drew one token a pass too; the rest is in what "
        "its network has learned, or in the order (Halton's there, raster here)"
    )
    return [sentence]


def _is_exact(row: Mapping[str, Any]) -> bool:
    return row.get("is_exact", True)


def _most(row: Mapping[str, Any]) -> str:
    """What stands before bits that are a bound."""
    return "" if _is_exact(row) else "≤ "


def _share(row: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    mean, low, high = row["minus"][other["name"]]
    whole = other["test"]["bits_per_image"]
    return f"{-mean / whole:.2%} fewer bits ({-high / whole:.2%} to {-low / whole:.2%})"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = [
        *("prior", "bits an image", "bits a token", "of validation images", "passes"),
        *("parameters", "images seen", "rate"),
    ]
    return markdown_table(head, [_cells(row) for row in rows])


def _cells(row: Mapping[str, Any]) -> list[str]:
    bits, error = row["test"]["bits_per_image"], row["test"]["standard_error"]
    rate, most = row["learning_rate"], _most(row)
    return [
        row["name"],
        f"{most}{bits:.2f} ± {1.96 * error:.2f}",
        f"{most}{bits / row['num_tokens']:.3f}",
        f"{most}{row['validation']['bits_per_image']:.2f}",
        f"{row['schedule']} ({row['passes']})",
        f"{row['parameters']:,}",
        f"{row['images']:,}",
        "" if rate is None else f"{rate:g}",
    ]


def _search(rows: Sequence[Mapping[str, Any]]) -> str:
    learned = [row for row in rows if row["searched"]]
    rates = sorted({rate for row in learned for rate in row["searched"]}, key=float)
    body = [
        [row["name"], *(f"{_most(row)}{row['searched'][rate]:.2f}" for rate in rates)]
        for row in learned
    ]
    return "Validation bits an image by learning rate.\n\n" + markdown_table(
        ["prior", *rates], body
    )


def _schedules(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    body = [
        [row["name"], each["schedule"], str(each["passes"]), f"{each['bits_per_image']:.2f}"]
        for row in rows
        for each in (*row["schedules"], *_alone(row))
    ]
    table = markdown_table(["prior", "schedule", "passes", "bits"], body)
    return ["## Schedules", SCHEDULES, table] if body else []


def _alone(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row["one_by_one"]] if "one_by_one" in row else []


def _label(row: Mapping[str, Any]) -> str:
    return row["name"] if _is_exact(row) else f"{row['name']} (at most)"


def _terms(row: Mapping[str, Any]) -> str:
    table = terms_table(row["schedules"])
    return f"## The terms of {row['name']}\n\n{TERMS.format(schedule=row['schedule'])}\n\n{table}"


def draw(document: Mapping[str, Any], path: Path) -> None:
    """The bits of each prior as bars, pale where they are a bound, and validation bits over the
    steps of the learned ones.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    rows: Sequence[Mapping[str, Any]] = document["rows"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 4.0), layout="constrained")
    bits = [row["test"]["bits_per_image"] for row in rows]
    colours = ["#3f87c9" if _is_exact(row) else "#b5d0ea" for row in rows]
    left.barh([_label(row) for row in rows], bits, color=colours)
    left.set_xlim(0.95 * min(bits), 1.01 * max(bits))
    left.set_xlabel("bits an image (test; the axis does not begin at 0)")
    for row in rows:
        if row["history"]:
            seen = [point["step"] for point in row["history"]]
            right.plot(
                seen, [point["bits_per_image"] for point in row["history"]], label=_label(row)
            )
    right.set_xlabel("steps")
    right.set_ylabel("bits an image (validation)")
    right.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
