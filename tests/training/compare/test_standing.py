"""What the first paragraph and the verdicts say, of stores that are made for it."""

from typing import Any

import pytest

from tests.training.compare.made import comparison_of, failed, finished, store_of
from training.compare.page import markdown_page
from training.compare.plan import finals_of, searches_of
from training.compare.rows import Rows, gather
from training.compare.standing import (
    difference,
    equal_time,
    first_paragraph,
    tied,
    verdict,
)

THREE = {"seeds": [0, 1, 2]}
CLEAR = {"VQ": [0.006, 0.0061, 0.0062], "GM-VQ": [0.003, 0.0031, 0.0032]}
CLOSE = {"VQ": [0.0030, 0.0034, 0.0031], "GM-VQ": [0.0031, 0.0030, 0.0032]}


def rows_of(errors: dict[str, Any], seconds: Any = None, **changes: Any) -> Rows:
    comparison = comparison_of(**changes)
    return gather(comparison, store_of(comparison, errors, seconds))


def cells(rows: Rows, label: str, title: str = "Test images, equal steps") -> list[str]:
    """The cells of a row of the Markdown page."""
    section = markdown_page(rows).partition(f"## {title}\n")[2].partition("\n## ")[0]
    [line] = [line for line in section.splitlines() if line.startswith(f"| {label} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_clear_difference_over_three_seeds_is_best() -> None:
    rows = rows_of(CLEAR, **THREE)
    assert verdict(rows, rows.of("GM-VQ")) == "best"
    assert verdict(rows, rows.of("VQ")) == ""
    assert (
        "GM-VQ is number 1 of 2 at equal steps: its test MSE of 3.100 × 10⁻³ is 3.000 × 10⁻³ "
        "(49.2%) below that of VQ, the next, and the 95 % interval of the paired difference leaves "
        "out zero."
    ) in first_paragraph(rows)


def test_an_interval_that_contains_zero_is_a_tie_for_both() -> None:
    rows = rows_of(CLOSE, **THREE)
    interval = difference(rows, rows.of("VQ"))
    assert interval is not None
    assert interval.low < 0.0 < interval.high
    assert [verdict(rows, rows.of(label)) for label in ("GM-VQ", "VQ")] == ["tied", "tied"]
    assert "and that is a tie." in first_paragraph(rows)
    assert "best" not in markdown_page(rows)


def test_a_row_that_is_beaten_says_so_with_rank_and_distance() -> None:
    rows = rows_of({"GM-VQ": CLEAR["VQ"], "VQ": CLEAR["GM-VQ"]}, **THREE)
    assert first_paragraph(rows).startswith(
        "GM-VQ is number 2 of 2 at equal steps: its test MSE of 6.100 × 10⁻³ is 3.000 × 10⁻³ "
        "(96.8%) above that of VQ, the lowest"
    )


@pytest.mark.parametrize(("count", "words"), [(1, "With 1 seed"), (2, "With 2 seeds")])
def test_with_fewer_than_three_seeds_nothing_is_best_or_tied(count: int, words: str) -> None:
    errors = {label: values[:count] for label, values in CLEAR.items()}
    rows = rows_of(errors, seeds=list(range(count)))
    assert [verdict(rows, row) for row in rows.measured] == ["", ""]
    assert not any(tied(rows, row) for row in rows.measured)
    page = markdown_page(rows)
    assert f"{words}, fewer than three, nothing is called best." in page
    assert page.count("best") == 1
    shown = cells(rows, "VQ")[2]
    assert shown == ("+3.000" if count == 1 else "+3.000 [+3.000, +3.000]")


def test_every_mean_is_over_the_seeds_that_all_rows_have() -> None:
    errors = {"VQ": [0.006, 0.007, None], "GM-VQ": [0.003, 0.004, 0.100]}
    rows = rows_of(errors, **THREE)
    assert rows.seeds == (0, 1)
    assert rows.of("GM-VQ").mean("mse") == pytest.approx(0.0035)
    assert cells(rows, "GM-VQ")[1] == "3.500"


def test_missing_rows_stay_empty_and_come_last() -> None:
    rows = rows_of({"VQ": [0.006, 0.007]})
    assert first_paragraph(rows) == (
        "GM-VQ has no finished run yet. With 2 seeds, fewer than three, nothing is called best. "
        "1 of 4 rows have figures so far."
    )
    assert set(cells(rows, "GM-VQ")[1:]) == {""}
    lines = markdown_page(rows).partition("| ---")[2].splitlines()[1:5]
    labels = [line.split("|")[1].strip() for line in lines]
    assert labels == ["VQ", "EMA", "GM-VQ", "Few codes (yardstick)"]


def test_an_empty_store_gives_a_page() -> None:
    rows = gather(comparison_of(), [])
    assert (
        first_paragraph(rows) == "GM-VQ has no finished run yet. 0 of 4 rows have figures so far."
    )
    assert "Made images, 2 epochs" in markdown_page(rows)


def test_equal_time_is_read_off_the_curves_at_the_fastest_rows_end() -> None:
    rows = rows_of(CLEAR, {"VQ": 10.0, "GM-VQ": 30.0}, **THREE)
    moment = equal_time(rows)
    assert moment is not None
    assert (moment.label, moment.seconds) == ("VQ", 10.0)
    # A made curve falls from 1.75 to 1 of its end; 10 s lie a third of the way from the first of
    # four points (7.5 s) to the second.
    assert moment.errors["GM-VQ"] == pytest.approx(0.0031 * (1.75 - 0.25 / 3.0))
    assert moment.errors["VQ"] == pytest.approx(0.0061)
    assert (
        "GM-VQ is number 1 of 2 at equal time (10 s, what VQ took): its validation MSE of 5.167"
    ) in first_paragraph(rows)


def test_a_stated_reference_sets_the_time_and_a_slow_row_may_have_nothing_by_then() -> None:
    slow = {"VQ": 10.0, "GM-VQ": 50.0}
    rows = rows_of(CLEAR, slow, **THREE)
    assert "It has no validation yet at equal time (10 s, what VQ took)." in first_paragraph(rows)
    assert cells(rows, "GM-VQ", "Validation images, equal time")[1] == ""
    rows = rows_of(CLEAR, slow, **THREE, time_reference="GM-VQ")
    moment = equal_time(rows)
    assert moment is not None
    assert moment.seconds == 50.0
    assert moment.errors["VQ"] == pytest.approx(0.0061)


def test_times_of_different_hardware_do_not_compare() -> None:
    comparison = comparison_of()
    records = store_of(comparison, {"VQ": [0.006, 0.007], "GM-VQ": [0.003, 0.004]})
    records[-1]["hardware"] = "another machine"
    rows = gather(comparison, records)
    assert equal_time(rows) is None
    assert "Times do not compare: the runs had different hardware." in first_paragraph(rows)
    assert "at equal time" not in first_paragraph(rows)


def test_yardsticks_are_not_ranked_and_named_when_they_are_lower_at_no_more_bits() -> None:
    errors = {"VQ": [0.006, 0.006], "GM-VQ": [0.003, 0.003], "Few codes": [0.002, 0.002]}
    rows = rows_of(errors)
    assert "GM-VQ is number 1 of 2 at equal steps" in first_paragraph(rows)
    assert "Yardsticks below it at no more bits: Few codes (2.000)." in first_paragraph(rows)
    assert cells(rows, "Few codes (yardstick)")[2].startswith("-1.000")
    comparison = comparison_of()
    records = store_of(comparison, errors)
    for record in records:
        record["bits_fixed"] *= 2 if record["method"] == "Few codes" else 1
    assert "Yardsticks" not in first_paragraph(gather(comparison, records))


def test_a_schedule_that_the_budget_cuts_short_is_noted() -> None:
    rows = rows_of({"EMA": [0.006, 0.006]})
    note = cells(rows, "EMA")[-1]
    assert note == "its published schedule has 1,000,000 steps, here 8; a note"


def test_a_final_that_diverged_has_no_figures_and_says_so() -> None:
    comparison = comparison_of()
    records = store_of(comparison, {"VQ": [0.006, 0.006], "GM-VQ": [0.003, None]})
    method = comparison.method[2]
    point = searches_of(comparison, method)[0].point
    records.append(failed(finals_of(comparison, method, point)[1]))
    rows = gather(comparison, records)
    assert [row.label for row in rows.measured] == ["VQ"]
    assert "GM-VQ has no figures: the gradient of step 3 is not finite." in first_paragraph(rows)
    assert cells(rows, "GM-VQ")[-1] == "the gradient of step 3 is not finite"
    assert rows.seeds == (0, 1)


def test_the_search_takes_the_lowest_validation_error_and_diverged_runs_are_worst() -> None:
    comparison = comparison_of()
    method = comparison.method[0]
    runs = searches_of(comparison, method)
    errors = [0.05, 0.04, 0.09, 0.03, 0.08, 0.07, 0.06, 0.02]
    records = [finished(run, mse) for run, mse in zip(runs, errors, strict=False)]
    search = gather(comparison, records).of("VQ").search
    assert (search.ended, search.chosen) == (False, None)
    search = gather(comparison, [*records, failed(runs[8])]).of("VQ").search
    assert (search.ended, search.chosen) == (True, runs[7].point)
    rows = gather(comparison, [failed(run) for run in runs])
    assert rows.of("VQ").point is None
    assert rows.of("VQ").diverged == "every run of the search diverged"
    assert markdown_page(rows).count("diverged |") == 9 + 1


def test_runs_of_other_settings_are_counted_and_not_used() -> None:
    records = store_of(comparison_of(), {"VQ": [0.006, 0.006]})
    base = comparison_of().base
    other = comparison_of(base={**base, "schedule": {**base["schedule"], "epochs": 3}})
    rows = gather(other, records)
    assert rows.others == 11
    assert not rows.measured
    assert "11 further runs in it belong to other settings and are not used" in markdown_page(rows)
