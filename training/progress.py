"""The progress bars of long work."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


def _columns() -> list[
    TextColumn | BarColumn | MofNCompleteColumn | TimeElapsedColumn | TimeRemainingColumn
]:
    return [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]


class Bar:
    """A bar on standard error: `advance` moves it, `note` says something beside it."""

    def __init__(self, progress: Progress, description: str, total: int, completed: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, completed=completed, note="")

    def advance(self) -> None:
        self._progress.advance(self._task)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)


@contextmanager
def bar(description: str, total: int, completed: int = 0, *, hidden: bool = False) -> Iterator[Bar]:
    """A bar over `total` steps, of which `completed` are done."""
    console = Console(stderr=True)
    with Progress(*_columns(), console=console, transient=False, disable=hidden) as progress:
        yield Bar(progress, description, total, completed)


def with_bar(description: str, items: Iterable[T], total: int) -> Iterator[T]:
    """The items, with a bar that counts them."""
    with bar(description, total) as shown:
        for item in items:
            yield item
            shown.advance()
