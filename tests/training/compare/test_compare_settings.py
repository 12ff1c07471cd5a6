"""A comparison that would not be fair, or could not run, is refused before anything is trained."""

import copy
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from models.quantizers import QUANTIZERS
from tests.training.compare.made import ROWS, table_of
from training.compare.load import load_comparison
from training.compare.preflight import check_rows
from training.compare.settings import Comparison
from training.objectives import OBJECTIVES
from training.settings import SettingsError, read_table

CONFIGS = Path(__file__).parents[3] / "training/configs/compare"
SHIPPED = sorted(path for path in CONFIGS.glob("*.toml") if path.name != "rows.toml")


def load(folder: Path, rows: list[dict[str, Any]] | None = None, **changes: Any) -> Comparison:
    table = table_of("images", "store.json", **changes)
    path = folder / "comparison.toml"
    path.write_text(tomli_w.dumps({**table, "method": ROWS if rows is None else rows}))
    return load_comparison(path)


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(ROWS[number]), **changes}


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    comparison = load(tmp_path)
    assert [method.label for method in comparison.method] == ["VQ", "EMA", "GM-VQ", "Few codes"]
    assert comparison.search.learning_rates == (1e-3, 3e-3, 1e-2)
    assert comparison.seeds == (0, 1)


def test_rows_may_stand_in_a_file_beside_it(tmp_path: Path) -> None:
    table = table_of("images", "store.json")
    (tmp_path / "rows.toml").write_text(tomli_w.dumps({"method": table.pop("method")}))
    path = tmp_path / "comparison.toml"
    path.write_text(tomli_w.dumps({**table, "rows": "rows.toml"}))
    assert load_comparison(path) == load(tmp_path)
    assert load_comparison(path, ["seeds=[4]"]).seeds == (4,)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_comparison_is_valid_or_names_every_method_that_is_not_there(path: Path) -> None:
    table = read_table(path)
    rows = read_table(path.parent / table["rows"])["method"]
    unknown = {r["method"] for r in rows} - set(QUANTIZERS)
    unknown |= {r["objective"]["name"] for r in rows} - set(OBJECTIVES)
    if not unknown:
        comparison = load_comparison(path)
        assert [method.label for method in comparison.method] == [r["label"] for r in rows]
        check_rows(comparison, {}, (32, 32))
        return
    with pytest.raises(SettingsError) as refused:
        load_comparison(path)
    assert all(name in str(refused.value) for name in unknown)


def test_the_shipped_rows_are_the_papers_and_the_yardsticks() -> None:
    rows = read_table(CONFIGS / "rows.toml")["method"]
    assert len(SHIPPED) == 3
    assert sum(not r.get("yardstick", False) for r in rows) == 13
    assert {"FSQ 8·5·5·5", "IBQ", "SimVQ", "EM"} <= {r["label"] for r in rows if "yardstick" in r}


REFUSED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "unknown methods": (
        [row(0, method="aaa"), row(1, method="bbb"), row(2, objective={"name": "ccc"})],
        r"no quantizer is called aaa, bbb; .*no objective is called ccc; there are vqvae",
    ),
    "a code_dim of its own": (
        [row(2, quantizer={"code_dim": 8})],
        "GM-VQ changes code_dim, which is the same for every row",
    ),
    "overrides without being a yardstick": (
        [row(2, overrides={"model.quantizer.codebook_size": 8})],
        "GM-VQ has overrides, which are for rows with yardstick = true",
    ),
    "more steps": (
        [row(3, overrides={"schedule.epochs": 9}), row(2)],
        "schedule.epochs is the same for every row",
    ),
    "a knob on the trunk": (
        [row(2, knob={"key": "model.network.width", "values": [8, 12, 16]})],
        "model.network.width is the same for every row",
    ),
    "a knob on the rate": (
        [row(2, knob={"key": "optimiser.learning_rate", "values": [1, 2, 3]})],
        "the learning rate is searched in every row",
    ),
    "four values": (
        [row(2, knob={"key": "objective.options.gamma", "values": [1, 2, 3, 4]})],
        "at most 3 items",
    ),
    "two rows of one name": ([row(2), row(2)], "two rows are called GM-VQ"),
    "the same runs twice": ([row(2), row(2, label="again")], "GM-VQ and again plan the same run"),
    "no subject": ([row(0)], "no row is called 'GM-VQ'; there are VQ"),
    "an unknown option": ([row(2, quantizer={"bogus": 1})], "gmvq has no option 'bogus'"),
    "an option out of range": (
        [row(2, quantizer={"argmax_from": 2.0})],
        "GM-VQ: argmax_from is a share of training",
    ),
    "an objective's unknown option": (
        [row(2, objective={"name": "albo", "options": {"bogus": 1.0}})],
        "GM-VQ: objective albo: got an unexpected keyword argument 'bogus'",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_it_is_refused_with_its_reason(tmp_path: Path, mistake: str) -> None:
    rows, reason = REFUSED[mistake]
    with pytest.raises(SettingsError, match=reason):
        load(tmp_path, rows)


def test_the_search_needs_images_to_choose_by(tmp_path: Path) -> None:
    base = table_of("images", "store.json")["base"]
    base["data"]["validation_images"] = 0
    with pytest.raises(SettingsError, match="the search needs images to choose"):
        load(tmp_path, base=base)


def test_a_row_whose_objective_does_not_fit_is_found_by_one_step(tmp_path: Path) -> None:
    wrong = row(0, label="hard", objective={"name": "albo"})
    wrong["knob"] = {"key": "objective.options.gamma", "values": [1e-3, 2e-3, 3e-3]}
    comparison = load(tmp_path, [wrong, row(2)])
    with pytest.raises(SettingsError, match=r"^hard: .*needs a soft posterior"):
        check_rows(comparison, {}, (16, 16))
