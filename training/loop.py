"""The training loop. It knows no method: quantizers have hooks, objectives combine the terms."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor

from models import Noise, Progress
from models.quantizers import Quantized
from models.quantizers.base import vectors_of
from models.randomness import INITIALISATION_STEP
from training.checkpoint import RunState, load_checkpoint, save_checkpoint
from training.data import Splits
from training.data.batches import Batch, BatchPlan, to_pixels, training_batches
from training.evaluate import evaluate_model
from training.objectives import Loss
from training.optimiser import build_optimiser, learning_rate
from training.progress import Bar, bar
from training.settings import RunSettings, SettingsError
from training.task import Task

LOG_EVERY = 50


class Trainer:
    """One run. `folder` receives checkpoint and TensorBoard log; a checkpoint there goes on."""

    def __init__(self, settings: RunSettings, splits: Splits, folder: Path) -> None:
        # Softmaxes over many codes are full of denormals, which cost a CPU several times the normal
        # time; the flag is inherited by threads that start later.
        torch.set_flush_denormal(True)
        torch.manual_seed(settings.seed)
        self.settings, self.splits, self.folder = settings, splits, folder
        self.fabric = Fabric(
            devices=1,
            precision=settings.schedule.precision,
            loggers=TensorBoardLogger(folder, name="tensorboard", version=""),
        )
        self.plan = BatchPlan(len(splits.train), settings.schedule.batch_size, settings.seed)
        self.num_steps = max(1, round(self.plan.steps_per_epoch * settings.schedule.epochs))
        _check_sizes(settings, splits)
        task = Task(settings).train()
        task.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.model, self.objective = task.model, task.objective
        optimiser = build_optimiser(task, settings.optimiser)
        self.wrapped, self.optimiser = self.fabric.setup(task, optimiser)
        self.state: RunState = load_checkpoint(folder, self._modules(), settings.to_table())

    def _modules(self) -> dict[str, Any]:
        return {"model": self.model, "objective": self.objective, "optimiser": self.optimiser}

    def run(self) -> RunState:
        """Train to the end; give where the run stands then."""
        if self.state.step == 0:
            self._initialise_quantizer()
        steps = range(self.state.step, self.num_steps)
        workers = self.settings.data.num_workers
        with bar(self.settings.name, self.num_steps, self.state.step) as shown:
            for step, batch in zip(steps, self._batches(steps, workers), strict=True):
                self._timed_step(step, batch, shown)
        return self.state

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.folder, self.state, self._modules(), self.settings.to_table())

    def _batches(self, steps: range, num_workers: int) -> Any:
        loader = training_batches(
            self.splits.train,
            self.plan,
            steps,
            flip=self.settings.data.flip,
            num_workers=num_workers,
        )
        return self.fabric.setup_dataloaders(loader, use_distributed_sampler=False)

    @torch.no_grad()
    def _initialise_quantizer(self) -> None:
        """Give the quantizer heads of the first batches, normalised as in training."""
        heads: list[Tensor] = []
        indices: list[Tensor] = []
        num_vectors = 0
        for batch in self._batches(range(self.plan.steps_per_epoch), num_workers=0):
            with self.fabric.autocast():
                heads.append(self.model.encoder(to_pixels(batch.pixels)).float())
            indices.append(batch.sample_indices)
            num_vectors += heads[-1].numel() // heads[-1].shape[1]
            if num_vectors >= self.settings.schedule.kmeans_vectors:
                break
        progress = self._progress(INITIALISATION_STEP, torch.cat(indices))
        self.model.quantizer.initialise(vectors_of(heads), progress)

    def _progress(self, step: int, sample_indices: Tensor) -> Progress:
        return Progress(step, self.num_steps, Noise(self.settings.seed, step, sample_indices))

    def _timed_step(self, step: int, batch: Batch, shown: Bar) -> None:
        started = time.perf_counter()
        loss, quantized, norm = self._step(step, batch)
        self.state.step = step + 1
        self.state.seconds += time.perf_counter() - started
        shown.advance()
        if step % LOG_EVERY == 0:
            self._log(step, loss, {**quantized.statistics, "gradient_norm": norm}, shown)
        schedule, last = self.settings.schedule, step + 1 == self.num_steps
        if len(self.splits.validation) and ((step + 1) % schedule.validate_every == 0 or last):
            self._validate()
        if (step + 1) % schedule.checkpoint_every == 0 or last:
            self.save()

    def _step(self, step: int, batch: Batch) -> tuple[Loss, Quantized, Tensor]:
        pixels = to_pixels(batch.pixels)
        progress = self._progress(step, batch.sample_indices)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.settings.optimiser, progress.fraction)
        loss, quantized = self.wrapped(pixels, progress)
        self.optimiser.zero_grad()
        self.fabric.backward(loss.total)
        norm = self.fabric.clip_gradients(
            self.wrapped,
            self.optimiser,
            max_norm=self.settings.optimiser.clip_norm,
            error_if_nonfinite=False,
        )
        if not torch.isfinite(torch.as_tensor(norm)):
            raise FloatingPointError(
                f"the gradient of step {step} is not finite; lower optimiser.learning_rate"
            )
        self.optimiser.step()
        self.model.quantizer.after_step(quantized, progress, self.optimiser.state)
        self.objective.after_step(quantized)
        return loss, quantized, torch.as_tensor(norm)

    def _log(self, step: int, loss: Loss, statistics: dict[str, Tensor], shown: Bar) -> None:
        total = float(loss.total.detach())
        scalars = {f"train/{name}": float(part) for name, part in loss.parts.items()}
        scalars |= {f"train/{name}": float(value) for name, value in statistics.items()}
        scalars["train/loss"] = total
        scalars["train/learning_rate"] = self.optimiser.param_groups[0]["lr"]
        self.fabric.log_dict(scalars, step=step)
        shown.note(f"mse {scalars['train/mse'] * 1e3:.2f}e-3")

    def _validate(self) -> None:
        figures = evaluate_model(self.model, self.splits.validation)
        self.state.history.append({"step": self.state.step, **figures})
        named = {f"validation/{name}": value for name, value in figures.items()}
        self.fabric.log_dict(named, step=self.state.step)


def _check_sizes(settings: RunSettings, splits: Splits) -> None:
    """Raises SettingsError where the images fill no batch or no grid of whole cells."""
    num_images, batch_size = len(splits.train), settings.schedule.batch_size
    if num_images < batch_size:
        raise SettingsError(
            f"schedule.batch_size is {batch_size}, and there are {num_images} training images"
        )
    (height, width, _), factor = splits.train[0].shape, settings.model.network.factor
    if height % factor or width % factor:
        raise SettingsError(
            f"images of {height} x {width} do not divide by model.network.factor {factor}"
        )
