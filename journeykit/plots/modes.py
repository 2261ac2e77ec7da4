"""A chart of one funnel by several rules of counting."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from journeykit import present
from journeykit.funnel_modes import NAMES, YOURS, digits, points
from journeykit.plots import theme


def modes(table: pd.DataFrame) -> Axes:
    """Draw the share that goes through by each rule, with its interval; the line and its band are your rules."""
    rows = table.to_dict("records")
    ax = theme.axes(height=1.15 + 0.42 * len(rows))
    mine = next(row for row in rows if row["mode"] == YOURS)
    ax.axvspan(mine["converted_share_low"], mine["converted_share_high"], color=theme.MAIN, alpha=0.12, lw=0)
    ax.axvline(mine["converted_share"], color=theme.MAIN, lw=1, ls=(0, (4, 3)))
    decimals = digits(float(table["converted_share"].max()))
    beside: dict[str, Any] = {"va": "center", "transform": ax.get_yaxis_transform(), "color": theme.INK}
    for k, row in enumerate(rows):
        own, apart = row["mode"] == YOURS, _apart(row)
        colour = theme.MAIN if own else theme.CONTRAST if apart else theme.MUTED
        share, low, high = (row[f"converted_share{side}"] for side in ("", "_low", "_high"))
        whole: dict[str, Any] = {
            "fmt": "D" if own else "o",
            "mfc": colour if own or apart else "white",
            "markersize": 7,
        }
        reach = theme.reach([share], [low], [high])
        ax.errorbar([share], [k], xerr=reach, color=colour, elinewidth=1.8, capsize=3.5, **whole)
        ax.text(1.13, k, present.share(share, decimals), ha="right", **beside)
        if not own:
            weight = "bold" if apart else "normal"
            ax.text(
                1.25,
                k,
                points(row["difference"], decimals).removesuffix(" points"),
                ha="right",
                fontweight=weight,
                **beside,
            )
    ax.text(1.13, -0.62, "share", ha="right", fontsize=8, **(beside | {"color": theme.MUTED}))
    ax.text(1.25, -0.62, "points", ha="right", fontsize=8, **(beside | {"color": theme.MUTED}))
    ax.set_yticks(range(len(rows)), [f"{NAMES[row['mode']]}  (n = {present.count(row['n'])})" for row in rows])
    ax.get_yticklabels()[0].set_fontweight("bold")
    ax.set_ylim(len(rows) - 0.4, -0.8)
    bottom = min(row["converted_share_low"] for row in rows)
    top = max(row["converted_share_high"] for row in rows)
    room = max(top - bottom, 0.01) * 0.12
    ax.set_xlim(max(0.0, bottom - room) if bottom > (top - bottom) else 0.0, min(1.0, top + room) + 1e-9)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0 if top - bottom > 0.05 else 1, symbol=" %"))
    ax.set_xlabel("Share that goes through (line: 95 % interval; filled and bold: differs from yours)")
    ax.grid(axis="x")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def _apart(row: dict[Any, Any]) -> bool:
    """Whether the interval of the difference leaves out 0."""
    return bool(not row["difference_low"] <= 0 <= row["difference_high"])
