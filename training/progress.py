"""The progress bars of long work."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

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

    def reach(self, completed: int) -> None:
        """Stand at `completed`."""
        self._progress.update(self._task, completed=completed)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)

    def remove(self) -> None:
        self._progress.remove_task(self._task)


class Show(Protocol):
    """What opens a bar: `bar`, or one line of `bars`."""

    def __call__(
        self, description: str, total: int, completed: int = 0, /
    ) -> AbstractContextManager[Bar]: ...


@contextmanager
def bar(description: str, total: int, completed: int = 0, *, hidden: bool = False) -> Iterator[Bar]:
    """A bar over `total` steps, of which `completed` are done."""
    console = Console(stderr=True)
    with Progress(*_columns(), console=console, transient=False, disable=hidden) as progress:
        yield Bar(progress, description, total, completed)


@contextmanager
def bars() -> Iterator[Show]:
    """Several bars below one another; each goes when its work has ended."""

    @contextmanager
    def line(description: str, total: int, completed: int = 0, /) -> Iterator[Bar]:
        shown = Bar(progress, description, total, completed)
        try:
            yield shown
        finally:
            shown.remove()

    with Progress(*_columns(), console=Console(stderr=True), transient=True) as progress:
        yield line


def with_bar(description: str, items: Iterable[T], total: int) -> Iterator[T]:
    """The items, with a bar that counts them."""
    with bar(description, total) as shown:
        for item in items:
            yield item
            shown.advance()
