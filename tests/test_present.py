"""Numbers for readers: units, intervals in the cell of their estimate, nothing that becomes markup."""

from __future__ import annotations

import pandas as pd

from journeykit import present


def test_intervals_stand_in_the_cell_of_their_estimate() -> None:
    table = pd.DataFrame(
        {
            "step": ["cart"],
            "n": [1200],
            "buyers_share": [0.1034],
            "buyers_share_low": [0.09],
            "buyers_share_high": [0.12],
            "share": [0.5],
            "low": [0.4],
            "high": [0.6],
        }
    )
    html = present.table(table)
    assert html.count("<th ") == 4
    assert '10.3 % <span class="ci">(9.0–12.0 %)</span>' in html
    assert '50.0 % <span class="ci">(40.0–60.0 %)</span>' in html
    assert 'data-sort="0.1034"' in html


def test_durations_from_seconds_to_days_carry_their_own_units() -> None:
    days = pd.DataFrame(
        {"median_days": [3.7, 0.0005], "median_days_low": [3.3, 0.0004], "median_days_high": [3.9, 1.5]}
    )
    html = present.table(days)
    assert ">Median</th>" in html
    assert '3.7 days <span class="ci">(3.3–3.9)</span>' in html
    assert '43 s <span class="ci">(35 s to 1.5 days)</span>' in html
    assert ">Median (days)</th>" in present.table(days.head(1))
    assert 'data-sort="0.0005"' in html


def test_bounds_of_seconds_carry_their_units() -> None:
    waits = pd.DataFrame({"wait_seconds": [155520.0], "wait_seconds_low": [-60.0], "wait_seconds_high": [161990.0]})
    assert '43.2 h <span class="ci">(−60 s to 45.0 h)</span>' in present.table(waits)


def test_missing_and_infinite_numbers_are_a_dash() -> None:
    table = pd.DataFrame({"a_days": [float("nan"), float("inf"), 2.5], "name": [None, "x", "y"]})
    html = present.table(table)
    assert html.count("–</td>") == 3


def test_text_cannot_become_markup() -> None:
    payload = "<img src=x onerror=alert(1)>"
    html = present.table(pd.DataFrame({payload: [payload]}))
    assert "<img" not in html


def test_a_negative_share_has_a_minus_and_a_range_has_a_word() -> None:
    table = pd.DataFrame({"effect_share": [-0.02], "effect_share_low": [-0.05], "effect_share_high": [0.01]})
    assert "−2.0 %" in present.table(table)
    assert "(−5.0 to 1.0 %)" in present.table(table)


def test_only_numbers_are_money() -> None:
    shown = present.table(pd.DataFrame({"value": [1200.0], "spend": [10]}), currency="EUR")
    assert "Value (EUR)" in shown
    assert "Spend (EUR)" in shown
    assert "EUR" not in present.table(pd.DataFrame({"id_name": ["phone"], "value": ["0000"]}), currency="EUR")
    assert "EUR" not in present.table(pd.DataFrame({"value": [0.3], "unit": ["share"]}), currency="EUR")


def test_columns_of_sentences_are_wide() -> None:
    sentence = "No verdict: the split is broken, so any difference may come from who is missing."
    shown = present.table(pd.DataFrame({"arm": ["control"], "sentence": [sentence], "n": [3], "note": [None]}))
    assert shown.count('class="wide"') == 2, "the heading and the cell"
    assert '<th scope="col" class="wide">Sentence' in shown
    assert 'class="wide"' not in present.table(pd.DataFrame({"a": ["x", "y", sentence]})), "one long cell of three"


def test_a_score_has_two_digits_and_points_no_plus() -> None:
    assert present.amount(0.3614, "score") == "0.36"
    assert present.amount_interval(0.3278, 0.3949, "score") == "0.33–0.39"
    assert present.amount(5.004, "points") == "5.0 points", "a level or a difference: the unit cannot say which"
    assert present.amount(-0.414, "points") == "−0.4 points"
    assert present.amount_interval(-5.297, 4.469, "points") == "−5.3 to 4.5"
