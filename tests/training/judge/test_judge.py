"""Samples judged on a few real images: classifier, sets, figures, page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from numpy.typing import NDArray

import training.__main__ as command_line
import training.judge.draw
from models import Noise
from models.classifier import Classifier
from tests.training.broken_runs import Interrupted, checkpoint, differences
from tests.training.priors.test_run import LEARNED
from training.__main__ import USER_ERRORS
from training.data.cifar10 import load_cifar10_labels
from training.judge.draw import PRIORS, Source, sampled_set, wishes
from training.judge.judge import Judgement, judge_samples
from training.judge.kept import Kept
from training.judge.loop import ClassifierTrainer, shifted
from training.judge.page import NAME, samples_page, verdict
from training.judge.picture import NONE, draw, panel, shown_places
from training.judge.runs import load_classifier, train_classifier
from training.judge.settings import DrawSettings, JudgeSettings, load_judge_settings
from training.priors.attach import AttachOptions, add_prior
from training.priors.runs import train_prior
from training.priors.settings import PriorSettings
from training.progress import bar
from training.settings import SettingsError
from vqtok.bundle import Bundle
from vqtok.runtime.onnx import open_engine
from vqtok.tokenizer import Tokenizer

NUM_TRAINING, NUM_TEST, NUM_HELD, NUM_JUDGED = 240, 60, 60, 48
CONFIG = Path(__file__).parents[3] / "training/configs/priors/samples.toml"
COMMAND = "python -m training judge-samples here.toml"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, cifar: NDArray[np.uint8], data_dir: Path) -> Path:
    """300 real images with their classes, as files of the binary version."""
    folder = tmp_path_factory.mktemp("few")
    _, labels = load_cifar10_labels(data_dir / "cifar10")
    planes = cifar[: NUM_TRAINING + NUM_TEST].transpose(0, 3, 1, 2).reshape(-1, 3 * 32 * 32)
    records = np.concatenate([labels[: len(planes), None].astype(np.uint8), planes], axis=1)
    for number, part in enumerate(np.split(records[:NUM_TRAINING], 5), start=1):
        part.tofile(folder / f"data_batch_{number}.bin")
    records[NUM_TRAINING:].tofile(folder / "test_batch.bin")
    return folder


@pytest.fixture(scope="module")
def with_prior(bundle: Bundle, few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with a learned prior of ten classes."""
    folder = tmp_path_factory.mktemp("prior")
    settings = PriorSettings.model_validate(
        {
            "name": "masked",
            "bundle": str(bundle.folder),
            "data": {"folder": str(few), "validation_images": NUM_HELD},
            "prior": {"kind": "masked", "options": LEARNED["masked"]},
            "schedule": {"epochs": 1, "batch_size": 16},
        }
    )
    train_prior(settings, folder / "run")
    add_prior(folder / "run", AttachOptions(folder / "bundle"))
    return folder / "bundle"


def settings_for(bundle: Path, few: Path, store: Path, **changes: Any) -> JudgeSettings:
    table: dict[str, Any] = {
        "title": "Samples",
        "store": store / "samples.json",
        "bundle": str(bundle),
        "num_images": NUM_JUDGED,
        "data": {"folder": str(few), "validation_images": NUM_HELD},
        "classifier": {
            "width": 8,
            "least_accuracy": 0.0,
            "schedule": {"epochs": 2, "batch_size": 30, "precision": "32-true"},
        },
        "samples": [
            {"name": "learned", "prior": "learned", "labelled": True},
            {"name": "of no class", "prior": "learned", "shown": False},
            {"name": "positions", "prior": "position"},
            {"name": "marginal", "prior": "marginal", "shown": False},
            {"name": "uniform", "prior": "uniform", "shown": False},
        ],
    }
    return JudgeSettings.model_validate(table | changes)


