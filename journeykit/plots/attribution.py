"""Figures of attribution: credit and cost by channel and model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from journeykit.plots import theme

MARKERS = ("o", "s", "D", "^", "v", "P")


def credit(table: pd.DataFrame, *, top: int = 12) -> Axes:
    """Draw the share of credit of each channel under each model, with intervals."""
    ax = _dots(table, "credit_share", 100, top)
    ax.set_xlabel("Share of credited conversions, % (lines: 95 % interval)")
    ax.set_xlim(left=0)
    return ax


def cost(table: pd.DataFrame, *, currency: str = "", top: int = 12) -> Axes:
    """Draw the cost for each credited conversion of each channel under each model, with intervals."""
    ax = _dots(table, "cost_per_conversion", 1, top)
    unit = f", {currency}" if currency else ""
    ax.set_xlabel(f"Spend for each credited conversion{unit} (lines: 95 % interval)")
    ax.set_xlim(left=0)
    return ax


def _dots(table: pd.DataFrame, name: str, scale: float, top: int) -> Axes:
    channels = list(dict.fromkeys(table["channel"]))[:top]
    models = list(dict.fromkeys(table["model"]))
    ax = theme.axes(height=1.1 + 0.55 * len(channels))
    spread = np.linspace(-0.24, 0.24, len(models)) if len(models) > 1 else np.zeros(1)
    for k, model in enumerate(models):
        rows = table[table["model"] == model].set_index("channel").reindex(channels)
        value, low, high = (scale * rows[f"{name}{end}"].to_numpy(dtype=float) for end in ("", "_low", "_high"))
        reach = theme.reach(value, low, high)
        ax.errorbar(
            value,
            np.arange(len(channels)) + spread[k],
            xerr=reach,
            fmt=MARKERS[k % len(MARKERS)],
            color=theme.COLOURS[k % len(theme.COLOURS)],
            markersize=5.5,
            elinewidth=1.2,
            label=model.capitalize() if model == "markov" else model,
        )
    for place in range(1, len(channels)):
        ax.axhline(place - 0.5, color=theme.GRID, linewidth=0.7, zorder=0)
    ax.set_yticks(range(len(channels)), channels)
    ax.set_ylim(len(channels) - 0.5, -0.5)
    ax.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=len(models), frameon=False, fontsize=8.5, handletextpad=0.2
    )
    return ax
