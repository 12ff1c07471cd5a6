"""Commands for priors and their samples."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from training.commands.options import Overrides, Threads, use_threads


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

    use_threads(threads)
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

    use_threads(threads)
    comparison = load_prior_comparison(config, overrides or ())
    document = run_comparison(comparison, work, row or ())
    page, picture = comparison.store.with_suffix(".md"), comparison.store.with_suffix(".png")
    page.write_text(priors_page(document, picture.name))
    draw(document, picture)
    Console().print(f"{page} and {picture} are written.")


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

    use_threads(threads)
    settings = load_judge_settings(config, overrides or ())
    judgement = judge(settings, work, f"python -m training judge-samples {config}")
    page, picture = settings.store.with_suffix(".md"), settings.store.with_suffix(".png")
    page.write_text(samples_page(judgement.document, picture.name))
    draw(judgement, picture)
    Console().print(f"{page} and {picture} are written.")
