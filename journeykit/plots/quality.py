"""Charts of what can be tied to somebody and of how journeys end."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from journeykit.plots import theme


def identified(table: pd.DataFrame) -> Axes:
    """Draw the share of events with a verified identity before and after stitching."""
    return shares(table, "moment", "identified_share", "share of events with a verified identity (%)")


def outcomes(table: pd.DataFrame) -> Axes:
    """Draw how journeys end, with intervals."""
    return shares(table, "outcome", "journeys_share", "share of journeys (%)")


def coverage(table: pd.DataFrame) -> Axes:
    """Draw the share of events that carry each identifier."""
    return shares(table, "identifier", "with_identifier_share", "share of events that carry the identifier (%)")


def shares(table: pd.DataFrame, label: str, share: str, axis: str) -> Axes:
    """Draw one bar per row with its interval and its value beside it."""
    ax = theme.axes(7.2, 0.42 * len(table) + 0.9)
    rows = list(range(len(table)))[::-1]
    values = 100 * table[share]
    errors = theme.reach(values, 100 * table[f"{share}_low"], 100 * table[f"{share}_high"])
    ax.barh(rows, values, color=theme.MAIN, height=0.62)
    ax.errorbar(values, rows, xerr=errors, fmt="none", ecolor=theme.INK, elinewidth=1.1, capsize=2.5)
    for row, value, high in zip(rows, values, 100 * table[f"{share}_high"], strict=True):
        ax.annotate(f"{value:.1f} %", (high, row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_yticks(rows, list(table[label]))
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0, max(10.0, float(100 * table[f"{share}_high"].max()) * 1.15))
    ax.set_xlabel(axis)
    return ax
