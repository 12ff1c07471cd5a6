"""The training loop of the classifier."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from torch.optim import AdamW, Optimizer

from models import Noise
from models.classifier import Classifier
from training.checkpoint import RunState, load_checkpoint, save_checkpoint
from training.data import load_splits
from training.data.batches import FLIP_STREAM, Batch, BatchPlan, to_pixels, training_batches
from training.data.sources import open_source
from training.judge.sets import known_labels
from training.judge.settings import JudgeSettings
from training.muon import KernelMuon
from training.optimiser import share_of_peak
from training.progress import Bar, Show, bar
from training.settings import OptimiserSettings, SettingsError

LOG_EVERY = 20
SHIFT_STREAM = FLIP_STREAM + 1


class ClassifierTrainer:
    """One run. `folder` receives the checkpoint; a checkpoint there goes on."""

    def __init__(self, settings: JudgeSettings, folder: Path, show: Show = bar) -> None:
        torch.set_flush_denormal(True)
        chosen = settings.classifier
        torch.manual_seed(chosen.seed)
        self.data, self.settings, self.folder, self.show = settings.data, chosen, folder, show
        self.splits, self.known = load_splits(settings.data), known_labels(settings.data)
        self.table = settings.classifier_table()
        schedule = chosen.schedule
        self.fabric = Fabric(accelerator=schedule.device, devices=1, precision=schedule.precision)
        device = self.fabric.device
        training = self.splits.train
        self.labels = torch.from_numpy(self.known.train[: len(training)]).to(device)
        self.classifier = Classifier(len(self.known.names), chosen.width).to(device)
        self.classifier.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.optimisers = build_optimisers(self.classifier, chosen.optimiser)
        self.plan = BatchPlan(len(training), schedule.batch_size, chosen.seed)
        self.source = open_source(training, device)
        self.num_steps = round(self.plan.steps_per_epoch * schedule.epochs)
        if not self.num_steps:
            raise SettingsError(
                f"classifier.schedule asks for {schedule.epochs:g} epochs of {len(training)} "
                f"images in batches of {schedule.batch_size}, which is not one step"
            )
        self.state: RunState = load_checkpoint(folder, self._modules(), self.table)

    def _modules(self) -> dict[str, Any]:
        modules: dict[str, Any] = {"classifier": self.classifier}
        return modules | {f"optimiser{i}": each for i, each in enumerate(self.optimisers)}

    def run(self) -> RunState:
        """Train to the end; give where the run stands then."""
        steps = range(self.state.step, self.num_steps)
        batches = training_batches(
            self.source,
            self.plan,
            steps,
            flip=self.data.flip,
            num_workers=self.data.num_workers,
        )
        with self.show("classifier", self.num_steps, self.state.step) as shown:
            for step, batch in zip(steps, batches, strict=True):
                self._advance(step, batch, shown)
        return self.state

    def _advance(self, step: int, batch: Batch, shown: Bar) -> None:
        started = time.perf_counter(), time.process_time()
        loss = self._step(step, batch)
        self.state.step = step + 1
        self.state.seconds += time.perf_counter() - started[0]
        self.state.processor_seconds += time.process_time() - started[1]
        shown.advance()
        if step % LOG_EVERY == 0:
            shown.note(f"cross-entropy {float(loss):.3f}")
        if (step + 1) % self.settings.schedule.checkpoint_every == 0 or step + 1 == self.num_steps:
            save_checkpoint(self.folder, self.state, self._modules(), self.table)

    def _step(self, step: int, batch: Batch) -> Tensor:
        share = share_of_peak(self.settings.optimiser, step / self.num_steps)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * share
        noise = Noise(self.settings.seed, step, batch.sample_indices)
        pixels = shifted(to_pixels(batch.pixels), noise, self.settings.shift)
        self.classifier.train()
        with self.fabric.autocast():
            logits = self.classifier(pixels)
        loss = cross_entropy(
            logits.float(),
            self.labels[batch.sample_indices],
            label_smoothing=self.settings.label_smoothing,
        )
        self.classifier.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(
            self.classifier.parameters(), self.settings.optimiser.clip_norm
        )
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"the gradient of step {step} is not finite; lower "
                "classifier.optimiser.learning_rate"
            )
        for optimiser in self.optimisers:
            optimiser.step()
        return loss.detach()


def shifted(pixels: Tensor, noise: Noise, most: int) -> Tensor:
    """Each image (B, C, H, W) moved by up to `most` pixels along both axes, edges mirrored."""
    if not most:
        return pixels
    height, width = pixels.shape[2:]
    tops, lefts = (noise.uniform(SHIFT_STREAM, 2) * (2 * most + 1)).long().unbind(1)
    padded = pad(pixels, (most, most, most, most), mode="reflect")
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    rows = torch.arange(len(pixels), device=pixels.device)
    return windows[rows, :, tops, lefts].contiguous(memory_format=torch.channels_last)


def build_optimisers(classifier: Classifier, settings: OptimiserSettings) -> list[Optimizer]:
    """AdamW, and where it is asked for Muon on all kernels but those that read pixels.

    Weight decay is on kernels and matrices alone.
    """
    first = next(classifier.parameters())
    kernels = [p for p in classifier.parameters() if p.dim() == 4 and p is not first]
    stepped = kernels if settings.muon_learning_rate else []
    taken = {id(parameter) for parameter in stepped}
    rest = [p for p in classifier.parameters() if id(p) not in taken]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.dim() > 1]},
        {"params": [p for p in rest if p.dim() == 1], "weight_decay": 0.0},
    ]
    decay = settings.weight_decay
    optimisers: list[Optimizer] = [
        AdamW(groups, lr=settings.learning_rate, weight_decay=decay, fused=True)
    ]
    if stepped:
        optimisers.append(KernelMuon(stepped, settings.muon_learning_rate, decay))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
    return optimisers
