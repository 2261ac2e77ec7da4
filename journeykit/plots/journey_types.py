"""Charts of types of journey."""

from __future__ import annotations

import textwrap

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from journeykit import present
from journeykit.clusters import STABLE
from journeykit.plots import theme

SHOWN = 14


def apart(table: pd.DataFrame) -> Axes:
    """Draw by how many points the journeys of each type have a value more, or less, often than all others."""
    types = list(dict.fromkeys(table["type"]))
    size = table.assign(size=table["difference"].abs()).groupby("value")["size"].max()
    values = list(size.sort_index().sort_values(ascending=False, kind="stable").index[:SHOWN])
    most = table.set_index(["value", "type"])["difference"]
    values.sort(key=lambda value: (types.index(most[value].idxmax()), -most[value].max()))
    ax = theme.axes(width=2.3 + 1.35 * len(types), height=1.3 + 0.34 * len(values))
    norm = mpl.colors.Normalize(-1, 1)
    sizes = table.drop_duplicates("type").set_index("type")["n"]
    for row in table[table["value"].isin(values)].to_dict("records"):
        x, y = types.index(row["type"]), values.index(row["value"])
        shade = float(row["difference"])
        ax.add_patch(
            mpl.patches.Rectangle(
                (x - 0.5, y - 0.5), 1, 1, facecolor=theme.DIVERGING(norm(shade)), edgecolor="white", linewidth=1.5
            )
        )
        ink = "white" if abs(shade) > 0.6 else theme.INK
        sure = row["difference_low"] > 0 or row["difference_high"] < 0
        text = f"{100 * shade:+.0f}".replace("-", "−") if sure else "·"
        ax.text(x, y, text, ha="center", va="center", fontsize=8.5, color=ink)
    heads = [f"{textwrap.fill(name, 17)}\n(n = {present.count(sizes[name])})" for name in types]
    ax.set_xticks(range(len(types)), heads, fontsize=8.5)
    ax.set_yticks(range(len(values)), [value if len(value) <= 26 else value[:25] + "…" for value in values])
    ax.set(xlim=(-0.5, len(types) - 0.5), ylim=(len(values) - 0.5, -0.5))
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    note = "Percentage points by which the type has it more (+) or less (−) often than all others; · : unsure"
    ax.annotate(
        textwrap.fill(note, 30 + 19 * len(types)), (0, 0), xycoords="axes fraction", xytext=(0, -6),
        textcoords="offset points", va="top", fontsize=8, color=theme.MUTED,
    )  # fmt: skip
    return ax


def choices(table: pd.DataFrame) -> Axes:
    """Draw how alike the types come out again, by their number; below the line they are no types."""
    ax = theme.axes(height=2.6)
    chosen = table["chosen"]
    ax.axhline(STABLE, color=theme.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    ax.plot(table["types_n"], table["agreement"], color=theme.GRID, linewidth=2, zorder=1)
    stable = table["stable"] & ~chosen
    for rows, colour, label in (
        (~table["stable"], theme.MUTED, ""),
        (stable, theme.MAIN, ""),
        (chosen, theme.GOOD, "chosen"),
    ):
        ax.scatter(table["types_n"][rows], table["agreement"][rows], color=colour, s=46, zorder=2)
        for x, y in zip(table["types_n"][rows], table["agreement"][rows], strict=True):
            ax.annotate(label, (x, y), xytext=(0, -14), textcoords="offset points", ha="center", fontsize=8.5)
    right = float(table["types_n"].max()) + 0.4
    ax.annotate("needed", (right, STABLE), ha="right", va="bottom", fontsize=8.5, color=theme.MUTED)
    ax.set(xlim=(float(table["types_n"].min()) - 0.4, right), ylim=(min(0, float(table["agreement"].min())), 1.06))
    ax.set_xticks(table["types_n"])
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.set_xlabel("Number of types")
    ax.set_ylabel("Come out alike again")
    return ax
