"""Charts of staying and leaving: curves with the people at risk, leaving over tenure, reasons, silences."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from journeykit.plots import theme

MOST = 6  # curves that one figure can carry
REST = "all others"


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


def smoothed(table: pd.DataFrame) -> Axes:
    """Draw the chance of leaving over tenure as a smooth line with its band.

    Needs the table of `hazard.smoothed`.
    """
    ax = theme.axes(height=3.2)
    if table.empty:
        return ax
    day, low, high = (table[name].to_numpy(float) for name in ("day", "leaving_share_low", "leaving_share_high"))
    ax.fill_between(day, low, high, color=theme.MAIN, alpha=0.18, linewidth=0)
    ax.plot(day, table["leaving_share"], color=theme.MAIN, linewidth=1.8)
    per = float(table.attrs.get("per_days", 30))
    ax.set(xlabel="days since the start", ylabel=f"chance of leaving in the next {per:g} days")
    # A wide band at an end would press the line to the axis.
    ax.set(xlim=(0, float(day.max())), ylim=(0, min(1.0, float(high.max()), 2.2 * float(table["leaving_share"].max()))))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(axis="y", color=theme.GRID, linewidth=0.7)
    return ax


def reasons(table: pd.DataFrame) -> Axes:
    """Draw the share that has left for each reason, one on top of the other; what is left above is still there.

    Needs the table of `reasons.incidence`. The five most frequent reasons are drawn, the rest as one.
    """
    ax = theme.axes(height=3.6)
    if table.empty:
        return ax
    wide = table.pivot_table(index="day", columns="reason", values="left_share")
    names = list(dict.fromkeys(table["reason"]))
    shown = names if len(names) < MOST else names[: MOST - 1]
    if len(shown) < len(names):
        wide = wide[shown].assign(**{REST: wide.drop(columns=shown).sum(axis=1)})
        shown = [*shown, REST]
    day, below, middles = wide.index.to_numpy(float), np.zeros(len(wide)), []
    for name, colour in zip(shown, theme.COLOURS, strict=False):
        top = below + wide[name].to_numpy(float)
        ax.fill_between(day, below, top, step="post", color=colour, alpha=0.75, linewidth=0)
        middles.append((float(below[-1] + top[-1]) / 2, name, colour, float(top[-1] - below[-1])))
        below = top
    last, height = float(day.max()), max(float(below.max()) * 1.15, 0.02)
    places = _spread([middle / height for middle, *_ in middles], 0.075)
    for place, (_, name, colour, share) in zip(places, middles, strict=True):
        text = f"{name} {100 * share:.1f} %"
        ax.text(last * 1.015, place * height, text, color=colour, va="center", fontsize=9, fontweight="bold")
    ax.set(xlim=(0, max(last, 1)), ylim=(0, height), xlabel="days since the start", ylabel="share that has left")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(axis="y", color=theme.GRID, linewidth=0.7)
    return ax


def reactivation(table: pd.DataFrame) -> Axes:
    """Draw who still comes back after so many days of silence, with the silence that counts as leaving.

    Needs the table of `quiet.reactivation_curve`.
    """
    ax = theme.axes(height=3.6)
    if table.empty:
        return ax
    day, low, high = (table[name].to_numpy(float) for name in ("quiet_days", "return_share_low", "return_share_high"))
    ax.fill_between(day, low, high, color=theme.MAIN, alpha=0.18, linewidth=0)
    ax.plot(day, table["return_share"], color=theme.MAIN, linewidth=1.8)
    top = min(1.0, float(high.max()) * 1.08)
    marks = [(float(table.attrs.get("quantile_days", np.nan)), theme.MUTED, ":", "95 % of completed silences")]
    chosen = table[table["chosen"]]
    marks += [(float(line["quiet_days"]), theme.CONTRAST, "--", "counts as gone") for _, line in chosen.iterrows()]
    for k, (at, colour, style, text) in enumerate(marks):
        if not np.isfinite(at) or at > day.max():
            continue
        back = float(np.interp(at, day, table["return_share"].to_numpy(float)))
        ax.vlines(at, 0, back, color=colour, linestyle=style, linewidth=1.2)
        ax.plot([at], [back], "o", color=colour, markersize=5)
        label = f"{text}: {at:.0f} days, {100 * back:.0f} % still come back"
        ax.text(0.99, 0.97 - 0.09 * k, label, transform=ax.transAxes, color=colour, fontsize=8.5, ha="right", va="top")
    within = float(table["within_days"].iloc[0])
    ax.set(xlim=(0, float(day.max())), ylim=(0, top), xlabel="days of silence so far")
    ax.set_ylabel(f"share that comes back within {within:g} days")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(axis="y", color=theme.GRID, linewidth=0.7)
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
