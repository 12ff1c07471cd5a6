"""The command `python -m training`: tokenizers, priors, bundles, comparisons."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console
from rich.markup import escape

from training.pictures import metrics_table
from training.settings import SettingsError, load_settings
from vqtok.errors import VqtokError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
USER_ERRORS = (SettingsError, OSError, ValueError, FloatingPointError, VqtokError)

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
    """Train a tokenizer, or go on where the run in the folder was interrupted.

    On several devices: torchrun --nproc-per-node N -m training train …
    """
    from training.devices import launch
    from training.runs import train as run_training

    if threads:
        torch.set_num_threads(threads)
    result = run_training(load_settings(config, overrides or ()), output, fresh=fresh)
    if launch().is_first:
        Console().print(metrics_table(result["metrics"]))


@app.command()
def prior(
    config: Annotated[Path, typer.Argument(help="A TOML file, as in training/configs/priors/.")],
    output: Annotated[Path, typer.Option(help="The run's folder; a run in it goes on.")],
    tokens: Annotated[
        Path | None, typer.Option(help="File that keeps the tokens, for several runs to share.")
    ] = None,
    overrides: Overrides = None,
    threads: Threads = None,
    fresh: Annotated[bool, typer.Option(help="Remove what the folder holds first.")] = False,
) -> None:
    """Train a prior over a bundle's tokens, or go on where the run in the folder stopped."""
    from training.priors.runs import train_prior
    from training.priors.settings import load_prior_settings
    from training.priors.terms import terms_table

    if threads:
        torch.set_num_threads(threads)
    settings = load_prior_settings(config, overrides or ())
    result = train_prior(settings, output, tokens_file=tokens, fresh=fresh)
    figures, most = result["validation"], "" if result.get("is_exact", True) else "at most "
    if most:
        Console(soft_wrap=True).print(terms_table(result["schedules"]), highlight=False)
    if figures:
        Console().print(
            f"{most}{figures['bits_per_image']:.1f} bits an image on the validation images, with "
            f"the schedule {result['schedule']}",
            highlight=False,
        )


@app.command()
def add_prior(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run of a prior.")],
    output: Annotated[Path, typer.Option(help="The bundle to write.")],
    tokens: Annotated[
        Path | None, typer.Option(help="File that keeps the tokens, where not the run's own.")
    ] = None,
    replace: Annotated[bool, typer.Option(help="Replace a bundle that is there.")] = False,
) -> None:
    """Write the bundle that a prior was trained on anew, with the prior in it."""
    from training.priors.attach import AttachOptions
    from training.priors.attach import add_prior as attach

    manifest = attach(run, AttachOptions(output, tokens, replace=replace))
    Console().print(
        f"{output} is written, and samples by {manifest.prior and manifest.prior.kind}."
    )


@app.command()
def sample_latents(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run of a diffusion prior.")],
    output: Annotated[Path, typer.Option(help="The PNG file to write.")],
    n: Annotated[int, typer.Option(help="How many samples.", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="Sample i depends on it and on i.")] = 0,
    label: Annotated[str | None, typer.Option(help="A class by its name.")] = None,
    tokens: Annotated[
        Literal["likeliest", "drawn"],
        typer.Option(help="By responsibility: the likeliest, or drawn, which the bits are of."),
    ] = "likeliest",
) -> None:
    """Draw pictures from a diffusion prior, by its ONNX graph and the decoder of its bundle."""
    from training.priors.show import Wish, sampled_picture

    output.write_bytes(sampled_picture(run, Wish(n, seed, label, likeliest=tokens == "likeliest")))
    Console().print(f"{output} is written.")


@app.command()
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

    if threads:
        torch.set_num_threads(threads)
    Console().print(metrics_table({split: evaluate_folder(folder, split, data)}))


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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

    if threads:
        torch.set_num_threads(threads)
    comparison = load_comparison(config, overrides or ())
    written = (
        write_reports(comparison, work) if report_only else run_comparison(comparison, work, order)
    )
    Console().print(f"{written.markdown} and {written.html} are written.")


@app.command()
def compare_priors(
    config: Annotated[
        Path, typer.Argument(help="A TOML file: training/configs/priors/compare.toml.")
    ],
    work: Annotated[Path, typer.Option(help="Where the runs train.")] = Path("runs/priors"),
    row: Annotated[
        list[str] | None, typer.Option(help="Train this row alone; may be given several times.")
    ] = None,
    overrides: Overrides = None,
    threads: Threads = None,
) -> None:
    """Train priors with equal budgets, or go on with that, and write a page about their bits."""
    from training.priors.compare import compare_priors as run_comparison
    from training.priors.compare import load_prior_comparison
    from training.priors.page import draw, priors_page

    if threads:
        torch.set_num_threads(threads)
    comparison = load_prior_comparison(config, overrides or ())
    document = run_comparison(comparison, work, row or ())
    page, picture = comparison.store.with_suffix(".md"), comparison.store.with_suffix(".png")
    page.write_text(priors_page(document, picture.name))
    draw(document, picture)
    Console().print(f"{page} and {picture} are written.")


@app.command()
def judge_samples(
    config: Annotated[
        Path, typer.Argument(help="A TOML file: training/configs/priors/samples.toml.")
    ],
    work: Annotated[
        Path,
        typer.Option(help="Keeps the classifier and the samples; what is there is not redone."),
    ] = Path("runs/samples"),
    overrides: Overrides = None,
    threads: Threads = None,
) -> None:
    """Measure how far samples of a bundle lie from real images, and write a page about it."""
    from training.judge.judge import judge_samples as judge
    from training.judge.page import samples_page
    from training.judge.picture import draw
    from training.judge.settings import load_judge_settings

    if threads:
        torch.set_num_threads(threads)
    settings = load_judge_settings(config, overrides or ())
    judgement = judge(settings, work, f"python -m training judge-samples {config}")
    page, picture = settings.store.with_suffix(".md"), settings.store.with_suffix(".png")
    page.write_text(samples_page(judgement.document, picture.name))
    draw(judgement, picture)
    Console().print(f"{page} and {picture} are written.")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A folder of results, one JSON file a run.")],
) -> None:
    """Write a page of tables beside a folder of results: docs/results/x.md of docs/results/x/."""
    from training.report import results_page

    page = folder.with_suffix(".md")
    page.write_text(results_page(folder))
    Console().print(f"{page} is written.")


def main() -> None:
    """Run the command line; a mistake of the user's is one sentence and exit status 2."""
    try:
        app()
    except USER_ERRORS as error:
        sentence = f"[red]error:[/red] {escape(str(error))}"
        Console(stderr=True, soft_wrap=True).print(sentence, highlight=False)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
