"""Priors compared on real images: what is trained once, what the page says."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.priors.test_run import LEARNED, settings_for
from training.priors.compare import PriorComparison, PriorRow, compare_priors
from training.priors.measure import bits_of_images
from training.priors.page import draw, priors_page, verdict
from training.priors.runs import load_model
from training.priors.times import TimeTerms
from training.priors.tokens import load_tokens
from training.settings import SettingsError
from vqtok.bundle import Bundle


@pytest.fixture(scope="module")
def comparison(
    bundle: Bundle, real_images: Path, tmp_path_factory: pytest.TempPathFactory
) -> PriorComparison:
    base = settings_for(bundle, real_images, "masked").model_dump(exclude={"name", "prior"})
    return PriorComparison(
        title="Priors",
        store=tmp_path_factory.mktemp("store") / "priors.json",
        base=base,
        rows=[
            PriorRow(name=kind, prior={"kind": kind, "options": LEARNED.get(kind, {})})
            for kind in ("uniform", "position", "masked", "autoregressive")
        ],
        learning_rates=[1e-3, 1e-2],
        search_share=0.5,
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def document(comparison: PriorComparison, work: Path) -> dict[str, Any]:
    return compare_priors(comparison, work)


def test_every_learned_row_has_the_same_search_and_tables_have_none(
    document: dict[str, Any], work: Path
) -> None:
    rows = {row["name"]: row for row in document["rows"]}
    assert rows["position"]["searched"] == rows["uniform"]["searched"] == {}
    for name in ("masked", "autoregressive"):
        row = rows[name]
        assert set(row["searched"]) == {"0.001", "0.01"}
        best = min(row["searched"], key=row["searched"].get)
        assert row["learning_rate"] == float(best)
        assert row["steps"] == 20
        shares = [
            json.loads((work / name / rate / "result.json").read_text()) for rate in row["searched"]
        ]
        assert [each["steps"] for each in shares] == [10, 10]
        assert [each["validation"]["bits_per_image"] for each in shares] == list(
            row["searched"].values()
        )


def test_differences_are_paired_over_the_test_images(
    comparison: PriorComparison, document: dict[str, Any], work: Path
) -> None:
    rows = {row["name"]: row for row in document["rows"]}
    with np.load(comparison.store.with_suffix(".npz")) as kept:
        bits = {name: kept[name].astype(float) for name in rows}
    assert all(len(each) == 24 for each in bits.values())
    assert bits["masked"] == pytest.approx(measured(work / "masked" / "whole", comparison, work))
    difference = bits["masked"] - bits["position"]
    mean, low, high = rows["masked"]["minus"]["position"]
    assert mean == pytest.approx(difference.mean())
    assert high - mean == pytest.approx(1.96 * difference.std(ddof=1) / 24**0.5)
    assert mean - low == pytest.approx(high - mean)
    assert rows["uniform"]["test"]["standard_error"] == pytest.approx(0, abs=1e-9)


def measured(run: Path, comparison: PriorComparison, work: Path) -> Any:
    settings, prior = load_model(run)
    tokens = load_tokens(Bundle.open(settings.bundle), settings.data, work / "tokens.npz")
    return bits_of_images(prior, tokens.test, labelled=False)


def test_what_the_store_has_is_not_trained_again(
    comparison: PriorComparison, document: dict[str, Any], tmp_path: Path
) -> None:
    """Not even where the runs are gone."""
    assert compare_priors(comparison, tmp_path) == document
    assert not list(tmp_path.iterdir())


def test_rows_may_come_one_by_one_in_any_order(
    comparison: PriorComparison, document: dict[str, Any], work: Path, tmp_path: Path
) -> None:
    store = tmp_path / "priors.json"
    alone = comparison.model_copy(update={"store": store})
    for names in (["masked", "uniform"], ["position"], ["autoregressive"]):
        found = compare_priors(alone, work, names)
        assert found == json.loads(store.read_text())
        known = [row["name"] for row in found["rows"]]
        assert set(names) <= set(known)
        assert known == [row.name for row in comparison.rows if row.name in known]
    assert found == document


def test_rows_that_were_trained_otherwise_are_refused_and_kept(
    comparison: PriorComparison, document: dict[str, Any], tmp_path: Path
) -> None:
    longer = {**comparison.base, "schedule": {**comparison.base["schedule"], "epochs": 5}}
    *others, masked, last = comparison.rows
    own = masked.model_copy(update={"schedule": {"batch_size": 8}})
    for changed, why in (
        ({"base": longer}, r"a row masked that was trained otherwise \(settings\)"),
        ({"learning_rates": [1e-3, 3e-2]}, r"a row masked that was trained otherwise \(rates\)"),
        ({"search_share": 0.25}, r"a row masked that was trained otherwise \(search_share\)"),
        ({"rows": [*others, own, last]}, r"a row masked that was trained otherwise \(settings\)"),
        ({"rows": [*others, last]}, "a row masked, which the comparison has not"),
    ):
        with pytest.raises(SettingsError, match=why):
            compare_priors(comparison.model_copy(update=changed), tmp_path)
    with pytest.raises(SettingsError, match="no row is called 'mask'; there are uniform"):
        compare_priors(comparison, tmp_path, ["mask"])
    assert json.loads(comparison.store.read_text()) == document
    assert not list(tmp_path.iterdir())


def test_of_one_rate_nothing_is_searched(comparison: PriorComparison, tmp_path: Path) -> None:
    one = comparison.model_copy(
        update={
            "store": tmp_path / "priors.json",
            "rows": comparison.rows[-1:],
            "learning_rates": [3e-3],
            "remark": "Of one order.",
        }
    )
    document = compare_priors(one, tmp_path)
    (row,) = document["rows"]
    assert (row["learning_rate"], row["searched"], row["steps"]) == (3e-3, {}, 20)
    assert [each.name for each in (tmp_path / "autoregressive").iterdir()] == ["whole"]
    alike = {**row, "minus": {"autoregressive": [0.0, 0.0, 0.0]}}
    mixed = priors_page(
        {**document, "rows": [alike, {**alike, "searched": {"0.1": 9.9}}]}, "priors.png"
    )
    assert "over all of it; but autoregressive with one rate alone." in mixed
    other = one.rows[0].model_copy(update={"learning_rates": [0.1]})
    own = one.model_copy(update={"rows": [other]})
    with pytest.raises(SettingsError, match=r"trained otherwise \(rates\)"):
        compare_priors(own, tmp_path)
    page = priors_page(document, "priors.png")
    assert "none was searched" in page
    assert "## The search" not in page
    assert "\n\nOf one order.\n\n" in page
    said_otherwise = one.model_copy(update={"remark": ""})
    assert compare_priors(said_otherwise, tmp_path / "none") == {**document, "remark": ""}
    with pytest.raises(SettingsError, match=r"trained otherwise \(rates\)"):
        compare_priors(one.model_copy(update={"learning_rates": [3e-3, 1e-2]}), tmp_path)


def test_the_page_says_what_the_store_holds(
    comparison: PriorComparison, document: dict[str, Any], tmp_path: Path
) -> None:
    assert json.loads(comparison.store.read_text()) == document
    page = priors_page(document, "priors.png")
    for row in document["rows"]:
        assert f"{row['test']['bits_per_image']:.2f} ±" in page
    assert "| autoregressive |" in page
    assert "raster (64)" in page
    draw(document, tmp_path / "priors.png")
    assert (tmp_path / "priors.png").stat().st_size > 10_000
    (one,) = [row for row in document["rows"] if row["name"] == "uniform"]
    alone = priors_page({**document, "rows": [{**one, "minus": {}}]}, "priors.png")
    assert "\n\n.\n" not in alone
    assert "## Schedules" not in alone


def test_bounds_are_never_taken_for_code_lengths(document: dict[str, Any], tmp_path: Path) -> None:
    """A row of a diffusion's figures: marked in tables, in no sentence that compares."""
    figures = {field.name: 1.5 for field in dataclasses.fields(TimeTerms)}
    bounded = {
        **document["rows"][-1],
        "name": "diffusion",
        "kind": "diffusion",
        "is_exact": False,
        "schedule": "steps-60",
        "passes": 60,
        "schedules": [figures | {"schedule": "steps-60", "passes": 60}],
        "test": {"images": 24, "bits_per_image": 123.45, "standard_error": 1.0},
        "validation": {"bits_per_image": 125.0},
    }
    page = priors_page({**document, "rows": [*document["rows"], bounded]}, "priors.png")
    assert "diffusion takes at most 123.45 bits." in page
    assert "than diffusion" not in page
    assert "diffusion takes " not in page.replace("diffusion takes at most", "")
    assert "| diffusion | ≤ 123.45 ± 1.96 | ≤ 1.929 | ≤ 125.00 | steps-60 (60) |" in page
    assert "Not so those of diffusion" in page
    assert "| T | steps | bits at most |" in page.split("## The terms of diffusion")[1]
    assert "steps-60" not in page.split("## Schedules")[1].split("## The terms")[0]
    exact = priors_page(document, "priors.png")
    assert "≤" not in exact
    assert "The terms of" not in exact
    draw({**document, "rows": [*document["rows"], bounded]}, tmp_path / "priors.png")
    assert (tmp_path / "priors.png").stat().st_size > 10_000


