"""A diffusion prior from a bundle's tokens to samples, on real images."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import load
from models.priors import DiffusionPrior
from tests.training.broken_runs import Interrupted, checkpoint, differences, without_times
from tests.training.priors.test_run import settings_for
from training.data import load_splits
from training.data.batches import to_pixels
from training.priors import times
from training.priors.attach import AttachOptions, add_prior
from training.priors.loop import PriorTrainer
from training.priors.measure import bits_of_images
from training.priors.runs import load_model, train_prior
from training.priors.settings import PriorSettings
from training.priors.show import Wish, sampled_picture
from training.priors.sigma import mixture_sigma
from training.priors.step import load_sampler
from training.priors.terms import HEAD, terms_table
from training.priors.times import TimeTerms, choose_time
from training.priors.tokens import TokenPart, load_tokens
from vqtok.bundle import Bundle

SHIPPED = Path(__file__).parents[3] / "bundles/cifar10-gmvq"
SMALL: dict[str, Any] = {"width": 16, "num_layers": 1, "num_heads": 2, "step_size": 0.05}


def diffusion(bundle: Bundle, images: Path, **schedule: Any) -> PriorSettings:
    settings = settings_for(bundle, images, "diffusion", **{"epochs": 2, **schedule})
    return settings.model_copy(
        update={"prior": settings.prior.model_copy(update={"options": SMALL})}
    )


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The shipped one: its latents are those of a trained encoder."""
    return Bundle.open(SHIPPED)


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "tokens.npz"


@pytest.fixture(scope="module")
def finished(
    bundle: Bundle, real_images: Path, tokens_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("diffusion")
    train_prior(diffusion(bundle, real_images), folder, tokens_file=tokens_file)
    return folder


def test_the_noise_is_what_the_encoder_leaves_over(bundle: Bundle, real_images: Path) -> None:
    settings = diffusion(bundle, real_images)
    train = load_splits(settings.data).train
    pixels = np.stack([train.images[train.start + i] for i in range(len(train))])
    model = load(bundle.folder)
    with torch.no_grad():
        quantized = model(to_pixels(torch.from_numpy(pixels))).quantized
    left = (quantized.z_e - quantized.z_q).double().square().mean()
    two_sigma2 = getattr(model.quantizer, "two_sigma2", 1.0)
    assert mixture_sigma(settings) ** 2 == pytest.approx(float(left) / two_sigma2, rel=1e-4)


@pytest.mark.slow
def test_a_run_says_that_its_bits_are_bounded(
    bundle: Bundle, real_images: Path, tokens_file: Path, finished: Path
) -> None:
    settings = diffusion(bundle, real_images)
    tokens = load_tokens(bundle, settings.data, tokens_file)
    result = train_prior(settings, finished, tokens_file=tokens_file)
    assert result["is_exact"] is False
    assert result["schedule"] == "steps-20"
    _, prior = load_model(finished)
    assert isinstance(prior, DiffusionPrior)
    assert result["sigma"] == pytest.approx(prior.mixture.sigma)
    bits = bits_of_images(prior, tokens.validation, labelled=False)
    assert bits.mean() == pytest.approx(result["validation"]["bits_per_image"], rel=1e-5)
    rows = result["schedules"]
    assert [row["passes"] for row in rows] == list(range(2, 22, 2))
    assert [row["time"] for row in rows] == pytest.approx([tenth / 10 for tenth in range(1, 11)])
    for row in rows:
        parts = row["token_bits"] + row["start_bits"] + row["step_bits"]
        assert row["bits_per_image"] == pytest.approx(parts)
        assert row["start_bits"] > row["gaussian_start_bits"] > 0
        assert row["distance"] == 0.0
    assert rows[-1]["bits_per_image"] == pytest.approx(bits.mean(), rel=1e-5)
    starts, costs = ([row[name] for row in rows] for name in ("start_bits", "step_bits"))
    assert starts == sorted(starts, reverse=True)
    assert costs == sorted(costs)
    table = terms_table(rows).splitlines()
    assert len(table) == 12
    assert {line.count("|") for line in table} == {len(HEAD) + 1}
    assert table[-1].startswith(f"| 1.0 | 20 | {rows[-1]['bits_per_image']:.2f} ± ")


@pytest.mark.slow
def test_bundles_refuse_it(finished: Path, tokens_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="diffusion has a bound on its bits and no code lengths"):
        add_prior(finished, AttachOptions(tmp_path / "bundle", tokens_file))
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_its_graph_draws_tokens_and_pictures(
    finished: Path, bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="no finished run of a diffusion prior"):
        load_sampler(tmp_path)
    sampler = load_sampler(finished)
    labels = np.zeros(3, np.int32)
    tokens = sampler.tokens(1, range(3), labels)
    assert tokens.shape == (3, 64)
    assert 0 <= tokens.min() <= tokens.max() < bundle.manifest.codebook_size
    picture = sampled_picture(finished, Wish(n=3, seed=1))
    assert picture.startswith(b"\x89PNG")
    assert sampled_picture(finished, Wish(n=3, seed=2)) != picture
    with pytest.raises(ValueError, match="no class is called 'whale'"):
        sampled_picture(finished, Wish(label="whale"))


@pytest.mark.slow
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    bundle: Bundle,
    real_images: Path,
    tokens_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = diffusion(
        bundle, real_images, checkpoint_every=3, validate_every=5, average=0.9, choosing_images=8
    )
    whole = train_prior(settings, tmp_path / "whole", tokens_file=tokens_file)
    step = PriorTrainer._step

    def broken(self: PriorTrainer, number: int, samples: Any) -> Any:
        if number == 8:
            raise Interrupted
        return step(self, number, samples)

    with monkeypatch.context() as patched:
        patched.setattr(PriorTrainer, "_step", broken)
        with pytest.raises(Interrupted):
            train_prior(settings, tmp_path / "parts", tokens_file=tokens_file)
    assert checkpoint(tmp_path / "parts")["run"]["step"] == 6
    parts = train_prior(settings, tmp_path / "parts", tokens_file=tokens_file)
    assert without_times(parts) == without_times(whole)
    one, other = (checkpoint(tmp_path / name)["modules"] for name in ("whole", "parts"))
    assert differences(one, other) == []


def test_the_shortest_time_is_taken_that_is_as_near_as_the_nearest() -> None:
    distances = [0.9, 0.54, 0.52, 0.5, 0.51]
    blank = TimeTerms(0.1, "steps-1", 1, *[0.0] * 10)
    rows = [
        dataclasses.replace(blank, distance=each, distance_error=0.03, passes=i)
        for i, each in enumerate(distances)
    ]
    assert times._nearest(rows).passes == 2


@pytest.mark.slow
def test_with_enough_images_every_time_is_sampled(
    bundle: Bundle,
    real_images: Path,
    tokens_file: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, prior = load_model(finished)
    assert isinstance(prior, DiffusionPrior)
    tokens = load_tokens(bundle, settings.data, tokens_file)
    held = TokenPart(tokens.validation.tokens[:20], tokens.validation.labels[:20])
    monkeypatch.setattr(times, "LEAST_IMAGES", 20)
    rows = choose_time(prior, tokens.train, held, 0)
    best = min(rows, key=lambda row: row.distance)
    chosen = next(row for row in rows if row.schedule == prior.schedule)
    assert chosen.distance <= best.distance + best.distance_error
    assert all(row.distance > 0 and row.distance_error > 0 for row in rows)
    table = terms_table([dataclasses.asdict(row) for row in rows])
    assert all(f"| {row.distance:.4f} ± {row.distance_error:.4f} |" in table for row in rows)
