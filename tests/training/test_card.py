"""The card says first which method is better, and has the figures."""

import copy
import dataclasses

import pytest

from training.card import card, verdict, with_prior
from training.tables import Row, results_table
from vqtok.bundle import Bundle
from vqtok.priors.spec import PriorSpec


def test_a_rival_without_figures_stands_last_and_settles_nothing(
    bundle: Bundle, rivals: tuple[Row, Row, Row]
) -> None:
    own, better, _ = rivals
    unmeasured = dataclasses.replace(better, figures={})
    text = card(bundle.manifest, own, [unmeasured], [], "")
    assert verdict(own, [unmeasured]) == verdict(unmeasured, [own]) == ""
    rows = [line for line in text.splitlines() if line.startswith(("| VQ", "| GM"))]
    assert [row.split(" | ")[0] for row in rows] == ["| GM-VQ", "| VQ-VAE"]


@pytest.fixture
def rivals(bundle: Bundle) -> tuple[Row, Row, Row]:
    """The bundle's own row, and rows of VQ-VAE with less and with more error."""
    manifest = bundle.manifest
    figures, origin = manifest.metrics["test"], manifest.provenance
    own = Row(origin["settings"], figures)
    vq = copy.deepcopy(dict(origin["settings"]))
    vq["model"]["method"] = "vq"
    better, worse = ({**figures, "mse": figures["mse"] * factor} for factor in (0.8, 1.25))
    return own, Row(vq, better), Row(vq, worse)


def test_the_verdict_names_the_better_method_first(rivals: tuple[Row, Row, Row]) -> None:
    own, better, worse = rivals
    lost = verdict(own, [worse, better]).lstrip("*")
    won = verdict(own, [worse])
    assert lost.startswith("VQ-VAE")
    assert "GM-VQ" in lost
    assert won.startswith("GM-VQ")
    assert "VQ-VAE" in won
    assert "20.0%" in lost
    assert "20.0%" in won
    assert verdict(own, []) == ""


def test_the_card_puts_the_verdict_above_the_tables(
    bundle: Bundle, rivals: tuple[Row, Row, Row]
) -> None:
    own, better, _ = rivals
    text = card(bundle.manifest, own, [better], [own, better], "python -m training train", "Why.")
    assert text.index(verdict(own, [better])) < text.index("\n\nWhy.\n\n") < text.index("| method")
    assert text.index("# tiny-gmvq") < text.index(verdict(own, [better])) < text.index("| method")
    assert text.count("| method") == 2
    rows = [line for line in text.splitlines() if line.startswith("| ") and "VQ" in line]
    assert [line.split(" | ")[0] for line in rows[:2]] == ["| VQ-VAE", "| GM-VQ"]
    assert "16 codes (4 bits each)" in text
    assert bundle.manifest.codebook_id.short in text


def test_the_bundle_s_card_has_its_figures(bundle: Bundle) -> None:
    text = bundle.read("card.md").decode()
    figures = bundle.manifest.metrics["test"]
    assert f"{figures['mse'] * 1e3:.3f}" in text
    assert f"{bundle.manifest.memory['encoder_bytes_per_pixel']:.0f} bytes a pixel" in text
    assert "reconstructions.png" in text
    assert "nan" not in text.lower()


def test_codes_that_are_no_power_of_two_need_the_next_whole_bits(
    bundle: Bundle, rivals: tuple[Row, Row, Row]
) -> None:
    manifest = dataclasses.replace(bundle.manifest, codebook_size=1000)
    assert "1000 codes (10 bits each)" in card(manifest, rivals[0], [], [], "")


def test_a_precision_per_token_is_told_apart(rivals: tuple[Row, Row, Row]) -> None:
    own = rivals[0]
    settings = copy.deepcopy(dict(own.settings))
    settings["model"]["quantizer"]["precision"] = "scalar"
    scalar = Row(settings, {**own.figures, "mse": own.figures["mse"] * 1.25})
    assert verdict(scalar, [own]).startswith("**GM-VQ with")
    assert verdict(scalar, [own]).endswith("20.0% below that of GM-VQ (scalar precision).**")
    assert "| GM-VQ (scalar precision) |" in results_table([own, scalar])


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({}, "VQ-VAE"),
        ({"normalise": False, "affine": "off", "inner_rate": 0.0}, "VQ-VAE"),
        ({"replace_after": 20, "normalise": True}, "VQ-VAE + l2 + replace"),
        ({"inner_rate": 50.0, "task_share": 0.2}, "VQ-VAE + OPT"),
        (
            {"affine": "learned", "inner_rate": 6.0, "task_share": 0.2, "replace_after": 20},
            "VQ-VAE + affine + OPT + replace",
        ),
        ({"affine": "statistics", "inner_rate": 6.0}, "VQ-VAE + affine of statistics + inner step"),
        ({"task_share": 0.2}, "VQ-VAE + task share"),
    ],
)
def test_rows_are_named_by_what_is_added(options: dict[str, object], label: str) -> None:
    assert Row({"model": {"method": "vq", "quantizer": options}}, {}).label == label


def test_a_row_names_both_rates_where_muon_has_one(rivals: tuple[Row, Row, Row]) -> None:
    settings = copy.deepcopy(dict(rivals[0].settings))
    settings["optimiser"] = {"learning_rate": 1e-2, "muon_learning_rate": 0.02}
    assert "| 0.01, Muon 0.02 |" in results_table([Row(settings, rivals[0].figures)])


def test_a_run_that_went_on_from_another_says_from_what_and_what_it_kept() -> None:
    model = {"method": "vq", "quantizer": {"code_dim": 8}}
    rest = {"model": model, "optimiser": {"learning_rate": 0.01}}
    first = {"name": "first", "settings": {**rest, "schedule": {"epochs": 20.0}}}
    start = {"model": "runs/first", "frozen": ["encoder", "quantizer"]}
    result = {
        "name": "second",
        "settings": {**rest, "schedule": {"epochs": 4.0}, "start": start},
        "metrics": {"validation": {"mse": 0.003}},
        "start": first,
    }
    cells = Row.of_result(result, "validation").cells()
    assert cells[0] == "VQ-VAE, then with frozen encoder and quantizer"
    assert cells[3] == "20 + 4"


def test_the_section_on_the_prior_is_there_once(
    bundle: Bundle, rivals: tuple[Row, Row, Row]
) -> None:
    plain = card(bundle.manifest, rivals[0], [], [], "python -m training train")
    assert with_prior(plain, bundle.manifest) == plain
    text = plain
    for bits in (600.0, 590.0):
        text = with_prior(text, dataclasses.replace(bundle.manifest, prior=_prior(bits)))
    assert text.count("## Prior") == 1
    assert "590.0 bits an image" in text
    assert "600.0" not in text
    assert text.index("## Prior") < text.index("## Training")
    assert with_prior(text, bundle.manifest) == plain


def _prior(bits: float) -> PriorSpec:
    return PriorSpec(
        kind="masked",
        schedule="halton-2",
        groups=(0,) * 32 + (1,) * 32,
        order=tuple(range(64)),
        any_order=True,
        parameters=1234,
        provenance={
            "images": 900,
            "steps": 30,
            "seconds": 60.0,
            "hardware": "a machine",
            "commit": "abc",
            "validation": {"bits_per_image": 1.0},
            "test": {"bits_per_image": bits},
        },
    )
