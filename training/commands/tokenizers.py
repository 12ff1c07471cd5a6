"""Commands for tokenizers and their bundles."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from training.commands.options import Overrides, Threads, use_threads
from training.pictures import metrics_table
from training.settings import load_settings


def train(
    config: Annotated[Path, typer.Argument(help="A TOML file, as in training/configs/.")],
    output: Annotated[Path, typer.Option(help="The run's folder; a run in it goes on.")],
    overrides: Overrides = None,
    threads: Threads = None,
    fresh: Annotated[bool, typer.Option(help="Remove what the folder holds first.")] = False,
) -> None:
    """Train a tokenizer, or go on where the run in the folder was interrupted.

    On several devices: torchrun --nproc-per-node N -m training train …
    """
    from training.devices import launch
    from training.runs import train as run_training

    use_threads(threads)
    result = run_training(load_settings(config, overrides or ()), output, fresh=fresh)
    if launch().is_first:
        Console().print(metrics_table(result["metrics"]))


def evaluate(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or a bundle.")],
    split: Annotated[str, typer.Option(help="validation or test.")] = "validation",
    data: Annotated[
        str | None, typer.Option(help="The data's folder, where not the run's.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Measure reconstruction and codebook usage of a run (PyTorch) or a bundle (its graphs)."""
    from training.runs import evaluate_folder

    use_threads(threads)
    Console().print(metrics_table({split: evaluate_folder(folder, split, data)}))


def export(  # noqa: PLR0913 - each is an option of the command
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    output: Annotated[Path, typer.Option(help="The bundle to write.")],
    version: Annotated[str, typer.Option(help="The bundle's version.")] = "1",
    beside: Annotated[
        list[Path] | None, typer.Option(help="Bundle of another method, for the card. Repeatable.")
    ] = None,
    searched: Annotated[
        list[Path] | None,
        typer.Option(help="Result that settings were chosen by, for the card. Repeatable."),
    ] = None,
    photograph: Annotated[
        list[Path] | None, typer.Option(help="Picture for the card, at its own size. Repeatable.")
    ] = None,
    note: Annotated[str, typer.Option(help="A sentence for the card.")] = "",
    replace: Annotated[bool, typer.Option(help="Replace a bundle that is there.")] = False,
) -> None:
    """Export a run to ONNX, hold it against PyTorch, and write the bundle to serve."""
    from training.export import ExportOptions, export_run

    options = ExportOptions(
        output, version, beside or (), searched or (), photograph or (), note, replace=replace
    )
    manifest = export_run(run, options)
    figures = {"test": manifest.metrics["test"]} if "test" in manifest.metrics else {}
    Console().print(metrics_table(figures))
    Console().print(f"{output} is written and its golden image holds.")


def reference(
    bundle: Annotated[Path, typer.Argument(help="A bundle; it is written anew in one step.")],
    data: Annotated[
        str | None, typer.Option(help="The data's folder, where not the bundle's.")
    ] = None,
) -> None:
    """Measure a bundle's counts of training tokens and its coder tables anew."""
    from training.bits import bits_sentence
    from training.refresh import refresh_reference

    Console().print(bits_sentence(refresh_reference(bundle, data)), highlight=False)


def variant(
    bundle: Annotated[Path, typer.Argument(help="A bundle in float32.")],
    output: Annotated[Path, typer.Option(help="The bundle to write.")],
    data: Annotated[
        str | None, typer.Option(help="The data's folder, where not the bundle's.")
    ] = None,
    images: Annotated[int, typer.Option(help="Training images to calibrate with.", min=1)] = 512,
    replace: Annotated[bool, typer.Option(help="Replace a bundle that is there.")] = False,
) -> None:
    """Write a bundle's int8 variant, faster on a CPU, if its error rises by 1 % at most."""
    from training.variant import VariantOptions, make_int8

    options = VariantOptions(output, data, images, replace=replace)
    manifest = make_int8(bundle, options)
    figures = {"test": manifest.metrics["test"]} if "test" in manifest.metrics else {}
    Console().print(metrics_table(figures))
    parity = manifest.parity
    Console().print(
        f"{output} is written: {parity['token_agreement']:.1%} of the tokens as in float32, the "
        f"squared error {parity['mse'] / parity['float32_mse'] - 1:+.2%}; encoding takes "
        f"1/{parity['encode_speed']:.1f} of the time and decoding 1/{parity['decode_speed']:.1f}.",
        highlight=False,
    )


def compare(
    config: Annotated[Path, typer.Argument(help="A TOML file, as in training/configs/compare/.")],
    work: Annotated[Path, typer.Option(help="Where runs train; shared by all processes.")] = Path(
        "runs/compare"
    ),
    order: Annotated[
        Literal["table", "rows"],
        typer.Option(help="table: a first table of all rows early; rows: one row after another."),
    ] = "table",
    overrides: Overrides = None,
    threads: Threads = None,
    report_only: Annotated[bool, typer.Option(help="Run nothing; write the report.")] = False,
) -> None:
    """Run a grid of methods and seeds, or go on with it, and write its report.

    Several processes may share the work: start the same command again.
    """
    from training.compare.command import compare as run_comparison
    from training.compare.command import write_reports
    from training.compare.load import load_comparison

    use_threads(threads)
    comparison = load_comparison(config, overrides or ())
    written = (
        write_reports(comparison, work) if report_only else run_comparison(comparison, work, order)
    )
    Console().print(f"{written.markdown} and {written.html} are written.")


def report(
    folder: Annotated[Path, typer.Argument(help="A folder of results, one JSON file a run.")],
) -> None:
    """Write a page of tables beside a folder of results: docs/results/x.md of docs/results/x/."""
    from training.report import results_page

    page = folder.with_suffix(".md")
    page.write_text(results_page(folder))
    Console().print(f"{page} is written.")
