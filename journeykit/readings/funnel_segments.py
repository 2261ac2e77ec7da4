"""What the tables of `funnel_segments` say, in sentences."""

from __future__ import annotations

import pandas as pd

from journeykit import present
from journeykit.readings.funnel_words import SURE, UNITS, chance, points, share_of
from journeykit.readings.funnels import ends


def segments(table: pd.DataFrame, per: str = "person") -> str:
    """Say which segments convert best and worst, and whether their intervals overlap."""
    last = ends(table)
    if len(last) < 2:
        return ""
    best, worst = last.iloc[0], last.iloc[-1]
    text = (
        f"“{best['segment']}” converts best, with {share_of(best, 'share_of_start')} of "
        f"{present.count(best['start_n'])} {UNITS[per]}, and “{worst['segment']}” least, with "
        f"{share_of(worst, 'share_of_start')} of {present.count(worst['start_n'])}."
    )
    if best["share_of_start_low"] <= worst["share_of_start_high"]:
        text += " Their intervals overlap: this may be chance."
    left_out = int(table.attrs.get("left_out_n", 0))
    return text + (f" {present.count(left_out)} {UNITS[per]} of smaller segments are not shown." if left_out else "")


def differences(table: pd.DataFrame, per: str = "person", adjust: str = "") -> str:
    """Say whether segments differ at all, which fall behind or are ahead, and what is left of it after adjusting."""
    if not len(table):
        return ""
    joint = float(table.attrs.get("joint_p_value", 1.0))
    if not joint < SURE:
        return (
            f"Tested all together, the segments do not differ more than chance makes likely ({chance(joint)}); single "
            "ones are not compared then."
        )
    sure = table[table["p_adjusted"] < SURE].sort_values(["difference_points", "segment"])
    if not len(sure):
        return f"Together the segments differ ({chance(joint)}), but none of them for sure from all others."
    behind, ahead = sure[sure["difference_points"] < 0], sure[sure["difference_points"] > 0]
    # Of two segments one is the mirror of the other: once is enough.
    chosen = [behind.iloc[0]] if len(behind) else []
    chosen += [ahead.iloc[-1]] if len(ahead) and (len(table) > 2 or not chosen) else []
    text = f"The segments differ ({chance(joint)}, tested all together)."
    for row in chosen:
        text += (
            f" “{row['segment']}” converts {points(row)} than all others: {present.share(row['share'])} of "
            f"{present.count(row['n'])} {UNITS[per]} against {present.share(row['others_share'])} of "
            f"{present.count(row['others_n'])} ({chance(row['p_adjusted'])} after Holm's correction)."
        )
        if "adjusted_points" in row and not present.missing(row["adjusted_points"]):
            same = f"people with the same {adjust}" if adjust else "the same mix"
            text += f" Among {same} it is {points(row, 'adjusted_points')}."
    return text


def behind(table: pd.DataFrame) -> str:
    """Say at which step a segment falls behind the others."""
    if not len(table):
        return ""
    row = table.sort_values(["difference_points", "step_number"]).iloc[0]
    if row["difference_points"] >= 0:
        return f"“{row['segment']}” falls behind at no step."
    part = ""
    if not present.missing(row["gap_share"]) and row["gap_share"] > 0 and len(table) > 1:
        part = f" That makes {present.share(row['gap_share'], 0)} of its gap."
        if row["gap_share"] >= 1:
            part = " That makes all of its gap; over the other steps together it is level or ahead."
    sure = "" if row["p_adjusted"] < SURE else " This may be chance."
    return (
        f"“{row['segment']}” falls behind most at {row['step']}: of {present.count(row['n'])} who stood before it "
        f"{share_of(row, 'share')} went on, of the others {present.share(row['others_share'])}, which is {points(row)} "
        f"({chance(row['p_adjusted'])} after Holm's correction over the steps).{part}{sure}"
    )
