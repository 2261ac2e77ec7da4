"""Charts of paths."""

from __future__ import annotations

import math
import textwrap

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from journeykit import present
from journeykit.paths import ENDED, OTHER, REST
from journeykit.plots import theme

VALUES_SHOWN = 10
PATHS_SHOWN = 10


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
    ax = _heat(grid, height=1.2 + 0.34 * len(values))
    ax.set_xlabel("Position in the sequence")
    for label in ax.get_yticklabels():
        if label.get_text() in (OTHER, ENDED):
            label.set_color(theme.MUTED)
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


def plan_share(table: pd.DataFrame) -> Axes:
    """Draw the share on plan of each group, with its interval."""
    rows = table.reset_index(drop=True)
    ax = theme.axes(height=1.1 + 0.45 * len(rows))
    errors = theme.reach(rows["on_plan_share"], rows["on_plan_share_low"], rows["on_plan_share_high"])
    colours = [theme.MUTED if group == "open" else theme.MAIN for group in rows["group"]]
    ax.barh(rows.index, rows["on_plan_share"], color=colours, height=0.5)
    ax.errorbar(rows["on_plan_share"], rows.index, xerr=errors, fmt="none", ecolor=theme.INK, elinewidth=1.2, capsize=3)
    for k, row in enumerate(rows.to_dict("records")):
        ax.text(
            row["on_plan_share_high"] + 0.012,
            k,
            present.share(row["on_plan_share"]),
            va="center",
            fontsize=9,
            color=theme.INK,
        )
    named = [f"{group} (so far)" if group == "open" else group for group in rows["group"]]
    ax.set_yticks(range(len(rows)), [f"{g}  (n = {present.count(n)})" for g, n in zip(named, rows["n"], strict=True)])
    ax.invert_yaxis()
    ax.set_xlim(0, min(1.12, float(rows["on_plan_share_high"].max()) * 1.15 + 0.05))
    ax.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.set_xlabel("Share of journeys on the plan (95 % interval)")
    return ax


def _heat(grid: pd.DataFrame, height: float) -> Axes:
    """Draw shares as a heat map with the numbers in the cells, in percent; empty cells are 0 or not shown."""
    ax = theme.axes(height=height)
    shares = grid.astype(float)
    texts = [[_percent(value) for value in row] for row in shares.to_numpy()]
    sns.heatmap(
        shares, ax=ax, cmap=theme.SEQUENTIAL, vmin=0, annot=texts, fmt="", annot_kws={"fontsize": 8}, cbar=False,
        xticklabels=[_cut(str(name), 18) for name in grid.columns],
        yticklabels=[_cut(str(name), 24) for name in grid.index],
    )  # fmt: skip
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
