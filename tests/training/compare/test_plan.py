"""Every row gets the same runs, and a run is known by what decides its outcome."""

import json
from typing import Any

import pytest

from tests.training.compare.made import comparison_of, table_of
from training.compare.plan import PlannedRun, finals_of, points_of, reduced, searches_of
from training.compare.settings import Comparison
from training.settings import set_value

SHARED = ("data", "schedule")


def all_runs(comparison: Comparison) -> list[list[PlannedRun]]:
    """Searches and finals of each row, with any point as the chosen one."""
    return [
        [
            *searches_of(comparison, method),
            *finals_of(comparison, method, points_of(comparison, method)[4]),
        ]
        for method in comparison.method
    ]


def test_every_row_has_the_same_runs() -> None:
    rows = all_runs(comparison_of())
    assert [len(runs) for runs in rows] == [11] * 4
    for first, *others in zip(*rows, strict=True):
        for other in others:
            assert (first.phase, first.seed) == (other.phase, other.seed)
            assert first.point.learning_rate == other.point.learning_rate
            assert all(first.table[part] == other.table[part] for part in SHARED)
            assert first.table["model"]["network"] == other.table["model"]["network"]


def test_the_search_is_every_rate_with_every_value_at_its_share_of_the_epochs() -> None:
    comparison = comparison_of()
    searches = searches_of(comparison, comparison.method[2])
    points = {(run.point.learning_rate, run.point.knob) for run in searches}
    assert points == {(r, k) for r in (1e-3, 3e-3, 1e-2) for k in (3e-4, 1e-3, 3e-3)}
    for run in searches:
        settings = run.settings(32, 4)
        assert settings.schedule.epochs == 0.25 * 2
        assert settings.optimiser.learning_rate == run.point.learning_rate
        assert settings.objective.options == {"beta": 1.0, "gamma": run.point.knob}
        assert settings.seed == 0


def test_finals_have_the_chosen_point_all_seeds_and_the_whole_budget() -> None:
    comparison = comparison_of(seeds=[3, 5, 8])
    point = points_of(comparison, comparison.method[0])[5]
    finals = finals_of(comparison, comparison.method[0], point)
    assert [run.seed for run in finals] == [3, 5, 8]
    for run in finals:
        settings = run.settings(32, 4)
        assert (settings.schedule.epochs, settings.seed) == (2, run.seed)
        assert settings.objective.options["commitment"] == point.knob


@pytest.mark.parametrize(("validations", "every"), [(4, 2), (10, 1), (3, 3)])
def test_finals_are_validated_as_often_as_asked_and_searches_once(
    validations: int, every: int
) -> None:
    comparison = comparison_of()
    *searches, final, _ = all_runs(comparison)[0]
    assert final.settings(32, validations).schedule.validate_every == every
    assert searches[0].settings(32, validations).schedule.validate_every == 2


def test_a_yardstick_has_its_own_rate_and_no_other_row_does() -> None:
    rows = all_runs(comparison_of())
    sizes = [runs[0].settings(32, 4).model.quantizer["codebook_size"] for runs in rows]
    assert sizes == [16, 16, 16, 8]


def changed(key: str, value: Any) -> str:
    table = table_of("images", "store.json")
    set_value(table, key, value)
    return all_runs(Comparison.model_validate(json.loads(json.dumps(table))))[0][-1].digest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("base.schedule.epochs", 3),
        ("base.schedule.batch_size", 4),
        ("base.model.network.width", 12),
        ("base.data.image_size", 32),
        ("base.optimiser.clip_norm", 2.0),
        ("seeds", [0, 2]),
    ],
)
def test_what_decides_the_outcome_decides_the_digest(key: str, value: Any) -> None:
    assert changed(key, value) != changed("title", "the same")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("base.data.folder", "/elsewhere"),
        ("base.data.num_workers", 2),
        ("base.schedule.checkpoint_every", 7),
        ("base.schedule.epochs", 2.0),
        ("title", "another"),
        ("validations", 2),
    ],
)
def test_places_rhythms_and_names_leave_the_digest_alone(key: str, value: Any) -> None:
    assert changed(key, value) == changed("title", "the same")


def test_no_two_runs_share_a_digest_and_no_path_is_kept() -> None:
    runs = [run for row in all_runs(comparison_of("/home/someone/images")) for run in row]
    assert len({run.digest for run in runs}) == len(runs) == 44
    assert not any("someone" in json.dumps(reduced(run.table)) for run in runs)
