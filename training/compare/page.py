"""The report as text and tables, the same for Markdown and HTML."""

from dataclasses import dataclass

from training.compare import ablation_page, comparison_page
from training.compare.cells import Section, hardware_of
from training.compare.rows import Rows
from training.compare.standing import first_paragraph
from training.tables import markdown_table


@dataclass(frozen=True)
class Page:
    """title: with budget and hardware. lead: what a reader wants first. budget: what rows had."""

    title: str
    lead: str
    budget: str
    sections: tuple[Section, ...]


def page_of(rows: Rows) -> Page:
    """The page of a comparison or an ablation."""
    title = ", ".join([rows.comparison.title, *hardware_of(rows)])
    if rows.comparison.reference:
        said = ablation_page.lead(rows), ablation_page.budget(rows)
        return Page(title, *said, tuple(ablation_page.sections(rows)))
    said = first_paragraph(rows), comparison_page.budget(rows)
    return Page(title, *said, tuple(comparison_page.sections(rows)))


def markdown_page(rows: Rows) -> str:
    """The whole page."""
    page = page_of(rows)
    parts = [f"# {page.title}", page.lead, page.budget]
    for section in page.sections:
        table = markdown_table(section.head, section.rows) if section.rows else ""
        parts += [f"## {section.title}", section.text, table]
    return "\n\n".join(part for part in parts if part) + "\n"
