"""The training loop. It knows no method: quantizers have hooks, objectives combine the terms."""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor, nn

from models import Autoencoder, Noise, Progress
from models.collectives import alone, copy_from_first, gathered, global_mean
from models.precision import exact_float32
from models.quantizers.base import full_precision, vectors_of
from models.randomness import INITIALISATION_STEP
from training.averaging import WeightAverage
from training.checkpoint import RunState, load_checkpoint, save_checkpoint
from training.data import Splits
from training.data.batches import Batch, BatchPlan, to_pixels, training_batches
from training.data.sources import open_source
from training.devices import open_fabric
from training.evaluate import evaluate_model
from training.objectives import Loss
from training.optimiser import build_optimisers, share_of_peak
from training.progress import Bar, Show, bar
from training.results import hardware
from training.settings import RunSettings, ScheduleSettings, SettingsError
from training.start import start_from
from training.task import Task

LOG_EVERY = 50
NUM_STATISTICS_BATCHES = 100


class Trainer:
    """One run. `folder` receives checkpoint and TensorBoard log; a checkpoint there goes on.

    Where torchrun started several processes, each makes one and takes its share of every batch.
    """

    def __init__(
        self, settings: RunSettings, splits: Splits, folder: Path, show: Show = bar
    ) -> None:
        # Softmaxes over many codes are full of denormals, which cost a CPU several times the normal
        # time; the flag is inherited by threads that start later.
        torch.set_flush_denormal(True)
        torch.manual_seed(settings.seed)
        check_sizes(settings, splits)
        self.settings, self.splits, self.folder, self.show = settings, splits, folder, show
        logger = TensorBoardLogger(folder, name="tensorboard", version="")
        self.fabric = open_fabric(settings, logger)
        rank, num = self.fabric.global_rank, self.fabric.world_size
        schedule = settings.schedule
        self.plan = BatchPlan(len(splits.train), schedule.batch_size, settings.seed, rank, num)
        self.num_steps = num_steps(schedule, len(splits.train))
        self.kmeans_step = round(self.num_steps * schedule.kmeans_after)
        self.source = open_source(splits.train, self.fabric.device)
        self.task = task = self._task()
        self.model, self.objective = task.model, task.objective
        decay = settings.schedule.average
        self.average = WeightAverage(task.model, decay) if decay else None
        optimisers = build_optimisers(task, settings.optimiser)
        self.wrapped, *self.optimisers = self.fabric.setup(task, *optimisers)
        self.fabric.barrier()
        self.state: RunState = load_checkpoint(folder, self._modules(), settings.to_table())
        self._logged = RunState(self.state.step, self.state.seconds)

    def _task(self) -> Task:
        task = Task(self.settings).train()
        if self.settings.start is not None:
            start_from(task, self.settings.start)
        task.to(self.fabric.device)
        task.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if self.fabric.world_size > 1 and self.fabric.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(task)
        if self.settings.schedule.compile:
            task.model.encoder.compile()
            task.model.decoder.compile()
        return task

    def _modules(self) -> dict[str, Any]:
        modules: dict[str, Any] = {"model": self.model, "objective": self.objective}
        modules |= dict(zip(("optimiser", "muon"), self.optimisers, strict=False))
        return modules | ({"average": self.average} if self.average else {})

    @property
    def hardware(self) -> str:
        """What the run is computed on."""
        return hardware(self.fabric.device, self.fabric.world_size)

    def run(self) -> RunState:
        """Train to the end; give where the run stands then."""
        with exact_float32():
            batches = self._batches(
                range(self.state.step, self.num_steps), self.settings.data.num_workers
            )
            with self._bar() as shown:
                while self.state.step < self.num_steps:
                    self._advance(batches, shown)
        return self.state

    def _bar(self) -> AbstractContextManager[Bar]:
        stands = self.settings.name, self.num_steps, self.state.step
        return self.show(*stands) if self.fabric.is_global_zero else bar(*stands, hidden=True)

    def final_model(self) -> Autoencoder:
        """What training ends with: the model, or the average of its weights."""
        if self.average is None:
            return self.model
        steps = range(min(NUM_STATISTICS_BATCHES, self.plan.steps_per_epoch))
        batches = map(self._pixels, self._batches(steps, num_workers=0))
        return self.average.averaged(self.model, batches)

    @property
    def _starts_codes(self) -> bool:
        return self.settings.start is None and self.settings.schedule.kmeans_vectors > 0

    def save(self) -> None:
        """Write the checkpoint."""
        if self.fabric.is_global_zero:
            save_checkpoint(self.folder, self.state, self._modules(), self.settings.to_table())

    def _batches(self, steps: range, num_workers: int) -> Iterator[Batch]:
        flip = self.settings.data.flip
        return training_batches(self.source, self.plan, steps, flip=flip, num_workers=num_workers)

    def _pixels(self, batch: Batch) -> Tensor:
        return to_pixels(batch.pixels, self.model.encoder.head.weight.dtype)

    @torch.no_grad()
    def _initialise_quantizer(self) -> None:
        """Give the quantizer heads of the first batches, normalised as in training."""
        heads: list[Tensor] = []
        indices: list[Tensor] = []
        num_vectors = 0
        for batch in self._batches(range(self.plan.steps_per_epoch), num_workers=0):
            with self.fabric.autocast():
                head = self.model.encoder(self._pixels(batch))
            # Batch by batch, so that they lie in the order of the samples.
            heads.append(gathered(full_precision(head)))
            indices.append(gathered(batch.sample_indices))
            num_vectors += heads[-1].numel() // heads[-1].shape[1]
            if num_vectors >= self.settings.schedule.kmeans_vectors:
                break
        progress = self._progress(INITIALISATION_STEP, torch.cat(indices))
        with alone():
            self.model.quantizer.initialise(vectors_of(heads), progress)
        copy_from_first(self.model.quantizer)

    def _progress(self, step: int, sample_indices: Tensor) -> Progress:
        return Progress(step, self.num_steps, Noise(self.settings.seed, step, sample_indices))

    def _advance(self, batches: Iterator[Batch], shown: Bar) -> None:
        """Do the next step, and what is due after it."""
        step, schedule = self.state.step, self.settings.schedule
        started = time.perf_counter(), time.process_time()
        if step == self.kmeans_step and self._starts_codes:
            self._initialise_quantizer()
        loss, statistics = self._step(step, next(batches))
        self.state.step = step + 1
        self.state.seconds += time.perf_counter() - started[0]
        self.state.processor_seconds += time.process_time() - started[1]
        shown.advance()
        if step % LOG_EVERY == 0:
            self._log(step, loss, statistics, shown)
        last = step + 1 == self.num_steps
        if len(self.splits.validation) and ((step + 1) % schedule.validate_every == 0 or last):
            self._validate()
        if (step + 1) % schedule.checkpoint_every == 0 or last:
            self.save()

    def _step(self, step: int, batch: Batch) -> tuple[Loss, dict[str, Tensor]]:
        pixels = self._pixels(batch)
        progress = self._progress(step, batch.sample_indices)
        share = share_of_peak(self.settings.optimiser, progress.fraction)
        for group in self._groups():
            group["lr"] = group["initial_lr"] * share
        loss, quantized = self.wrapped(pixels, progress, continuous=step < self.kmeans_step)
        self.wrapped.zero_grad()
        self.fabric.backward(loss.total)
        # Fabric clips the parameters of one optimiser.
        norm = nn.utils.clip_grad_norm_(
            self.wrapped.parameters(), self.settings.optimiser.clip_norm
        )
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"the gradient of step {step} is not finite; lower optimiser.learning_rate"
            )
        for optimiser in self.optimisers:
            optimiser.step()
        if self.average is not None:
            self.average.update(self.model)
        statistics = {"gradient_norm": norm}
        if quantized is not None:
            self.task.after_step(quantized, progress, self.optimisers[0].state)
            statistics |= quantized.statistics
        return loss, statistics

    def _groups(self) -> Iterator[dict[str, Any]]:
        for optimiser in self.optimisers:
            yield from optimiser.param_groups

    def _passed(self) -> dict[str, float]:
        names = ("step", "seconds", "processor_seconds")
        return {name: round(getattr(self.state, name), 3) for name in names}

    def _log(self, step: int, loss: Loss, statistics: dict[str, Tensor], shown: Bar) -> None:
        scalars = _averaged({**loss.parts, **statistics, "loss": loss.total})
        scalars["learning_rate"] = self.optimisers[0].param_groups[0]["lr"]
        scalars["images_per_second"] = self._images_per_second()
        self.fabric.log_dict({f"train/{name}": value for name, value in scalars.items()}, step)
        rate = scalars["images_per_second"]
        shown.note(f"mse {scalars['mse'] * 1e3:.2f}e-3, {rate:,.0f} images/s")

    def _images_per_second(self) -> float:
        """Of all processes, since this was last asked."""
        steps = self.state.step - self._logged.step
        seconds = self.state.seconds - self._logged.seconds
        self._logged = RunState(self.state.step, self.state.seconds)
        return steps * self.settings.schedule.batch_size / seconds

    def _validate(self) -> None:
        last = self.state.step == self.num_steps
        model = self.final_model() if last else self.model
        figures: dict[str, float] = {}
        if self.fabric.is_global_zero:
            figures = evaluate_model(model, self.splits.validation)
        figures = self.fabric.broadcast(figures)
        if not math.isfinite(figures["mse"]):
            raise FloatingPointError(
                f"the validation error after {self.state.step} steps is not finite; lower "
                "optimiser.learning_rate"
            )
        self.state.history.append({**self._passed(), **figures})
        named = {f"validation/{name}": value for name, value in figures.items()}
        self.fabric.log_dict(named, step=self.state.step)


def _averaged(scalars: dict[str, Tensor]) -> dict[str, float]:
    """Their means over the processes."""
    values = torch.stack([value.detach().float().reshape(()) for value in scalars.values()])
    return dict(zip(scalars, global_mean(values).tolist(), strict=True))


def num_steps(schedule: ScheduleSettings, num_images: int) -> int:
    """How many steps a schedule is over that many training images; at least 1."""
    return max(1, round(num_images // schedule.batch_size * schedule.epochs))


def check_sizes(settings: RunSettings, splits: Splits) -> None:
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
