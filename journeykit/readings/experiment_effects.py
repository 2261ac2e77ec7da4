"""What the experiments of chapter 08 did, in sentences: effects, looks, CUPED, segments, novelty and power."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.experiments.bayes import WARNING
from journeykit.experiments.segments import DIFFERS
from journeykit.experiments.words import change, difference, interval
from journeykit.readings.funnel_words import chance


def effects(table: pd.DataFrame) -> str:
    """State the primary comparison of each experiment."""
    told = []
    for row in table.loc[table["role"] == "primary"].to_dict("records") if len(table) else []:
        relative = present.share(row["relative_share"]).replace("-", "−")
        versus = f", {relative} relative to control" if not present.missing(row["relative_share"]) else ""
        told.append(
            f"{row['experiment']}: {row['metric']} {_level(row['control'], row['unit'])} in control and "
            f"{_level(row['treatment'], row['unit'])} in {row['arm']}, {change(row)}{_corrected(row)}{versus}."
        )
    return " ".join(told)


def looks(table: pd.DataFrame) -> str:
    """Say which primary effects stand when the page is looked at every night."""
    if table.empty or "sequential_low" not in table.columns:
        return ""
    rows = table.loc[(table["role"] == "primary") & table["sequential_low"].notna()].to_dict("records")
    if not rows:
        return ""
    fixed = [row for row in rows if not row["effect_low"] <= 0 <= row["effect_high"]]
    always = [row for row in rows if not row["sequential_low"] <= 0 <= row["sequential_high"]]
    text = (
        f"Of {len(rows)} primary {'effect' if len(rows) == 1 else 'effects'}, {len(fixed)} would stand if this were "
        f"the one planned look, and {len(always)} however often it was looked at."
    )
    lost = [row for row in fixed if row not in always]
    for row in lost:
        held = interval(row, "sequential_low", "sequential_high").replace("95 % ", "anytime-valid ")
        text += f" {row['metric']} in {row['experiment']} stands only for one look ({held})."
    return text


def looked_daily(table: pd.DataFrame) -> str:
    """Say which primary effects changed their word from one daily look to another by the fixed interval."""
    told = []
    for (name, metric, arm), rows in table.groupby(["experiment", "metric", "arm"], sort=False) if len(table) else []:
        last = rows.iloc[-1]
        early = rows.loc[(rows["fixed_says"] != "") & (rows["fixed_says"] != last["fixed_says"])]
        if len(early):
            now = last["fixed_says"] or "neither"
            told.append(
                f"{name}: on {len(early)} of {len(rows)} looks the fixed interval of {metric} said {arm} was "
                f"{early['fixed_says'].iloc[0]} than control; in the end it says {now}"
            )
    if table.empty:
        return ""
    if not told:
        return "No fixed interval said on an earlier day what it does not say in the end."
    return f"{'; '.join(told)}. Who stops on such a day is wrong."


def bayes(table: pd.DataFrame) -> str:
    """Say how probable it is that arms are better, with the warning that belongs to it."""
    rows = table.loc[table["role"] == "primary"].to_dict("records") if len(table) else []
    told = [
        f"{row['experiment']}: {row['arm']} is better in {row['metric']} with a probability of "
        f"{present.share(row['better_probability_share'])}."
        for row in rows
    ]
    return f"{' '.join(told)} {WARNING}" if told else ""


def cuped(table: pd.DataFrame) -> str:
    """Say how much variance the period before exposure explains, and what that is worth in people."""
    if table.empty:
        return ""
    best = table.loc[table["cuped_variance_cut_share"].idxmax()]
    cut = float(best["cuped_variance_cut_share"])
    if cut <= 0 or cut >= 1:
        return "CUPED removed no variance: what people did before their exposure does not predict these metrics."
    worth = present.share(1 / (1 - cut) - 1)
    return (
        f"CUPED removed between {present.share(max(float(table['cuped_variance_cut_share'].min()), 0.0))} and "
        f"{present.share(cut)} of the variance. The largest cut, {best['metric']} in {best['experiment']}, is worth "
        f"as much as {worth} more people."
    )


def segments(joint: pd.DataFrame, by_segment: pd.DataFrame) -> str:
    """Say whether effects differ by segment, and only then what they are."""
    if joint.empty:
        return ""
    differs = joint.loc[joint["verdict"] == DIFFERS]
    if differs.empty:
        number, smallest = len(joint), joint["p_adjusted"].min()
        what = "joint test" if number == 1 else "joint tests"
        return (
            f"No effect is shown to differ by segment ({number} {what}, smallest corrected {chance(smallest)}): read "
            "the overall effect, not that of a segment."
        )
    told = []
    for row in differs.to_dict("records"):
        same = (by_segment["segment"] == row["segment"]) & (by_segment["metric"] == row["metric"])
        same &= (by_segment["experiment"] == row["experiment"]) & (by_segment["arm"] == row["arm"])
        parts = [
            f"{part['value']} {difference(part['effect'], part['unit'])} ({interval(part)})"
            for part in by_segment.loc[same].to_dict("records")
        ]
        name = row["segment"].removeprefix("segment_").replace("_", " ")
        told.append(
            f"{row['experiment']}: the effect on {row['metric']} differs by {name} ({chance(row['p_adjusted'])}): "
            f"{', '.join(parts)}."
        )
    return " ".join(told)


def novelty(trends: pd.DataFrame) -> str:
    """Say whether effects fade or grow with the days since the exposure."""
    if trends.empty:
        return ""
    told = []
    for row in trends.loc[trends["verdict"] != "no trend shown"].to_dict("records"):
        early, late = (difference(row[f"{half}_effect"], row["unit"]) for half in ("early", "late"))
        days = present.number(abs(row["later_days"]))
        sooner = "sooner" if row["later_days"] < 0 else "later"
        told.append(
            f"{row['experiment']}: the daily effect on {row['metric']} {row['verdict']}, from {early} in the first "
            f"half of {row['days']} days to {late} in the second ({chance(row['p_adjusted'])}); events in {row['arm']} "
            f"come {days} days {sooner} than in control."
        )
    weak = (
        "This check has low power: with 1,000 people an arm, an effect that starts at +30 % and loses a quarter each "
        "day is found in less than half of tests."
    )
    if not told:
        return f"No effect is shown to fade or to grow with the days since the exposure. {weak}"
    return f"{' '.join(told)} A lasting effect may be smaller than the one over the whole window."


def power(table: pd.DataFrame, split: pd.DataFrame | None = None) -> str:
    """Say what each test could see in its primary metric, what the declared effect would need, and who is left out."""
    told = []
    for row in table.loc[table["role"] == "primary"].to_dict("records") if len(table) else []:
        sizes = f"{present.count(row['n_control'])} and {present.count(row['n_treatment'])}"
        told.append(f"{row['experiment']}: with {sizes} people {_detectable(row)}{_needed(row)}")
    known = split if split is not None and len(split) else pd.DataFrame(columns=["verdict", "experiment"])
    for name in dict.fromkeys(known.loc[known["verdict"] == "broken", "experiment"]):
        told.append(f"{name}: the split is broken, so neither the power of the test nor the size it needs is given.")
    return " ".join(told)


def _detectable(row: dict[Any, Any]) -> str:
    relative = present.share(row["detectable_share"])
    if present.missing(row["detectable"]):
        if present.missing(row["detectable_share"]):
            return f"no change in {row['metric']} would be seen reliably."
        return f"a change of {relative} in the rate of {row['metric']} or more is seen four times out of five."
    size = difference(row["detectable"], row["unit"], sign=False)
    versus = "" if present.missing(row["detectable_share"]) else f" ({relative} relative)"
    return f"a change in {row['metric']} of {size}{versus} or more is seen four times out of five."


def _needed(row: dict[Any, Any]) -> str:
    needed = row["needed_control_n"]
    if present.missing(needed):
        return ""
    size = present.share(row["minimum_effect_share"], 0)
    people = f"{present.count(needed)} and {present.count(row['needed_treatment_n'])} people"
    if needed <= row["n_control"] and row["needed_treatment_n"] <= row["n_treatment"]:
        return f" The declared {size} needed only {people}."
    text = f" The declared {size} needs {people}"
    text += "" if present.missing(row["needed_days"]) else f", {present.count(row['needed_days'])} days in all"
    left = row.get("days_left")
    if not present.missing(left) and left is not None and left > 0:
        text += f", {present.count(left)} more at the pace so far"
        sharper = row["cuped_days_left"]
        if not present.missing(sharper) and sharper < 0.95 * left:
            text += f" ({present.count(sharper)} with CUPED)"
    return f"{text}."


def _level(value: float, unit: str) -> str:
    return present.share(value) if unit == "share" else difference(value, unit, sign=False)


def _corrected(row: dict[Any, Any]) -> str:
    adjusted = row["p_adjusted"]
    if present.missing(adjusted) or adjusted <= row["p_value"]:
        return ""
    return f", {chance(adjusted)} after correction"
