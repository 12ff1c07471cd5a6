"""Options that several commands have."""

from typing import Annotated

import torch
import typer

Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: table.key=value. Repeatable.")
]
Threads = Annotated[int | None, typer.Option(help="CPU threads. All cores when left out.")]


def use_threads(threads: int | None) -> None:
    """Have PyTorch use so many threads, where a number is given."""
    if threads:
        torch.set_num_threads(threads)
