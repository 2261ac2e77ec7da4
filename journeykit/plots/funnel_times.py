"""Charts of how fast people go through a funnel, and how its conversion moves."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from journeykit import present
from journeykit.funnel_spells import WHOLE
from journeykit.plots import theme
from journeykit.plots.funnels import LETTER, beside, framed, percent, wrapped

CURVES_SHOWN = 6
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))  # told apart in grey print
_TICKS = (1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800, 2_592_000, 31_536_000)
_NAMES = ("1 s", "10 s", "1 min", "10 min", "1 h", "6 h", "1 day", "7 days", "30 days", "365 days")
_STEPS = (1, 2, 3, 5, 6, 7, 10, 12, 14, 15, 20, 24, 30, 60, 90, 120, 180, 365)


def times(table: pd.DataFrame) -> Axes:
    """Draw how long each step takes: median, middle half and slowest tenth of those who went on, half of all beside it.

    Needs the table of `funnel_times.times`.
    """
    rows = table.to_dict("records")
    labels = [_part(row) for row in rows]
    tall = max(0.56, *[0.1 + 0.165 * (label.count("\n") + 1) for label in labels])
    ax = framed(labels, height=0.9 + tall * len(rows), right=2.25)
    for k, row in enumerate(rows):
        if row["part"] == WHOLE and k:
            ax.axhline(k - 0.5, color=theme.GRID, linewidth=1)
        if not present.missing(row["median_days"]):
            p25, p50, p75, p90 = (_seconds(row[f"{name}_days"]) for name in ("p25", "median", "p75", "p90"))
            ax.plot([p25, p90], [k, k], color=theme.MAIN, linewidth=1.3)
            ax.plot([p90], [k], "|", color=theme.MAIN, markersize=10, markeredgewidth=1.5)
            ax.plot([p25, p75], [k, k], color=theme.MAIN, linewidth=9, alpha=0.45, solid_capstyle="butt")
            ax.plot([p50], [k], "o", color=theme.MAIN, markersize=7.5)
        if not present.missing(row["half_days"]):
            half = _seconds(row["half_days"])
            ax.plot([half], [k], "D", color=theme.INK, markerfacecolor="white", markersize=6.5, markeredgewidth=1.4)
        beside(ax, k, *_said(row))
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.set_xlim(low, high)
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS if low <= tick <= high]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _NAMES[int(np.argmin(np.abs(np.array(_TICKS) - x)))]))
    ax.set_yticks(range(len(rows)), labels)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    ax.set_xlabel(
        "Time (logarithmic scale). Of those who went on: dot, median; bar, middle half; end,\n"
        "nine in ten. Diamond: by then half of all have gone on, those still under way included"
    )
    return ax


def curves(table: pd.DataFrame) -> Axes:
    """Draw the share converted by time, with its band, and under the axis how many each point still rests on.

    Needs the table of `funnel_times.conversion_curve`, of all or of segments (the six largest are drawn).
    """
    table = table if "segment" in table else table.assign(segment="")
    shown = list(dict.fromkeys(table["segment"]))[:CURVES_SHOWN]
    table = table[table["segment"].isin(shown)]
    longest = float(table["after_days"].max())
    scale, unit = (1.0, "days") if longest > 2 else (24.0, "hours") if longest > 2 / 24 else (1440.0, "minutes")
    table = table.assign(time=table["after_days"] * scale)
    names = {name: wrapped(name, 22) for name in shown}
    right = 0.35 + 1.1 * LETTER * _widest([*names.values(), "100.0 %"])
    ax = framed([*names.values(), "100.0 %" * 2], height=3.6, right=right)
    ends = []
    for name, colour, line in zip(shown, theme.COLOURS, LINES, strict=False):
        part = table[table["segment"] == name]
        low, high, last = part["converted_share_low"], part["converted_share_high"], part.iloc[-1]
        ax.fill_between(part["time"], low, high, step="post", color=colour, alpha=0.16, linewidth=0)
        ax.step(part["time"], part["converted_share"], where="post", color=colour, linewidth=1.9, linestyle=line)
        said = present.share(last["converted_share"])
        ends.append((float(last["converted_share"]), f"{names[name]}\n{said}" if name else said, colour))
    top = max(float(table["converted_share_high"].max()), 0.01)
    ends.sort(key=lambda end: (end[0], end[1]))
    places = _apart(ends, 0.052 * top, top)
    for place, (_, text, colour) in zip(places, ends, strict=True):
        style: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
        ax.annotate(text, (1, place), (7, 0), color=colour, fontsize=8.5, fontweight="bold", **style)
    ax.set(xlim=(0, longest * scale), ylim=(0, top * 1.04))
    ax.yaxis.set_major_formatter(percent(ax.get_ylim()[1]))
    ax.set_ylabel("Converted (band: 95 %)")
    ax.grid(axis="y")
    _under(ax, table, shown, unit)
    return ax


def trend(table: pd.DataFrame) -> Axes:
    """Draw conversion by the period in which people came in; a hollow dot still waits for some of them.

    Needs the table of `funnel_trend.trend`.
    """
    rows = table.reset_index(drop=True)
    ax = theme.axes(width=8.2, height=3.5)
    share, low, high = (rows[f"converted_share{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    place, mature = np.arange(len(rows)), rows["is_mature"].to_numpy(bool)
    ax.errorbar(place, share, yerr=theme.reach(share, low, high), fmt="none", ecolor=theme.MAIN, elinewidth=1.1)
    ax.plot(place[mature], share[mature], "-", color=theme.MAIN, linewidth=1.6)
    ax.plot(place[mature], share[mature], "o", color=theme.MAIN, markersize=6.5)
    if not mature.all():
        ax.plot(place[~mature], share[~mature], "o", color=theme.MAIN, markerfacecolor="white", markersize=6.5)
    top = float(np.nanmax(high)) if np.isfinite(high).any() else 1.0
    ax.set(xlim=(-0.5, len(rows) - 0.5), ylim=(0, max(top, 0.01) * 1.08))
    every = max(1, -(-len(rows) // 9))
    ticks = [k for k in range(len(rows)) if k % every == 0]
    names = ["\n".join(str(name).removeprefix("week of ").rsplit(" ", 1)) for name in rows["period"]]
    names = [f"{name}\nn = {present.count(n)}" for name, n in zip(names, rows["n"], strict=True)]
    ax.set_xticks(ticks, [names[k] for k in ticks])
    ax.yaxis.set_major_formatter(percent(ax.get_ylim()[1]))
    ax.set_ylabel("Converted (line: 95 % interval)")
    week = " (first day of the week)" if str(rows["period"].iloc[0]).startswith("week") else ""
    hollow = "; hollow: still rising, the time of some is not over" if not mature.all() else ""
    ax.set_xlabel(f"When they came in{week}{hollow}")
    ax.grid(axis="y")
    return ax


def _part(row: dict[Any, Any]) -> str:
    name = f"{row['from_step']} → {row['to_step']}"
    return wrapped(f"Whole funnel: {name}" if row["part"] == WHOLE else name, 36)


def _said(row: dict[Any, Any]) -> tuple[str, str]:
    median = "too few went on" if present.missing(row["median_days"]) else f"median {_span(row['median_days'])}"
    if present.missing(row["half_days"]):
        known = not present.missing(row["gone_on_share"])
        return median, "half of all: not reached" + (f" ({present.share(row['gone_on_share'])})" if known else "")
    return median, f"half of all: {_span(row['half_days'])}"


def _span(days: float) -> str:
    return present.seconds(86_400 * days)


def _seconds(days: float) -> float:
    return max(86_400 * float(days), 1.0)  # a logarithm knows no 0


def _apart(ends: list[tuple[float, str, str]], line: float, top: float) -> list[float]:
    """Move sorted labels apart so that they do not touch, and below the top; `line` is the height of a line of them."""
    placed: list[float] = []
    half = [(text.count("\n") + 1.3) / 2 * line for _, text, _ in ends]
    for k, (value, _, _) in enumerate(ends):
        placed.append(value if not k else max(value, placed[-1] + half[k - 1] + half[k]))
    limit = top
    for k in range(len(ends) - 1, -1, -1):
        placed[k] = min(placed[k], limit - half[k])
        limit = placed[k] - half[k]
    return placed


def _widest(labels: list[str]) -> int:
    return max(len(line) for label in labels for line in label.splitlines() or [""])


def _under(ax: Axes, table: pd.DataFrame, shown: list[str], unit: str) -> None:
    """Write the ticks of the time axis, and under them the units still at risk, one row a segment."""
    last = float(table["time"].max())
    step = next((s for s in _STEPS if last / s <= 8), max(1, int(last // 8)))
    ticks = np.arange(0, last * (1 + 1e-9), step if last >= 1 else last / 5)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in np.round(ticks, 2)])
    since = "the step before" if table.attrs.get("part") else "the first entry"
    ax.set_xlabel(f"Time since {since} ({unit}); below: how many each point still rests on")
    down, under = 0.56, ax.get_xaxis_transform()  # inches below the axis
    tall = cast(Figure, ax.figure).get_figheight() * 0.77
    for name, colour in zip(shown, theme.COLOURS, strict=False):
        part, label = table[table["segment"] == name], wrapped(name, 22)
        if name:
            style: Any = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "top"}
            ax.annotate(label, (0, -down / tall), (-22, 0), fontsize=8, color=colour, **style)
        for tick in ticks:
            known = part[part["time"] >= tick - 1e-9]
            if len(known):
                text = present.count(known["at_risk_n"].iloc[0])
                ax.text(tick, -down / tall, text, transform=under, fontsize=8, color=colour, va="top", ha="center")
        down += 0.06 + 0.135 * (label.count("\n") + 1)
