"""The loop: it learns, starts from k-means, writes its log, and stops at what is no number."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import models.quantizers.nearest_code
from models.quantizers import QUANTIZERS
from models.randomness import INITIALISATION_STEP
from tests.representative import few_of
from tests.training.tiny import CASES, tiny_settings
from training.data import load_splits
from training.data.batches import BatchPlan, to_pixels, whole_batches
from training.loop import Trainer
from training.objectives import Loss
from training.settings import RunSettings, SettingsError


def trainer_of(settings: RunSettings, folder: Path) -> Trainer:
    return Trainer(settings, load_splits(settings.data), folder)


def losses_of(trainer: Trainer) -> list[float]:
    """Train to the end; the mean squared error of every step."""
    errors: list[float] = []

    def spy(_: nn.Module, __: Any, loss: Loss) -> None:
        errors.append(float(loss.parts["mse"]))

    trainer.objective.register_forward_hook(spy)
    trainer.run()
    return errors


@pytest.mark.parametrize("case", few_of(CASES, ["gmvq", "vq", "fsq"]))
def test_the_error_falls_on_real_images(case: str, real_images: Path, tmp_path: Path) -> None:
    """Gumbel's tokens are random at first, so that its decoder takes longer to use them."""
    settings = tiny_settings(case, real_images, {"data.image_size": 32, "schedule.epochs": 6})
    errors = losses_of(trainer_of(settings, tmp_path))
    assert len(errors) == 72
    assert np.mean(errors[-5:]) < 0.7 * np.mean(errors[:3])


@pytest.mark.parametrize("case", CASES)
def test_every_part_of_the_model_learns(case: str, made_images: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tiny_settings(case, made_images, {"schedule.epochs": 1}), tmp_path)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.run()
    for name, tensor in trainer.model.state_dict().items():
        assert bool(torch.isfinite(tensor).all()), name
    after = trainer.model.state_dict()
    same = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
    assert all(name.endswith("dead_codes.idle") for name in same)


