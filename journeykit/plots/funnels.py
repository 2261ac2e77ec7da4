"""Charts of funnels: the steps and what is lost between them, segments, and their differences."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, cast

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from journeykit import present
from journeykit.plots import theme
from journeykit.readings.funnels import leak

SEGMENTS_SHOWN = 10
WIDE = 8.2  # inches: labels, chart and figures beside it together
LETTER = 0.073  # inches that a letter of a label takes
SURE = 0.05  # an adjusted p-value below it is drawn as a difference
LOUD = "#a5304a"  # the contrast colour, dark enough for small letters in grey print


def funnel(table: pd.DataFrame) -> Axes:
    """Draw the share of the start that reaches each step, with its interval, and what is lost between steps.

    Needs the table of `funnels.count` (or of one segment). Optional steps are hatched; the largest leak is in bold.
    """
    rows = table.to_dict("records")
    labels = [wrapped(row["step"] + (" (optional)" if row.get("optional") else ""), 26) for row in rows]
    ax = framed(labels, height=0.75 + 0.72 * len(rows), right=2.3)
    found = leak(table)
    worst = found["step_number"] if found else 0
    widest = max([1.0, *[row["share_of_start"] for row in rows if not present.missing(row["share_of_start"])]])
    before: dict[Any, Any] = {}
    for k, row in enumerate(rows):
        share = 0.0 if present.missing(row["share_of_start"]) else float(row["share_of_start"])
        optional = bool(row.get("optional"))
        ax.barh(k, widest, height=0.5, color=theme.GRID, alpha=0.38, linewidth=0)
        face, hatch = ("#dbe7f0", "////") if optional else (theme.MAIN, "")
        with mpl.rc_context({"hatch.linewidth": 0.7}):
            ax.barh(k, share, height=0.5, facecolor=face, edgecolor=theme.MAIN, hatch=hatch, linewidth=0.6)
        if k and not present.missing(row["share_of_start_low"]):
            whisker(ax, share, row["share_of_start_low"], row["share_of_start_high"], k)
        if k:
            _between(ax, k, row, before, worst)
        _figures(ax, k, row)
        before = before if optional else {**row, "place": k, "share": share}
    ax.set_yticks(range(len(rows)), labels)
    ax.set(xlim=(0, widest), ylim=(len(rows) - 0.55, -0.45))
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    start = "any step" if "entered_n" in table or str(rows[0]["step"]).startswith("any 1 of ") else "the first step"
    ax.set_xlabel(f"Share of those who took {start} (line: 95 % interval)" + _waiting(rows))
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def segments(table: pd.DataFrame, *, together: bool = True) -> Axes:
    """Draw the share of each segment that reaches the last step, with its interval: the ten largest, best first.

    A dashed line is the share of all those shown, which says nothing where one of them holds another (`together`).
    """
    start_n = table.groupby("segment")["n"].transform("max")
    ends = table.assign(start_n=start_n)[table["step_number"] == table["step_number"].max()]
    ends = ends[ends["share_of_start"].notna()].sort_values(["start_n", "segment"], ascending=[False, True])
    ends = ends.head(SEGMENTS_SHOWN).sort_values(["share_of_start", "segment"], ascending=[False, True])
    rows = ends.to_dict("records")
    ax = framed(labels := [wrapped(row["segment"], 30) for row in rows], height=1.0 + 0.4 * len(rows), right=1.75)
    for k, row in enumerate(rows):
        whisker(ax, row["share_of_start"], row["share_of_start_low"], row["share_of_start_high"], k, theme.MAIN)
        ax.plot([row["share_of_start"]], [k], "o", color=theme.MAIN, markersize=6.5)
        beside(ax, k, present.share(row["share_of_start"]), f"of {present.count(row['start_n'])}")
    every = float(ends["n"].sum() / ends["start_n"].sum()) if len(ends) and ends["start_n"].sum() else 0.0
    if together:
        ax.axvline(every, color=theme.MUTED, linewidth=1, linestyle="--", zorder=0)
    _rows(ax, labels)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(percent(ax.get_xlim()[1]))
    last = textwrap.shorten(str(table["step"].iloc[-1]), 60, placeholder="…")
    ax.set_xlabel(f"Share that reaches {last}\n(line: 95 % interval{'; dashed: those shown together' * together})")
    return ax


def differences(table: pd.DataFrame) -> Axes:
    """Draw how much better or worse each segment converts than all others, with intervals, best first.

    Needs the table of `funnel_segments.compare`; the twelve largest segments. Filled: sure after Holm's correction.
    A diamond is the difference adjusted for another column, where the table has it.
    """
    shown = table.head(12).sort_values(["difference_points", "segment"], ascending=[False, True])
    rows = shown.to_dict("records")
    adjusted = "adjusted_points" in table.columns
    labels = [wrapped(row["segment"], 30) for row in rows]
    ax = framed(labels, height=1.05 + (0.56 if adjusted else 0.42) * len(rows), right=2.3)
    ax.axvline(0, color=theme.INK, linewidth=1)
    for k, row in enumerate(rows):
        sure = row["p_adjusted"] < SURE
        colour = (theme.MAIN if row["difference_points"] > 0 else theme.CONTRAST) if sure else theme.MUTED
        place = k - 0.14 if adjusted else k
        names = [f"difference_points{end}" for end in ("", "_low", "_high")]
        _difference(ax, [row[name] for name in names], place, colour, "o", colour if sure else "white")
        if adjusted and not present.missing(row["adjusted_points"]):
            names = [f"adjusted_points{end}" for end in ("", "_low", "_high")]
            _difference(ax, [row[name] for name in names], k + 0.18, theme.INK, "D", "white")
        value = f"{row['difference_points']:+.1f} points".replace("-", "−")
        bounds = present.interval(row["difference_points_low"], row["difference_points_high"])
        beside(ax, k, value, f"{bounds}; n = {present.count(row['n'])}", bold=sure)
    _rows(ax, labels)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:+.0f}".replace("-", "−") if x else "0"))
    diamond = "; diamond: adjusted" if adjusted else ""
    ax.set_xlabel(
        "Conversion against all others, percentage points\n"
        f"(line: 95 % interval; filled: sure when all are tested together{diamond})"
    )
    return ax


def wrapped(text: str, width: int) -> str:
    """Return a label in lines, so that none is cut.

    >>> wrapped("Basket with a very long name | quick buy", 20).splitlines()
    ['Basket with a very', 'long name | quick', 'buy']
    """
    return textwrap.fill(str(text), width)


def framed(labels: Sequence[str], height: float, right: float) -> Axes:
    """Return Axes with room for row labels at the left and for figures at the right, all `WIDE` inches together."""
    longest = max([len(line) for label in labels for line in label.splitlines()], default=0)
    ax = theme.axes(width=WIDE, height=height)
    figure = cast(Figure, ax.figure)
    figure.subplots_adjust(left=(0.25 + LETTER * longest) / WIDE, right=1 - right / WIDE)
    return ax


def percent(top: float) -> PercentFormatter:
    """Return the format of a percent axis: with a decimal only where ticks need it."""
    return PercentFormatter(1, decimals=0 if top > 0.06 else 1, symbol=" %")


def whisker(ax: Axes, value: float, low: float, high: float, y: float, colour: str = theme.INK) -> None:
    """Draw the interval of an estimate, with a light edge, so that it is seen on a bar too."""
    reach = theme.reach([value], [low], [high])
    ax.errorbar([value], [y], xerr=reach, fmt="none", ecolor="white", elinewidth=3.2, capsize=3.6, capthick=2.8)
    ax.errorbar([value], [y], xerr=reach, fmt="none", ecolor=colour, elinewidth=1.3, capsize=3)


def beside(ax: Axes, y: float, first: str, second: str, bold: bool = True) -> None:
    """Write an estimate and what it rests on at the right of a row."""
    weight = "bold" if bold else "normal"
    style: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    ax.annotate(first, (1, y), (9, 5.5), fontsize=9, color=theme.INK, fontweight=weight, **style)
    ax.annotate(second, (1, y), (9, -6), fontsize=8, color=theme.MUTED, **style)


def _figures(ax: Axes, k: int, row: dict[Any, Any]) -> None:
    bounds = present.interval(row["share_of_start_low"], row["share_of_start_high"], "share")
    said = [] if bounds == present.NONE or row["share_of_start"] == row["share_of_start_low"] else [bounds]
    said.append(f"n = {present.count(row['n'])}")
    waiting = int(row.get("open_n") or 0)
    said += [f"{present.count(waiting)} open"] if waiting else []
    beside(ax, k, present.share(row["share_of_start"]), "; ".join(said))


def _between(ax: Axes, k: int, row: dict[Any, Any], before: dict[Any, Any], worst: int) -> None:
    """Draw how the step before narrows to this one, and write what is lost."""
    share = 0.0 if present.missing(row["share_of_start"]) else float(row["share_of_start"])
    if row.get("optional"):
        taken = f"{present.share(row['share_of_previous'])} took this optional step"
        ax.text(0.012, k - 0.5, taken, va="center", fontsize=8.5, color=theme.MUTED)
        return
    if before["place"] == k - 1:
        corners = ([0, before["share"], share, 0], [k - 0.75, k - 0.75, k - 0.25, k - 0.25])
        ax.fill(*corners, color=theme.MAIN, alpha=0.1, linewidth=0)
    if present.missing(row["share_of_previous"]):
        return
    lost, top = 1 - row["share_of_previous"], row["step_number"] == worst
    since = f"since {before['step']}" if before["place"] < k - 1 else "of the step before"
    text = f"−{present.share(lost)} {since}: {present.count(row['lost_n'])} lost" + (
        ", the largest leak" if top else ""
    )
    colour = LOUD if top else theme.INK
    ax.text(0.012, k - 0.5, text, va="center", fontsize=8.5, color=colour, fontweight="bold" if top else "normal")


def _waiting(rows: list[dict[Any, Any]]) -> str:
    waiting = int(rows[0].get("open_n") or 0) if rows else 0
    return "\n(open: their time is not over yet; they are in no share)" if waiting else ""


def _difference(ax: Axes, values: list[float], y: float, colour: str, mark: str, face: str) -> None:
    whisker(ax, values[0], values[1], values[2], y, colour)
    size = 7 if mark == "o" else 5
    ax.plot([values[0]], [y], mark, color=colour, markerfacecolor=face, markersize=size, markeredgewidth=1.4)


def _rows(ax: Axes, labels: list[str]) -> None:
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
