"""`python -m training train | evaluate | export`."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from training.pictures import metrics_table
from training.settings import SettingsError, load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
USER_ERRORS = (SettingsError, FileNotFoundError, ValueError, FloatingPointError)

Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: table.key=value. Repeatable.")
]
Threads = Annotated[int | None, typer.Option(help="CPU threads. All cores when left out.")]


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A TOML file, as in training/configs/.")],
    output: Annotated[Path, typer.Option(help="The run's folder; a run in it goes on.")],
    overrides: Overrides = None,
    threads: Threads = None,
    fresh: Annotated[bool, typer.Option(help="Remove what the folder holds first.")] = False,
) -> None:
    """Train a tokenizer, or go on where the run in the folder was interrupted."""
    from training.runs import train as run_training

    if threads:
        torch.set_num_threads(threads)
    result = run_training(load_settings(config, overrides or ()), output, fresh=fresh)
    Console().print(metrics_table(result["metrics"]))


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or a bundle.")],
    split: Annotated[str, typer.Option(help="validation or test.")] = "validation",
    data: Annotated[
        str | None, typer.Option(help="The data's folder, where not the run's.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Measure reconstruction and codebook usage of a run (PyTorch) or of a bundle (its exported graphs)."""
    from training.runs import evaluate_folder

    if threads:
        torch.set_num_threads(threads)
    Console().print(metrics_table({split: evaluate_folder(folder, split, data)}))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    output: Annotated[Path, typer.Option(help="The bundle to write.")],
    beside: Annotated[
        list[Path] | None, typer.Option(help="Results of other runs for the card. Repeatable.")
    ] = None,
    photograph: Annotated[
        list[Path] | None,
        typer.Option(help="Pictures for the card, at their own size. Repeatable."),
    ] = None,
    replace: Annotated[bool, typer.Option(help="Replace a bundle that is there.")] = False,
) -> None:
    """Export a run to ONNX, hold it against PyTorch, and write the bundle that the service reads."""
    from training.export import export_run

    manifest = export_run(run, output, beside or (), photograph or (), replace=replace)
    Console().print(metrics_table(dict(manifest.metrics)))


def main() -> None:
    """Run the command line; a mistake of the user's is one sentence and exit status 2."""
    try:
        app()
    except USER_ERRORS as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]error:[/red] {error}", highlight=False)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
