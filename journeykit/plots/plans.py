"""Charts of planned against actual."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from journeykit import present
from journeykit.alignment import EXTRA, OUT_OF_ORDER, REPEATED, SKIPPED
from journeykit.plans import LATE
from journeykit.plots import theme

SHOWN = 14
LIGHT = "#b9cfe0"
# Shapes as well as colours, for grey print.
_LOOKS = {
    SKIPPED: (theme.CONTRAST, "o", "white"),
    OUT_OF_ORDER: (theme.WARN, "D", theme.WARN),
    REPEATED: (theme.MAIN, "s", theme.MAIN),
    EXTRA: (theme.MUTED, "P", theme.MUTED),
    LATE: (theme.COLOURS[4], ">", theme.COLOURS[4]),
}


def plan_share(table: pd.DataFrame) -> Axes:
    """Draw of each group the share on plan, and the share without a deviation as far as it went."""
    rows = table.reset_index(drop=True)
    ax = theme.axes(height=1.5 + 0.52 * len(rows))
    for name, colour, height in (("so_far_share", LIGHT, 0.62), ("on_plan_share", theme.MAIN, 0.34)):
        reach = theme.reach(rows[name], rows[f"{name}_low"], rows[f"{name}_high"])
        ax.barh(rows.index, rows[name], color=colour, height=height)
        ax.errorbar(rows[name], rows.index, xerr=reach, fmt="none", ecolor=theme.INK, elinewidth=1.1, capsize=2.5)
    for k, row in enumerate(rows.to_dict("records")):
        same = row["on_plan_n"] == row["so_far_n"]
        text = present.share(row["so_far_share"]) if same else f"{present.share(row['on_plan_share'])} on plan"
        text += "" if same else f", {present.share(row['so_far_share'])} so far"
        end = max(row["so_far_share_high"], row["on_plan_share_high"])
        ax.text(end + 0.012, k, text, va="center", fontsize=8.5, color=theme.INK)
    named = [f"{group} (so far)" if group == "open" else group for group in rows["group"]]
    ax.set_yticks(range(len(rows)), [f"{g}\nn = {present.count(n)}" for g, n in zip(named, rows["n"], strict=True)])
    ax.invert_yaxis()
    ax.set_xlim(0, min(1.45, float(rows[["so_far_share_high", "on_plan_share_high"]].max().max()) + 0.36))
    ax.set_xticks([tick for tick in np.arange(0, 1.01, 0.2) if tick <= ax.get_xlim()[1] - 0.2])
    ax.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.set_xlabel("Share of journeys (95 % interval)", loc="left")
    told = [("on the plan to its end", theme.MAIN), ("without a deviation as far as it went", LIGHT)]
    ax.legend(handles=[Patch(color=c, label=t) for t, c in told], loc="lower left", bbox_to_anchor=(0, 1), ncols=2,
              fontsize=8.5, borderaxespad=0.2)  # fmt: skip
    return ax


def deviations(table: pd.DataFrame) -> Axes:
    """Draw how many journeys have each deviation, in the order of the plan, and beside it the gap in conversion.

    The most frequent ones are drawn, those outside the plan last. Without a gap there is one panel.
    """
    rows = table.head(SHOWN).assign(_extra=lambda part: part["kind"] == EXTRA)
    rows = rows.sort_values(["_extra", "step_number"], kind="stable", ignore_index=True)
    has_gap = "gap_points" in rows and bool(rows["gap_points"].notna().any())
    ax = theme.axes(width=8.2 if has_gap else 7.2, height=1.5 + 0.31 * len(rows), columns=2 if has_gap else 1)
    labels = [textwrap.shorten(str(step), 30, placeholder="…") for step in rows["step"]]
    at = np.arange(len(rows))
    _lollipops(ax, at, rows, "share", 0.0)
    for k, row in enumerate(rows.to_dict("records")):
        text = f"  {present.share(row['share'])}"
        ax.text(row["share_high"], k, text, va="center", fontsize=8, color=theme.MUTED)
    first = [label if k == 0 or label != labels[k - 1] else "" for k, label in enumerate(labels)]
    ax.set_yticks(at, first)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, float(rows["share_high"].max()) * 1.28)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %", decimals=0 if rows["share_high"].max() > 0.04 else 1))
    ax.set_xlabel(f"Share of {present.count(rows['n'].iloc[0])} finished journeys", loc="left")
    used = [kind for kind in _LOOKS if (rows["kind"] == kind).any()]
    ax.legend(handles=[_key(kind) for kind in used], loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=len(used),
              fontsize=8.5, borderaxespad=0.2, handletextpad=0.3, columnspacing=1.2)  # fmt: skip
    for k in range(1, len(rows)):
        if first[k]:
            ax.axhline(k - 0.5, color=theme.GRID, linewidth=0.7, zorder=0)
    if has_gap:
        _gaps(ax.figure.axes[1], at, rows, first)
    return ax


def kept(table: pd.DataFrame) -> Axes:
    """Draw the share that took each step within its limit."""
    rows = table.dropna(subset=["kept_share"]).reset_index(drop=True)
    ax = theme.axes(height=1.1 + 0.5 * max(len(rows), 1))
    reach = theme.reach(rows["kept_share"], rows["kept_share_low"], rows["kept_share_high"])
    ax.barh(rows.index, rows["kept_share"], color=theme.MAIN, height=0.5)
    ax.errorbar(rows["kept_share"], rows.index, xerr=reach, fmt="none", ecolor=theme.INK, elinewidth=1.2, capsize=3)
    for k, row in enumerate(rows.to_dict("records")):
        ax.text(row["kept_share_high"] + 0.012, k, present.share(row["kept_share"]), va="center", fontsize=9)
    named = [
        f"{r['step']} within {r['within']}\nafter {r['after']}, n = {present.count(r['n'])}"
        for r in rows.to_dict("records")
    ]
    ax.set_yticks(range(len(rows)), named)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, 1.12)
    ax.set_xticks(np.arange(0, 1.01, 0.2))
    ax.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.set_xlabel("Share of journeys in time (95 % interval)", loc="left")
    return ax


def _lollipops(ax: Axes, at: np.ndarray, rows: pd.DataFrame, name: str, start: float) -> None:
    for place, row in zip(at, rows.to_dict("records"), strict=True):
        colour, shape, fill = _LOOKS[row["kind"]]
        value = row[name]
        if present.missing(value):
            continue
        ax.plot(
            [start, value], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt", alpha=0.55, zorder=2
        )
        reach = theme.reach([value], [row[f"{name}_low"]], [row[f"{name}_high"]])
        ax.errorbar([value], [place], xerr=reach, fmt="none", ecolor=theme.INK, elinewidth=1, capsize=2.2, zorder=3)
        ax.plot(
            [value], [place], shape, color=colour, markerfacecolor=fill, markersize=6, markeredgewidth=1.4, zorder=4
        )


def _gaps(ax: Axes, at: np.ndarray, rows: pd.DataFrame, first: list[str]) -> None:
    """The second panel: how many percentage points fewer or more convert with it."""
    _lollipops(ax, at, rows, "gap_points", 0.0)
    bounds = rows[["gap_points_low", "gap_points_high"]].to_numpy(float)
    low, high = min(0.0, float(np.nanmin(bounds))), max(0.0, float(np.nanmax(bounds)))
    room = 0.12 * (high - low)
    ax.set_xlim(low - room, high + room)
    for place, row in zip(at, rows.to_dict("records"), strict=True):
        if present.missing(row["gap_points"]):
            at_left = -low > high
            ax.text(0.01 if at_left else 0.99, place, "not compared", va="center", ha="left" if at_left else "right",
                    fontsize=8, color=theme.MUTED, transform=ax.get_yaxis_transform())  # fmt: skip
    ax.axvline(0, color=theme.MUTED, linewidth=0.8)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel("Points of conversion, with it minus without", loc="left")
    for k in range(1, len(rows)):
        if first[k]:
            ax.axhline(k - 0.5, color=theme.GRID, linewidth=0.7, zorder=0)


def _key(kind: str) -> Any:
    colour, shape, fill = _LOOKS[kind]
    return Line2D([], [], color=colour, marker=shape, markerfacecolor=fill, markersize=6, linestyle="none", label=kind)
