"""A run that is killed and goes on ends in the bits of one that was never stopped.

Everything that could remember how it got here is on: noise, code replacement, moving averages,
mirrored samples, AdamW, Muon, BatchNorm, averaged weights, temperature and learning rate that
follow the step. The quick run kills a real process and tries every place for one quantizer, and
interrupts three of them in this process at the first checkpoint; `make test-slow` does all of it
for each, with two loader workers.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from models.quantizers import QUANTIZERS
from models.quantizers.replacement import DeadCodes
from models.storage import WEIGHTS_FILE
from tests.processes import Process, ended, kill_when
from tests.processes import start as start_program
from tests.representative import few_of
from tests.training.broken_runs import checkpoint, differences, interrupt, without_times
from tests.training.tiny import (
    CASES,
    OPTIONS,
    one_thread,
    quantizer_options,
    smooth_images,
    tiny_settings,
    write_images,
)
from training.checkpoint import CHECKPOINT_FILE
from training.results import RESULT_FILE
from training.runs import train
from training.settings import RunSettings, load_settings

ROOT = Path(__file__).parents[2]
STEPS, FIRST_CHECKPOINT = 8, 3
VALIDATION_IMAGES = 64
REPRESENTATIVE = "gmvq"
REPRESENTATIVES = (REPRESENTATIVE, "vq_ema", "rvq")
QUANTIZER_STATE = {
    "vq": {"codebook", "dead_codes.idle"},
    "vq_ema": {"codebook", "counts", "sums", "dead_codes.idle"},
    "gmvq": {"codebook", "offset", "temperature"},
    "sqvae": {"codebook", "log_variance"},
    "gumbel": {"codebook"},
    "em": {"codebook", "counts", "sums", "temperature"},
    "fsq": set(),
    "ibq": {"codebook"},
    "simvq": {"frozen_codes", "weight", "bias"},
    "rvq": {
        f"levels.{level}.{name}"
        for level in range(2)
        for name in ("codebook", "counts", "sums", "dead_codes.idle")
    },
    "vq-affine-opt": {
        "codebook",
        "space.affine.scale",
        "space.affine.shift",
        "inner.momentum_codebook",
        "inner.momentum_space_affine_scale",
        "inner.momentum_space_affine_shift",
        "dead_codes.idle",
    },
    "vq-statistics": {
        "codebook",
        "space.affine.latent_mean",
        "space.affine.latent_variance",
        "space.affine.code_mean",
        "space.affine.code_variance",
        "dead_codes.idle",
    },
    "vq-l2": {"codebook", "dead_codes.idle"},
    "vq_ema-l2": {"codebook", "counts", "sums", "dead_codes.idle"},
}
Finish = Callable[[Path, Path], None]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 images to train on and those to validate by."""
    made = smooth_images(32 + VALIDATION_IMAGES)
    return write_images(tmp_path_factory.mktemp("images"), made)


def settings_of(case: str, images: Path, **changes: Any) -> RunSettings:
    """Two epochs of four steps; a validation after each step, which also gives the killer time."""
    return tiny_settings(
        case,
        images,
        {
            "data.validation_images": VALIDATION_IMAGES,
            "data.flip": True,
            "data.num_workers": 2,
            "model.quantizer": quantizer_options(case, codebook_size=64),
            "schedule.checkpoint_every": FIRST_CHECKPOINT,
            "schedule.validate_every": 1,
            "schedule.average": 0.9,
            "optimiser.muon_learning_rate": 0.02,
            **changes,
        },
    )


def config_of(settings: RunSettings, folder: Path) -> Path:
    path = folder / "config.toml"
    path.write_text(settings.to_toml())
    return path


def start(config: Path, output: Path) -> Process:
    arguments = [str(config), "--output", str(output), "--threads", "1"]
    return start_program("training", "train", *arguments)


def in_a_process(config: Path, output: Path) -> None:
    ended(start(config, output))


def in_this_process(config: Path, output: Path) -> None:
    train(load_settings(config), output)


def interrupted(config: Path, folder: Path) -> Path:
    """The folder of a run that was killed before its second checkpoint.

    Where the machine was so busy that the kill came later, another is started.
    """
    for attempt in range(3):
        output = folder / f"killed-{attempt}"
        kill_when((output / CHECKPOINT_FILE).exists, start(config, output))
        if checkpoint(output)["run"]["step"] == FIRST_CHECKPOINT:
            assert not (output / WEIGHTS_FILE).exists()
            return output
    pytest.fail("three runs passed their second checkpoint before they could be killed")


def assert_bit_equal(one: Path, other: Path) -> None:
    """Weights, buffers, optimiser, history and result of two finished runs."""
    a, b = checkpoint(one), checkpoint(other)
    assert a["run"]["step"] == b["run"]["step"] == STEPS
    assert len(a["run"]["history"]) == STEPS
    for content in (a, b):
        content["run"] = without_times(content["run"])
    assert differences(a, b) == []
    assert (one / WEIGHTS_FILE).read_bytes() == (other / WEIGHTS_FILE).read_bytes()
    results = [json.loads((folder / RESULT_FILE).read_text()) for folder in (one, other)]
    assert without_times(results[0]) == without_times(results[1])


