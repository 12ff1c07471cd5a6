"""An ablation: one run and the same with one change each, without search or ranks."""

import copy
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.training.compare.made import finished, made_data
from tests.training.tiny import one_thread, tiny_table
from training.compare.command import compare, markdown_file, markdown_of
from training.compare.grid import pending, size_of
from training.compare.html import html_page
from training.compare.load import load_comparison
from training.compare.page import markdown_page
from training.compare.plan import PlannedRun, finals_of, points_of
from training.compare.preflight import check_rows
from training.compare.rows import gather
from training.compare.settings import Comparison
from training.compare.store import Record, Store
from training.settings import SettingsError, set_value, settings_from

CHANGES: list[dict[str, Any]] = [
    {"label": "no noise", "set": {"model.quantizer.noise": "off"}},
    {"label": "wider", "set": {"model.network.width": 12, "optimiser.learning_rate": 2e-3}},
    {
        "label": "VQ-VAE",
        "set": {"model.method": "vq", "model.quantizer": {"codebook_size": 16, "code_dim": 4}},
        "note": "a note",
    },
]
CHANGES[2]["set"]["objective"] = {"name": "vqvae"}


def table_of(images: Path | str, store: Path | str, **changes: Any) -> dict[str, Any]:
    base = tiny_table("gmvq", images) | {"name": "base"}
    del base["seed"]
    return {
        "title": "Made images",
        "store": str(store),
        "seeds": [0, 1],
        "validations": 2,
        "base": base,
        "change": copy.deepcopy(CHANGES),
        **changes,
    }


def load(folder: Path, **changes: Any) -> Comparison:
    path = folder / "ablation.toml"
    path.write_text(tomli_w.dumps(table_of("images", folder / "store.json", **changes)))
    return load_comparison(path)


def runs_of(comparison: Comparison) -> dict[str, list[PlannedRun]]:
    return {
        method.label: finals_of(comparison, method, points_of(comparison, method)[0])
        for method in comparison.method
    }


def test_each_row_is_the_base_run_with_its_change_alone(tmp_path: Path) -> None:
    runs = runs_of(load(tmp_path))
    assert list(runs) == ["base", "no noise", "wider", "VQ-VAE"]
    for label, changed in [("base", {}), *((row["label"], row["set"]) for row in CHANGES)]:
        for seed, run in enumerate(runs[label]):
            found = run.settings(num_images=32, validations=2)
            expected = table_of("images", "store.json")["base"]
            kept = {"schedule.validate_every": found.schedule.validate_every, "seed": seed}
            for key, value in {"name": found.name, **kept, **changed}.items():
                set_value(expected, key, value)
            assert found == settings_from(expected, "a test"), label


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"change": [{"label": "a", "set": {"data.flip": True}}]}, "data.flip must be the same"),
        ({"change": [{"label": "a", "set": {"seed": 3}}]}, "seed must be the same in every row"),
        ({"change": [{"label": "a", "set": {}}]}, r"change: set: .*at least 1 item"),
        ({"change": {"label": "a"}}, r"change must be a list, \[\[change\]\]"),
        (
            {"change": [{"label": "base", "set": {"schedule.epochs": 1}}]},
            "two rows are called base",
        ),
        (
            {"change": [{"label": "a", "set": {"schedule.epochs": 2.0}}]},
            "base and a plan the same run twice",
        ),
        ({"change": [{"label": "a", "set": {"model.quantizer.nois": 1}}]}, "a: .*no option 'nois'"),
        ({"change": [{"label": "a", "set": {"model.method.b": 1}}]}, "a: method is no table"),
        ({"base": {"name": "b"}}, "base: model: Field required; objective: Field required"),
        ({"base": 3}, "base: name: Field required"),
    ],
)
def test_what_is_no_ablation_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, **changes)


def test_a_base_with_a_seed_of_its_own_is_refused(tmp_path: Path) -> None:
    base = table_of("images", "store.json")["base"] | {"seed": 3}
    with pytest.raises(SettingsError, match=r"base\.seed is not used: the seeds are `seeds`"):
        load(tmp_path, base=base)


def test_a_row_that_cannot_take_a_step_is_found_first(tmp_path: Path) -> None:
    change = {"label": "a", "set": {"objective": {"name": "sqvae"}}}
    with pytest.raises(SettingsError, match="a: "):
        check_rows(load(tmp_path, change=[change]), {}, (16, 16))


def test_the_grid_runs_every_row_once_a_seed_and_searches_nothing(tmp_path: Path) -> None:
    images = made_data(tmp_path / "images")
    path = tmp_path / "ablation.toml"
    path.write_text(tomli_w.dumps(table_of(images, tmp_path / "store.json", seeds=[0])))
    comparison = load_comparison(path)
    assert size_of(comparison) == len(pending(comparison, {})) == 4
    with one_thread():
        compare(comparison, tmp_path / "work")
    records = Store(comparison.store).records()
    assert [(r["method"], r["phase"]) for r in records] == [
        ("base", "final"),
        ("no noise", "final"),
        ("wider", "final"),
        ("VQ-VAE", "final"),
    ]
    assert [r["learning_rate"] for r in records] == [5e-3, 5e-3, 2e-3, 5e-3]
    assert markdown_file(comparison).read_text() == markdown_of(comparison)
    assert "base: test MSE " in markdown_of(comparison)


def records_of(comparison: Comparison, errors: dict[str, list[float]]) -> list[Record]:
    return [
        finished(run, mse) | {"learning_rate": run.table["optimiser"]["learning_rate"]}
        for label, runs in runs_of(comparison).items()
        for run, mse in zip(runs, errors[label], strict=True)
    ]


def test_the_page_says_what_each_change_does(tmp_path: Path) -> None:
    comparison = load(tmp_path, seeds=[0, 1, 2])
    errors = {
        "base": [4e-3, 5e-3, 6e-3],
        "no noise": [3e-3, 4.1e-3, 4.9e-3],
        "wider": [6e-3, 7e-3, 8e-3],
        "VQ-VAE": [5e-3, 6e-3, 7e-3],
    }
    rows = gather(comparison, records_of(comparison, errors))
    page = markdown_page(rows)
    assert page.split("\n\n")[1] == (
        "base: test MSE 5.000 × 10⁻³. 1 change is below it, no noise the farthest: by "
        "1.000 × 10⁻³ (20.0%). 2 changes are above it, wider the farthest: by 2.000 × 10⁻³ (40.0%)."
    )
    main = page.split("\n## ")[1].splitlines()
    assert next(line for line in main if line.startswith("| VQ-VAE")).endswith("| a note |")
    assert "`width` = 12, `learning_rate` = 0.002" in page
    assert "-1.000 [-1.248, -0.752]" in page
    assert "The search" not in page
    assert "equal time" not in page
    assert "no noise" in html_page(rows, tmp_path)


def test_with_few_seeds_nothing_is_called_better(tmp_path: Path) -> None:
    comparison = load(tmp_path, seeds=[0])
    errors = {label: [4e-3 + place] for place, label in enumerate(runs_of(comparison))}
    page = markdown_page(gather(comparison, records_of(comparison, errors)))
    assert "With 1 seed, fewer than three, none is called better or worse." in page
    unfinished = markdown_page(gather(comparison, []))
    assert "base has no finished run yet." in unfinished
