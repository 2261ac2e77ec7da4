"""Charts of chapter 08: observed against planned split, and effects with their intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from journeykit import present
from journeykit.experiments.effects import ANSWERS_DIFFER
from journeykit.plots import theme

ROWS = 12


def split(table: pd.DataFrame) -> Axes:
    """Draw the observed share of each arm as a bar with its interval, and the planned share as a line across it.

    Takes the table of `split_check` (or of `all_experiments`); at most 12 arms, broken splits first.
    """
    rows = _ordered_by_trouble(table).head(ROWS).iloc[::-1].reset_index(drop=True)
    ax = theme.axes(height=0.9 + 0.36 * len(rows))
    colours = [theme.CONTRAST if verdict == "broken" else theme.MAIN for verdict in rows["verdict"]]
    ax.barh(rows.index, 100 * rows["share"], color=colours, height=0.6)
    errors = 100 * theme.reach(rows["share"], rows["share_low"], rows["share_high"])
    ax.errorbar(100 * rows["share"], rows.index, xerr=errors, fmt="none", ecolor=theme.INK, elinewidth=1)
    planned = 100 * rows["planned_share"]
    ax.vlines(planned, rows.index - 0.42, rows.index + 0.42, colors=theme.INK, linestyles="dashed", linewidth=1.2)
    right = max(float((100 * rows["share_high"]).max()), float(planned.max()))
    for position, row in enumerate(rows.to_dict("records")):
        note = f"{present.share(row['share'])} of people" + (", broken" if row["verdict"] == "broken" else "")
        ax.text(right * 1.03, position, note, va="center", fontsize=8.5, color=theme.INK)
    ax.set_yticks(rows.index, _names(rows, "arm"))
    ax.set_xlim(0, right * 1.02)
    ax.set_xlabel("share of exposed people, % (dashed line: planned; whisker: 95 % interval)")
    return ax


def effects(table: pd.DataFrame) -> Axes:
    """Draw the relative change of each metric as a dot with its 95 % interval, a line at 0 and guardrails' margins.

    Takes the table of `effects` (or of `all_experiments`); at most 12 comparisons. Green lies wholly on the better side
    of 0, red wholly on the worse side. Comparisons without a relative change (a mean near 0) are named below.
    """
    drawn = table.loc[table["relative_share"].notna()].head(ROWS).iloc[::-1].reset_index(drop=True)
    ax = theme.axes(height=1.0 + 0.36 * max(len(drawn), 1))
    for position, row in enumerate(drawn.to_dict("records")):
        value, low, high = (100 * row[f"relative_share{side}"] for side in ("", "_low", "_high"))
        colour = _colour(row)
        apart = ANSWERS_DIFFER in str(row["caution"])  # drawn, so that nothing is hidden, but not as a result
        style, face = (":", "none") if apart else ("-", colour)
        ax.plot([low, high], [position, position], color=colour, linewidth=2, linestyle=style, solid_capstyle="butt")
        ax.plot([value], [position], marker="o", color=colour, markerfacecolor=face, markersize=6)
        text = f"{value:+.1f} % ({low:+.1f} to {high:+.1f})".replace("-", "−")
        ax.text(1.02, position, text, transform=ax.get_yaxis_transform(), va="center", fontsize=8.5, color=theme.INK)
        if row["margin"] == row["margin"] and row["margin"] > 0 and row["control"] > 0:
            edge = 100 * row["margin"] / row["control"] * (-1 if row["better"] == "up" else 1)
            ax.plot([edge, edge], [position - 0.35, position + 0.35], color=theme.INK, linestyle=":", linewidth=1.5)
    ax.axvline(0, color=theme.INK, linewidth=1)
    labels = _names(drawn, "metric")
    ax.set_yticks(range(len(drawn)), labels)
    ax.set_ylim(-0.6, max(len(drawn), 1) - 0.4)
    ax.grid(axis="x")
    omitted = _names(table.loc[table["relative_share"].isna()], "metric")
    below = f"\nnot drawn, no relative change: {', '.join(omitted[:4])}" if omitted else ""
    margin = "; dotted: margin of a guardrail" if bool((drawn["margin"] > 0).any()) else ""
    any_apart = drawn["caution"].astype(str).str.contains(ANSWERS_DIFFER, regex=False).any()
    hollow = f"\nhollow, grey: {ANSWERS_DIFFER}" if any_apart else ""
    ax.set_xlabel(f"change relative to control, % (line: 95 % interval{margin}){below}{hollow}")
    return ax


def _colour(row: dict[Any, Any]) -> str:
    low, high = float(row["effect_low"]), float(row["effect_high"])
    if ANSWERS_DIFFER in str(row["caution"]):
        return theme.COLOURS[5]
    if low <= 0 <= high:
        return theme.MUTED
    return theme.GOOD if (low > 0) == (row["better"] == "up") else theme.CONTRAST


def _names(rows: pd.DataFrame, column: str) -> list[str]:
    """Name rows by experiment and `column`; the arm is added where an experiment has several treatments."""
    several = column == "metric" and len(set(rows["arm"])) > 1
    names = []
    for row in rows.to_dict("records"):
        name = f"{row[column]} ({row['arm']})" if several else str(row[column])
        names.append(f"{row['experiment']} · {name}" if "experiment" in row else name)
    return names


def _ordered_by_trouble(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("verdict", key=lambda v: v != "broken", kind="stable").reset_index(drop=True)
