"""The command `python -m training`: tokenizers, priors, bundles, comparisons."""

from collections.abc import Callable

import typer
from rich.console import Console
from rich.markup import escape

from training.commands import priors, tokenizers
from training.settings import SettingsError
from vqtok.errors import VqtokError

COMMANDS: tuple[Callable[..., None], ...] = (
    tokenizers.train,
    priors.prior,
    priors.add_prior,
    priors.sample_latents,
    tokenizers.evaluate,
    tokenizers.export,
    tokenizers.reference,
    tokenizers.variant,
    tokenizers.compare,
    priors.compare_priors,
    priors.judge_samples,
    tokenizers.report,
)
"""Each under the name of its function."""
USER_ERRORS = (SettingsError, OSError, ValueError, FloatingPointError, VqtokError)


def command_line() -> typer.Typer:
    """All commands as one."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    for command in COMMANDS:
        app.command()(command)
    return app


def main() -> None:
    """Run the command line; a mistake of the user's is one sentence and exit status 2."""
    try:
        command_line()()
    except USER_ERRORS as error:
        sentence = f"[red]error:[/red] {escape(str(error))}"
        Console(stderr=True, soft_wrap=True).print(sentence, highlight=False)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
