"""Charts of coming back: the triangle of cohorts, their curves, the lifecycle, and staying after each stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter

from journeykit import present
from journeykit.churn.lifecycle import quick_ratio
from journeykit.plots import theme
from journeykit.plots.funnels import beside, framed, percent

ROWS, COLUMNS = 18, 14  # of cohorts, the latest; of periods, the first: what one figure can carry
CURVES = 12
STATE_COLOURS = {"returning": theme.MAIN, "resurrected": theme.WARN, "new": theme.GOOD, "dormant": theme.CONTRAST}
STATE_WORDS = {
    "returning": "returning: active in the period before too",
    "resurrected": "resurrected: active before, after a pause",
    "new": "new",
    "dormant": "dormant: active in the period before, not in this one",
}


def triangle(table: pd.DataFrame) -> Axes:
    """Draw cohorts as rows and periods as columns, darker where more came back, the mean as the last row.

    A hatched cell is a period that is not over, whose share can still rise. Needs the table of `cohorts.cohorts`; the
    latest 18 cohorts and the first 14 periods are drawn, and period 0, which is 1 by definition, is the n of its row.
    """
    cells = table[(table["period"] > 0) & (table["period"] <= COLUMNS)]
    names = list(dict.fromkeys(table.loc[table["cohort_at"].notna(), "cohort"]))[-ROWS:]
    means = list(dict.fromkeys(table.loc[table["cohort_at"].isna(), "cohort"]))
    places = {name: k for k, name in enumerate(names)} | {name: len(names) + 0.35 for name in means}
    sizes = table[table["period"] == 0].set_index("cohort")["n"]
    labels = [f"{name}  n = {present.count(sizes[name])}" if name in sizes else name for name in places]
    columns = max(int(cells["period"].max()) if len(cells) else 1, 1)
    ax = framed(labels, height=1.15 + 0.31 * (len(places) + 0.35), right=0.2)
    shown = cells[cells["cohort"].isin(places)]
    top = max(float(shown["retained_share"].max()) if len(shown) else 0.0, 0.01)
    digits = 1 if top < 0.095 else 0
    for row in shown.to_dict("records"):
        _cell(ax, row["period"], places[row["cohort"]], row, top, digits)
    ax.set(xlim=(0.5, columns + 0.5), ylim=(max(places.values()) + 0.55, -0.55))
    ax.set_yticks(list(places.values()), labels)
    for text, name in zip(ax.get_yticklabels(), places, strict=True):
        text.set_fontweight("bold" if name in means else "normal")
    ax.set_xticks(range(1, columns + 1))
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set_xlabel("Period after the start; share that came back in it, in %")
    ax.tick_params(length=0)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    if not shown["complete"].all():
        said = "hatched: not over yet, can still rise"
        ax.text(1, -0.01, said, transform=ax.transAxes, ha="right", va="top", fontsize=8.5, color=theme.MUTED)
    return ax


def curves(table: pd.DataFrame) -> Axes:
    """Draw the share that came back in each period: a thin line for each cohort, the mean with its band in bold.

    Periods that are not over are left out: where a line would end in one, it would fall. Needs the table of
    `cohorts.cohorts`; the twelve latest cohorts are drawn, newer ones darker.
    """
    ax = theme.axes(height=3.7)
    part = table[table["complete"] & (table["period"] > 0)]
    names = list(dict.fromkeys(part.loc[part["cohort_at"].notna(), "cohort"]))[-CURVES:]
    for k, name in enumerate(names):
        one = part[part["cohort"] == name]
        shade = theme.SEQUENTIAL(0.35 + 0.65 * k / max(len(names) - 1, 1))
        ax.plot(one["period"], one["retained_share"], "-o", color=shade, linewidth=0.9, markersize=2.6, alpha=0.8)
    mean = part[part["cohort_at"].isna()]
    if len(mean):
        low, high = mean["retained_share_low"].to_numpy(float), mean["retained_share_high"].to_numpy(float)
        ax.fill_between(mean["period"], low, high, color=theme.CONTRAST, alpha=0.22, linewidth=0)
        ax.plot(mean["period"], mean["retained_share"], "-o", color=theme.CONTRAST, linewidth=2.4, markersize=5)
    handles = []
    if len(mean):
        said = f"{mean['cohort'].iloc[0]} (band: 95 %)"
        handles.append(Line2D([], [], color=theme.CONTRAST, linewidth=2.4, label=said))
    else:
        said = "no period is over yet"
        ax.text(0.5, 0.5, said, transform=ax.transAxes, ha="center", fontsize=9, color=theme.MUTED)
    for place, name in ((0.35, names[0]), (1.0, names[-1])) if len(names) > 1 else ():
        handles.append(Line2D([], [], color=theme.SEQUENTIAL(place), linewidth=1.2, label=f"cohort {name}"))
    ax.legend(handles=handles, loc="upper right", fontsize=8.5, frameon=False, labelcolor=theme.INK)
    highest = [float(part["retained_share"].max()), float(mean["retained_share_high"].max())]
    top = max([share for share in highest if not present.missing(share)], default=0.0) or 0.01
    last = int(part["period"].max()) if len(part) else 1
    ax.set(xlim=(0.7, last + 0.3), ylim=(0, top * 1.08), xlabel="Period after the start (whole ones only)")
    ax.set_xticks(range(1, last + 1, max(1, last // 14)))
    ax.set_ylabel("Came back")
    ax.yaxis.set_major_formatter(percent(top))
    ax.grid(axis="y")
    return ax


def lifecycle(table: pd.DataFrame) -> Axes:
    """Draw who was active in each period, and below zero who fell silent; a hatched last period is not over.

    Needs the table of `lifecycle.lifecycle`; the figures above the bars are those of `lifecycle.quick_ratio`.
    """
    counts = table.pivot_table(index="period_at", columns="state", values="people_n", aggfunc="sum", sort=True)
    counts = counts.reindex(columns=list(STATE_COLOURS)).fillna(0.0)
    names = table.drop_duplicates("period_at").set_index("period_at")["period"].reindex(counts.index)
    open_ones = ~table.groupby("period_at")["complete"].all().reindex(counts.index).to_numpy(bool)
    ax = theme.axes(width=8.2, height=4.1)
    place, bottom = np.arange(len(counts)), np.zeros(len(counts))
    for state, colour in STATE_COLOURS.items():
        size = counts[state].to_numpy(float)
        base = np.zeros(len(size)) if state == "dormant" else bottom
        bars = ax.bar(place, -size if state == "dormant" else size, bottom=base, color=colour, width=0.78)
        for bar in np.array(bars, dtype=object)[open_ones]:
            bar.set(hatch="////", edgecolor="white", linewidth=0)
        bottom = bottom if state == "dormant" else bottom + size
    ax.axhline(0, color=theme.INK, linewidth=0.9)
    lowest = float(counts["dormant"].max())
    ax.set_ylim(-1.1 * lowest - 0.02 * bottom.max(), 1.13 * float(bottom.max()))
    ax.set_xlim(-0.6, len(counts) - 0.4)
    ratios = quick_ratio(table)
    shown = ratios[ratios["complete"] & ratios["quick_ratio"].notna()].set_index("period_at")["quick_ratio"]
    style: Any = {"textcoords": "offset points", "ha": "center", "fontsize": 8.5, "color": theme.INK}
    for k, at in enumerate(counts.index):
        if at in shown.index:
            ax.annotate(f"{shown[at]:.1f}", (k, bottom[k]), (0, 3), **style)
    every = max(1, -(-len(counts) // 13))
    ticks = [k for k in range(len(counts)) if k % every == 0]
    ax.set_xticks(ticks, [_two_lines(names.iloc[k]) for k in ticks], fontsize=8.5)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: present.count(abs(value))))
    ax.set_ylabel("People (below zero: lost)")
    ax.grid(axis="y")
    handles = [Patch(facecolor=STATE_COLOURS[state], label=STATE_WORDS[state]) for state in STATE_COLOURS]
    title = "Figures above the bars: gained (new, resurrected) for each one lost" if len(shown) else None
    legend = ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(-0.02, -0.14), ncols=2, fontsize=8.5, title=title,
        frameon=False, labelcolor=theme.INK, alignment="left",
    )  # fmt: skip
    legend.get_title().set(fontsize=8.5, color=theme.INK)
    return ax


def by_stage(table: pd.DataFrame) -> Axes:
    """Draw the share that is a customer still some time after entering each stage, with its interval.

    Needs the table of `stages.retention_by_stage`.
    """
    labels = list(table["stage"])
    ax = framed(labels, height=1.05 + 0.47 * len(table), right=2.1)
    share, low, high = (table[f"retained_share{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    place = np.arange(len(table))
    reach = theme.reach(share, low, high)
    ax.errorbar(share, place, xerr=reach, fmt="o", color=theme.MAIN, capsize=3, linewidth=1.4, markersize=6.5)
    for k, row in enumerate(table.to_dict("records")):
        bounds = present.interval(row["retained_share_low"], row["retained_share_high"], "share")
        beside(ax, k, present.share(row["retained_share"]), f"{bounds}; n = {present.count(row['n'])}")
    left = max(0.0, float(np.floor(10 * (low.min() - 0.05)) / 10)) if len(table) else 0.0
    ax.set(xlim=(left, min(1.0, float(high.max()) + 0.06) if len(table) else 1.0), ylim=(len(table) - 0.5, -0.5))
    ax.set_yticks(place, labels)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_formatter(percent(1.0))
    ax.grid(axis="x")
    days = present.days(float(table["horizon_days"].iloc[0]), 0) if len(table) else ""
    start = "" if left == 0 else f"; the axis begins at {left:.0%}".replace("%", " %")
    ax.set_xlabel(f"Still a customer {days} after entering the stage{start}")
    return ax


def _cell(ax: Axes, x: float, y: float, row: dict[Any, Any], top: float, digits: int) -> None:
    share = float(row["retained_share"])
    depth, over = share / top, bool(row["complete"])
    colour = to_rgba(theme.SEQUENTIAL(depth), 1.0 if over else 0.55)
    hatch = None if over else "///"
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white", linewidth=1, hatch=hatch))
    text = ax.text(x, y, f"{100 * share:.{digits}f}", ha="center", va="center", fontsize=8.5)
    text.set_color("white" if over and depth > 0.6 else theme.INK)
    if not over:  # a quiet ground, so that the hatching does not cross the figure
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.2})


def _two_lines(name: str) -> str:
    return "\n".join(str(name).removeprefix("week of ").rsplit(" ", 1))
