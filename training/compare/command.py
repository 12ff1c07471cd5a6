"""`python -m training compare`: the grid, and the report beside its store."""

import os
from dataclasses import dataclass
from pathlib import Path

from training.compare.grid import OrderName, run_grid
from training.compare.html import html_page
from training.compare.page import markdown_page
from training.compare.preflight import check_data, check_rows
from training.compare.rows import gather
from training.compare.settings import Comparison
from training.compare.store import Store
from training.data import load_splits
from training.progress import bars
from training.settings import DataSettings


@dataclass(frozen=True)
class Reports:
    """The files of a report."""

    markdown: Path
    html: Path


def compare(comparison: Comparison, work: Path, order: OrderName = "table") -> Reports:
    """Run what is unfinished and write the report; the Markdown table after every run."""
    splits = load_splits(DataSettings.model_validate(comparison.base.get("data", {})))
    check_data(comparison, splits)
    check_rows(comparison, Store(comparison.store).by_digest(), splits.train[0].shape[:2])
    with bars() as show:
        run_grid(
            comparison,
            splits,
            work,
            show,
            order=order,
            after_each=lambda: _write(markdown_file(comparison), markdown_of(comparison)),
        )
    return write_reports(comparison, work)


def write_reports(comparison: Comparison, work: Path) -> Reports:
    """The report of what the store has, as Markdown and as HTML."""
    reports = Reports(markdown_file(comparison), comparison.store.with_suffix(".html"))
    _write(reports.markdown, markdown_of(comparison))
    rows = gather(comparison, Store(comparison.store).records())
    _write(reports.html, html_page(rows, work))
    return reports


def markdown_file(comparison: Comparison) -> Path:
    return comparison.store.with_suffix(".md")


def markdown_of(comparison: Comparison) -> str:
    """The Markdown page that the store gives, and nothing else."""
    return markdown_page(gather(comparison, Store(comparison.store).records()))


def _write(path: Path, text: str) -> None:
    """Whole or not at all; each process has a file of its own until the page gets its name."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
