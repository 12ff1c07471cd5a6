"""What `/v1/codebook/stats` says, each figure with the number of tokens behind it. Blocking."""

from dataclasses import asdict
from typing import Any

from service.model import Model
from vqtok.statistics import UsageSummary, summarise

NO_DRIFT = "The bundle holds no null distribution of drift to compare with."
NO_SOFT = "The encoder gives no posterior over codes."


def statistics(model: Model) -> dict[str, Any]:
    """Usage since the start and of the training tokens, one entry for each level of depth."""
    manifest = model.manifest
    observed = model.usage.counted()
    training = model.training_usage.reshape(manifest.depth, -1)
    return {
        "model": manifest.full_name,
        "codebook_id": manifest.codebook_id,
        "tokenizer_id": manifest.tokenizer_id,
        "since": model.opened_at,
        "observed": [_usage(each) for each in observed.summary(model.training_usage)],
        "training": [_usage(summarise(counts)) for counts in training],
        "margins": asdict(observed.margins()),
        "distances": [asdict(each) for each in model.distances()],
        "soft": None,
        "soft_reason": NO_SOFT,
        "drift": None,
        "drift_reason": NO_DRIFT,
    }


def _usage(summary: UsageSummary) -> dict[str, Any]:
    return asdict(summary)
