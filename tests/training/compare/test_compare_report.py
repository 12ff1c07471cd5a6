"""The reports: made from the store alone, whole in themselves, the same every time."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tomli_w
from matplotlib.axes import Axes
from PIL import Image

import training.__main__ as command_line
from tests.training.compare.made import comparison_of, finished, store_of, table_of
from training.compare.choice import Search
from training.compare.command import _write, markdown_file, markdown_of
from training.compare.html import html_page
from training.compare.load import load_comparison
from training.compare.page import markdown_page
from training.compare.plan import Point, searches_of
from training.compare.plots import (
    COLOURS,
    INK,
    colour_of,
    dash_of,
    even_use,
    learning_curves,
    usage,
)
from training.compare.rows import Rows, gather
from training.compare.run import ORIGINALS, PICTURE
from training.compare.store import Store
from training.settings import read_table

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "training/configs"
SHIPPED = [
    path
    for folder in ("compare", "ablations")
    for path in sorted((CONFIGS / folder).glob("*.toml"))
    if path.name != "rows.toml"
]
ERRORS = {"VQ": [0.006, 0.0061], "GM-VQ": [0.003, 0.0032], "Few codes": [0.009, 0.0091]}
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a page holds: its tags, where it reaches out to, what was not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.places: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = ("src", "href", "xlink:href", "srcset", "action", "data")
        self.places += [value or "" for name, value in attrs if name in names]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def rows() -> Rows:
    comparison = comparison_of()
    return gather(comparison, store_of(comparison, ERRORS))


def test_shipped_pages_are_what_their_stores_give() -> None:
    stores = {ROOT / read_table(path)["store"]: path for path in SHIPPED}
    assert len(stores) == len(SHIPPED) == 5
    there = {store for store in stores if store.exists()}
    for store in there:
        comparison = load_comparison(stores[store]).model_copy(update={"store": store})
        assert markdown_file(comparison).read_text() == markdown_of(comparison)


def test_the_markdown_page_is_made_again_from_the_json_alone(tmp_path: Path) -> None:
    comparison = comparison_of(store=tmp_path / "store.json")
    for record in store_of(comparison, ERRORS):
        Store(comparison.store).append(record)
    page = markdown_of(comparison)
    comparison.store.write_text(json.dumps(json.loads(comparison.store.read_text()), indent=3))
    assert markdown_of(comparison) == page
    assert page.startswith(
        "# Made images, 2 epochs, a machine\n\nGM-VQ is number 1 of 2 at equal steps: its test MSE "
        "of 3.100 × 10⁻³ is"
    )
    titles = re.findall(r"(?m)^## (.+)$", page)
    assert titles == [
        "Test images, equal steps",
        "Validation images, equal time",
        "The search",
        "Where they come from",
    ]


def test_the_whole_search_stands_in_the_page_and_the_choice_in_bold(rows: Rows) -> None:
    section = html_page(rows, Path("none")).partition("<h2>The search</h2>")[2]
    cells = re.findall(
        r"<td>(?:<strong>)?([\d.]+)(?:</strong> †)?</td>", section.split("</section>")[0]
    )
    # Of nine values a row: 3 knob values, 9 errors.
    assert len(cells) == 3 * 12 + 3
    assert section.count("<strong>10.000</strong>") == 3


def test_a_choice_at_the_edge_of_what_was_tried_is_marked() -> None:
    comparison = comparison_of()
    records = store_of(comparison, {"VQ": [0.006, 0.0061], "GM-VQ": [0.003, 0.0032]})
    own = {label: [r for r in records if r["method"] == label] for label in ("VQ", "GM-VQ")}
    own["VQ"][4]["mse"], own["GM-VQ"][7]["mse"] = 0.001, 0.001
    page = markdown_page(gather(comparison, records))
    assert "| **1.000** |" in page
    assert "| **1.000** † |" in page
    assert page.count("†") == 2
    assert (
        "Marked † are choices at the edge of what was tried, beyond which a lower one may lie: "
        "GM-VQ (learning rate 0.01)."
    ) in page
    own["GM-VQ"][8]["mse"] = 0.0005
    page = markdown_page(gather(comparison, records))
    assert "GM-VQ (learning rate 0.01 and `objective.options.gamma` 0.003)." in page


@pytest.mark.parametrize("values", [[0.5], [True, False], ["a", "b"], [{"end": 1.0}, 2.0]])
def test_what_has_no_order_has_no_edge(values: list[Any]) -> None:
    comparison = comparison_of()
    run = searches_of(comparison, comparison.method[0])[0]
    tried = [
        (Point(1e-3, value), finished(run, 0.01 + place)) for place, value in enumerate(values)
    ]
    assert Search(tuple(tried)).at_edge == ()


def test_even_use_is_one_share_for_every_code_of_every_level(rows: Rows) -> None:
    few, vq = (rows.of(label).compared[0] for label in ("Few codes", "VQ"))
    assert (even_use(few), even_use(vq)) == (100.0 / 8, 100.0 / 16)
    model = {"method": "rvq", "quantizer": {"codebook_size": 16, "code_dim": 4, "depth": 2}}
    assert even_use({"settings": {"model": model}}) == 100.0 / 32


def test_the_line_in_the_plot_is_even_use_and_no_mean_of_quantiles(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []
    monkeypatch.setattr(Axes, "axhline", lambda _axes, y, **_style: drawn.append(y))
    usage(rows.of("VQ"), 0)
    assert drawn == [100.0 / 16]


@pytest.mark.slow
def test_a_page_is_written_while_another_process_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "store.md"
    program = (
        "import pathlib, sys\n"
        "from training.compare.command import _write\n"
        "_write(pathlib.Path(sys.argv[1]), 'theirs')"
    )
    seen: list[str] = []

    def the_other_first(temporary: Path, target: Path) -> Path:
        monkeypatch.undo()
        subprocess.run([sys.executable, "-c", program, str(page)], cwd=ROOT, check=True)
        seen.append(page.read_text())
        return temporary.replace(target)

    monkeypatch.setattr(Path, "replace", the_other_first)
    _write(page, "ours")
    assert (seen, page.read_text()) == (["theirs"], "ours")
    assert [path.name for path in tmp_path.iterdir()] == ["store.md"]


def test_the_html_page_needs_nothing_beside_it(rows: Rows, tmp_path: Path) -> None:
    for row in rows.measured:
        folder = tmp_path / row.compared[0]["digest"]
        folder.mkdir()
        for name in (ORIGINALS, PICTURE):
            Image.fromarray(np.zeros((16, 5 * 16, 3), np.uint8)).save(folder / name)
    page = Page(html_page(rows, tmp_path))
    assert page.open == []
    assert page.tags.count("table") == 4
    assert page.tags.count("img") == 5 * 4
    outside = [p for p in page.places if not p.startswith(("data:image/png;base64,", "#"))]
    assert outside == []
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    text = html_page(rows, tmp_path)
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttpRequest", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_the_html_page_is_the_same_every_time(rows: Rows) -> None:
    assert html_page(rows, Path("none")) == html_page(rows, Path("none"))
    assert "Reconstructions" not in html_page(rows, Path("none"))


def test_an_empty_store_gives_an_html_page() -> None:
    page = Page(html_page(gather(comparison_of(), []), Path("none")))
    assert page.open == []
    assert page.tags.count("svg") == 0


def test_labels_are_text_and_no_markup() -> None:
    comparison = comparison_of(title="<b>a & b</b>")
    page = html_page(gather(comparison, []), Path("none"))
    assert "<b>" not in page
    assert "&lt;b&gt;a &amp; b" in page


def test_plots_take_the_pages_ink_and_each_row_its_own_line(rows: Rows) -> None:
    svg = learning_curves(rows.measured, ("GM-VQ",), "seconds")
    root = ElementTree.fromstring(svg.replace("xlink:", ""))
    assert root.tag.endswith("svg")
    assert "currentColor" in svg
    assert INK not in svg
    assert all(colour_of(number) in svg for number in range(3))
    count = 3 * len(COLOURS)
    assert len({(colour_of(n), dash_of(n)) for n in range(count)}) == count


def test_the_command_writes_the_report_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store.json"
    config = tmp_path / "comparison.toml"
    config.write_text(tomli_w.dumps(table_of("nowhere", store)))
    for record in store_of(comparison_of(store=store), ERRORS):
        Store(store).append(record)
    arguments = ["training", "compare", str(config), "--report-only", "--work", str(tmp_path / "w")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert not ended.value.code
    assert "are written" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "store.md").read_text().startswith("# Made images, 2 epochs")
    assert (tmp_path / "store.html").read_text().startswith("<!doctype html>")
    assert not (tmp_path / "w").exists()
