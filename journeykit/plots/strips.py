"""Single journeys side by side: a row for each, a block for each touch, grouped by outcome.

Made from a table of `strips.strips`. The values with most touches have a colour of their own, all others are grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from journeykit import present
from journeykit.plots import theme
from journeykit.plots.flow_layout import UNITS, width_of, wrapped
from journeykit.strips import ALL, RARE

# Paul Tol's "muted" scheme: blocks carry no name, so they must be told apart by readers with colour vision deficiency.
COLOURS = ["#332288", "#cc6677", "#ddcc77", "#44aa99", "#88ccee", "#882255", "#117733", "#aa4499"]
GREY = "#c8cdd3"
WIDTH, LOW, HIGH = 8.6, 0.16, 0.2  # inches: of the drawing, of a journey by order and by time
FEWEST = 20  # touches for which there is room, so that blocks do not grow into bars
FOOT = 0.5  # inches for the axis below
BLOCK = 0.74  # height of a block in rows
TITLE, BETWEEN = 1.1, 0.5  # rows above a group, for its name, and after it
TICK = 0.045  # width of a touch on the axis of time, which is 0 at the first touch and grows by 1 with a factor of 10
TIMES = {
    0: "start", 1: "1 min", 10: "10 min", 60: "1 h", 360: "6 h", 1440: "1 day", 10_080: "1 week",
    43_200: "30 days", 172_800: "120 days", 525_600: "1 year", 2_628_000: "5 years",
}  # fmt: skip


def by_order(table: pd.DataFrame) -> Axes:
    """Draw the touches of each journey as a row of blocks in their order."""
    ax, rows, colour = _frame(table, LOW)
    blocks = [
        (colour(row["value"]), row["number"] - 0.97, rows[row["strip"]] - BLOCK / 2, 0.94, BLOCK)
        for row in _records(table)
    ]
    _add(ax, blocks)
    last = table.groupby("strip", sort=True).tail(1)
    for row in _records(last[last["touches_n"] > last["number"]]):
        text = f"+ {present.count(row['touches_n'] - row['number'])}"
        ax.text(row["number"] + 0.2, rows[row["strip"]], text, va="center", fontsize=7, color=theme.MUTED)
    longest = int(table["number"].max())
    ax.set_xlim(0, max(FEWEST, longest + (1.5 if (last["touches_n"] > last["number"]).any() else 0)))
    step = next((step for step in (1, 2, 5, 10, 20, 50) if longest / step <= 12), 100)
    ticks = sorted({1, *range(step, longest + 1, step)})
    ax.set_xticks([tick - 0.5 for tick in ticks], [str(tick) for tick in ticks])
    ax.set_xlabel(f"Touch; {_sampled(table)}", loc="left")
    return ax


def by_time(table: pd.DataFrame) -> Axes:
    """Draw the touches of each journey at the time since its first; the axis is logarithmic after the first minute."""
    ax, rows, colour = _frame(table, HIGH)
    shown = table.assign(x=[_scaled(60 * hours) for hours in table["hours"]])
    ends = shown.groupby("strip", sort=True)["x"].max()
    lines = [[(0, rows[strip]), (x, rows[strip])] for strip, x in ends.items()]
    ax.add_collection(LineCollection(lines, colors=theme.GRID, linewidths=1.2, zorder=1))
    blocks = []
    for place in _records(shown.groupby(["strip", "x"], sort=True)["value"].agg(list).reset_index()):
        tall = BLOCK / len(place["value"])  # touches of the same minute share its place, the first above
        top = rows[place["strip"]] - BLOCK / 2
        blocks += [
            (colour(value), place["x"] - TICK / 2, top + k * tall, TICK, tall) for k, value in enumerate(place["value"])
        ]
    _add(ax, blocks)
    ax.set_xlim(-0.1, float(shown["x"].max()) + 0.1)
    ticks = [minutes for minutes in TIMES if _scaled(minutes) <= shown["x"].max() + 0.05]
    ax.set_xticks([_scaled(minutes) for minutes in ticks], [TIMES[minutes] for minutes in ticks])
    ax.grid(axis="x")
    ax.set_xlabel(f"Time since the first touch (logarithmic); {_sampled(table)}", loc="left")
    return ax


def _frame(table: pd.DataFrame, row: float) -> tuple[Axes, dict[Any, float], Callable[[Any], str]]:
    """The axes with the groups' names and the legend; the place of each strip; the colour of a value."""
    rows: dict[Any, float] = {}
    titles: list[tuple[float, str]] = []
    y = 0.0
    for outcome, strips in table.groupby("outcome", sort=False)["strip"]:
        names = list(dict.fromkeys(strips))
        title = "" if outcome == ALL else f"{str(outcome).capitalize()} ({len(names)} drawn)"
        if title:
            titles.append((y + 0.35, title))
            y += TITLE
        rows |= {name: y + 0.5 + k for k, name in enumerate(names)}
        y += len(names) + BETWEEN
    height = row * y
    ax = theme.axes(WIDTH, FOOT + height)
    ax.set_position((0, FOOT / (FOOT + height), 1, height / (FOOT + height)))
    ax.set_ylim(y, 0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    for place, title in titles:
        ax.text(0, place, title, transform=ax.get_yaxis_transform(), va="center", fontweight="bold", color=theme.INK)
    colours = _colours(table)
    _legend(ax, colours, bool(set(table["value"]) - set(colours)))
    return ax, rows, lambda value: colours.get(value, GREY)


def _colours(table: pd.DataFrame) -> dict[str, str]:
    """A colour for each of the values with most touches; what the table has summed up is grey."""
    counts = table["value"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    named = [value for value in table.attrs.get("values", counts.index) if value in counts.index and value != RARE]
    return dict(zip(named, COLOURS, strict=False))


def _legend(ax: Axes, colours: dict[str, str], with_grey: bool) -> None:
    names = {"\n".join(wrapped(value, 2.4)): colour for value, colour in colours.items()}
    names |= {"other": GREY} if with_grey else {}
    widest = 0.45 + max(width_of(line) for name in names for line in name.split("\n"))
    handles = [Patch(facecolor=colour, label=name) for name, colour in names.items()]
    look: dict[str, Any] = {"fontsize": 8.5, "handlelength": 1, "handleheight": 1, "labelcolor": theme.INK}
    look |= {"frameon": False, "loc": "lower left", "bbox_to_anchor": (-0.005, 1), "borderaxespad": 0.3}
    ax.legend(handles=handles, ncols=max(1, min(len(names), int(WIDTH / widest))), **look)


def _add(ax: Axes, blocks: list[tuple[str, float, float, float, float]]) -> None:
    """Add blocks (colour, left, top, width, height); those of a colour are one path, which keeps the file small."""
    for colour in dict.fromkeys(block[0] for block in blocks):
        corners: list[tuple[float, float]] = []
        for _, x, y, wide, tall in (block for block in blocks if block[0] == colour):
            corners += [(x, y), (x + wide, y), (x + wide, y + tall), (x, y + tall), (x, y)]
        moves = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * (len(corners) // 5)
        ax.add_patch(PathPatch(Path(corners, moves), facecolor=colour, linewidth=0, zorder=2))


def _sampled(table: pd.DataFrame) -> str:
    """How many are shown, and that it says nothing of how frequent an outcome is."""
    unit = UNITS.get(table.attrs.get("within", "journey"), "journeys")
    text = f"{present.count(table['strip'].nunique())} of {present.count(table.attrs.get('units_n'))} {unit}, by lot"
    return text + (", about as many of each outcome" if len(set(table["outcome"])) > 1 else "")


def _scaled(minutes: float) -> float:
    return math.log10(1 + minutes)


def _records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")
