"""The report as one HTML file that needs nothing beside it."""

import base64
import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from training.compare.cells import Section, label_of
from training.compare.page import page_of
from training.compare.plots import (
    colour_of,
    dash_of,
    learning_curves,
    rate_distortion,
    usage,
)
from training.compare.rows import Row, Rows
from training.compare.run import ORIGINALS, PICTURE

HERE = Path(__file__).parent


def html_page(rows: Rows, work: Path) -> str:
    """The page; pictures come from the folders of finished runs below `work`, where they are."""
    page, measured = page_of(rows), rows.measured
    first, *others = page.sections
    parts = [
        f"<h1>{escape(page.title)}</h1>",
        f'<p class="lead">{escape(page.lead)}</p>',
        _table(first, before=f"<p>{escape(page.budget)}</p>"),
        _curves(rows, measured) if measured else "",
        _rate(measured) if measured else "",
        _usage(measured) if measured else "",
        _pictures(measured, work),
        *map(_table, others),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(page.title)}</title>\n"
        f"<style>\n{(HERE / 'report.css').read_text()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, parts))
        + f"\n</main>\n<script>\n{(HERE / 'report.js').read_text()}</script>\n</body>\n</html>\n"
    )


def _table(section: Section, before: str = "") -> str:
    head = "".join(
        f'<th scope="col"><button type="button">{escape(cell)}</button></th>'
        for cell in section.head
    )
    body = "\n".join(
        "<tr>" + "".join(_cell(cell, first=not i) for i, cell in enumerate(cells)) + "</tr>"
        for cells in section.rows
    )
    table = (
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
        if section.rows
        else ""
    )
    return _section(section.title, section.text, before + table)


def _cell(text: str, *, first: bool) -> str:
    marked = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text))
    marked = re.sub(r"`(.+?)`", r"<code>\1</code>", marked)
    return f'<th scope="row">{marked}</th>' if first else f"<td>{marked}</td>"


def _section(title: str, text: str, content: str) -> str:
    words = re.sub(r"`(.+?)`", r"<code>\1</code>", escape(text))
    return f"<section>\n<h2>{escape(title)}</h2>\n<p>{words}</p>\n{content}\n</section>"


def _curves(rows: Rows, measured: Sequence[Row]) -> str:
    subjects = rows.comparison.subjects
    plots = [learning_curves(measured, subjects, against) for against in ("step", "seconds")]
    text = (
        "MSE on the validation images during training, mean over the seeds; against steps, and "
        "against the time that the steps took, without the time of validation."
    )
    return _section("Learning curves", text, _figures(plots) + _legend(measured))


def _rate(measured: Sequence[Row]) -> str:
    text = (
        "Test MSE against the bits of an image's tokens: filled, the entropy under the usage of "
        "the codes; hollow, fixed-length tokens as they are. Numbers are those of the legend, "
        "which is in the order of the table."
    )
    return _section(
        "Rate and distortion", text, _figures([rate_distortion(measured)]) + _legend(measured)
    )


def _usage(measured: Sequence[Row]) -> str:
    shown = [(number, row) for number, row in enumerate(measured) if "usage" in row.compared[0]]
    figures = "".join(
        f"<figure>{usage(row, number)}<figcaption>{escape(row.label)}: perplexity "
        f"{row.mean('perplexity') or 0.0:.0f}</figcaption></figure>"
        for number, row in shown
    )
    text = (
        "Percent of all tokens by code, the most used codes first, all codes from left to right "
        "in percent; the dashed line is even use. One seed, test images."
    )
    return _section("Usage of the codes", text, f'<div class="small">{figures}</div>')


def _legend(measured: Sequence[Row]) -> str:
    items = "".join(
        f'<li><svg viewBox="0 0 28 8" aria-hidden="true"><path d="M0 4H28" stroke="'
        f'{colour_of(number)}" stroke-width="3" stroke-dasharray="{dash_of(number)}"/></svg>'
        f"{number + 1} {escape(label_of(row))}</li>"
        for number, row in enumerate(measured)
    )
    return f'<ul class="legend">{items}</ul>'


def _figures(plots: Sequence[str]) -> str:
    return '<div class="plots">' + "".join(f"<figure>{p}</figure>" for p in plots) + "</div>"


def _pictures(measured: Sequence[Row], work: Path) -> str:
    folders = [(row, work / row.compared[0]["digest"]) for row in measured]
    there = [(row, folder) for row, folder in folders if (folder / PICTURE).is_file()]
    if not there:
        return ""
    lines = [_strip("original", there[0][1] / ORIGINALS)]
    lines += [_strip(row.label, folder / PICTURE) for row, folder in there]
    text = "The first test images, and what comes back from the tokens of each row's first seed."
    return _section("Reconstructions", text, "\n".join(lines))


def _strip(label: str, path: Path) -> str:
    """The square images of a file, one element each, so that narrow screens may break the row."""
    with Image.open(path) as strip:
        side = strip.height
        images = [strip.crop((x, 0, x + side, side)) for x in range(0, strip.width, side)]
    tags = "".join(
        f'<img alt="{escape(label)}, image {number}" width="{side}" height="{side}" '
        f'src="data:image/png;base64,{_base64(image)}">'
        for number, image in enumerate(images, start=1)
    )
    return (
        f'<figure class="strip"><figcaption>{escape(label)}</figcaption><div>{tags}</div></figure>'
    )


def _base64(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
