"""A prior's run: settings, checkpoint, weights, result in a folder."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save

from models.priors import DiffusionPrior, Prior, TokenModel
from models.storage import SETTINGS_FILE, WEIGHTS_FILE
from training.priors.build import built
from training.priors.loop import PriorTrainer
from training.priors.measure import bits_of_images, choose_schedule, first, standard_error
from training.priors.settings import PriorSettings, load_prior_settings
from training.priors.spread import measure_spread
from training.priors.step import write_step
from training.priors.times import choose_time
from training.priors.tokens import TokenPart, TokenSplits, load_tokens, token_shape
from training.progress import Show, bar
from training.results import RESULT_FILE, commit, hardware, read_result, write_result
from training.runs import prepare_folder
from vqtok.bundle import Bundle

TOKENS_FILE = "tokens.npz"


def train_prior(
    settings: PriorSettings,
    folder: Path,
    *,
    tokens_file: Path | None = None,
    fresh: bool = False,
    show: Show = bar,
) -> dict[str, Any]:
    """Train into `folder`, going on from its checkpoint, and give the result, also written there.

    tokens_file: where the data set's tokens are kept; `tokens.npz` of the folder when left out.
    Raises SettingsError when the folder holds a run with other settings and not `fresh`, which
    removes it.
    """
    prepare_folder(folder, fresh)
    bundle = Bundle.open(settings.bundle)
    tokens = load_tokens(bundle, settings.data, tokens_file or folder / TOKENS_FILE)
    trainer = PriorTrainer(settings, tokens, folder, show)
    if trainer.state.step == trainer.num_steps and (folder / RESULT_FILE).exists():
        return read_result(folder)
    (folder / SETTINGS_FILE).write_text(settings.to_toml())
    state = trainer.run()
    prior = trainer.final_prior()
    chosen = _chosen(prior, tokens, settings)
    weights = {name: tensor.contiguous() for name, tensor in prior.state_dict().items()}
    (folder / WEIGHTS_FILE).write_bytes(save(weights))
    if isinstance(prior, DiffusionPrior):
        write_step(folder, prior)
    images = state.step * settings.schedule.batch_size
    result: dict[str, Any] = {
        "name": settings.name,
        "settings": settings.to_table(),
        "tokenizer_id": str(bundle.manifest.tokenizer_id),
        "num_tokens": tokens.shape.num_positions,
        "label_names": list(tokens.label_names),
        "is_exact": prior.is_exact,
        "schedule": prior.schedule,
        "schedules": chosen,
        "parameters": sum(parameter.numel() for parameter in prior.parameters()),
        "validation": _figures(prior, _measured(prior, tokens, settings)),
        "commit": commit(),
        "steps": state.step,
        "images": images,
        "seconds": round(state.seconds, 1),
        "processor_seconds": round(state.processor_seconds, 1),
        "hardware": hardware(trainer.fabric.device),
        "history": state.history,
    }
    if isinstance(prior, DiffusionPrior):
        result["sigma"] = prior.mixture.sigma
    write_result(folder, result)
    return result


def load_prior(folder: Path) -> tuple[PriorSettings, Prior]:
    """The settings and the prior of a finished run, in evaluation mode, its chosen schedule set.

    Raises ValueError for a kind whose bits are no more than bounded.
    """
    settings, prior = load_model(folder)
    if not isinstance(prior, Prior):
        raise ValueError(
            f"{settings.prior.kind} has a bound on its bits and no code lengths: bundles take "
            "priors of exact bits alone; `python -m training sample-latents` draws from this one"
        )
    return settings, prior


def load_model(folder: Path) -> tuple[PriorSettings, Prior | DiffusionPrior]:
    """As `load_prior`, of any kind."""
    settings, result = load_prior_settings(folder / SETTINGS_FILE), read_result(folder)
    manifest = Bundle.open(settings.bundle).manifest
    prior = built(settings, token_shape(manifest, len(result["label_names"])))
    prior.load_state_dict(load_file(folder / WEIGHTS_FILE))
    prior.set_schedule(result["schedule"])
    return settings, prior.eval()


def _chosen(
    prior: Prior | DiffusionPrior, tokens: TokenSplits, settings: PriorSettings
) -> list[dict[str, Any]]:
    if isinstance(prior, DiffusionPrior):
        measure_spread(prior, tokens.train)
        held = first(tokens.validation, settings.schedule.choosing_images)
        chosen = choose_time(prior, tokens.train, held, settings.seed) if len(held) else []
        return [asdict(each) for each in chosen]
    schedules = tuple(settings.prior.options.get("schedules", ()))
    if len(schedules) < 2 or not len(tokens.validation):
        return []
    part = first(tokens.validation, settings.schedule.choosing_images)
    return [asdict(each) for each in choose_schedule(prior, schedules, part)]


def _measured(prior: TokenModel, tokens: TokenSplits, settings: PriorSettings) -> TokenPart:
    """All validation images; of a prior without exact bits those that it is watched by."""
    if prior.is_exact:
        return tokens.validation
    return first(tokens.validation, settings.schedule.choosing_images)


def _figures(prior: TokenModel, part: TokenPart) -> dict[str, float]:
    """Bits an image, mean and standard error, without labels and with them."""
    if not len(part):
        return {}
    bits = bits_of_images(prior, part, labelled=False)
    figures = {"bits_per_image": float(bits.mean()), "standard_error": standard_error(bits)}
    if prior.shape.num_labels:
        given = bits_of_images(prior, part, labelled=True, description="bits given labels")
        figures["bits_given_label"] = float(np.mean(given))
    return figures
