"""Charts of staying and leaving: survival curves with the people at risk, leaving by tenure, hazard ratios."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from journeykit.plots import theme

MOST = 6  # curves that one figure can carry
RATIO_TICKS = (0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 1, 1.5, 2, 3, 5, 10, 20)


def curves(table: pd.DataFrame) -> Axes:
    """Draw survival curves with bands, and under the axis how many people each point still rests on.

    Needs the table of `curves.survival_curve`. The largest six segments are drawn; the table has all.
    """
    sizes = table.groupby("segment")["at_risk_n"].max().sort_values(ascending=False, kind="stable")
    shown = list(sizes.index[:MOST])
    ax = theme.axes(height=3.4 + 0.2 * len(shown))
    last = float(table["day"].max())
    ends: list[tuple[float, str, str]] = []
    for name, colour in zip(shown, theme.COLOURS, strict=False):
        part = table[table["segment"] == name]
        low, high = part["survival_share_low"], part["survival_share_high"]
        ax.fill_between(part["day"], low, high, step="post", color=colour, alpha=0.18, linewidth=0)
        ax.step(part["day"], part["survival_share"], where="post", color=colour, linewidth=1.8)
        ends.append((float(part["survival_share"].iloc[-1]), name, colour))
    if len(shown) > 1:
        places = _spread([share for share, _, _ in sorted(ends)], 0.065)
        for place, (_, name, colour) in zip(places, sorted(ends), strict=True):
            ax.text(last * 1.015, place, name, color=colour, va="center", fontsize=9, fontweight="bold")
    ax.set(xlim=(0, max(last, 1)), ylim=(0, 1.02), xlabel="days since the start", ylabel="share still there")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(axis="y", color=theme.GRID, linewidth=0.7)
    _at_risk(ax, table, shown)
    return ax


def leaving(table: pd.DataFrame) -> Axes:
    """Draw the chance of leaving in each period of tenure, with intervals and the number of leavers.

    Needs the table of `hazard.leaving_by_tenure`.
    """
    ax = theme.axes(height=3.2)
    if table.empty:
        return ax
    middle = ((table["from_day"] + table["to_day"]) / 2).to_numpy(float)
    share, low, high = (table[f"leaving_share{side}"].to_numpy(float) for side in ("", "_low", "_high"))
    ax.errorbar(middle, share, yerr=[share - low, high - share], fmt="o", color=theme.MAIN, capsize=3, linewidth=1.4)
    width = float((table["to_day"] - table["from_day"]).iloc[0])
    ax.set_xticks(np.arange(0, float(table["to_day"].max()) + 1, width * max(1, len(table) // 10)))
    ax.set(xlabel="days since the start", ylabel=f"chance of leaving within {width:.0f} days")
    ax.set_ylim(0, min(1.0, float(high.max()) * 1.08))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(axis="y", color=theme.GRID, linewidth=0.7)
    return ax


def forest(table: pd.DataFrame) -> Axes:
    """Draw hazard ratios with intervals on a log axis, the strongest at the top, 1 (no difference) as a line.

    Needs the table of `cox.cox`.
    """
    order = np.log(table["hazard_ratio"]).abs().sort_values(kind="stable").index[-12:]
    part = table.loc[order]
    ax = theme.axes(height=1.3 + 0.45 * len(part))
    place = np.arange(len(part))
    ratio, low, high = (part[f"hazard_ratio{side}"].to_numpy(float) for side in ("", "_low", "_high"))
    ax.axvline(1, color=theme.MUTED, linewidth=1, linestyle="--")
    ax.errorbar(ratio, place, xerr=theme.reach(ratio, low, high), fmt="o", color=theme.MAIN, capsize=3, linewidth=1.4)
    for y, (value, bottom, top) in enumerate(zip(ratio, low, high, strict=True)):
        text = f"{value:.2f} ({bottom:.2f}–{top:.2f})"
        ax.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    labels = [
        f"{name}\n({count:,} of {n:,})"
        for name, count, n in zip(part["label"], part["people_with_n"], part["n"], strict=True)
    ]
    ax.set_yticks(place, labels)
    ax.set_xscale("log")
    left, right = min(0.5, float(low.min()) * 0.9), max(2.0, float(high.max()) * 1.1)
    ax.set(xlim=(left, right), ylim=(-0.6, len(part) - 0.4), xlabel="hazard ratio (1 = leaves as fast as without)")
    ax.set_xticks([tick for tick in RATIO_TICKS if left <= tick <= right])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.minorticks_off()
    return ax


def days_kept(table: pd.DataFrame) -> Axes:
    """Draw how many days more or fewer people with each covariate stay, the largest difference at the top.

    Needs the table of `cox.days_kept`.
    """
    order = table["difference_days"].abs().sort_values(kind="stable").index[-12:]
    part = table.loc[order]
    ax = theme.axes(height=1.3 + 0.45 * len(part))
    gap, low, high = (part[f"difference_days{side}"].to_numpy(float) for side in ("", "_low", "_high"))
    place = np.arange(len(part))
    ax.axvline(0, color=theme.MUTED, linewidth=1, linestyle="--")
    ax.errorbar(gap, place, xerr=theme.reach(gap, low, high), fmt="o", color=theme.MAIN, capsize=3, linewidth=1.4)
    ax.set_yticks(place, list(part["label"]))
    horizon = float(part["horizon_days"].max())
    ax.set(ylim=(-0.6, len(part) - 0.4), xlabel=f"difference in days stayed within {horizon:.0f} days (with − without)")
    return ax


def _at_risk(ax: Axes, table: pd.DataFrame, shown: list[str]) -> None:
    """Write the number of people at risk under the ticks of the time axis, one row a segment."""
    last = float(table["day"].max())
    step = next((s for s in (1, 5, 10, 15, 30, 60, 90, 180, 365) if last / s <= 8), max(1, int(last // 8)))
    days = np.arange(0, last + 1e-9, step)
    ax.set_xticks(days)
    under = ax.get_xaxis_transform()
    ax.text(0, -0.2, "people at risk", transform=under, fontsize=8, color=theme.MUTED, va="top", ha="left")
    for row, (name, colour) in enumerate(zip(shown, theme.COLOURS, strict=False)):
        part = table[table["segment"] == name].set_index("day")["at_risk_n"]
        y = -0.27 - 0.055 * row
        if len(shown) > 1:
            ax.text(-0.035, y, name, transform=ax.transAxes, fontsize=8, color=colour, va="top", ha="right")
        for day in days:
            known = part[part.index >= day]
            if len(known):
                text = f"{int(known.iloc[0]):,}"
                ax.text(day, y, text, transform=under, fontsize=8, color=colour, va="top", ha="center")


def _spread(values: list[float], gap: float) -> list[float]:
    """Move sorted positions apart so that labels do not touch."""
    placed: list[float] = []
    for value in values:
        placed.append(value if not placed else max(value, placed[-1] + gap))
    over = placed[-1] - 1.0 if placed else 0.0
    return [place - max(0.0, over) for place in placed]
