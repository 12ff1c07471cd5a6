"""A comparison that would not be fair, or could not run, is refused before anything is trained."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from models.quantizers import QUANTIZERS
from tests.representative import few_of
from tests.training.compare.made import ROWS, table_of
from training.compare import preflight
from training.compare.load import load_comparison
from training.compare.preflight import check_data, check_rows
from training.compare.settings import Comparison
from training.data import Part, Splits
from training.objectives import OBJECTIVES
from training.settings import RunSettings, SettingsError, read_table, set_value

CONFIGS = Path(__file__).parents[3] / "training/configs/compare"
SHIPPED = sorted(path for path in CONFIGS.glob("*.toml") if path.name != "rows.toml")

ABLATIONS = sorted((CONFIGS.parent / "ablations").glob("*.toml"))


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


@pytest.mark.parametrize("path", few_of(SHIPPED, SHIPPED[:2]), ids=lambda path: path.stem)
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


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_every_row_of_a_shipped_ablation_can_take_a_step(path: Path) -> None:
    check_rows(load_comparison(path), {}, (32, 32))


def test_the_shipped_rows_are_the_papers_and_the_yardsticks() -> None:
    rows = read_table(CONFIGS / "rows.toml")["method"]
    assert len(SHIPPED) == 3
    assert sum(not r.get("yardstick", False) for r in rows) == 13
    assert {"FSQ 8·5·5·5", "IBQ", "SimVQ", "EM"} <= {r["label"] for r in rows if "yardstick" in r}


CODE_DIM = "model.quantizer.code_dim"
COMMITMENT = "objective.options.commitment"
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
    "a knob on the code's size": (
        [row(2, knob={"key": "model.quantizer.code_dim", "values": [2, 4, 8]})],
        "GM-VQ: its knob model.quantizer.code_dim is the same for every row; only a yardstick",
    ),
    "a knob on the objective's name": (
        [row(2, knob={"key": "objective.name", "values": ["albo", "vib", "vdib"]})],
        "GM-VQ: its knob objective.name is the same for every row",
    ),
    "a knob on the optimiser": (
        [row(2, knob={"key": "optimiser.weight_decay", "values": [0.0, 1e-4, 1e-2]})],
        "GM-VQ: its knob optimiser.weight_decay is the same for every row",
    ),
    "a knob on the schedule": (
        [row(2, knob={"key": "schedule.batch_size", "values": [2, 4, 8]})],
        "schedule.batch_size is the same for every row",
    ),
    "a knob on the data": (
        [row(2, knob={"key": "data.image_size", "values": [8, 16, 32]})],
        "data.image_size is the same for every row",
    ),
    **{
        f"a knob on all of {table}": (
            [row(2, knob={"key": table, "values": [{}, {}, {}]})],
            f"GM-VQ: its knob {table} is a whole table; name one option in it",
        )
        for table in ("model.quantizer", "objective", "objective.options", "optimiser")
    },
    "a word as a weight": (
        [row(2), row(0, knob={"key": COMMITMENT, "values": [0.1, "x", 1.0]})],
        "VQ: objective vqvae: commitment must be a finite number, not 'x'",
    ),
    "a word to start from": (
        [row(2), row(0, knob={"key": COMMITMENT, "values": [0.1, {"start": "a", "end": 1.0}, 1]})],
        "VQ: objective vqvae: commitment: start must be a finite number, not 'a'",
    ),
    "a ramp without an end": (
        [row(2), row(0, knob={"key": COMMITMENT, "values": [0.1, {"start": "a"}, 1.0]})],
        "VQ: objective vqvae: commitment: .*end",
    ),
    "an infinite weight": (
        [row(2), row(0, knob={"key": COMMITMENT, "values": [0.1, math.inf, 1.0]})],
        "no value to search: inf; take finite numbers",
    ),
    "an option that is no number": (
        [row(2), row(1, knob={"key": "model.quantizer.decay", "values": [0.1, math.nan, 0.9]})],
        "no value to search: nan; take finite numbers",
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


def test_a_yardstick_may_search_what_the_others_share(tmp_path: Path) -> None:
    for key, values in {"optimiser.weight_decay": [0.0, 0.1, 1], CODE_DIM: [2, 4, 8]}.items():
        knob = {"key": key, "values": values}
        found = load(tmp_path, [row(2), row(3, knob=knob)]).method[1].knob
        assert found is not None
        assert found.key == key


@pytest.mark.parametrize("rates", [[], [0.0], [math.inf], [math.nan]])
def test_learning_rates_are_finite_and_above_zero(tmp_path: Path, rates: list[float]) -> None:
    with pytest.raises(SettingsError, match=r"search\.learning_rates"):
        load(tmp_path, search={"learning_rates": rates})


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("seed", 3, "the seeds are `seeds`"),
        ("model.method", "vq", "each row names its own in `method`"),
        ("objective", {"name": "albo"}, "each row has its own in `objective`"),
        ("optimiser.learning_rate", 1e-3, "stands in `search.learning_rates`"),
    ],
)
def test_what_the_base_cannot_say_is_refused_with_its_place(
    tmp_path: Path, key: str, value: Any, place: str
) -> None:
    base = table_of("images", "store.json")["base"]
    set_value(base, key, value)
    with pytest.raises(SettingsError, match=f"base.{key} is not used: .*{place}"):
        load(tmp_path, base=base)


@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_one_step_is_taken_with_every_value_of_a_knob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    comparison = load(tmp_path, [row(0), row(2)])
    tried: list[float] = []

    def step(settings: RunSettings, _: tuple[int, ...]) -> None:
        value = settings.objective.options.get("commitment", 0.0)
        tried.append(value)
        if value == 0.25:
            raise error("0.25 does not work")

    monkeypatch.setattr(preflight, "_step", step)
    with pytest.raises(SettingsError, match=r"^VQ: 0\.25 does not work$"):
        check_rows(comparison, {}, (16, 16))
    assert tried == [0.1, 0.25, 1.0, 0.0, 0.0, 0.0]


def splits_of(train: int = 32, validation: int = 16, test: int = 12, side: int = 16) -> Splits:
    images = np.zeros((train + validation, side, side, 3), np.uint8)
    return Splits(
        Part(images, 0, train), Part(images, train, train + validation), Part(images, 0, test)
    )


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"test": 0}, "the data have no test images"),
        ({"validation": 0}, "the data have no validation images"),
        ({"train": 7}, "batch_size is 8, and there are 7 training images"),
        ({"side": 18}, "18 x 18 do not divide by model.network.factor 4"),
    ],
)
def test_data_that_do_not_do_are_refused(
    tmp_path: Path, sizes: dict[str, int], reason: str
) -> None:
    comparison = load(tmp_path)
    check_data(comparison, splits_of())
    with pytest.raises(SettingsError, match=reason):
        check_data(comparison, splits_of(**sizes))


def test_too_few_vectors_for_k_means_name_the_rows_that_need_them(tmp_path: Path) -> None:
    base = table_of("images", "store.json")["base"]
    base["model"]["quantizer"]["codebook_size"] = 256
    # A batch has 8 · 4 · 4 vectors; whole batches are taken up to the first that is enough.
    base["schedule"]["kmeans_vectors"] = 129
    check_data(load(tmp_path, base=base), splits_of())
    base["schedule"]["kmeans_vectors"] = 128
    gumbel = row(2, label="Gumbel", method="gumbel", objective={"name": "gumbel"})
    gumbel["knob"] = {"key": "objective.options.divergence", "values": [1e-4, 5e-4, 2.5e-3]}
    with pytest.raises(SettingsError) as refused:
        check_data(load(tmp_path, [*ROWS, gumbel], base=base), splits_of())
    said = str(refused.value)
    reason = "k-means needs at least 256 vectors and got 128;"
    assert [f"{label}: {reason}" in said for label in ("VQ", "EMA", "GM-VQ")] == [True] * 3
    assert "schedule.kmeans_vectors is 128" in said
    assert "Few codes" not in said
    assert "Gumbel" not in said
    base["schedule"]["kmeans_vectors"] = 0
    check_data(load(tmp_path, base=base), splits_of())
