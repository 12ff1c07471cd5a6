"""`vqtok calibrate`: what is in the copy, what stays as it was, and what is refused."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.vqtok.tiny_bundle import smooth_images, write_tiny_bundle
from vqtok.bundle import Bundle, golden_check, write_bundle
from vqtok.calibration import FEWEST_FILES, calibrate, count_codes
from vqtok.cli import main
from vqtok.errors import BundleCorrupt
from vqtok.images import write_image
from vqtok.runtime.onnx import open_engine
from vqtok.statistics import resample_null
from vqtok.tokenizer import Tokenizer

NUM_IMAGES = FEWEST_FILES + 8


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(smooth_images(NUM_IMAGES, 32, 32, seed=9)):
        (folder / f"{number:04d}.png").write_bytes(write_image(image))
    return folder


@pytest.fixture(scope="module")
def calibrated(bundle: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("out") / "mine"
    assert run("calibrate", bundle, photos, "--output", output) == 0
    return output


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_the_copy_is_the_same_tokenizer_and_holds_the_calibration(
    bundle: Path, calibrated: Path
) -> None:
    before, after = Bundle.open(bundle), Bundle.open(calibrated)
    for name in ("codebook_id", "tokenizer_id", "full_name", "grid"):
        assert getattr(before.manifest, name) == getattr(after.manifest, name)
    changed = {
        name
        for name, digest in after.manifest.digests.items()
        if digest != before.manifest.digests[name]
    }
    assert changed == {"reference.npz"}
    data = (calibrated / "reference.npz").read_bytes()
    assert after.manifest.digests["reference.npz"] == hashlib.sha256(data).hexdigest()
    for name in ("usage", "position_counts", "golden_tokens", "probe_pixels"):
        ours, theirs = getattr(before.reference, name), getattr(after.reference, name)
        assert np.array_equal(ours, theirs), name
    golden_check(open_engine(after, "cpu"), after.reference)
    assert before.reference.drift_reference().null is None
    said = after.manifest.provenance["calibration"]
    assert (said["reference_images"], said["null_images"]) == (260, 260)
    assert (said["preprocess"], said["window_images"]) == ("pad", [16, 256])


def test_one_half_is_the_reference_and_windows_of_the_other_are_compared_with_it(
    bundle: Path, photos: Path, calibrated: Path
) -> None:
    manifest = Bundle.open(bundle).manifest
    with Tokenizer.open(bundle, "cpu") as tokenizer:
        batch = tokenizer.encode(sorted(photos.iterdir()))
    found = calibrate(manifest, batch)
    tokens = np.stack([item.tokens for item in batch.images])
    half = np.random.default_rng(0).permutation(NUM_IMAGES)
    usage = count_codes(tokens[half[:260]], manifest)
    assert np.array_equal(found.usage, usage)
    assert found.usage.sum() == 260 * 64
    null = resample_null(tokens[half[260:]], usage)
    drift = Bundle.open(calibrated).reference.drift_reference()
    assert drift.null is not None
    assert np.array_equal(drift.null.quantiles, null.quantiles)
    assert np.array_equal(drift.usage.counts[0], usage)
    assert drift.source == "calibration"


def test_the_same_command_writes_the_same_bytes(
    bundle: Path, photos: Path, calibrated: Path, tmp_path: Path
) -> None:
    assert run("calibrate", bundle, photos, "-o", tmp_path / "again") == 0
    for path in calibrated.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_inspect_shows_it(
    bundle: Path, calibrated: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "160")
    assert run("inspect", bundle) == 0
    assert "never calibrated" in capsys.readouterr().out
    assert run("inspect", calibrated) == 0
    shown = capsys.readouterr().out
    assert "windows of 16 to 256 images, against 16,640 tokens of an operator's images" in shown
    assert "effective dimension" in shown


def test_too_few_images_are_refused_before_the_work(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photos.iterdir())[:37]:
        shutil.copy(path, few)
    assert run("calibrate", bundle, few, "-o", tmp_path / "x") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "A calibration needs at least 512 images, and there are 37" in said
    assert "windows of 64 images" in said
    assert not (tmp_path / "x").exists()


def test_images_of_another_grid_do_not_count(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = shutil.copytree(photos, tmp_path / "mixed")
    for path in sorted(mixed.iterdir())[:20]:
        path.write_bytes(write_image(smooth_images(1, 40, 40)[0]))
    assert run("calibrate", bundle, mixed, "-o", tmp_path / "x") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "only 500 of 520 have the grid of 32x32" in said
    assert "center_crop" in said
    options = ("--preprocess", "center_crop")
    assert run("calibrate", bundle, mixed, "-o", tmp_path / "x", *options) == 0
    assert Bundle.open(tmp_path / "x").manifest.provenance["calibration"]["other_grids"] == 0


def test_what_is_there_is_replaced_only_when_asked(
    bundle: Path, photos: Path, calibrated: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = Path(shutil.copytree(bundle, tmp_path / "mine"))
    assert run("calibrate", bundle, photos, "-o", output) == 1
    assert "--replace" in capsys.readouterr().err
    assert Bundle.open(output).reference.drift_usage is None
    assert run("calibrate", bundle, photos, "-o", output, "--replace") == 0
    assert Bundle.open(output).reference.drift_usage is not None


def test_a_calibrated_bundle_can_be_calibrated_anew(
    calibrated: Path, photos: Path, tmp_path: Path
) -> None:
    assert run("calibrate", calibrated, photos, "-o", tmp_path / "again") == 0
    ours, theirs = (Bundle.open(each).reference for each in (calibrated, tmp_path / "again"))
    assert np.array_equal(ours.drift_usage, theirs.drift_usage)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("drift_usage", np.ones(5, np.int64), "drift_usage has shape"),
        ("drift_usage", np.full(32, -1), "negative"),
        ("drift_sd", None, "no drift_sd"),
        ("drift_mean", np.full(3, np.nan), "finite"),
        ("drift_images", np.array([64, 16, 1]), "ascend"),
        ("drift_images", np.array([16.0, 64, 256]), "is float64, not int64"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    calibrated: Path, tmp_path: Path, name: str, value: np.ndarray | None, reason: str
) -> None:
    opened = Bundle.open(calibrated)
    with np.load(calibrated / "reference.npz") as archive:
        arrays = {key: archive[key] for key in archive.files if key != name}
    if value is not None:
        arrays[name] = value
    np.savez(tmp_path / "other.npz", **arrays)
    files = {key: opened.read(key) for key in opened.manifest.digests}
    files["reference.npz"] = (tmp_path / "other.npz").read_bytes()
    write_bundle(tmp_path / "other", opened.manifest, files)
    with pytest.raises(BundleCorrupt, match=reason):
        Bundle.open(tmp_path / "other")
