"""Charts of who leaves sooner: hazard ratios, early and late, counted in three ways, and the days that go with them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from journeykit.churn.immortal import EVER
from journeykit.plots import theme

MOST = 14  # lines that one figure can carry
WIDTH = 40  # characters of a label
RATIO_TICKS = (0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 5, 10, 20)
FASTER, SLOWER, UNCLEAR = theme.CONTRAST, theme.GOOD, theme.MUTED


def forest(table: pd.DataFrame) -> Axes:
    """Draw hazard ratios with intervals on a log axis, the strongest at the top, 1 (no difference) as a line.

    Needs the table of `cox.cox` or `varying.over_time`. A line whose interval holds 1 is grey.
    """
    order = np.log(table["hazard_ratio"]).abs().sort_values(kind="stable").index[-MOST:]
    part = table.loc[order]
    labels = []
    for line in part.to_dict("records"):
        has = "answered" if line["per"].startswith("each") and "scale" in line["per"] else "have it"
        counts = f"{line['people_with_n']:,} of {line['n']:,} {has}"
        labels.append(_label(line["label"], f"{line['per']}; {counts}"))
    colours = [_colour(line["hazard_ratio_low"], line["hazard_ratio_high"]) for line in part.to_dict("records")]
    ax = theme.axes(height=1.3 + 0.45 * len(part))
    _lines(ax, part, np.arange(len(part), dtype=float), colours)
    ax.set_yticks(np.arange(len(part)), labels)
    _ratio_axis(ax, part, len(part))
    return ax


def early_late(table: pd.DataFrame) -> Axes:
    """Draw the ratio of each covariate early and late in tenure, one below the other.

    Needs the table of `proportional.early_late`.
    """
    names = list(dict.fromkeys(table["label"]))[: MOST // 2]
    part = table[table["label"].isin(names)]
    ax = theme.axes(height=1.3 + 0.8 * len(names))
    places = [(len(names) - 1 - names.index(name)) * 2.4 for name in part["label"]]
    places = [place + (1.0 if way == "early" else 0.0) for place, way in zip(places, part["part"], strict=True)]
    colours = [theme.MAIN if way == "early" else theme.WARN for way in part["part"]]
    _lines(ax, part, np.array(places), colours)
    labels = [
        _label(line["label"], f"day {line['from_day']:.0f}–{line['to_day']:.0f}; {line['events_n']:,} left")
        for line in part.to_dict("records")
    ]
    ax.set_yticks(places, labels)
    _ratio_axis(ax, part, max(places) + 1)
    return ax


def three_ways(table: pd.DataFrame) -> Axes:
    """Draw the ratio of one covariate counted in three ways, the wrong one at the top and in another colour.

    Needs the table of `immortal.three_ways`.
    """
    ax = theme.axes(height=2.6)
    if table.empty:
        return ax
    places = np.arange(len(table), dtype=float)[::-1]
    _lines(ax, table, places, [theme.CONTRAST if way == EVER else theme.MAIN for way in table["way"]])
    ways = zip(table["way"], table["words"], strict=True)
    ax.set_yticks(places, [_label("wrong: ever" if way == EVER else f"right: {way}", words) for way, words in ways])
    _ratio_axis(ax, table, len(table))
    ax.set_title(f"“{table['label'].iloc[0]}”, counted in three ways", loc="left", fontsize=9.5, color=theme.INK)
    return ax


def days_kept(table: pd.DataFrame) -> Axes:
    """Draw how many days more or fewer people with each covariate stay, the largest difference at the top.

    Needs the table of `cox.days_kept`.
    """
    order = table["difference_days"].abs().sort_values(kind="stable").index[-MOST:]
    part = table.loc[order]
    ax = theme.axes(height=1.3 + 0.45 * len(part))
    place = np.arange(len(part))
    ax.axvline(0, color=theme.MUTED, linewidth=1, linestyle="--")
    sides = ("", "_low", "_high")
    for y, line in zip(place, part.to_dict("records"), strict=True):
        gap, low, high = (line[f"difference_days{side}"] for side in sides)
        colour = UNCLEAR if low <= 0 <= high else FASTER if gap < 0 else SLOWER
        reach = theme.reach([gap], [low], [high])
        ax.errorbar([gap], [y], xerr=reach, fmt="o", color=colour, capsize=3, linewidth=1.4)
        text = f"{gap:.1f} ({low:.1f} to {high:.1f})".replace("-", "−")
        ax.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=theme.INK)
    counts = zip(part["label"], part["people_with_n"], part["people_without_n"], strict=True)
    ax.set_yticks(
        place, [_label(name, f"{with_n:,} with, {without_n:,} without") for name, with_n, without_n in counts]
    )
    horizon = float(part["horizon_days"].max())
    ax.set(ylim=(-0.6, len(part) - 0.4), xlabel=f"difference in days stayed within {horizon:.0f} days (with − without)")
    return ax


def _lines(ax: Axes, table: pd.DataFrame, places: np.ndarray, colours: Sequence[str]) -> None:
    """Draw ratios with their intervals at some heights, and write them at the right."""
    ax.axvline(1, color=theme.MUTED, linewidth=1, linestyle="--")
    for line, y, colour in zip(table.to_dict("records"), places, colours, strict=True):
        ratio, low, high = (line[f"hazard_ratio{side}"] for side in ("", "_low", "_high"))
        reach = theme.reach([ratio], [low], [high])
        ax.errorbar([ratio], [y], xerr=reach, fmt="o", color=colour, capsize=3, linewidth=1.4)
        text = f"{ratio:.2f} ({low:.2f}–{high:.2f})"
        ax.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=theme.INK)


def _ratio_axis(ax: Axes, table: pd.DataFrame, lines: float) -> None:
    ax.set_xscale("log")
    # A very wide interval runs out of the figure; its bounds are written beside it.
    left = max(0.04, min(0.5, float(table["hazard_ratio_low"].min()) * 0.9))
    right = min(25.0, max(2.0, float(table["hazard_ratio_high"].max()) * 1.1))
    words = "hazard ratio (1 = leaves as fast, 2 = twice as fast)"
    ax.set(xlim=(left, right), ylim=(-0.6, lines - 0.4), xlabel=words)
    ticks = [tick for tick in RATIO_TICKS if left <= tick <= right]
    ax.set_xticks(ticks if right / left < 12 else [tick for tick in ticks if tick not in (0.67, 0.8, 1.25, 1.5)])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.minorticks_off()


def _label(name: str, facts: str) -> str:
    return f"{textwrap.shorten(name, WIDTH, placeholder='…')}\n({textwrap.shorten(facts, 2 * WIDTH, placeholder='…')})"


def _colour(low: float, high: float) -> str:
    return UNCLEAR if low <= 1 <= high else FASTER if low > 1 else SLOWER
