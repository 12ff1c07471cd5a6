"""The training loop of priors."""

import math
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models import Noise
from models.priors import DiffusionPrior, Prior, TokenModel
from training.checkpoint import RunState, load_checkpoint, save_checkpoint
from training.data.batches import FLIP_STREAM, BatchPlan
from training.optimiser import share_of_peak
from training.priors.build import begun
from training.priors.measure import bits_of_images, first
from training.priors.settings import PriorSettings
from training.priors.spread import measure_spread
from training.priors.tokens import TokenSplits
from training.progress import Bar, Show, bar

LOG_EVERY = 50


class PriorTrainer:
    """One run. `folder` receives the checkpoint; a checkpoint there goes on."""

    def __init__(
        self, settings: PriorSettings, tokens: TokenSplits, folder: Path, show: Show = bar
    ) -> None:
        torch.set_flush_denormal(True)
        torch.manual_seed(settings.seed)
        self.settings, self.tokens, self.folder, self.show = settings, tokens, folder, show
        schedule = settings.schedule
        self.fabric = Fabric(accelerator=schedule.device, devices=1, precision=schedule.precision)
        prior = begun(settings, tokens)
        optimisers = build_optimisers(prior, settings)
        self.prior: Prior | DiffusionPrior = prior.to(self.fabric.device)
        self.optimisers = optimisers
        self.average = (
            AveragedModel(self.prior, multi_avg_fn=get_ema_multi_avg_fn(schedule.average))
            if schedule.average
            else None
        )
        self.plan = BatchPlan(len(tokens.train), schedule.batch_size, settings.seed)
        self.num_steps = _num_steps(settings, len(tokens.train)) if optimisers else 0
        self.state: RunState = load_checkpoint(folder, self._modules(), settings.to_table())

    def _modules(self) -> dict[str, Any]:
        modules: dict[str, Any] = {"prior": self.prior}
        modules |= {f"optimiser{i}": each for i, each in enumerate(self.optimisers)}
        return modules | ({"average": self.average} if self.average else {})

    def run(self) -> RunState:
        """Train to the end; give where the run stands then."""
        steps = self.plan.from_step(self.state.step, self.num_steps)
        with self.show(self.settings.name, self.num_steps, self.state.step) as shown:
            for step, samples in steps:
                self._advance(step, samples, shown)
        return self.state

    def final_prior(self) -> Prior | DiffusionPrior:
        """What training ends with: the prior, or the average of its weights."""
        return (
            self.prior
            if self.average is None
            else cast("Prior | DiffusionPrior", self.average.module)
        )

    def _advance(self, step: int, samples: np.ndarray[Any, Any], shown: Bar) -> None:
        schedule = self.settings.schedule
        started = time.perf_counter(), time.process_time()
        loss = self._step(step, samples)
        self.state.step = step + 1
        self.state.seconds += time.perf_counter() - started[0]
        self.state.processor_seconds += time.process_time() - started[1]
        shown.advance()
        if step % LOG_EVERY == 0:
            bits = float(loss) / math.log(2.0)
            shown.note(f"{bits:.3f} bits a token")
        last = step + 1 == self.num_steps
        if (step + 1) % schedule.validate_every == 0 or last:
            self._validate()
        if (step + 1) % schedule.checkpoint_every == 0 or last:
            save_checkpoint(self.folder, self.state, self._modules(), self.settings.to_table())

    def _step(self, step: int, samples: np.ndarray[Any, Any]) -> Tensor:
        noise = Noise(self.settings.seed, step, torch.from_numpy(samples).to(self.fabric.device))
        tokens, labels = self._batch(samples, noise)
        share = share_of_peak(self.settings.optimiser, step / self.num_steps)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * share
        self.prior.train()
        with self.fabric.autocast():
            loss = self.prior.loss(tokens, labels, noise)
        self.prior.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.prior.parameters(), self.settings.optimiser.clip_norm)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"the gradient of step {step} is not finite; lower optimiser.learning_rate"
            )
        for optimiser in self.optimisers:
            optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.prior)
        return loss.detach()

    def _batch(self, samples: np.ndarray[Any, Any], noise: Noise) -> tuple[Tensor, Tensor]:
        train, mirrored = self.tokens.train, self.tokens.mirrored
        chosen = torch.from_numpy(train.tokens[samples].astype(np.int64)).to(self.fabric.device)
        if len(mirrored):
            other = torch.from_numpy(mirrored[samples].astype(np.int64)).to(self.fabric.device)
            chosen = torch.where(noise.uniform(FLIP_STREAM, 1) < 0.5, other, chosen)
        return chosen, torch.from_numpy(train.labels[samples]).to(self.fabric.device)

    def _validate(self) -> None:
        part = first(self.tokens.validation, self.settings.schedule.choosing_images)
        if not len(part):
            return
        prior = self.final_prior()
        if isinstance(prior, DiffusionPrior):
            measure_spread(prior, self.tokens.train)
        bits = bits_of_images(prior, part, labelled=False, description="validation")
        self.state.history.append(
            {
                "step": self.state.step,
                "seconds": round(self.state.seconds, 3),
                "processor_seconds": round(self.state.processor_seconds, 3),
                "bits_per_image": float(bits.mean()),
            }
        )


def build_optimisers(prior: TokenModel, settings: PriorSettings) -> list[Optimizer]:
    """AdamW, and where it is asked for Muon on the matrices of the blocks; none for tables.

    Weight decay is on matrices alone, embeddings left out.
    """
    chosen = settings.optimiser
    named = dict(prior.named_parameters())
    blocks = {k: v for k, v in named.items() if ".blocks." in k and v.dim() == 2}
    inner = blocks if chosen.muon_learning_rate else {}
    decayed = {k: v for k, v in named.items() if k in blocks or k.endswith("head.weight")}
    groups = [
        {"params": [v for k, v in decayed.items() if k not in inner]},
        {"params": [v for k, v in named.items() if k not in decayed], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimisers: list[Optimizer] = []
    if groups:
        optimisers.append(
            AdamW(groups, lr=chosen.learning_rate, weight_decay=chosen.weight_decay, fused=True)
        )
    if inner:
        optimisers.append(
            Muon(
                list(inner.values()), lr=chosen.muon_learning_rate, weight_decay=chosen.weight_decay
            )
        )
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
    return optimisers


def _num_steps(settings: PriorSettings, num_images: int) -> int:
    schedule = settings.schedule
    return round(num_images // schedule.batch_size * schedule.epochs)
