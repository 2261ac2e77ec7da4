"""The chart of what each source delivered day by day."""

from __future__ import annotations

from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from journeykit.plots import theme

MOST = 12  # sources in one chart
MARKS = {"silent": ("s", theme.CONTRAST), "low": ("v", theme.CONTRAST), "high": ("^", theme.WARN)}


def daily_volume(table: pd.DataFrame) -> Axes:
    """Draw one small chart per source with its events by day, unusual days marked (see `volume.judge`).

    Each is scaled to its own largest day. Of more than twelve sources those with the most unusual days are drawn.
    """
    unusual = (table["unusual"] != "").groupby(table["source"]).sum()
    chosen = sorted(sorted(unusual.index, key=lambda name: (-unusual[name], name))[:MOST])
    with mpl.rc_context(theme.STYLE):
        figure = Figure(figsize=(5.6, 0.68 * len(chosen) + 0.9), dpi=200)
        axes = np.atleast_1d(cast(Any, figure.subplots(len(chosen), 1, sharex=True)))
        figure.subplots_adjust(hspace=0.75)
    for ax, source in zip(axes, chosen, strict=True):
        _one_source(ax, source, table[table["source"] == source])
    last: Axes = axes[-1]
    locator = AutoDateLocator(minticks=3, maxticks=6)
    last.xaxis.set_major_locator(locator)
    last.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    last.tick_params(axis="x", bottom=True)
    last.set_xlabel("day" + (f" ({len(unusual) - MOST} more sources in the table)" if len(unusual) > MOST else ""))
    kinds = [kind for kind in MARKS if (table.loc[table["source"].isin(chosen), "unusual"] == kind).any()]
    if kinds:
        marks = [Line2D([], [], linewidth=0, marker=MARKS[kind][0], color=MARKS[kind][1]) for kind in kinds]
        names = [f"{kind} day" for kind in kinds]
        style: Any = {"frameon": False, "borderpad": 0, "fontsize": 9, "ncols": len(kinds), "labelcolor": theme.INK}
        cast(Axes, axes[0]).legend(marks, names, loc="lower right", bbox_to_anchor=(1, 1.0), **style)
    return last


def _one_source(ax: Axes, source: str, part: pd.DataFrame) -> None:
    top = max(int(part["events_n"].max()), 1)
    style: Any = {"color": theme.MAIN, "alpha": 0.75, "linewidth": 0, "step": "mid"}
    # As pixels: the outlines of ten years of twelve sources would be megabytes.
    ax.fill_between(part["day"], 0, part["events_n"], rasterized=True, **style)
    for kind, (marker, colour) in MARKS.items():
        days = part[part["unusual"] == kind]
        if days.empty:
            continue
        # At the foot: there is no bar on a silent day, and a mark on top of a high one would leave the chart.
        ax.plot(days["day"], np.full(len(days), -0.16 * top), marker, color=colour, markersize=5, clip_on=False)
    ax.set_title(f"{source} · at most {top:,} a day", loc="left", fontsize=9.5, color=theme.INK, pad=3)
    ax.set_ylim(0, top * 1.02)
    ax.margins(x=0.01)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="x", bottom=False)