@pytest.fixture(scope="module")
def settings(
    with_prior: Path, few: Path, tmp_path_factory: pytest.TempPathFactory
) -> JudgeSettings:
    return settings_for(with_prior, few, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def judgement(settings: JudgeSettings, work: Path) -> Judgement:
    return judge_samples(settings, work, COMMAND)


@pytest.mark.slow
def test_every_set_is_as_large_and_the_floor_comes_first(judgement: Judgement) -> None:
    rows = judgement.document["rows"]
    assert [row["kind"] for row in rows] == ["real"] * 2 + ["reconstructions"] * 2 + ["samples"] * 5
    assert [row["name"] for row in rows if row["paired"]] == ["reconstructions of the test images"]
    assert {each.size for each in judgement.sets} == {NUM_JUDGED}
    assert judgement.sets[0].name == "test images"
    for row in rows:
        assert row["distance"] > 0
        assert row["standard_error"] > 0


@pytest.mark.slow
def test_sets_are_of_the_images_that_they_name(judgement: Judgement, cifar: NDArray[Any]) -> None:
    places = np.arange(NUM_JUDGED)
    test, held, learned = (each.at(places) for each in judgement.sets[:3])
    assert np.array_equal(test, cifar[NUM_TRAINING:][:NUM_JUDGED])
    assert np.array_equal(held, cifar[NUM_TRAINING - NUM_HELD :][:NUM_JUDGED])
    assert np.array_equal(learned, cifar[:NUM_JUDGED])


@pytest.mark.slow
def test_reconstructions_are_nearer_to_their_images_than_noise(judgement: Judgement) -> None:
    rows = {row["name"]: row["distance"] for row in judgement.document["rows"]}
    assert rows["reconstructions of the test images"] < rows["uniform"]


@pytest.mark.slow
def test_samples_are_of_the_classes_that_test_images_have(judgement: Judgement) -> None:
    sets = {each.name: each for each in judgement.sets}
    labels, test = sets["learned"].labels, sets["test images"].labels
    assert labels is not None
    assert test is not None
    assert np.array_equal(labels, np.sort(test))
    assert sets["of no class"].labels is None
    rows = {row["name"]: row for row in judgement.document["rows"]}
    assert rows["of no class"]["accuracy"] is None
    assert 0 <= rows["learned"]["accuracy"] <= 1


@pytest.mark.slow
def test_tables_know_what_they_are_called_for(judgement: Judgement, bundle: Bundle) -> None:
    """Evenly drawn codes take all bits, and knowing more takes fewer under the model itself."""
    rows = {row["name"]: row for row in judgement.document["rows"]}
    tokens = int(np.prod(bundle.manifest.grid))
    assert rows["uniform"]["bits"] == pytest.approx(tokens * np.log2(bundle.manifest.codebook_size))
    assert rows["marginal"]["bits"] < rows["uniform"]["bits"]


@pytest.mark.slow
def test_what_is_kept_is_not_made_again(
    settings: JudgeSettings, judgement: Judgement, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError

    for place in ("training.judge.draw.draw_all", "training.judge.judge.see"):
        monkeypatch.setattr(place, never)
    monkeypatch.setattr(ClassifierTrainer, "_step", never)
    again = judge_samples(settings, work, COMMAND).document
    assert _found(again) == _found(judgement.document)
    assert json.loads(settings.store.read_text()) == again


def _found(document: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says where it ran: on how many threads may change within a process."""
    return {name: value for name, value in document.items() if name != "hardware"}


@pytest.mark.slow
def test_samples_that_were_interrupted_go_on(
    settings: JudgeSettings,
    judgement: Judgement,
    work: Path,
    few: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "classifier").symlink_to(work / "classifier")
    again = settings.model_copy(update={"store": tmp_path / "samples.json"})
    real, drawn = training.judge.draw.draw_all, []

    def broken(prior: Any, wish: Any) -> Any:
        if len(drawn) == 5:
            raise Interrupted
        drawn.append(wish)
        return real(prior, wish)

    with monkeypatch.context() as patched:
        patched.setattr(training.judge.draw, "draw_all", broken)
        with pytest.raises(Interrupted):
            judge_samples(again, tmp_path, COMMAND)
    first = list(drawn)
    drawn.clear()

    def counted(prior: Any, wish: Any) -> Any:
        drawn.append(wish)
        return real(prior, wish)

    monkeypatch.setattr(training.judge.draw, "draw_all", counted)
    went_on = judge_samples(again, tmp_path, COMMAND).document
    assert _found(went_on) == _found(judgement.document)
    labels = [wish.label for wish in drawn if wish.label is not None]
    assert len(first) == 5
    assert not {wish.label for wish in first} & set(labels)


def test_samples_are_asked_for_in_parts_of_one_class(settings: JudgeSettings) -> None:
    (labelled, *_) = settings.samples
    labels = np.repeat([0, 1, 4], [3, 300, 2])
    parts = list(wishes(labelled, 5, labels))
    assert [(wish.first, wish.n, wish.label) for wish in parts] == [
        (0, 3, 0),
        (3, 250, 1),
        (253, 50, 1),
        (303, 2, 4),
    ]
    assert {wish.seed for wish in parts} == {5}
    of_none = list(wishes(DrawSettings(name="x", prior="position"), 0, labels))
    assert [(wish.first, wish.n, wish.label) for wish in of_none] == [
        (0, 250, None),
        (250, 55, None),
    ]


def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(
    settings: JudgeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = settings.classifier.schedule.model_copy(update={"checkpoint_every": 3})
    classifier = settings.classifier.model_copy(update={"schedule": schedule})
    settings = settings.model_copy(update={"classifier": classifier})
    whole = train_classifier(settings, tmp_path / "whole")
    step = ClassifierTrainer._step

    def broken(self: ClassifierTrainer, number: int, batch: Any) -> Any:
        if number == 8:
            raise Interrupted
        return step(self, number, batch)

    with monkeypatch.context() as patched:
        patched.setattr(ClassifierTrainer, "_step", broken)
        with pytest.raises(Interrupted):
            train_classifier(settings, tmp_path / "parts")
    assert checkpoint(tmp_path / "parts")["run"]["step"] == 6
    parts = train_classifier(settings, tmp_path / "parts")
    assert parts["accuracy"] == whole["accuracy"]
    one, other = (checkpoint(tmp_path / name)["modules"] for name in ("whole", "parts"))
    assert differences(one, other) == []
    changed = settings.classifier.model_copy(update={"seed": 9})
    with pytest.raises(SettingsError, match=r"other settings \(seed\)"):
        train_classifier(settings.model_copy(update={"classifier": changed}), tmp_path / "parts")


def test_the_classifier_learns(settings: JudgeSettings, tmp_path: Path) -> None:
    """A few images by heart: named rightly where chance would name a tenth."""
    schedule = settings.classifier.schedule.model_copy(update={"epochs": 25.0})
    changes = {"schedule": schedule, "shift": 0, "label_smoothing": 0.0}
    classifier = settings.classifier.model_copy(update=changes)
    trainer_settings = settings.model_copy(update={"classifier": classifier})
    train_classifier(trainer_settings, tmp_path)
    learned = load_classifier(tmp_path)
    trainer = ClassifierTrainer(trainer_settings, tmp_path)
    with torch.no_grad():
        logits = learned(trainer.source.images[:100].permute(0, 3, 1, 2) / 255.0)  # pyright: ignore[reportAttributeAccessIssue]
    assert (logits.argmax(1) == trainer.labels[:100]).float().mean() > 0.8


@pytest.mark.slow
def test_a_classifier_that_knows_too_little_judges_nothing(
    settings: JudgeSettings, work: Path, judgement: Judgement
) -> None:
    strict = settings.classifier.model_copy(update={"least_accuracy": 1.0})
    with pytest.raises(SettingsError, match=r"less than classifier.least_accuracy \(100%\)"):
        train_classifier(settings.model_copy(update={"classifier": strict}), work / "classifier")


def test_features_are_what_the_last_layer_sees() -> None:
    classifier = Classifier(10, 4).eval()
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = classifier.features(pixels)
    assert features.shape == (3, classifier.num_features) == (3, 16)
    assert torch.equal(classifier(pixels), classifier.head(features))


def test_images_are_moved_by_whole_pixels_and_each_by_its_own() -> None:
    pixels = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    indices = torch.arange(100, 140)
    moved = shifted(pixels, Noise(3, 7, indices), 2)
    assert moved.shape == pixels.shape
    padded = torch.nn.functional.pad(pixels, (2, 2, 2, 2), mode="reflect")
    offsets: set[tuple[int, int]] = set()
    for before, after in zip(padded, moved, strict=True):
        fits = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(before[:, top : top + 8, left : left + 8], after)
        ]
        assert len(fits) == 1
        offsets.update(fits)
    assert len(offsets) > 10
    part = shifted(pixels[5:9], Noise(3, 7, indices[5:9]), 2)
    assert torch.equal(part, moved[5:9])
    assert shifted(pixels, Noise(3, 7, indices), 0) is pixels


@pytest.mark.slow
def test_the_page_says_what_the_store_holds(judgement: Judgement, tmp_path: Path) -> None:
    document = judgement.document
    page = samples_page(document, "samples.png")
    assert page.startswith("# Samples\n\n")
    for row in document["rows"]:
        assert f"| {row['name']}" in page
    assert NAME in page
    assert "FID" not in page
    accuracy = document["classifier"]["test_accuracy"]
    assert f"It names {accuracy:.1%} of the test images rightly" in page
    assert f"By `{COMMAND}` at commit" in page
    draw(judgement, tmp_path / "samples.png")
    assert (tmp_path / "samples.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_command_writes_store_page_and_picture(
    settings: JudgeSettings,
    judgement: Judgement,
    work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, store = tmp_path / "samples.toml", tmp_path / "results" / "samples.json"
    config.write_text(tomli_w.dumps(settings.model_dump(mode="json")))
    arguments = [str(config), "--work", str(work), "--set", f'store="{store}"']
    monkeypatch.setattr("sys.argv", ["training", "judge-samples", *arguments])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert not ended.value.code
    document = json.loads(store.read_text())
    assert document["rows"] == judgement.document["rows"]
    assert document["command"] == f"python -m training judge-samples {config}"
    assert store.with_suffix(".md").read_text() == samples_page(document, "samples.png")
    assert store.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_verdict_names_the_nearest_samples_first(judgement: Judgement) -> None:
    document = json.loads(json.dumps(judgement.document))
    samples = [row for row in document["rows"] if row["kind"] == "samples"]
    for distance, row in enumerate(samples, start=1):
        row["distance"] = 10.0 - distance
    assert verdict(document["rows"]).startswith("Uniform lie nearest to the test images, at 5.00 ±")


@pytest.mark.slow
def test_panels_have_a_class_a_row(judgement: Judgement) -> None:
    labels = np.array([2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1])
    places = shown_places(labels, len(labels))
    assert places[0].tolist() == [1, 2, 4, 5, 6, 7, 8, 9]
    assert places[1].tolist() == [3, 11, *[NONE] * 6]
    assert places[2].tolist() == [0, *[NONE] * 7]
    assert shown_places(None, 11).tolist() == [list(range(8)), [8, 9, 10, *[NONE] * 5]]
    grid = panel(judgement.sets[0])
    assert grid.shape == (2 * (10 * 32 + 9), 2 * (8 * 32 + 7), 3)
    labels = judgement.sets[0].labels
    assert labels is not None
    first = judgement.sets[0].at(np.flatnonzero(labels == 0)[:1])[0]
    assert np.array_equal(grid[:64:2, :64:2], first)


def test_the_shipped_configuration_judges_every_prior_by_all_test_images() -> None:
    settings = load_judge_settings(CONFIG)
    assert settings.num_images == 10_000 <= settings.data.validation_images
    assert settings.classifier.least_accuracy >= 0.8
    assert {each.prior for each in settings.samples} == set(PRIORS)
    assert len({each.name for each in settings.samples}) == len(settings.samples)
    with pytest.raises(SettingsError, match=r"samples.toml: classifier.depth: Extra inputs"):
        load_judge_settings(CONFIG, ["classifier.depth=3"])


def test_samples_of_other_classes_are_another_set(with_prior: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(with_prior)
    source = Source(bundle, "1", open_engine(bundle, "cpu"), Kept(tmp_path), bar)
    labelled = DrawSettings(name="x", prior="learned", labelled=True)
    one, other = (
        sampled_set(source, labelled, 0, np.array(labels)) for labels in ([0, 0, 1], [1, 2, 1])
    )
    assert one.origin != other.origin
    of_none = labelled.model_copy(update={"labelled": False})
    plain, same = (
        sampled_set(source, of_none, 0, np.array(labels)) for labels in ([0, 0, 1], [1, 2, 1])
    )
    assert plain.origin == same.origin
    places = np.arange(3)
    assert np.array_equal(plain.at(places), same.at(places))
    with Tokenizer.open(with_prior, "cpu") as tokenizer:
        assert np.array_equal(plain.at(places), np.stack(tokenizer.sample(3).images))
        (last,) = tokenizer.sample(3, label=1).images[2:]
    assert np.array_equal(one.at(np.array([2]))[0], last)


WRONG = {
    "no prior": ({"prior": "learned"}, "has no learned prior; `python -m training add-prior`"),
    "no classes": ({"prior": "position", "labelled": True}, "position-table knows none"),
    "guided nowhere": ({"prior": "position", "cfg_scale": 1.0}, "cfg_scale needs a label"),
    "no temperature": ({"prior": "position", "temperature": -1.0}, "temperature must be"),
}


@pytest.mark.parametrize("case", WRONG)
def test_samples_that_cannot_be_are_a_sentence_before_any_training(
    bundle: Bundle, few: Path, tmp_path: Path, case: str
) -> None:
    options, sentence = WRONG[case]
    samples = [{"name": "some", **options}]
    with pytest.raises(USER_ERRORS, match=sentence):
        judge_samples(
            settings_for(bundle.folder, few, tmp_path, samples=samples), tmp_path / "work", COMMAND
        )
    assert not (tmp_path / "work").exists()


def test_too_few_images_are_a_sentence(with_prior: Path, few: Path, tmp_path: Path) -> None:
    greedy = settings_for(with_prior, few, tmp_path, num_images=61)
    with pytest.raises(SettingsError, match="num_images is 61, and there are 60 test images"):
        judge_samples(greedy, tmp_path, COMMAND)


def test_images_without_classes_are_a_sentence(
    with_prior: Path, made_images: Path, tmp_path: Path
) -> None:
    data = {"kind": "folder", "folder": str(made_images), "image_size": 16, "validation_images": 4}
    with pytest.raises(SettingsError, match="the classifier needs classes"):
        judge_samples(settings_for(with_prior, made_images, tmp_path, data=data), tmp_path, COMMAND)
