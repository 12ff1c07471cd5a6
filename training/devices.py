"""The devices of a run: one, or those of the processes that torchrun started."""

import os
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.plugins import DoublePrecision
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from training.settings import RunSettings, ScheduleSettings, SettingsError

# The first process evaluates while the others wait in a collective.
PATIENCE = timedelta(hours=4)


@dataclass(frozen=True)
class Launch:
    """How this process was started: number `rank` of `num_processes`, `here` on this machine."""

    rank: int = 0
    num_processes: int = 1
    here: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and tells how far the run is."""
        return self.rank == 0


def launch() -> Launch:
    """What torchrun says in the environment; without it, one process."""
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        return Launch()
    names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    return Launch(*(int(os.environ[name]) for name in names))


def device_type(schedule: ScheduleSettings, started: Launch) -> str:
    """ "cpu" or "cuda". Raises SettingsError where there are fewer GPUs than were asked for."""
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    chosen = schedule.device
    if chosen == "auto":
        chosen = "cuda" if num_gpus else "cpu"
    if chosen == "cuda" and num_gpus < started.here:
        raise SettingsError(
            f"{started.here} processes want a GPU each, and torch sees {num_gpus}; lower "
            '--nproc-per-node, or set schedule.device = "cpu"'
        )
    return chosen


def check_shares(settings: RunSettings, started: Launch, kind: str) -> None:
    """Raise SettingsError where processes would train something else than one would."""
    batch_size, num = settings.schedule.batch_size, started.num_processes
    if batch_size % num:
        raise SettingsError(
            f"schedule.batch_size is {batch_size}, and {num} processes share each batch in equal "
            f"parts; take a multiple of {num}"
        )
    network = settings.model.network
    if num > 1 and kind == "cpu" and (network.norm == "batch" or network.standardise):
        raise SettingsError(
            "several processes on CPUs cannot normalise over the batch that they share; set "
            'model.network.norm = "none" and standardise = false, or train in one process'
        )


class _Double(DoublePrecision):
    """Fabric's, but what a step gives stays in float64."""

    def convert_output(self, data: object) -> object:
        return data


def open_fabric(settings: RunSettings, logger: Logger) -> Fabric:
    """Fabric on this process's device, connected with the other processes."""
    started = launch()
    kind = device_type(settings.schedule, started)
    check_shares(settings, started, kind)
    double = settings.schedule.precision == "64-true"
    fabric = Fabric(
        accelerator=kind,
        devices=started.here,
        num_nodes=started.num_processes // started.here,
        strategy=_shared() if started.num_processes > 1 else "auto",
        precision=None if double else settings.schedule.precision,
        plugins=_Double() if double else None,
        loggers=logger,
    )
    fabric.launch()
    return fabric


def _shared() -> DDPStrategy:
    # torch before 2.13 knows the option by its older name only.
    known = signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {
        # Buffers are equal because they are computed from the whole batch; copying those of the
        # first process would hide it if they were not.
        buffers: False,
        # An objective need not reach every parameter of a quantizer.
        "find_unused_parameters": True,
    }
    return DDPStrategy(timeout=PATIENCE, **options)
