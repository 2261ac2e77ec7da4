"""What the tables of prediction say, in sentences: whether single people can be scored, whom to call, what drifted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from journeykit import present
from journeykit.churn.models import NULL
from journeykit.findings import Finding

CHAPTER = "07_churn"
CALLED = (0.1, 0.2)  # shares of people called that are told
SHOWN = {
    "comparison": ("model", "chosen", "skill_share", "uno_c", "expected_to_observed"),
    "scores": ("tenure_days", "leaves_share", "at_stake_value", "reasons", "similar_left_share"),
    "changes": ("label", "stability_index", "bin", "before_share", "now_share"),
    "since": ("group", "n", "expected_left_n", "observed_left_n", "observed_to_expected"),
}  # fmt: skip


def comparison(table: pd.DataFrame) -> str:
    """Say on whom the models were tested, which one is chosen, and why."""
    if table.empty:
        return ""
    first = table.iloc[0]
    days, when = present.days(first["horizon_days"], 0), str(table.attrs.get("origins", ""))
    text = (
        f"Each model learned only what was known on {when or 'an earlier day'}, and foretold who of "
        f"{present.count(first['n'])} people there then would leave within {days}; "
        f"{present.count(first['left_n'])} did."
    )
    line = _chosen(table)
    best = table.loc[table["integrated_brier"].idxmin()]
    missing = [f"{row['model']}: {row['remark']}" for _, row in table.iterrows() if row["remark"]]
    not_there = f" Not compared: {'; '.join(missing)}." if missing else ""
    if line["model"] == NULL:
        why = (
            "No model makes fewer errors than one curve for everybody"
            if best["model"] == NULL
            else f"{best['model']} makes {_skill(best)} less error than one curve for everybody, "
            f"which is within noise ({_bounds(line, 'behind_best_share')})"
        )
        return f"{text} {why}: do not score single people with it.{not_there}"
    rest = (
        "it is also the best"
        if line["model"] == best["model"]
        else f"{best['model']} is not clearly better (its lead is {present.share(line['behind_best_share'])} of the "
        f"error, {_bounds(line, 'behind_best_share')})"
    )
    return (
        f"{text} {line['model']} is chosen: it makes {_skill(line)} less error than one curve for everybody "
        f"({_bounds(line, 'skill_share')}), and {rest}. It tells who leaves first in {present.share(line['uno_c'], 0)} "
        f"of pairs (C = {_number(line, 'uno_c')}; 0.50 is a coin).{not_there}"
    )


def modest(table: pd.DataFrame) -> str:
    """Say what such a skill is good for."""
    if table.empty or _chosen(table)["model"] == NULL:
        return ""
    line = _chosen(table)
    if line["uno_c"] >= 0.7:
        return ""
    return (
        "That is a modest skill: good enough to decide whom to call first, not to say of one person whether they leave."
    )


def calibrated(table: pd.DataFrame) -> str:
    """Say whether as many left as the chosen model expected."""
    if table.empty:
        return ""
    line = _chosen(table)
    ratio, low, high = (float(line[f"expected_to_observed{side}"]) for side in ("", "_low", "_high"))
    if present.missing(ratio):
        return ""
    numbers = f"expected over observed leavers is {_number(line, 'expected_to_observed')}"
    verdict = "as many left as expected, within chance"
    if high < 1:
        verdict = f"{present.share(1 / ratio - 1, 0)} more left than expected, and its chances read too low"
    elif low > 1:
        verdict = f"{present.share(1 - 1 / ratio, 0)} fewer left than expected, and its chances read too high"
    text = f"{line['model']}: {numbers}; {verdict}."
    slope, top = float(line["calibration_slope"]), float(line["calibration_slope_high"])
    if not present.missing(slope) and top < 1:
        text += (
            f" High and low chances are too far apart (slope {_number(line, 'calibration_slope')}; 1 is right): the "
        )
        text += "highest are somewhat too high, the lowest too low."
    return text


def gain(table: pd.DataFrame) -> str:
    """Say whom calling reaches."""
    parts = [
        f"the {present.share(called, 0)} with the highest risk reaches {present.share(row['reached_share'], 0)} of "
        f"those who leave ({_bounds(row, 'reached_share', 0)})"
        for called in CALLED
        for _, row in table[np.isclose(table["called_share"], called)].iterrows()
    ]
    if not parts:
        return ""
    n = present.count(table["left_n"].iloc[0])
    return (
        f"On the later time, calling {', '.join(parts)} (n = {n} who left). Calling at random reaches "
        "the share that it calls."
    )


def whom(table: pd.DataFrame, currency: str = "") -> str:
    """Say what the list holds, and how it is sorted."""
    if table.empty:
        return ""
    days, n = present.days(table["ahead_days"].iloc[0], 0), present.count(len(table))
    expected = float(table["leaves_share"].sum())
    middle, most = (present.share(float(value), 0) for value in table["leaves_share"].agg(["median", "max"]))
    text = (
        f"{n} people are there on {pd.Timestamp(table['scored_at'].iloc[0]):%Y-%m-%d}; about {present.count(expected)} "
        f"of them are expected to leave within {days}. Half have a chance below {middle}, the highest is {most}."
    )
    if "at_stake_value" not in table:
        return f"{text} The list is in the order of that chance; with a margin in [churn.value] it would be in money."
    total, tenth = float(table["at_stake_value"].sum()), max(1, round(len(table) / 10))
    top = float(table["at_stake_value"].iloc[:tenth].sum())
    return (
        f"{text} What is expected to be lost by their leaving is {present.money(total, currency)}; "
        f"{present.share(top / total if total else 0, 0)} of it is with the tenth at the top of the list, which is in "
        "the order of that loss."
    )


def drifted(changes: pd.DataFrame, since: pd.DataFrame) -> str:
    """Say which inputs moved and whether as many left as was expected."""
    parts = []
    if len(changes):
        moved = changes[changes["moved"] == "yes"]
        names = " and ".join(f"“{name}”" for name in moved["label"])
        line = moved.iloc[0] if len(moved) else changes.iloc[0]
        detail = ""
        if len(moved) and line["bin"]:
            was, now = present.share(line["before_share"]), present.share(line["now_share"])
            detail = f" (“{line['bin']}”: {was} before, {now} now)"
        parts.append(
            f"The people scored differ from those before in {names}{detail}."
            if len(moved)
            else f"The people scored look like those before (largest index {changes['stability_index'].max():.3f}; "
            "0.1 is worth a look)."
        )
    if len(since):
        line = since.iloc[0]
        ratio = (
            f"{present.number(line['observed_to_expected'], 2)} times as many "
            f"({present.interval(line['observed_to_expected_low'], line['observed_to_expected_high'], '', 2)})"
        )
        low, high = line["observed_to_expected_low"], line["observed_to_expected_high"]
        verdict = "more than chance explains: learn the model again" if low > 1 or high < 1 else "within chance"
        parts.append(
            f"Of {present.count(line['n'])} people scored as of {pd.Timestamp(line['since_at']):%Y-%m-%d}, "
            f"{present.count(line['observed_left_n'])} left within {present.days(line['elapsed_days'], 0)}, where "
            f"{present.count(line['expected_left_n'])} were expected: {ratio}, {verdict}."
        )
    return " ".join(parts)


def findings(
    table: pd.DataFrame, called: pd.DataFrame, scores: pd.DataFrame, since: pd.DataFrame, currency: str = ""
) -> list[Finding]:
    """Return the findings: how good the chosen model is, whom calling reaches, what is at stake, and drift."""
    found: list[Finding] = []
    if len(table):
        line, scored = _chosen(table), _chosen(table)["model"] != NULL
        best: Any = line if scored else table.loc[table["integrated_brier"].idxmin()]
        found.append(
            Finding(
                id="churn.skill", chapter=CHAPTER, statement=comparison(table), value=best["skill_share"],
                low=best["skill_share_low"], high=best["skill_share_high"], n=best["n"], unit="share", better="up",
                caveat="Share of the integrated Brier score of one curve for everybody. Models are held fixed in the "
                "interval.",
                action="" if scored else "Do not score single people; treat all alike, or by groups.",
                table=f"{CHAPTER}__comparison", label="Error less than without a model",
            )
        )  # fmt: skip
        tenth = called[np.isclose(called["called_share"], CALLED[0])] if scored and len(called) else called.head(0)
        for _, row in tenth.iterrows():
            found.append(
                Finding(
                    id="churn.gain", chapter=CHAPTER, statement=gain(called), value=row["reached_share"],
                    low=row["reached_share_low"], high=row["reached_share_high"], n=row["left_n"], unit="share",
                    better="up", caveat="That they would leave does not say that a call keeps them: test it on a part.",
                    action=f"Call the tenth at the top of tables/{CHAPTER}__scores.csv first, and leave out one in "
                    "five by lot, to see what calling does.",
                    table=f"{CHAPTER}__gain", headline=True, label="Leavers in the tenth at highest risk",
                )
            )  # fmt: skip
    if len(scores) and "at_stake_value" in scores:
        found.append(
            Finding(
                id="churn.at_stake", chapter=CHAPTER, statement=whom(scores, currency),
                value=scores["at_stake_value"].sum(), n=len(scores), unit=currency, better="down",
                caveat="A sum of estimates: no interval is given, because people's errors go together.",
                table=f"{CHAPTER}__scores", label="Expected to be lost by leaving",
            )
        )  # fmt: skip
    if len(since):
        row = since.iloc[0]
        found.append(
            Finding(
                id="churn.drift", chapter=CHAPTER, statement=drifted(pd.DataFrame(), since),
                value=row["observed_to_expected"], low=row["observed_to_expected_low"],
                high=row["observed_to_expected_high"], n=row["n"], unit="ratio",
                caveat="1 is as many as expected.", table=f"{CHAPTER}__since", label="Leavers against expected",
            )
        )  # fmt: skip
    return found


def _chosen(table: pd.DataFrame) -> pd.Series[Any]:
    return table[table["chosen"] == "yes"].iloc[0]


def _skill(row: Any) -> str:
    return present.share(row["skill_share"]).replace("-", "−")


def _bounds(row: Any, name: str, digits: int = 1) -> str:
    return present.interval(row[f"{name}_low"], row[f"{name}_high"], "share", digits)


def _number(row: Any, name: str) -> str:
    bounds = present.interval(row[f"{name}_low"], row[f"{name}_high"], "", 2)
    return f"{row[name]:.2f}" + (f", {bounds}" if bounds != present.NONE else "")
