"""Figures of the journey map and the Customer Journey Score."""

from __future__ import annotations

import textwrap

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from journeykit import present
from journeykit.plots import theme


def touchpoint_map(table: pd.DataFrame, *, min_answers: int = 30, per_stage: int = 6) -> Axes:
    """Draw stages as columns and touchpoints as circles: area is reach, colour is satisfaction.

    Touchpoints with fewer than `min_answers` answers are empty circles with a dashed outline, which reads on
    any background. The `per_stage` most reached ones are drawn.
    """
    shown = table.groupby("stage", sort=False).head(per_stage)
    stages = list(dict.fromkeys(shown["stage"]))
    rows = int(shown.groupby("stage").size().max())
    ax = theme.axes(width=max(7.2, 1.3 * len(stages)), height=1.15 + 1.12 * rows)
    norm = mpl.colors.Normalize(0, 1)
    for k, stage in enumerate(stages):
        head = textwrap.fill(str(stage), 14)
        ax.text(k, -0.62, head, ha="center", va="bottom", fontsize=9, fontweight="bold", color=theme.INK)
        ax.plot([k - 0.42, k + 0.42], [-0.56, -0.56], color=theme.GRID, linewidth=1.2)
        for y, (_, row) in enumerate(shown[shown["stage"] == stage].iterrows()):
            known = row["answers_n"] >= min_answers and not present.missing(row["satisfaction"])
            colour = theme.DIVERGING(norm(row["satisfaction"])) if known else "none"
            line = "solid" if known else (0, (3, 2))
            size = 1250 * float(row["reach_share"]) + 12
            ax.scatter(
                [k], [y - 0.08], s=size, c=[colour], edgecolors=theme.MUTED, linewidths=0.9, linestyles=[line], zorder=2
            )  # fmt: skip
            text = textwrap.fill(str(row["touchpoint"]), 13)
            ax.text(k, y + 0.25, text, ha="center", va="top", fontsize=7.6, color=theme.INK, linespacing=0.95)
            figures = present.share(row["reach_share"], 0) + (f" · {row['satisfaction']:.2f}" if known else "")
            below = y + 0.25 + 0.145 * (text.count("\n") + 1)
            ax.text(k, below, figures, ha="center", va="top", fontsize=7.2, color=theme.MUTED)
    ax.set(xlim=(-0.55, len(stages) - 0.45), ylim=(rows - 0.25, -0.85), xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_visible(False)
    scale = mpl.cm.ScalarMappable(norm=norm, cmap=theme.DIVERGING)
    bar = ax.figure.colorbar(scale, ax=ax, orientation="horizontal", fraction=0.025, pad=0.02, aspect=42, shrink=0.6)
    label = f"Satisfaction, 0–1 (empty circle: fewer than {min_answers} answers). Area and percentage: share of people"
    bar.set_label(label, fontsize=8, color=theme.INK)
    bar.ax.tick_params(labelsize=8, colors=theme.MUTED)
    bar.outline.set_visible(False)
    return ax


def stage_flow(table: pd.DataFrame) -> Axes:
    """Draw the share of people who moved on from each stage, with its interval."""
    ax = theme.axes(height=0.7 + 0.42 * len(table))
    y = np.arange(len(table))
    share, low, high = (100 * table[f"reached_share{end}"].to_numpy() for end in ("", "_low", "_high"))
    colours = [theme.MAIN if value == "a later stage" else theme.MUTED for value in table["next"]]
    ax.barh(y, share, color=colours, height=0.62)
    ax.errorbar(share, y, xerr=theme.reach(share, low, high), fmt="none", ecolor=theme.INK, elinewidth=1.1, capsize=2.5)
    for place, value, top, days in zip(range(len(table)), share, high, table["median_days"], strict=True):
        median = "" if present.missing(days) else f", median {present.days(days)}"
        ax.text(top + 1.5, place, f"{value:.1f} %{median}", va="center", fontsize=8.5, color=theme.INK)
    stages = zip(table["stage"], table["people_n"], table["next"], strict=True)
    labels = [f"{stage} ({present.count(n)})" + ("" if to == "a later stage" else "*") for stage, n, to in stages]
    ax.set_yticks(y, labels)
    ax.set(xlim=(0, 140), xticks=range(0, 101, 20), ylim=(len(table) - 0.4, -0.6))
    ax.spines["bottom"].set_bounds(0, 100)
    star = "; * came back after a day" if (table["next"] != "a later stage").any() else ""
    ax.set_xlabel(f"People who moved on to a later stage, % (in brackets: people{star})", loc="left")
    return ax


def journey_score(table: pd.DataFrame) -> Axes:
    """Draw what each stage adds to the score, one after the other, and the total with its interval."""
    stages = table[table["stage"] != "Total"].reset_index(drop=True)
    total = table[table["stage"] == "Total"].iloc[0]
    ax = theme.axes(height=0.9 + 0.4 * len(table))
    points = stages["points"].fillna(0).to_numpy()
    start = np.concatenate([[0], points.cumsum()[:-1]])
    right = max(float(total["points_high"]) if not present.missing(total["points_high"]) else 0, float(total["points"]))
    for k, row in stages.iterrows():
        place = int(str(k))
        if present.missing(row["points"]):
            text = "no score: too few answers" if "answers" in row["note"] else "no score: too recent"
            ax.text(start[place] + 0.01 * right, place, text, va="center", fontsize=8.5, color=theme.MUTED)
            continue
        end = start[place] + row["points"]
        ax.barh(place, row["points"], left=start[place], color=theme.MAIN, height=0.62)
        _whisker(ax, end, start[place] + row["points_low"], start[place] + row["points_high"], place)
        edge = float(np.nanmax([end, start[place] + row["points_high"]]))
        best = present.number(100 * row["weight_used"])
        label = f"{present.number(row['points'])} of {best}"
        ax.text(float(edge) + 0.012 * right, place, label, va="center", fontsize=8.5, color=theme.INK)
    last = len(stages)
    ax.barh(last, total["points"], color=theme.CONTRAST, height=0.62)
    _whisker(ax, total["points"], total["points_low"], total["points_high"], last)
    label = f"{present.number(total['points'])} of 100"
    ax.text(right * 1.012, last, label, va="center", fontsize=8.5, fontweight="bold", color=theme.INK)
    ax.set_yticks(range(last + 1), [*stages["stage"], "Total"])
    ax.set(xlim=(0, right * 1.18), ylim=(last + 0.6, -0.6))
    ax.set_xlabel("Points (each stage starts where the one above ends; lines: 95 % interval)")
    return ax


def response_bounds(table: pd.DataFrame) -> Axes:
    """Draw, for each stage, where satisfaction could lie if the silent were all unhappy or all happy."""
    ax = theme.axes(height=0.8 + 0.36 * len(table))
    y = np.arange(len(table))
    worst, best = table["satisfaction_if_silent_unhappy"], table["satisfaction_if_silent_happy"]
    ax.hlines(y, worst, best, color=theme.GRID, linewidth=7)
    ax.scatter(table["satisfaction"], y, color=theme.MAIN, s=38, zorder=3)
    ax.set_yticks(
        y,
        [
            f"{stage} ({present.share(share)} answered)"
            for stage, share in zip(table["stage"], table["answered_share"], strict=True)
        ],
    )
    ax.set(xlim=(0, 1), ylim=(len(table) - 0.5, -0.5))
    ax.set_xlabel("Satisfaction, 0–1 (dot: those who answered; band: all that is possible)")
    return ax


def _whisker(ax: Axes, value: float, low: float, high: float, y: float) -> None:
    reach = theme.reach([value], [low], [high])
    ax.errorbar([value], [y], xerr=reach, fmt="none", ecolor=theme.INK, elinewidth=1.1, capsize=2.5)
