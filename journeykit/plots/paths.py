"""Charts of paths."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from journeykit import present
from journeykit.path_compare import SURE
from journeykit.path_grid import SPECIAL, WITHOUT
from journeykit.paths import REST
from journeykit.plots import theme

VALUES_SHOWN = 10
PATHS_SHOWN = 10
DIFFERENCES_SHOWN = 12
PALE = LinearSegmentedColormap.from_list("journey_pale", ["#f5f6f7", "#9aa3ac"])


def transitions(table: pd.DataFrame) -> Axes:
    """Draw what follows what: share of leaving each of the ten most frequent values."""
    volume = pd.concat([table.groupby("from")["n"].sum(), table.groupby("to")["n"].sum()], axis=1).sum(axis=1)
    names = list(volume.sort_index().sort_values(ascending=False, kind="stable").index[:VALUES_SHOWN])
    leaving = set(table["from"])  # a value after which nothing comes often enough would be a blank row
    entered = set(table["to"])
    grid = table.pivot_table(index="from", columns="to", values="share").reindex(
        index=[name for name in names if name in leaving], columns=[name for name in names if name in entered]
    )
    grid = grid.dropna(how="all").dropna(how="all", axis=1)
    ax = _heat(grid, height=1.6 + 0.34 * len(grid))
    ax.set_xlabel("To")
    ax.set_ylabel("From (share of what follows; rows may sum to less than 100 %)")
    if len(names) > 4:
        ax.tick_params(axis="x", rotation=40)
        for label in ax.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
    ax.yaxis.label.set_fontsize(8)
    return ax


def step_matrix(table: pd.DataFrame) -> Axes:
    """Draw what happens at each position, as shares of all; every column sums to 100 %."""
    values = list(dict.fromkeys(table["value"]))
    grid = table.pivot_table(index="value", columns="position", values="share").reindex(values)
    ax = _heat(grid, height=1.2 + 0.34 * len(values), pale=SPECIAL)
    ax.set_xlabel("Position in the sequence")
    return ax


def variants(table: pd.DataFrame) -> Axes:
    """Draw the most frequent paths with their shares and, where known, the share that converted."""
    rows = table[table["variant"] != REST].head(PATHS_SHOWN).reset_index(drop=True)
    has_conversion = "converted_share" in rows
    labels = [textwrap.fill(_cut(text), 44) for text in rows["variant"]]
    lines = sum(label.count("\n") + 1 for label in labels)
    ax = theme.axes(height=1.0 + 0.14 * len(rows) + 0.19 * lines)
    errors = theme.reach(rows["share"], rows["share_low"], rows["share_high"])
    ax.barh(rows.index, rows["share"], color=theme.MAIN, height=0.55)
    ax.errorbar(rows["share"], rows.index, xerr=errors, fmt="none", ecolor=theme.INK, elinewidth=1.2, capsize=3)
    for k, row in enumerate(rows.to_dict("records")):
        text = f"n = {present.count(row['n'])}"
        if has_conversion and row["finished_n"]:
            bounds = present.interval(row["converted_share_low"], row["converted_share_high"], "share", 0)
            text += f", converted {present.share(row['converted_share'], 0)} ({bounds})"
        ax.text(row["share_high"], k, "  " + text, va="center", fontsize=8.5, color=theme.MUTED)
    ax.set_yticks(range(len(rows)), labels, fontsize=8.5)
    ax.invert_yaxis()
    ticks = _ticks(float(rows["share_high"].max()))
    ax.set_xlim(0, ticks[-1] * (2.1 if has_conversion else 1.3))  # the rest of the width holds the text
    ax.set_xticks(ticks)
    ax.spines["bottom"].set_bounds(0, ticks[-1])
    ax.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.set_xlabel("Share of all paths (95 % interval)", loc="left")
    return ax


def coverage(table: pd.DataFrame) -> Axes:
    """Draw how much of all units the most frequent paths cover, and how many paths cover half of them."""
    ax = theme.axes(height=3.2)
    ax.plot(table["paths_n"], table["covered_share"], color=theme.MAIN, marker="o", markersize=3.5, linewidth=1.8)
    for share in (0.5, 0.8):
        enough = table[table["covered_share"] >= share]
        row = enough.iloc[0]
        ax.plot([1, row["paths_n"]], [share, share], color=theme.MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        ax.plot([row["paths_n"]] * 2, [0, share], color=theme.MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        paths = "1 path" if row["paths_n"] == 1 else f"{present.count(row['paths_n'])} paths"
        text = f"{paths}: {present.share(share, 0)}"
        ax.annotate(text, (row["paths_n"], share), xytext=(6, -4), textcoords="offset points", va="top", fontsize=8.5)
    ax.set_xscale("log")
    ax.set_xlim(1, max(2, float(table["paths_n"].max())) * 1.05)
    ax.set_ylim(0, 1.02)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: present.count(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.set_xlabel("Number of paths, most frequent first (each axis mark is ten times the one before)")
    ax.set_ylabel(f"Share of all {present.count(table['n'].iloc[0])} covered")
    return ax


def around(table: pd.DataFrame) -> Axes:
    """Draw what comes before and after an event, as shares of all; every column sums to 100 %."""
    values = [value for value in dict.fromkeys(table["value"]) if table.loc[table["value"] == value, "n"].any()]
    grid = table.pivot_table(index="value", columns="position", values="share").reindex(values)
    anchor = str(table.attrs.get("anchor", "the event"))
    places = [int(place) for place in grid.columns]
    ax = _heat(grid.set_axis([_place(k, anchor) for k in places], axis=1), 1.5 + 0.34 * len(values), pale=SPECIAL)
    ax.set_xlabel(f"Events before and after {_cut(anchor, 40)}")
    if 0 in places:  # a frame around the event itself
        at = (places.index(0), 0)
        ax.add_patch(Rectangle(at, 1, len(values), fill=False, edgecolor=theme.INK, linewidth=1.3, clip_on=False))
    return ax


def ways(table: pd.DataFrame) -> Axes:
    """Draw the most frequent ways around an event with their shares of all, and what is left."""
    named = table[~table["way"].isin([REST, WITHOUT])].head(PATHS_SHOWN)
    rows = pd.concat([named, table[table["way"] == REST]], ignore_index=True)
    labels = [textwrap.fill(_cut(text), 48) for text in rows["way"]]
    ax = theme.axes(height=1.0 + 0.14 * len(rows) + 0.19 * sum(label.count("\n") + 1 for label in labels))
    colours = [theme.MAIN if k < len(named) else theme.GRID for k in rows.index]
    ax.barh(rows.index, rows["share"], color=colours, height=0.55)
    errors = theme.reach(named["share"], named["share_low"], named["share_high"])
    ax.errorbar(named["share"], range(len(named)), xerr=errors, fmt="none", ecolor=theme.INK, elinewidth=1.2, capsize=3)
    ends = rows["share_high"].fillna(rows["share"])
    for k, row in enumerate(rows.to_dict("records")):
        text = f"  {present.share(row['share'])}  (n = {present.count(row['n'])})"
        ax.text(ends[k], k, text, va="center", fontsize=8.5, color=theme.MUTED)
    ax.set_yticks(range(len(rows)), labels, fontsize=8.5)
    ax.invert_yaxis()
    ticks = _ticks(float(ends.max()))
    ax.set_xlim(0, ticks[-1] * 1.35)
    ax.set_xticks(ticks)
    ax.spines["bottom"].set_bounds(0, ticks[-1])
    ax.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    without = table.loc[table["way"] == WITHOUT, "share"]
    note = f"; {present.share(without.iloc[0])} of all never had it" if len(without) else ""
    ax.set_xlabel(f"Share of all (95 % interval){note}", loc="left")
    return ax


def differences(table: pd.DataFrame) -> Axes:
    """Draw the largest sure differences between two groups, with intervals, to the side of the one that has more."""
    sure = table[table["p_adjusted"] < SURE]
    rows = (sure if len(sure) else table).head(DIFFERENCES_SHOWN).reset_index(drop=True)
    rows = rows.sort_values("difference_points", ascending=False, ignore_index=True)
    a, b = (str(table.attrs.get(side, side)) for side in ("a", "b"))
    labels = [textwrap.fill(_cut(_what(row), 80), 40) for row in rows.to_dict("records")]
    ax = theme.axes(height=1.5 + 0.14 * len(rows) + 0.19 * sum(label.count("\n") + 1 for label in labels))
    points = rows["difference_points"]
    colours = [(theme.MAIN if value > 0 else theme.CONTRAST) if len(sure) else theme.MUTED for value in points]
    ax.barh(rows.index, points, color=colours, height=0.55)
    errors = theme.reach(points, rows["difference_points_low"], rows["difference_points_high"])
    ax.errorbar(points, rows.index, xerr=errors, fmt="none", ecolor=theme.INK, elinewidth=1.2, capsize=3)
    ax.axvline(0, color=theme.INK, linewidth=0.8)
    widest = 1.05 * float(rows[["difference_points_low", "difference_points_high"]].abs().to_numpy().max())
    for k, row in enumerate(rows.to_dict("records")):
        text = f"{present.share(row['a_share'], 0)} against {present.share(row['b_share'], 0)}"
        ax.text(widest * 1.04, k, text, va="center", fontsize=8.5, color=theme.MUTED)
    ax.set_yticks(range(len(rows)), labels, fontsize=8.5)
    ax.invert_yaxis()
    ax.set_xlim(-widest, widest)
    ax.set_xlabel(
        "Difference in the share of people who have it, percentage points (95 % interval);\n"
        f"at the right: share of {a} against {b}"
    )
    ax.annotate(f"← more often: {b}", (0, 1), xycoords="axes fraction", va="bottom", fontsize=9, color=theme.CONTRAST)
    ax.annotate(
        f"more often: {a} →", (1, 1), xycoords="axes fraction", va="bottom", ha="right", fontsize=9, color=theme.MAIN
    )
    if not len(sure):
        ax.set_title("None of these is sure", fontsize=9, color=theme.MUTED, pad=18)
    return ax


def _what(row: dict[Any, Any]) -> str:
    return f"{row['what']} at place {row['position']}" if row["kind"] == "place" else str(row["what"])


def _place(place: int, anchor: str) -> str:
    return _cut(anchor, 16) if place == 0 else f"{place:+d}".replace("-", "−")


def _heat(grid: pd.DataFrame, height: float, pale: Collection[str] = ()) -> Axes:
    """Draw shares as a heat map with the numbers in the cells, in percent; empty cells are 0 or not shown.

    Rows named in `pale` are in grey: they are the remainder.
    """
    ax = theme.axes(height=height)
    shares = grid.astype(float)
    texts = np.array([[_percent(value) for value in row] for row in shares.to_numpy()], dtype=object)
    grey = np.array([name in pale for name in grid.index])[:, None] & np.ones(shares.shape, dtype=bool)
    for mask, colours in ((grey, theme.SEQUENTIAL), (~grey, PALE)):
        if not mask.all():
            sns.heatmap(
                shares, ax=ax, cmap=colours, mask=mask, vmin=0, annot=texts, fmt="", annot_kws={"fontsize": 8},
                cbar=False, xticklabels=[_cut(str(name), 18) for name in grid.columns],
                yticklabels=[_cut(str(name), 24) for name in grid.index],
            )  # fmt: skip
    for label in ax.get_yticklabels():
        if label.get_text() in pale:
            label.set_color(theme.MUTED)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0)
    ax.annotate("in %", (1, 1), xycoords="axes fraction", ha="right", va="bottom", fontsize=8, color=theme.MUTED)
    return ax


def _ticks(highest: float) -> list[float]:
    """Return ticks from 0 to just above the highest value, so that the axis does not go on under the text.

    >>> _ticks(0.031)
    [0.0, 0.01, 0.02, 0.03, 0.04]
    """
    rough = max(highest, 0.001) / 4
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * k for k in (1, 2, 2.5, 5, 10) if size * k >= rough * 0.999)
    return [round(step * k, 6) for k in range(math.ceil(highest / step - 1e-9) + 1)]


def _cut(text: str, length: int = 130) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _percent(value: float) -> str:
    if pd.isna(value) or value == 0:
        return ""
    return present.number(100 * value, 0) if value >= 0.005 else "<1"
