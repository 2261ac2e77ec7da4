"""Charts of prediction: models against the null, predicted against observed, whom calling reaches, risks, drift."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from journeykit.plots import theme

PERCENT = PercentFormatter(1, decimals=0)
STEPS = 25  # bars of the distribution of risks
TOLD = (0.1, 0.2, 0.5)  # shares called that the gain curve names


def models(table: pd.DataFrame) -> Axes:
    """Draw how much less error each model makes than one curve for everybody, with intervals.

    Needs the table of `contest.compare`.
    """
    part = table[table["skill_share"].notna()].iloc[::-1]
    ax = theme.axes(height=1.3 + 0.5 * len(part))
    place = np.arange(len(part))
    ax.axvline(0, color=theme.MUTED, linewidth=1, linestyle="--")
    for y, (_, line) in zip(place, part.iterrows(), strict=True):
        mine = line["chosen"] == "yes"
        sides = [line["skill_share"], line["skill_share_low"], line["skill_share_high"]]
        reach = theme.reach([sides[0]], [sides[1]], [sides[2]])
        style: Any = {"color": theme.MAIN if mine else theme.MUTED, "capsize": 3, "linewidth": 1.8 if mine else 1.2}
        ax.errorbar([sides[0]], [y], xerr=reach, fmt="o", **style)
        text = f"C = {line['uno_c']:.2f} ({line['uno_c_low']:.2f}–{line['uno_c_high']:.2f})"
        ax.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    ax.set_yticks(place, [f"{name}\n(chosen)" if is_it else name for name, is_it in _named(part)])
    days = f"{part['horizon_days'].iloc[0]:g}" if len(part) else ""
    ax.set(
        ylim=(-0.6, len(part) - 0.4),
        xlabel=f"less error than one curve for everybody (over {days} days; right = better)",
    )
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    ax.grid(axis="x", color=theme.GRID, linewidth=0.7)
    return ax


def calibration(table: pd.DataFrame) -> Axes:
    """Draw predicted against observed leaving, a point a band of risk, with intervals; on the line all is right.

    Needs the table of `contest.bands`.
    """
    ax = theme.axes(width=5.2, height=4.4)
    expected, observed = table["expected_share"].to_numpy(float), table["observed_share"].to_numpy(float)
    low, high = table["observed_share_low"].to_numpy(float), table["observed_share_high"].to_numpy(float)
    top = min(1.0, 1.08 * float(np.nanmax([*expected, *high])))
    ax.plot([0, top], [0, top], color=theme.MUTED, linewidth=1, linestyle="--")
    ax.text(
        0.98,
        0.04,
        "on the line: as many as predicted",
        transform=ax.transAxes,
        ha="right",
        color=theme.MUTED,
        fontsize=9,
    )
    ax.errorbar(expected, observed, yerr=theme.reach(observed, low, high), fmt="o", color=theme.MAIN, capsize=3,
                linewidth=1.3)  # fmt: skip
    ax.set(
        xlim=(0, top), ylim=(0, top), xlabel="predicted chance to leave (mean of the band)", ylabel="share that left"
    )
    ax.xaxis.set_major_formatter(PERCENT)
    ax.yaxis.set_major_formatter(PERCENT)
    ax.grid(color=theme.GRID, linewidth=0.7)
    return ax


def gain(table: pd.DataFrame) -> Axes:
    """Draw which share of the leavers calling those at highest risk reaches, against calling at random.

    Needs the table of `contest.gain`.
    """
    ax = theme.axes(width=6.0, height=4.0)
    x = np.concatenate([[0], table["called_share"], [1]])
    y, low, high = (
        np.concatenate([[0], table[f"reached_share{side}"], [1]]).astype(float) for side in ("", "_low", "_high")
    )
    ax.fill_between(x, low, high, color=theme.MAIN, alpha=0.18, linewidth=0)
    ax.plot(x, y, color=theme.MAIN, linewidth=1.8)
    ax.plot([0, 1], [0, 1], color=theme.MUTED, linewidth=1, linestyle="--")
    ax.text(0.72, 0.68, "at random", color=theme.MUTED, fontsize=9, va="top")
    told = table[[bool(np.isclose(share, TOLD).any()) for share in table["called_share"]]]
    ax.plot(told["called_share"], told["reached_share"], "o", color=theme.MAIN)
    for row, (called, reached) in enumerate(zip(told["called_share"][::-1], told["reached_share"][::-1], strict=True)):
        text = f"call {100 * called:.0f} %: reach {100 * reached:.0f} % of those who leave"
        ax.text(0.98, 0.05 + 0.075 * row, text, transform=ax.transAxes, ha="right", fontsize=9)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="people called, highest risk first", ylabel="leavers among them")
    ax.xaxis.set_major_formatter(PERCENT)
    ax.yaxis.set_major_formatter(PERCENT)
    ax.grid(color=theme.GRID, linewidth=0.7)
    return ax


def risks(table: pd.DataFrame) -> Axes:
    """Draw how the chance to leave is spread over the people on the list.

    Needs the table of `scores.ranked`.
    """
    ax = theme.axes(height=2.8)
    share = table["leaves_share"].to_numpy(float)
    width = max(0.01, np.ceil(float(share.max()) * 100 / STEPS) / 100)
    edges = np.arange(0, float(share.max()) + width, width)
    counts, _ = np.histogram(share, bins=edges)
    ax.bar(edges[:-1] + width / 2, counts, width=0.9 * width, color=theme.MAIN)
    middle = float(np.median(share))
    ax.axvline(middle, color=theme.CONTRAST, linewidth=1.4)
    ax.annotate(f"half are below {100 * middle:.0f} %", (middle, 1.0), xycoords=("data", "axes fraction"),
                xytext=(5, -2), textcoords="offset points", fontsize=9, color=theme.CONTRAST, va="top")  # fmt: skip
    days = f"{float(table['ahead_days'].iloc[0]):g}"
    ax.set(xlim=(0, edges[-1]), xlabel=f"chance to leave within {days} days", ylabel="people")
    ax.xaxis.set_major_formatter(PERCENT)
    ax.grid(axis="y", color=theme.GRID, linewidth=0.7)
    return ax


def drift(table: pd.DataFrame) -> Axes:
    """Draw how far each covariate moved since before, the largest on top, and from where on that is worth a look.

    Needs the table of `drift.changes`.
    """
    part = table.head(12).iloc[::-1]
    ax = theme.axes(height=1.1 + 0.4 * len(part))
    colours = [theme.CONTRAST if moved == "yes" else theme.MAIN for moved in part["moved"]]
    ax.barh(np.arange(len(part)), part["stability_index"], color=colours, height=0.6)
    ax.axvline(0.1, color=theme.MUTED, linewidth=1, linestyle="--")
    ax.annotate("worth a look", (0.1, 1.0), xycoords=("data", "axes fraction"), xytext=(4, 2),
                textcoords="offset points", fontsize=8.5, color=theme.MUTED)  # fmt: skip
    for y, value in enumerate(part["stability_index"]):
        ax.annotate(f"{value:.3f}", (value, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_yticks(np.arange(len(part)), list(part["label"]))
    ax.set(
        xlim=(0, max(0.25, 1.15 * float(part["stability_index"].max()))), xlabel="population stability index (0 = same)"
    )
    return ax


def _named(part: pd.DataFrame) -> list[tuple[str, bool]]:
    return [(str(name), chosen == "yes") for name, chosen in zip(part["model"], part["chosen"], strict=True)]
