"""Charts of funnels."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from journeykit import present
from journeykit.plots import theme

SEGMENTS_SHOWN = 10


def funnel(table: pd.DataFrame) -> Axes:
    """Draw the share of the start that reaches each step, with its interval, and what is lost between steps."""
    ax = theme.axes(height=0.9 + 0.62 * len(table))
    rows = range(len(table))
    ax.barh(rows, table["share_of_start"], color=theme.MAIN, height=0.5)
    errors = theme.reach(table["share_of_start"], table["share_of_start_low"], table["share_of_start_high"])
    ax.errorbar(table["share_of_start"], rows, xerr=errors, fmt="none", ecolor=theme.INK, elinewidth=1.2, capsize=3)
    worst = table["share_of_previous"].idxmin() if table["share_of_previous"].notna().any() else -1
    for k, row in enumerate(table.to_dict("records")):
        right = row["share_of_start"] if present.missing(row["share_of_start_high"]) else row["share_of_start_high"]
        text = f"{present.share(row['share_of_start'])}  (n = {present.count(row['n'])})"
        ax.text((0 if present.missing(right) else right) + 0.012, k, text, va="center", fontsize=9, color=theme.INK)
        if k and not present.missing(row["share_of_previous"]):
            lost = f"−{present.share(1 - row['share_of_previous'])} of the previous step"
            colour, weight = (theme.CONTRAST, "bold") if k == worst else (theme.MUTED, "normal")
            ax.text(0.006, k - 0.5, lost, va="center", fontsize=8, color=colour, fontweight=weight)
    ax.set_yticks(rows, [_short(step) for step in table["step"]])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.3)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.set_xlabel("Share of those who took the first step (95 % interval)")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def segments(table: pd.DataFrame) -> Axes:
    """Draw the share of each segment that reaches the last step, with its interval: the ten largest, best first."""
    start_n = table.groupby("segment")["n"].transform("max")
    ends = table.assign(start_n=start_n)[table["step_number"] == table["step_number"].max()]
    ends = ends.sort_values(["start_n", "segment"], ascending=[False, True]).head(SEGMENTS_SHOWN)
    ends = ends.sort_values(["share_of_start", "segment"], ascending=[False, True]).reset_index(drop=True)
    ax = theme.axes(height=1.1 + 0.36 * len(ends))
    errors = theme.reach(ends["share_of_start"], ends["share_of_start_low"], ends["share_of_start_high"])
    ax.errorbar(ends["share_of_start"], ends.index, xerr=errors, fmt="o", color=theme.MAIN, elinewidth=1.6, capsize=3)
    labels = [f"{_short(r['segment'])}  (n = {present.count(r['start_n'])})" for r in ends.to_dict("records")]
    ax.set_yticks(range(len(ends)), labels)
    ax.invert_yaxis()
    ax.margins(y=0.12)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.set_xlabel(f"Share that reaches {_short(str(table['step'].iloc[-1]), 40)} (95 % interval)")
    ax.grid(axis="x")
    return ax


def conversion_curve(table: pd.DataFrame) -> Axes:
    """Draw the share converted by time since the first entry, with its band."""
    ax = theme.axes()
    longest = float(table["after_days"].max())
    scale, unit = (1.0, "days") if longest > 2 else (24.0, "hours") if longest > 2 / 24 else (1440.0, "minutes")
    time = table["after_days"] * scale
    ax.fill_between(
        time,
        table["converted_share_low"],
        table["converted_share_high"],
        step="post",
        color=theme.MAIN,
        alpha=0.2,
        lw=0,
    )
    ax.step(time, table["converted_share"], where="post", color=theme.MAIN, lw=1.8)
    last = table.iloc[-1]
    ax.annotate(
        present.share(last["converted_share"]),
        (time.iloc[-1], last["converted_share"]),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=theme.MAIN,
    )
    ax.set_xlim(0, time.iloc[-1])
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.set_xlabel(f"Time since the first entry ({unit})")
    ax.set_ylabel("Converted (95 % band)")
    ax.grid(axis="y")
    return ax


def drop_offs(table: pd.DataFrame) -> Axes:
    """Draw what came next for those who stopped at the step where most stopped."""
    step = table.sort_values(["stopped_n", "step_number"], ascending=[False, True])["step"].iloc[0]
    rows = table[table["step"] == step].reset_index(drop=True)
    ax = theme.axes(height=1.1 + 0.36 * len(rows))
    errors = theme.reach(rows["share"], rows["share_low"], rows["share_high"])
    ax.barh(rows.index, rows["share"], color=theme.MAIN, height=0.55)
    ax.errorbar(rows["share"], rows.index, xerr=errors, fmt="none", ecolor=theme.INK, elinewidth=1.2, capsize=3)
    ax.set_yticks(range(len(rows)), [_short(value) for value in rows["next_step"]])
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.set_xlabel(f"Share of those who stopped at {_short(str(step), 40)} (95 % interval)")
    ax.grid(axis="x")
    return ax


def _short(text: str, length: int = 28) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