def assert_killing_changes_no_bit(settings: RunSettings, folder: Path, finish: Finish) -> None:
    config = config_of(settings, folder)
    killed = interrupted(config, folder)
    early = checkpoint(killed)
    finish(config, folder / "unbroken")
    finish(config, killed)
    assert differences(early["modules"], checkpoint(killed)["modules"])
    assert_bit_equal(killed, folder / "unbroken")


@pytest.mark.parametrize("method", [REPRESENTATIVE])
def test_a_killed_process_goes_on_to_the_same_bits(
    method: str, images: Path, tmp_path: Path
) -> None:
    settings = settings_of(method, images, **{"data.num_workers": 0})
    assert_killing_changes_no_bit(settings, tmp_path, in_this_process)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_killed_process_goes_on_in_another_to_the_same_bits(
    case: str, images: Path, tmp_path: Path
) -> None:
    assert_killing_changes_no_bit(settings_of(case, images), tmp_path, in_a_process)


@pytest.fixture(scope="module", params=CASES)
def unbroken(
    request: pytest.FixtureRequest, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunSettings, Path]:
    """A run of each case that nothing stopped."""
    settings = settings_of(request.param, images, **{"data.num_workers": 0})
    folder = tmp_path_factory.mktemp("unbroken")
    with one_thread():
        train(settings, folder)
    return settings, folder


PLACES = (0, 2, FIRST_CHECKPOINT, 6)
INTERRUPTIONS = few_of(
    [(case, last) for case in CASES for last in PLACES],
    [(case, FIRST_CHECKPOINT) for case in REPRESENTATIVES],
)


@pytest.mark.parametrize(("unbroken", "last"), INTERRUPTIONS, indirect=["unbroken"])
def test_a_run_interrupted_at_any_step_goes_on_to_the_same_bits(
    unbroken: tuple[RunSettings, Path], last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, whole = unbroken
    interrupt(settings, tmp_path, last, monkeypatch)
    train(settings, tmp_path)
    assert_bit_equal(tmp_path, whole)


AROUND = (FIRST_CHECKPOINT, FIRST_CHECKPOINT + 1)


@pytest.mark.parametrize("last", few_of(AROUND, [FIRST_CHECKPOINT]))
def test_a_run_interrupted_around_the_start_of_its_codes_goes_on_to_the_same_bits(
    images: Path, tmp_path: Path, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"data.num_workers": 0, "schedule.kmeans_after": FIRST_CHECKPOINT / STEPS}
    settings = settings_of(REPRESENTATIVE, images, **changes)
    train(settings, tmp_path / "unbroken")
    interrupt(settings, tmp_path / "broken", last, monkeypatch)
    train(settings, tmp_path / "broken")
    assert_bit_equal(tmp_path / "broken", tmp_path / "unbroken")


@pytest.mark.slow
@pytest.mark.parametrize("unbroken", QUANTIZERS, indirect=True)
def test_workers_change_no_bit(unbroken: tuple[RunSettings, Path], tmp_path: Path) -> None:
    settings, folder = unbroken
    data = settings.data.model_copy(update={"num_workers": 2})
    train(settings.model_copy(update={"data": data}), tmp_path)
    alone, helped = checkpoint(folder), checkpoint(tmp_path)
    assert differences(alone["modules"], helped["modules"]) == []
    assert differences(*(without_times(run["run"])["history"] for run in (alone, helped))) == []


def test_every_quantizer_stands_in_the_tables() -> None:
    assert set(OPTIONS) == set(QUANTIZERS)
    assert set(CASES) == set(QUANTIZER_STATE)


def test_a_checkpoint_has_the_whole_state(unbroken: tuple[RunSettings, Path]) -> None:
    settings, folder = unbroken
    modules = checkpoint(folder)["modules"]
    quantizer = {
        name.removeprefix("quantizer.") for name in modules["model"] if "quantizer." in name
    }
    assert quantizer == QUANTIZER_STATE[settings.name.removeprefix("tiny-")]
    moments = modules["optimiser"]["state"]
    assert all({"step", "exp_avg", "exp_avg_sq"} <= set(state) for state in moments.values())
    assert len(moments) == sum(len(g["params"]) for g in modules["optimiser"]["param_groups"])


@pytest.mark.parametrize(
    "case", [case for case, (_, options) in CASES.items() if "replace_after" in options]
)
def test_codes_are_replaced_before_and_after_the_first_checkpoint(
    case: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: dict[int, int] = {}
    forward = DeadCodes.forward

    def spy(self: DeadCodes, counts: Tensor, vectors: Tensor, progress: Any) -> Any:
        dead, made = forward(self, counts, vectors, progress)
        replaced[progress.step] = len(dead)
        return dead, made

    monkeypatch.setattr(DeadCodes, "forward", spy)
    train(settings_of(case, images, **{"data.num_workers": 0}), tmp_path)
    assert sum(count for step, count in replaced.items() if step < FIRST_CHECKPOINT) > 0
    assert sum(count for step, count in replaced.items() if step >= FIRST_CHECKPOINT) > 0
