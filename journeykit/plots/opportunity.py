"""Charts of what leaks cost, and of what closing gaps could bring."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from journeykit import present
from journeykit.leaver_sides import words
from journeykit.plots import theme

ROWS = 10


def leaks(table: pd.DataFrame, *, currency: str = "") -> Axes:
    """Draw what those lost at each step would have brought at most, with its interval: money, or conversions."""
    name, unit = _measure(table, "orders_n", currency)
    rows = table.reset_index(drop=True)
    ax = theme.axes(height=1.1 + 0.5 * len(rows))
    colours = [theme.CONTRAST if i == rows[name].idxmax() else theme.MAIN for i in rows.index]
    ax.barh(rows.index, rows[name], color=colours, height=0.5)
    errors = theme.reach(rows[name], rows[f"{name}_low"], rows[f"{name}_high"])
    ax.errorbar(rows[name], rows.index, xerr=errors, fmt="none", ecolor=theme.INK, elinewidth=1.2, capsize=3)
    right = float(rows[f"{name}_high"].max())
    for position, row in enumerate(rows.to_dict("records")):
        note = f"{present.count(row['lost_n'])} lost ({present.share(row['lost_share'], 0)})"
        ax.text(row[f"{name}_high"] + 0.015 * right, position, note, va="center", fontsize=8.5, color=theme.INK)
    ax.set_yticks(
        rows.index, [f"{_short(row['step'])} →\n{_short(row['next_step'])}" for row in rows.to_dict("records")]
    )
    ax.invert_yaxis()
    ax.set_xlim(0, 1.3 * right if right > 0 else 1)
    _amounts(ax)
    ax.set_xlabel(f"At most, had all of them gone on like the others ({unit}, 95 % interval)")
    ax.grid(axis="x")
    return ax


def size(table: pd.DataFrame, *, currency: str = "") -> Axes:
    """Draw what closing the gaps could bring, the surest first, with the interval and the range of the assumption.

    Bar: if the stated share of those kept goes on; thin line: its 95 % interval; grey: from a quarter of them to all.
    """
    name, unit = _measure(table, "extra_n", currency)
    rows = table.head(ROWS).reset_index(drop=True)
    ax = theme.axes(height=1.4 + 0.5 * len(rows))
    kept = float(table.attrs.get("kept", 0.5))
    ax.barh(rows.index, rows[name] / kept, color=theme.GRID, height=0.56, label="if all of those kept go on")
    sure = [theme.MAIN if low > 0 else theme.MUTED for low in rows["extra_n_low"]]
    ax.barh(
        rows.index, rows[name], color=sure, height=0.34, label=f"if {present.share(kept, 0)} do (grey: may be nothing)"
    )
    errors = theme.reach(rows[name], rows[f"{name}_low"], rows[f"{name}_high"])
    ax.errorbar(rows[name], rows.index, xerr=errors, fmt="none", ecolor=theme.INK, elinewidth=1.2, capsize=3)
    right = float((rows[[f"{name}_high"]].max(axis=1)).max())
    right = max(right, float((rows[name] / kept).max()))
    for position, row in enumerate(rows.to_dict("records")):
        edge = max(row[name] / kept, row[f"{name}_high"])
        ax.text(edge + 0.015 * right, position, _rank(row), va="center", fontsize=8.5, color=theme.INK)
    labels = [f"{_short(row['step'], 22)} →\nby {_short(words(str(row['by'])), 22)}" for row in rows.to_dict("records")]
    ax.set_yticks(rows.index, labels)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.35 * right if right > 0 else 1)
    _amounts(ax)
    ax.set_xlabel(f"If the gaps between segments were closed ({unit}; line: 95 % interval)")
    ax.legend(loc="lower right", fontsize=8.5, frameon=False)
    ax.grid(axis="x")
    return ax


def _measure(table: pd.DataFrame, otherwise: str, currency: str) -> tuple[str, str]:
    """Money where there is any, else conversions."""
    return ("value", currency or "value") if table["value"].notna().all() else (otherwise, "conversions")


def _rank(row: dict[Any, Any]) -> str:
    share = row["top_three_share"]
    return "" if present.missing(share) else f"in the top three: {present.share(share, 0)}"


def _amounts(ax: Axes) -> None:
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: present.number(value, 0)))
    ax.xaxis.set_major_locator(MaxNLocator(6))


def _short(text: str, length: int = 28) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
