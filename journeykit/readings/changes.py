"""What the tables of changes and actions say: computed sentences, and the findings (quasi-experimental)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.changes.actions import EARLY, JUDGED, UNKNOWN
from journeykit.changes.before_after import METHOD as PLAIN
from journeykit.changes.counterfactual import METHOD as CARRIED_ON
from journeykit.changes.differences import METHOD as SIDES
from journeykit.findings import Finding

CHAPTER = "08_experiment"
OFTEN = 0.1  # of placebo dates: from here on the effect is no larger than what comes out of nothing now and then
DRIFT = 0.05


def effects(table: pd.DataFrame) -> str:
    """State what each change brought by the method to read, and what the plain comparison would have claimed."""
    told = []
    for name in dict.fromkeys(table["change"]) if len(table) else []:
        rows = {row["method"]: row for row in table.loc[table["change"] == name].to_dict("records")}
        if CARRIED_ON in rows:
            row = rows[CARRIED_ON]
            total = ""
            if not present.missing(row["total"]):
                total = f", {_whole(row['total'])} in all ({_whole(row['total_low'])} to {_whole(row['total_high'])})"
            told.append(
                f"{name}: {row['metric']} was {_level(row['observed'], row)} in the "
                f"{row['days_after_n']:.0f} days after it; {_level(row['expected'], row)} was to be expected "
                f"without it. Effect {amount(row)}{total}; quasi-experimental, {_shown(row)}."
            )
        if SIDES in rows:
            row = rows[SIDES]
            told.append(f"{name}: against those who did not meet it, {amount(row)}. {row['note']}")
        if PLAIN in rows and CARRIED_ON in rows:
            told.append(_plain(rows[PLAIN], rows[CARRIED_ON]))
    return " ".join(told)


def _plain(plain: dict[Any, Any], row: dict[Any, Any]) -> str:
    """What before/after claims beside the counterfactual."""
    says, claims = _excludes(row), _excludes(plain)
    width = (row["effect_high"] - row["effect_low"]) / max(plain["effect_high"] - plain["effect_low"], 1e-12)
    text = f"Plain before/after says {amount(plain)}"
    if claims and not says:
        return f"{text}: it takes for an effect what the time before explains without the change."
    if claims and says and (plain["effect"] > 0) != (row["effect"] > 0):
        return f"{text}: it has the wrong sign."
    if width > 1.2:
        return f"{text}, with an interval that is {present.number(width, 1)} times too narrow by comparison."
    return f"{text}."


def _excludes(row: dict[Any, Any]) -> bool:
    return not row["effect_low"] <= 0 <= row["effect_high"]


def _shown(row: dict[Any, Any]) -> str:
    return f"p {_p(row['p_value'])}" if _excludes(row) else f"no effect is shown (p {_p(row['p_value'])})"


def _p(value: float) -> str:
    return "< 0.001" if value <= 0.001 else f"= {value:.3f}"


def amount(row: dict[Any, Any], name: str = "effect") -> str:
    """Return an effect with its interval in the unit of its row, shares in percentage points.

    >>> amount({"unit": "share", "effect": 0.0184, "effect_low": -0.002, "effect_high": 0.04})
    '+1.8 percentage points (−0.2 to +4.0)'
    """
    values = [row[f"{name}{side}"] for side in ("", "_low", "_high")]
    if row["unit"] == "share":
        values, unit, digits = [100 * value for value in values], "percentage points", 1
    else:
        unit = str(row["unit"]).replace("score", "on the scale 0–1")
        digits = 3 if row["unit"] == "score" else 1 if abs(values[0]) >= 1 or unit[:3].isupper() else 2
    texts = [f"{value:+,.{digits}f}".replace("-", "−") for value in values]
    return f"{texts[0]} {unit} ({texts[1]} to {texts[2]})"


def _level(value: float, row: dict[Any, Any]) -> str:
    if row["unit"] == "share":
        return present.share(value)
    return f"{present.number(value, 2 if row['unit'] == 'score' else 1)} {row['unit']}".replace("score", "of 1")


def _whole(value: float) -> str:
    return f"{value:+,.0f}".replace("-", "−")


def placebo(table: pd.DataFrame) -> str:
    """Say how often an effect as large comes out of nothing, and how often the plain comparison cries wolf."""
    told = []
    for name, shares in table.attrs.get("shares", {}).items():
        dates = int(shares["dates_n"])
        as_large = round(shares["placebo_share"] * (dates + 1)) - 1
        text = f"{name}: at {as_large} of {dates} dates without a change the effect was as large as at the real one"
        text += " or larger, so chance and drift give such effects now and then." if as_large / dates >= OFTEN else "."
        wolf = f"{round(shares['plain_wolf_share'] * dates)} of {dates}"
        own = f"{round(shares['wolf_share'] * dates)}"
        told.append(f"{text} Plain before/after claims an effect at {wolf} of them, the counterfactual at {own}.")
    if not told:
        return ""
    return " ".join(told) + " Neighbouring dates share most of their days, so these counts are rougher than they look."


def left_out(table: pd.DataFrame) -> str:
    """Say which methods gave nothing, and why."""
    if table.empty:
        return ""
    reasons = table.groupby("reason", sort=False)["change"].agg(lambda names: ", ".join(dict.fromkeys(names)))
    return " ".join(f"{names}: {reason}." for reason, names in reasons.items())


def actions(table: pd.DataFrame) -> str:
    """Say for each action what was predicted and what came of it so far."""
    told = []
    for row in table.to_dict("records"):
        text = f"{row['action']} ({row['days_n']:.0f} days): predicted {_change(row['predicted'], row['unit'])}"
        if not present.missing(row["predicted_low"]) and not present.missing(row["predicted_high"]):
            text += f" ({_range(row, 'predicted')})"
        if row["verdict"] == EARLY:
            told.append(f"{text}; too early: {row['reason']}.")
        elif row["verdict"] == UNKNOWN:
            told.append(f"{text}; what came of it cannot be told: {row['reason']}.")
        else:
            told.append(
                f"{text}, realised {_change(row['realised'], row['unit'])} ({_range(row, 'realised')}): "
                f"{row['verdict']}."
            )
    return " ".join(told)


def _change(value: float, unit: str) -> str:
    scale, words = (1, " percentage points") if unit == "points" else (100, " %")
    return f"{scale * value:+.1f}{words}".replace("-", "−")


def _range(row: dict[Any, Any], name: str) -> str:
    return " to ".join(_change(row[f"{name}_{side}"], row["unit"]).split(" ")[0] for side in ("low", "high"))


def calibration(table: pd.DataFrame) -> str:
    """Say how good the predictions were, as far as so few can tell."""
    if table.empty:
        return ""
    told = []
    for row in table.to_dict("records"):
        low, high = (None if present.missing(row[side]) else row[side] for side in ("low", "high"))
        reach = f" ({present.amount_interval(low, high, row['unit'])})" if low is not None else " (no interval for one)"
        told.append(f"{row['question']} {present.amount(row['value'], row['unit'])}{reach}, n = {row['n']:.0f}")
    few = " Few actions: read the intervals, not the figures." if table["n"].max() < 10 else ""
    return f"Predictions so far: {'; '.join(told)}.{few}"


def findings(table: pd.DataFrame, placebos: pd.DataFrame) -> list[Finding]:
    """Return one finding per change, from the method to read."""
    return [
        _finding(row, placebos.attrs.get("shares", {}).get(row["change"]))
        for row in (table.loc[table["method"] == CARRIED_ON].to_dict("records") if len(table) else [])
    ]


def _finding(row: dict[Any, Any], shares: dict[str, float] | None) -> Finding:
    scale = 100 if row["unit"] == "share" else 1
    shown = _excludes(row)
    good = (row["effect"] > 0) == (row["better"] == "up")
    caveat = "Quasi-experimental: it rests on the time before going on as it was, and on nothing else having changed."
    if shares and shares["placebo_share"] * (shares["dates_n"] + 1) - 1 >= OFTEN * shares["dates_n"]:
        caveat += " At dates without any change, effects as large came out now and then."
    actions_ = {
        (True, True): f"Keep {row['change']}, and test the next such change on half of the people.",
        (True, False): f"Find out what {row['change']} broke for {row['metric']}; consider taking it back.",
        (False, True): "",
        (False, False): "",
    }
    verb = (
        f"changed {row['metric']} by {amount(row)}" if shown else f"shows no effect on {row['metric']}: {amount(row)}"
    )
    return Finding(
        id=f"change_{_id(row['change'])}",
        chapter=CHAPTER,
        statement=f"{row['change']} {verb} against what was expected without it.",
        value=scale * row["effect"],
        low=scale * row["effect_low"],
        high=scale * row["effect_high"],
        n=int(row["days_after_n"]),
        unit="points" if row["unit"] == "share" else row["unit"],
        better=row["better"],
        evidence="quasi-experimental",
        caveat=f"{caveat} n is days after the change.",
        action=actions_[(shown, good)],
        owner=row["owner"] if isinstance(row["owner"], str) else "",
        table=f"{CHAPTER}__changes",
        label=f"{row['change']}: change in {row['metric']}",
    )


def action_findings(table: pd.DataFrame) -> list[Finding]:
    """Return one finding per action that fell short of what was predicted."""
    found = []
    for row in table.loc[table["verdict"].isin(JUDGED)].to_dict("records") if len(table) else []:
        if row["verdict"] != "less than predicted":
            continue
        scale = 1 if row["unit"] == "points" else 100
        found.append(
            Finding(
                id=f"action_{_id(row['action'])}",
                chapter=CHAPTER,
                statement=f"{row['action']} brought {_change(row['realised'], row['unit'])} "
                f"({_range(row, 'realised')}), less than the {_change(row['predicted'], row['unit'])} "
                "that were predicted.",
                value=scale * row["realised"],
                low=scale * row["realised_low"],
                high=scale * row["realised_high"],
                n=int(row["days_n"]),
                unit="points" if row["unit"] == "points" else "%",
                evidence="quasi-experimental",
                caveat="It rests on the time before going on as it was. n is days since.",
                action="Find out which part of the prediction did not hold before more is built on it.",
                owner=row["team"],
                table=f"{CHAPTER}__actions",
                label=f"{row['action']}: realised",
            )
        )
    return found


def _id(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower()).strip("_")