def test_no_k_means_vectors_leave_the_codebook_as_it_was_drawn(
    made_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings("gmvq", made_images, {"schedule.kmeans_vectors": 0})
    trainer, calls = trainer_of(settings, tmp_path), list[int]()
    monkeypatch.setattr(trainer.model.quantizer, "initialise", lambda *_: calls.append(1))
    trainer.run()
    assert calls == []


OTHER_STARTS = {"gumbel", "fsq", "ibq", "simvq"}
"""Logits, no codes, uniform numbers as the paper has it, a map fitted to mean and covariance."""


@pytest.mark.parametrize("method", [m for m in QUANTIZERS if m not in OTHER_STARTS])
def test_the_codes_start_as_k_means_of_the_first_heads(
    method: str, made_images: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(
        tiny_settings(method, made_images, {"schedule.precision": "32-true"}), tmp_path
    )
    given: list[tuple[Tensor, int]] = []
    quantizer = trainer.model.quantizer
    real = quantizer.initialise

    def spy(heads: Tensor, progress: Any) -> None:
        given.append((heads.clone(), progress.step))
        real(heads, progress)

    quantizer.initialise = spy
    start = quantizer.code_table().detach().clone()
    trainer._initialise_quantizer()
    [(heads, step)] = given
    assert step == INITIALISATION_STEP
    assert heads.shape == (256, quantizer.head_channels)
    assert not torch.equal(quantizer.code_table(), start)
    codes = quantizer.code_table().view(-1, 16, 4)[0]
    distances = torch.cdist(heads[:, :4], codes)
    centres = torch.stack([heads[distances.argmin(1) == code, :4].mean(0) for code in range(16)])
    assert torch.allclose(centres, codes, atol=0.1)


def test_a_run_starts_its_codes_once_and_a_finished_one_not_again(
    made_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real: Callable[..., Tensor] = models.quantizers.nearest_code.kmeans

    def spy(vectors: Tensor, size: int, seed: int) -> Tensor:
        calls.append(len(vectors))
        return real(vectors, size, seed)

    monkeypatch.setattr(models.quantizers.nearest_code, "kmeans", spy)
    settings = tiny_settings("vq", made_images)
    for _ in range(2):
        trainer_of(settings, tmp_path).run()
    assert calls == [256]


def test_until_the_codes_have_their_start_the_decoder_reads_the_encoders_vectors(
    made_images: Path, tmp_path: Path
) -> None:
    settings = tiny_settings("gmvq", made_images, {"schedule.kmeans_after": 0.5})
    trainer, order = trainer_of(settings, tmp_path), list[str]()
    quantizer = trainer.model.quantizer
    real = quantizer.initialise

    def spy(heads: Tensor, progress: Any) -> None:
        order.append("start")
        real(heads, progress)

    quantizer.initialise = spy
    quantizer.register_forward_pre_hook(
        lambda module, _: order.append("tokens") if module.training else None
    )
    trainer.wrapped.register_forward_pre_hook(lambda *_: order.append("step"))
    trainer.run()
    assert order == ["step"] * 4 + ["start"] + ["step", "tokens"] * 4


def test_the_log_has_the_scalars_that_people_look_for(made_images: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer_of(tiny_settings("gmvq", made_images, {"schedule.validate_every": 4}), tmp_path).run()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {
        "train/loss",
        "train/mse",
        "train/commitment",
        "train/usage_entropy",
        "train/learning_rate",
        "train/gradient_norm",
        "train/images_per_second",
        "train/posterior_entropy",
        "train/precision",
        "validation/mse",
        "validation/psnr",
        "validation/ssim",
        "validation/perplexity",
        "validation/soft_perplexity",
    } <= set(events.Tags()["scalars"])
    validations = events.Scalars("validation/mse")
    assert [event.step for event in validations] == [4, 8]
    assert events.Scalars("train/learning_rate")[0].value == pytest.approx(5e-4)


def test_validations_are_remembered_with_their_step(made_images: Path, tmp_path: Path) -> None:
    settings = tiny_settings("vq", made_images, {"schedule.validate_every": 3})
    history = trainer_of(settings, tmp_path).run().history
    assert [entry["step"] for entry in history] == [3, 6, 8]
    assert all(entry["mse"] > 0.0 for entry in history)


@pytest.mark.parametrize("step", [0, 5])
def test_a_loss_that_is_no_number_stops_the_run_before_it_harms(
    made_images: Path, tmp_path: Path, step: int
) -> None:
    trainer = trainer_of(tiny_settings("vq", made_images), tmp_path)

    def spoilt(_: nn.Module, __: Any, loss: Loss) -> Loss:
        scale = float("nan") if trainer.state.step == step else 1.0
        return loss._replace(total=loss.total * scale)

    trainer.objective.register_forward_hook(spoilt)
    with pytest.raises(FloatingPointError, match=rf"step {step} .*optimiser\.learning_rate"):
        trainer.run()
    assert all(bool(torch.isfinite(p).all()) for p in trainer.model.parameters())
    assert trainer.state.step == step


def test_gradients_are_clipped_to_the_norm(made_images: Path, tmp_path: Path) -> None:
    settings = tiny_settings("vq", made_images, {"optimiser.clip_norm": 1e-3})
    trainer = trainer_of(settings, tmp_path)
    norms: list[float] = []
    step = trainer.optimisers[0].step

    def spy(*args: Any, **kwargs: Any) -> Any:
        squares = [p.grad.square().sum() for p in trainer.model.parameters() if p.grad is not None]
        norms.append(float(torch.stack(squares).sum().sqrt()))
        return step(*args, **kwargs)

    trainer.optimisers[0].step = spy
    trainer.run()
    assert max(norms) == pytest.approx(1e-3, rel=1e-3)


def test_each_step_sees_the_batch_of_its_plan_mirrored_or_not(
    made_images: Path, tmp_path: Path
) -> None:
    settings = tiny_settings("vq", made_images)
    trainer = trainer_of(settings, tmp_path)
    seen: list[list[int]] = []
    real = trainer._progress

    def spy(step: int, sample_indices: Tensor) -> Any:
        if step != INITIALISATION_STEP:
            seen.append(sample_indices.tolist())
        return real(step, sample_indices)

    trainer._progress = spy
    trainer.run()
    plan = BatchPlan(32, 8, seed=3)
    assert seen == [indices.tolist() for _, indices in plan.from_step(0, 8)]


def test_images_that_fill_no_batch_are_refused(made_images: Path, tmp_path: Path) -> None:
    settings = tiny_settings("vq", made_images, {"schedule.batch_size": 33})
    with pytest.raises(SettingsError, match=r"batch_size is 33.* 32 training images"):
        trainer_of(settings, tmp_path)


def test_images_that_the_factor_does_not_divide_are_refused(
    made_images: Path, tmp_path: Path
) -> None:
    settings = tiny_settings("vq", made_images, {"data.image_size": 18})
    with pytest.raises(SettingsError, match=r"18 x 18 .*factor 4"):
        trainer_of(settings, tmp_path)


def test_fewer_vectors_than_codes_are_refused(made_images: Path, tmp_path: Path) -> None:
    settings = tiny_settings("vq", made_images, {"model.quantizer.codebook_size": 1024})
    with pytest.raises(ValueError, match="k-means needs at least 1024 vectors"):
        trainer_of(settings, tmp_path).run()


def test_a_run_without_validation_images_has_no_history(made_images: Path, tmp_path: Path) -> None:
    settings = tiny_settings("vq", made_images, {"data.validation_images": 0})
    state = trainer_of(settings, tmp_path).run()
    assert state.history == []
    assert state.step == 12


def test_the_trained_network_reconstructs_in_evaluation_too(
    real_images: Path, tmp_path: Path
) -> None:
    settings = tiny_settings("vq_ema", real_images, {"data.image_size": 32, "schedule.epochs": 10})
    trainer = trainer_of(settings, tmp_path)
    trainer.run()
    [batch] = whole_batches(trainer.splits.validation, 16)
    pixels = to_pixels(torch.from_numpy(batch))
    grey = float((pixels - pixels.mean()).square().mean())
    assert trainer.state.history[-1]["mse"] < grey
