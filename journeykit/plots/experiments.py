"""Charts of chapter 08: observed against planned split, effects with their intervals, and what early looks said."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

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
    """Draw the relative change of each metric: a dot, its 95 % interval, the always-valid one and guardrails' margins.

    Takes the table of `effects` (or of `all_experiments`); at most 12 comparisons. Thick is the interval of one
    reading, thin the one that may be read every night; an arrow says that it goes on outside. Green lies wholly on the
    better side of 0, red wholly on the worse side. Comparisons without a relative change (a mean near 0) are named
    below.
    """
    drawn = table.loc[table["relative_share"].notna()].head(ROWS).iloc[::-1].reset_index(drop=True)
    ax = theme.axes(height=1.0 + 0.36 * max(len(drawn), 1))
    left, right = _limits(drawn)
    for position, row in enumerate(drawn.to_dict("records")):
        value, low, high = (100 * row[f"relative_share{side}"] for side in ("", "_low", "_high"))
        colour = _colour(row)
        apart = ANSWERS_DIFFER in str(row["caution"])  # drawn, so that nothing is hidden, but not as a result
        style, face = (":", "none") if apart else ("-", colour)
        _thin(ax, row, position, colour, (left, right))
        ax.plot([low, high], [position, position], color=colour, linewidth=3, linestyle=style, solid_capstyle="butt")
        ax.plot([value], [position], marker="o", color=colour, markerfacecolor=face, markersize=6)
        text = f"{value:+.1f} % ({low:+.1f} to {high:+.1f})".replace("-", "−")
        ax.text(1.02, position, text, transform=ax.get_yaxis_transform(), va="center", fontsize=8.5, color=theme.INK)
        edge = _margin(row)
        if left <= edge <= right:
            ax.plot([edge, edge], [position - 0.35, position + 0.35], color=theme.INK, linestyle=":", linewidth=1.5)
    ax.axvline(0, color=theme.INK, linewidth=1)
    labels = _names(drawn, "metric")
    ax.set_yticks(range(len(drawn)), labels)
    ax.set_ylim(-0.6, max(len(drawn), 1) - 0.4)
    ax.set_xlim(left, right)
    ax.grid(axis="x")
    omitted = _names(table.loc[table["relative_share"].isna()], "metric")
    below = f"\nnot drawn, no relative change: {', '.join(omitted[:4])}" if omitted else ""
    margin = "; dotted: margin of a guardrail" if bool((drawn["margin"] > 0).any()) else ""
    any_apart = drawn["caution"].astype(str).str.contains(ANSWERS_DIFFER, regex=False).any()
    hollow = f"\nhollow, grey: {ANSWERS_DIFFER}" if any_apart else ""
    nightly = "\nthin: interval that holds however often it is read" if "sequential_relative_low" in drawn else ""
    ax.set_xlabel(f"change relative to control, % (line: 95 % interval{margin}){nightly}{below}{hollow}")
    return ax


def looks(table: pd.DataFrame, experiment: str = "", metric: str = "", arm: str = "") -> Axes:
    """Draw what each day's look would have said: the effect, its 95 % interval, and the one that is always valid.

    Takes the table of `looks`; draws one comparison of it, the first one that fits the names. The dark band is right on
    one day chosen in advance, the light one on all days. Dots mark the day from which each kept 0 out for the first
    time. The axis leaves out what the light band shows at first, when it is widest.
    """
    rows = _chosen(table, experiment=experiment, metric=metric, arm=arm)
    first: Any = rows.iloc[0]
    scale, unit = (100.0, "percentage points") if first["unit"] == "share" else (1.0, first["unit"])
    ax = theme.axes(height=3.4)
    at = rows["read_at"]
    low, high = scale * rows["sequential_low"], scale * rows["sequential_high"]
    ax.fill_between(at, low, high, color=theme.COLOURS[7], alpha=0.25, linewidth=0, label="always valid")
    low, high = scale * rows["effect_low"], scale * rows["effect_high"]
    ax.fill_between(at, low, high, color=theme.MAIN, alpha=0.4, linewidth=0, label="95 %, of one day")
    ax.plot(at, scale * rows["effect"], color=theme.MAIN, linewidth=2)
    ax.axhline(0, color=theme.INK, linewidth=1)
    reach = max(float(high.max()), 0.0) - min(float(low.min()), 0.0)
    ax.set_ylim(min(float(low.min()), 0.0) - 0.15 * reach, max(float(high.max()), 0.0) + 0.25 * reach)
    if first["margin"] > 0:
        edge = scale * first["margin"] * (-1 if first["better"] == "up" else 1)
        ax.axhline(edge, color=theme.INK, linestyle=":", linewidth=1.2)
        ax.text(at.iloc[-1], edge, "margin", fontsize=8.5, ha="right", va="bottom", color=theme.INK)
    for column, colour, side in (("fixed_says", theme.MAIN, "effect"), ("always_valid_says", theme.GOOD, "sequential")):
        told = rows.loc[rows[column] != ""]
        if len(told):
            seen: Any = told.iloc[0]
            bound = scale * seen[f"{side}_low" if seen[column] == "higher" else f"{side}_high"]
            ax.plot([seen["read_at"]], [bound], marker="o", color=colour, markersize=5, clip_on=False, zorder=5)
    handles, names = ax.get_legend_handles_labels()
    free: Any = "lower right" if rows["effect"].iloc[-1] >= 0 else "upper right"
    ax.legend(handles[::-1], names[::-1], loc=free, ncols=2, fontsize=8.5, borderaxespad=0.2, frameon=False)
    locator = AutoDateLocator(minticks=3, maxticks=7)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.grid(axis="y")
    ax.set_xlabel("day on which it is read (dot: the first one that rules 0 out)")
    ax.set_ylabel(f"effect, {unit}")
    ax.set_title(f"{first['experiment']} · {first['metric']} ({first['arm']})", loc="left", fontsize=9.5)
    return ax


def _chosen(table: pd.DataFrame, **names: str) -> pd.DataFrame:
    """The rows of one comparison: the first that fits what is named."""
    rows = table
    for column, name in names.items():
        rows = rows.loc[rows[column] == name] if name else rows
    for column in ("experiment", "metric", "arm"):
        rows = rows.loc[rows[column] == rows[column].iloc[0]]
    return rows


def _limits(drawn: pd.DataFrame) -> tuple[float, float]:
    """Room for all 95 % intervals and the margins of guardrails, with some for what is wider."""
    ends = [0.0, *(100 * drawn["relative_share_low"]), *(100 * drawn["relative_share_high"])]
    widest = max(abs(end) for end in ends)
    margins = [edge for edge in map(_margin, drawn.to_dict("records")) if abs(edge) <= 2 * widest]
    low, high = min([*ends, *margins]), max([*ends, *margins])
    room = 0.2 * (high - low) or 1.0
    return low - room, high + room


def _margin(row: dict[Any, Any]) -> float:
    """The relative change at which a guardrail is harmed; infinite where there is none to draw."""
    if not row["margin"] > 0 or not row["control"] > 0:
        return math.inf
    return float(100 * row["margin"] / row["control"] * (-1 if row["better"] == "up" else 1))


def _thin(ax: Axes, row: dict[Any, Any], position: int, colour: str, limits: tuple[float, float]) -> None:
    """The always-valid interval, with an arrow where it goes on outside."""
    low, high = (100 * row.get(f"sequential_relative_{side}", math.nan) for side in ("low", "high"))
    if math.isnan(low) or math.isnan(high):
        return
    ends = [max(low, limits[0]), min(high, limits[1])]
    ax.plot(ends, [position, position], color=colour, linewidth=1, solid_capstyle="butt", alpha=0.8)
    for end, limit, marker in ((low, limits[0], "<"), (high, limits[1], ">")):
        if (end < limit) if marker == "<" else (end > limit):
            ax.plot([limit], [position], marker=marker, color=colour, markersize=4.5, clip_on=False)
        else:
            ax.plot([end], [position], marker="|", color=colour, markersize=6)


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