def test_it_says_how_much_of_the_distance_is_drawing_tokens_together(
    document: dict[str, Any],
) -> None:
    rows = {row["name"]: row for row in document["rows"]}
    assert [name for name in rows if "one_by_one" in rows[name]] == ["masked"]
    alone, chosen = rows["masked"]["one_by_one"], rows["masked"]["schedules"]
    assert (alone["schedule"], alone["passes"]) == ("halton-64", 64)
    assert rows["masked"]["schedule"] in {each["schedule"] for each in chosen}
    page = priors_page(document, "priors.png")
    assert f"| masked | halton-64 | 64 | {alone['bits_per_image']:.2f} |" in page
    (together,) = [e for e in chosen if e["schedule"] == rows["masked"]["schedule"]]
    gone = together["bits_per_image"] - alone["bits_per_image"]
    last = rows["autoregressive"]["history"][-1]["bits_per_image"]
    assert f"({together['bits_per_image']:.1f} to {last:.1f} bits) {gone:.1f} would go" in page


def row(name: str, bits: float, **others: float) -> dict[str, Any]:
    minus = {other: [bits - b, bits - b - 1, bits - b + 1] for other, b in others.items()}
    return {"name": name, "kind": name, "test": {"bits_per_image": bits}, "minus": minus}


def test_the_verdict_says_so_where_masked_is_far_behind() -> None:
    near = [row("masked", 104.0, autoregressive=100.0), row("autoregressive", 100.0, masked=104.0)]
    assert "masked is +4.00% from autoregressive, within 5%" in verdict(near)
    assert "autoregressive takes 3.85% fewer bits (2.88% to 4.81%) than masked" in verdict(near)
    far = [row("masked", 106.0, autoregressive=100.0), row("autoregressive", 100.0, masked=106.0)]
    assert "masked is +6.00% from autoregressive, NOT within 5%" in verdict(far)
