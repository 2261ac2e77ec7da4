"""Charts of what is watched: the week's chart (XmR), the days' intervals, and when the rules would have fired."""

from __future__ import annotations

import matplotlib.dates as mdates
import pandas as pd
from matplotlib.axes import Axes

from journeykit.plots import theme

PANELS = 6
NAMES = {"day": "by day", "week": "by week"}


def weeks(replay: pd.DataFrame) -> Axes:
    """Draw the weeks of each series with the limits that the weeks before them set; at most 6 series.

    Takes the table `replay` of `watch`. Series that fired come first.
    """
    return _charts(replay, "week", markers=True)


def days(replay: pd.DataFrame) -> Axes:
    """Draw the last 90 days of each series with the interval that the 56 days before each led to expect; at most 6."""
    return _charts(replay, "day", markers=False)


def _charts(replay: pd.DataFrame, rule: str, markers: bool) -> Axes:
    known = replay.loc[(replay["rule"] == rule) & (replay["reason"] == "")]
    fired = known.groupby("kpi", sort=False)["fires"].sum().sort_values(ascending=False, kind="stable")
    names = list(fired.index[:PANELS])
    columns = 2 if len(names) > 1 else 1
    lines = max(1, -(-len(names) // columns))
    panels = theme.panels(lines, columns, width=8.6, height=2.3)
    for ax in panels[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(panels, names, strict=False):
        part = known.loc[known["kpi"] == name].tail(90)
        _one(ax, part, name, markers)
    if not names:
        panels[0].text(0.5, 0.5, "no series could be judged", ha="center", va="center", transform=panels[0].transAxes)
    return panels[0]


def _one(ax: Axes, part: pd.DataFrame, name: str, markers: bool) -> None:
    scale = 100 if part["unit"].iloc[0] == "share" else 1
    at = part["period_at"]
    ax.fill_between(at, scale * part["low"], scale * part["high"], color=theme.MAIN, alpha=0.15, linewidth=0)
    ax.plot(at, scale * part["expected"], color=theme.MAIN, linewidth=1)
    ax.plot(
        at, scale * part["observed"], color=theme.INK, linewidth=0.9, marker="o" if markers else None, markersize=2.5
    )
    hits = part.loc[part["fires"].astype(bool)]
    ax.plot(hits["period_at"], scale * hits["observed"], "o", color=theme.CONTRAST, markersize=5.5)
    top = scale * float(part["observed"].max())
    ax.set_ylim(
        min(0, scale * float(part["observed"].min())), min(1.15 * scale * float(part["high"].max()), 2 * top) or 1
    )
    unit = "%" if scale == 100 else str(part["unit"].iloc[0])
    ax.set_title(f"{name} ({unit})", loc="left", fontsize=9)
    locator = mdates.AutoDateLocator(minticks=3, maxticks=6)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))
    ax.tick_params(labelsize=8)


def firings(replay: pd.DataFrame) -> Axes:
    """Draw when each rule would have fired: a line a series and rule, a mark a firing (filled: worse, hollow: better).

    Takes the table `replay` of `watch`. Lines on which nothing could be judged are left out; at most 24.
    """
    known = replay.loc[replay["reason"] == ""]
    lines = list(dict.fromkeys(zip(known["kpi"], known["rule"], strict=True)))
    order = {kpi: place for place, kpi in enumerate(dict.fromkeys(replay["kpi"]))}
    lines = sorted(lines, key=lambda line: (order[line[0]], line[1]))[:24][::-1]
    ax = theme.axes(width=7.6, height=0.9 + 0.24 * max(len(lines), 1))
    for place, (kpi, rule) in enumerate(lines):
        part = known.loc[(known["kpi"] == kpi) & (known["rule"] == rule)]
        ax.plot([part["period_at"].min(), part["period_at"].max()], [place, place], color=theme.GRID, linewidth=3)
        hits = part.loc[part["fires"].astype(bool)]
        for row in hits.to_dict("records"):
            worse = (row["observed"] > row["expected"]) != (row["better"] == "up")
            face = theme.CONTRAST if worse else "none"
            marker = "^" if row["observed"] > row["expected"] else "v"
            ax.plot([row["period_at"]], [place], marker, color=theme.CONTRAST, markerfacecolor=face, markersize=7)
        ax.text(1.01, place, f"{len(hits)} of {len(part)}", transform=ax.get_yaxis_transform(), va="center", fontsize=8)
    ax.set_yticks(range(len(lines)), [f"{kpi}, {NAMES[rule]}" for kpi, rule in lines], fontsize=8)
    ax.set_ylim(-0.7, max(len(lines), 1) - 0.3)
    ax.set_xlabel("▲ above, ▼ below what was expected; filled: for the worse. Right: alarms of days or weeks judged")
    locator = mdates.AutoDateLocator(minticks=4, maxticks=9)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))
    return ax
