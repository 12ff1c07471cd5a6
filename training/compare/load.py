"""Read a comparison and find everything that is wrong with it before anything is trained."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from models.quantizers import build_quantizer
from training.compare.ablation import comparison_table, is_ablation
from training.compare.plan import first_runs_of
from training.compare.settings import Comparison
from training.objectives import build_objective
from training.settings import SettingsError, mistakes, read_table, settings_from


def load_comparison(path: Path, overrides: Sequence[str] = ()) -> Comparison:
    """The comparison or ablation in a TOML file, with "table.key=value" overrides.

    `rows` may name a file beside it that has the `[[method]]` entries. Raises SettingsError naming
    everything that is wrong: unknown methods all at once, then every row whose runs are none.
    """
    table = read_table(path, overrides)
    if "rows" in table:
        table |= read_table(path.parent / str(table.pop("rows")))
    if is_ablation(table):
        table = comparison_table(table, str(path))
    try:
        comparison = Comparison.model_validate(table)
    except ValidationError as error:
        raise SettingsError(f"{path}: {mistakes(error)}") from error
    wrong = plan_mistakes(comparison)
    if wrong:
        raise SettingsError(f"{path}: " + "; ".join(wrong))
    return comparison


def plan_mistakes(comparison: Comparison) -> list[str]:
    """One sentence for each row whose settings are no run's, or those of another row."""
    wrong: dict[str, None] = {}
    seen: dict[str, str] = {}
    for method in comparison.method:
        try:
            for run in first_runs_of(comparison, method):
                settings = settings_from(dict(run.table), run.label)
                build_quantizer(settings.model.method, settings.model.quantizer)
                build_objective(settings.objective.name, settings.objective.options)
                if run.digest in seen:
                    wrong[f"{seen[run.digest]} and {run.label} plan the same run twice"] = None
                seen[run.digest] = run.label
        except (TypeError, ValueError) as error:
            sentence = str(error)
            named = sentence.startswith(f"{method.label}: ")
            wrong[sentence if named else f"{method.label}: {sentence}"] = None
    return list(wrong)
