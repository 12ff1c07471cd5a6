"""A prior from a bundle's tokens to a bundle that samples, on real images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import training.variant
from models.priors import PRIORS
from tests.representative import few_of
from tests.training.broken_runs import Interrupted, checkpoint, differences, without_times
from training.priors.attach import AttachOptions, add_prior
from training.priors.loop import PriorTrainer
from training.priors.measure import bits_of_images
from training.priors.runs import load_prior, train_prior
from training.priors.settings import PriorSettings
from training.priors.tokens import TokenSplits, counts_of, load_tokens
from training.refresh import refresh_reference
from training.settings import SettingsError
from training.variant import VariantOptions, make_int8
from vqtok.bundle import Bundle
from vqtok.tokenizer import Tokenizer

SMALL: dict[str, Any] = {"width": 16, "num_layers": 1, "num_heads": 2}
LEARNED: dict[str, dict[str, Any]] = {
    "masked": {**SMALL, "schedules": ["halton-3", "wavefront"]},
    "autoregressive": SMALL,
}


def settings_for(bundle: Bundle, images: Path, kind: str, **schedule: Any) -> PriorSettings:
    return PriorSettings.model_validate(
        {
            "name": kind,
            "bundle": str(bundle.folder),
            "data": {
                "kind": "folder",
                "folder": str(images),
                "image_size": 32,
                "validation_images": 32,
            },
            "prior": {"kind": kind, "options": LEARNED.get(kind, {})},
            "schedule": {"epochs": 4 if kind in LEARNED else 0, "batch_size": 16, **schedule},
        }
    )


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "tokens.npz"


@pytest.fixture(scope="module")
def tokens(bundle: Bundle, real_images: Path, tokens_file: Path) -> TokenSplits:
    return load_tokens(bundle, settings_for(bundle, real_images, "masked").data, tokens_file)


def test_tokens_are_those_of_the_bundle_mirrored_too(
    bundle: Bundle, real_images: Path, tokens: TokenSplits
) -> None:
    assert [len(part) for part in (tokens.train, tokens.validation, tokens.test)] == [80, 32, 24]
    assert tokens.shape.grid == bundle.manifest.grid
    paths = sorted((real_images / "train").iterdir())
    with Tokenizer.open(bundle.folder, "cpu") as tokenizer:
        first = tokenizer.encode([paths[0]]).images[0].tokens
    assert np.array_equal(tokens.train.tokens[0], first.ravel())
    assert tokens.mirrored.shape == tokens.train.tokens.shape
    assert not np.array_equal(tokens.mirrored, tokens.train.tokens)
    counts = counts_of(tokens)
    assert int(counts.sum()) == 2 * tokens.train.tokens.size
    both = np.concatenate([tokens.train.tokens, tokens.mirrored])
    assert int(counts[5, both[0, 5]]) == (both[:, 5] == both[0, 5]).sum()


@pytest.mark.usefixtures("tokens")
def test_tokens_of_other_data_are_not_mistaken_for_these(
    bundle: Bundle, real_images: Path, tokens_file: Path
) -> None:
    data = settings_for(bundle, real_images, "masked").data
    other = data.model_copy(update={"validation_images": 16})
    with pytest.raises(SettingsError, match="other data; remove it, or choose another"):
        load_tokens(bundle, other, tokens_file)


@pytest.mark.parametrize("kind", PRIORS)
def test_every_prior_is_trained_kept_and_measured(
    bundle: Bundle, real_images: Path, tokens_file: Path, kind: str, tmp_path: Path
) -> None:
    settings = settings_for(bundle, real_images, kind)
    tokens = load_tokens(bundle, settings.data, tokens_file)
    result = train_prior(settings, tmp_path, tokens_file=tokens_file)
    _, prior = load_prior(tmp_path)
    bits = bits_of_images(prior, tokens.validation, labelled=False)
    assert bits.mean() == pytest.approx(result["validation"]["bits_per_image"], rel=1e-6)
    assert result["steps"] == (20 if kind in LEARNED else 0)
    uniform = 64 * np.log2(bundle.manifest.codebook_size)
    assert bits.mean() < uniform + 1e-6
    assert train_prior(settings, tmp_path, tokens_file=tokens_file) == result


def test_the_schedule_is_chosen_by_bits(
    bundle: Bundle, real_images: Path, tokens_file: Path, tmp_path: Path
) -> None:
    settings = settings_for(bundle, real_images, "masked")
    result = train_prior(settings, tmp_path, tokens_file=tokens_file)
    measured = {each["schedule"]: each for each in result["schedules"]}
    assert set(measured) == {"halton-3", "wavefront"}
    assert measured["halton-3"]["passes"] == 3
    assert result["schedule"] in measured
    assert load_prior(tmp_path)[1].schedule == result["schedule"]


def test_an_interrupted_run_ends_as_if_it_had_not_been(
    bundle: Bundle,
    real_images: Path,
    tokens_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = settings_for(
        bundle, real_images, "masked", checkpoint_every=3, validate_every=5, average=0.9
    )
    whole = train_prior(settings, tmp_path / "whole", tokens_file=tokens_file)
    step = PriorTrainer._step

    def broken(self: PriorTrainer, number: int, samples: Any) -> Any:
        if number == 11:
            raise Interrupted
        return step(self, number, samples)

    with monkeypatch.context() as patched:
        patched.setattr(PriorTrainer, "_step", broken)
        with pytest.raises(Interrupted):
            train_prior(settings, tmp_path / "parts", tokens_file=tokens_file)
    assert checkpoint(tmp_path / "parts")["run"]["step"] == 9
    parts = train_prior(settings, tmp_path / "parts", tokens_file=tokens_file)
    assert without_times(parts) == without_times(whole)
    one, other = (checkpoint(tmp_path / name)["modules"] for name in ("whole", "parts"))
    assert differences(one, other) == []
    changed = settings.model_copy(update={"seed": 9})
    with pytest.raises(SettingsError, match=r"other settings \(seed\)"):
        train_prior(changed, tmp_path / "parts", tokens_file=tokens_file)


def test_muon_takes_the_matrices_of_the_blocks(
    bundle: Bundle, real_images: Path, tokens: TokenSplits, tmp_path: Path
) -> None:
    settings = settings_for(bundle, real_images, "masked")
    optimiser = settings.optimiser.model_copy(update={"muon_learning_rate": 0.02})
    trainer = PriorTrainer(settings.model_copy(update={"optimiser": optimiser}), tokens, tmp_path)
    muon = {id(p) for group in trainer.optimisers[1].param_groups for p in group["params"]}
    names = {name for name, p in trainer.prior.named_parameters() if id(p) in muon}
    block = "network.blocks.0."
    assert names == {f"{block}{part}.weight" for part in ("qkv", "out", "mlp.0", "mlp.2")}
    before = {name: p.detach().clone() for name, p in trainer.prior.named_parameters()}
    trainer.run()
    moved = [n for n, p in trainer.prior.named_parameters() if not torch.equal(p, before[n])]
    assert len(moved) == len(before)


@pytest.mark.parametrize("kind", few_of(LEARNED, ["masked"]))
def test_a_bundle_with_the_prior_samples_from_it(
    bundle: Bundle, real_images: Path, tokens_file: Path, kind: str, tmp_path: Path
) -> None:
    settings = settings_for(bundle, real_images, kind)
    train_prior(settings, tmp_path / "run", tokens_file=tokens_file)
    manifest = add_prior(tmp_path / "run", AttachOptions(tmp_path / "bundle", tokens_file))
    assert manifest.prior is not None
    assert manifest.prior.kind == kind
    assert manifest.codebook_id == bundle.manifest.codebook_id
    assert manifest.prior.provenance["test"]["bits_per_image"] > 0
    _, prior = load_prior(tmp_path / "run")
    with Tokenizer.open(tmp_path / "bundle", "cpu") as tokenizer:
        samples = tokenizer.sample(3, seed=2)
        rates = tokenizer.bits_per_image(samples.tokens)
    grids = np.stack([item.tokens.ravel() for item in samples.tokens.images]).astype(np.int64)
    none = torch.full((3,), prior.shape.no_label)
    nats = -prior.log_prob(torch.from_numpy(grids), none).sum(1).numpy()
    assert np.allclose(samples.bits, nats / np.log(2), atol=1e-3)
    assert np.allclose([each["prior"].bits or 0 for each in rates], samples.bits)
    with pytest.raises(FileExistsError):
        add_prior(tmp_path / "run", AttachOptions(tmp_path / "bundle", tokens_file))


@pytest.mark.slow
def test_a_reference_measured_anew_says_the_bits_of_the_prior_too(
    bundle: Bundle, real_images: Path, tokens_file: Path, tmp_path: Path
) -> None:
    settings = settings_for(bundle, real_images, "masked")
    train_prior(settings, tmp_path / "run", tokens_file=tokens_file)
    origin = add_prior(tmp_path / "run", AttachOptions(tmp_path / "bundle", tokens_file))
    assert origin.prior is not None
    bits = refresh_reference(tmp_path / "bundle").metrics["bits"]
    expected = origin.prior.provenance["test"]["bits_per_image"]
    assert bits["prior"] == pytest.approx(expected, abs=1e-3)
    assert f"prior {bits['prior']:.1f}" in (tmp_path / "bundle/card.md").read_text()


@pytest.mark.slow
def test_a_variant_in_int8_keeps_the_prior(
    bundle: Bundle,
    real_images: Path,
    tokens_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train_prior(
        settings_for(bundle, real_images, "masked"), tmp_path / "run", tokens_file=tokens_file
    )
    origin = add_prior(tmp_path / "run", AttachOptions(tmp_path / "bundle", tokens_file))
    monkeypatch.setattr(training.variant, "MOST_RISE", 0.5)
    manifest = make_int8(tmp_path / "bundle", VariantOptions(tmp_path / "int8", images=32))
    assert manifest.prior == origin.prior
    assert manifest.digests["prior.onnx"] == origin.digests["prior.onnx"]


def test_a_table_needs_no_graph(
    bundle: Bundle, real_images: Path, tokens_file: Path, tmp_path: Path
) -> None:
    settings = settings_for(bundle, real_images, "position")
    train_prior(settings, tmp_path / "run", tokens_file=tokens_file)
    with pytest.raises(ValueError, match="position is a table"):
        add_prior(tmp_path / "run", AttachOptions(tmp_path / "bundle", tokens_file))
