"""Charts of friction: detours, rework, next steps, hand-offs and time in a state."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from journeykit import present
from journeykit.friction import ALL
from journeykit.plots import theme

SHOWN = 10
TEAMS_SHOWN = 9
KINDS = {
    "loop": ("the same again", theme.MAIN),
    "ping_pong": ("to and fro", theme.WARN),
    "return": ("back after two others or more", theme.CONTRAST),
}
MEDIANS = ["median_days", "median_days_low", "median_days_high", "completed_median_days"]
TICKS = [1, 10, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400]


def detours(table: pd.DataFrame) -> Axes:
    """Draw, for the worst pairs of steps, the share that takes at least twice the planned steps.

    A pair that holds a worse one within it is left out: it shows that one again.
    """
    rows = table[(table["arrived_n"] > 0) & (table["within_it"] == "")].head(SHOWN).reset_index(drop=True)
    ax = theme.axes(height=1.1 + 0.42 * len(rows))
    ax.hlines(rows.index, 0, rows["twice_share"], color=theme.GRID, linewidth=3)
    errors = theme.reach(rows["twice_share"], rows["twice_share_low"], rows["twice_share_high"])
    ax.errorbar(
        rows["twice_share"], rows.index, xerr=errors, fmt="o", color=theme.CONTRAST, ecolor=theme.INK, markersize=7,
        elinewidth=1.3, capsize=3,
    )  # fmt: skip
    for k, row in enumerate(rows.to_dict("records")):
        taken = present.number(row["median_ratio"] * row["planned_n"], 0)
        text = f"median {taken} step{'s' * (taken != '1')}, {row['planned_n']} planned"
        if not present.missing(row["extra_days"]) and row["extra_days"] > 0:
            text += f", +{present.amount(row['extra_days'], 'days')}"
        ax.text(row["twice_share_high"] + 0.02, k, text, va="center", fontsize=8.5, color=theme.MUTED)
    labels = [
        f"{_short(row['from'], 20)} → {_short(row['to'], 20)}  (n = {present.count(row['arrived_n'])})"
        for row in rows.to_dict("records")
    ]
    ax.set_yticks(rows.index, labels)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, float(rows["twice_share_high"].max()) * 1.02 + 0.62)
    _percent(ax, float(rows["twice_share_high"].max()))
    ax.set_xlabel("Of those who arrive: share with twice the planned steps or more (95 % interval)", loc="left")
    return ax


def rework(table: pd.DataFrame) -> Axes:
    """Draw the share of events that repeat what came before, by what lay between."""
    rows = table[(table["rework_n"] > 0) | (table["value"] == ALL)].head(SHOWN + 1).reset_index(drop=True)
    ax = theme.axes(height=1.45 + 0.36 * len(rows))
    left = np.zeros(len(rows))
    for kind, (label, colour) in KINDS.items():
        share = rows[f"{kind}_share"].to_numpy(float)
        ax.barh(rows.index, share, left=left, color=colour, height=0.6, label=label)
        left += share
    errors = theme.reach(rows["rework_share"], rows["rework_share_low"], rows["rework_share_high"])
    ax.errorbar(rows["rework_share"], rows.index, xerr=errors, fmt="none", ecolor=theme.INK, elinewidth=1.2, capsize=3)
    for k, row in enumerate(rows.to_dict("records")):
        text = present.share(row["rework_share"])
        ax.text(row["rework_share_high"] + 0.012, k, text, va="center", fontsize=8.5, color=theme.INK)
    names = ["All" if value == ALL else _short(value) for value in rows["value"]]
    ax.set_yticks(rows.index, [f"{name}  (n = {present.count(n)})" for name, n in zip(names, rows["n"], strict=True)])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    highest = float(rows["rework_share_high"].max())
    ax.set_xlim(0, highest + 0.12)
    _percent(ax, highest)
    ax.set_xlabel("Share of events that repeat (line: 95 % interval of the whole bar)", loc="left")
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, fontsize=8.5, frameon=False, handlelength=1)
    return ax


def next_steps(table: pd.DataFrame) -> Axes:
    """Draw how many ways really lead on from each value."""
    rows = table.head(2 * SHOWN).reset_index(drop=True)
    ax = theme.axes(height=1.0 + 0.27 * len(rows))
    errors = theme.reach(rows["effective_next"], rows["effective_next_low"], rows["effective_next_high"])
    ax.errorbar(
        rows["effective_next"], rows.index, xerr=errors, fmt="o", color=theme.MAIN, markersize=5, elinewidth=1.5,
        capsize=2.5,
    )  # fmt: skip
    ax.scatter(rows["different_n"], rows.index, marker="|", color=theme.MUTED, s=45)
    ax.set_yticks(rows.index, [_short(value) for value in rows["value"]])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.set_xlabel("Next steps that count (dot, with 95 % interval) and different ones seen (grey mark)", loc="left")
    ax.grid(axis="x")
    return ax


def handoffs(table: pd.DataFrame) -> Axes:
    """Draw from which team to which people pass: how often, and how long they wait."""
    size = pd.concat([table.groupby("from_team")["n"].sum(), table.groupby("to_team")["n"].sum()], axis=1).sum(axis=1)
    teams = list(size.sort_index().sort_values(ascending=False, kind="stable").index[:TEAMS_SHOWN])
    shown = table[table["from_team"].isin(teams) & table["to_team"].isin(teams)]
    sources = [team for team in teams if team in set(shown["from_team"])]
    targets = [team for team in teams if team in set(shown["to_team"])]
    ax = theme.axes(width=1.9 + 0.82 * len(targets), height=1.3 + 0.5 * len(sources))
    wait = shown["median_wait_days"].clip(lower=1 / 86_400)
    norm = LogNorm(float(wait.min()), max(float(wait.max()), float(wait.min()) * 10))
    for row, days in zip(shown.to_dict("records"), wait, strict=True):
        x, y = targets.index(row["to_team"]), sources.index(row["from_team"])
        shade = float(norm(days))
        ax.add_patch(_cell(x, y, theme.SEQUENTIAL(shade)))
        ink = "white" if shade > 0.6 else theme.INK
        ax.text(x, y - 0.16, present.count(row["n"]), ha="center", va="center", fontsize=8.5, color=ink, weight="bold")
        wait_text = present.amount(days, "days")
        ax.text(x, y + 0.2, wait_text, ha="center", va="center", fontsize=7.5, color=ink)
    ax.set_xticks(range(len(targets)), [textwrap.fill(_short(team), 11) for team in targets], fontsize=8.5)
    ax.set_yticks(range(len(sources)), [_short(team) for team in sources])
    ax.set(xlim=(-0.5, len(targets) - 0.5), ylim=(len(sources) - 0.5, -0.5))
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set_xlabel("To (bold: hand-offs; below: median wait, the longer the darker)", fontsize=8.5, color=theme.MUTED)
    ax.set_ylabel("From", fontsize=8.5, color=theme.MUTED)
    for side in ax.spines.values():
        side.set_visible(False)
    return ax


def time_in_state(table: pd.DataFrame) -> Axes:
    """Draw the median time in each state, and the too short one of those who have left already."""
    rows = table[table["median_days"].notna() | table["completed_median_days"].notna()].reset_index(drop=True)
    ax = theme.axes(height=1.5 + 0.42 * len(rows))
    seconds = {name: (rows[name] * 86_400).clip(lower=1) for name in MEDIANS}
    known = rows["median_days"].notna()
    errors = theme.reach(*[seconds[name] for name in MEDIANS[:3]])
    ax.hlines(rows.index, seconds["completed_median_days"], seconds["median_days"], color=theme.GRID, linewidth=3)
    ax.errorbar(
        seconds["median_days"][known], rows.index[known], xerr=errors[:, known], fmt="o", color=theme.MAIN,
        markersize=7, ecolor=theme.INK, elinewidth=1.3, capsize=3,
        label="median, with those who are still there (95 % interval)",
    )  # fmt: skip
    ax.scatter(
        seconds["completed_median_days"], rows.index, facecolors="white", edgecolors=theme.CONTRAST, s=44, zorder=3,
        label="median of those who have left: too short",
    )  # fmt: skip
    labels = [f"{_short(value)}  (n = {present.count(n)})" for value, n in zip(rows["value"], rows["n"], strict=True)]
    ax.set_yticks(rows.index, labels)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if low <= tick <= high] or [low, high]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    ax.set_xlabel("Time until the next state (logarithmic scale)", loc="left")
    ax.grid(axis="x")
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), frameon=False, fontsize=8.5)
    return ax


def _tick(seconds: float) -> str:
    """Return a round time.

    >>> _tick(60), _tick(21600), _tick(86400)
    ('1 min', '6 h', '1 day')
    """
    for size, unit in ((86_400, "day"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            number = round(seconds / size)
            return f"{number} {unit}{'s' * (unit == 'day' and number > 1)}"
    return f"{seconds:g} s"


def _cell(x: float, y: float, colour: object) -> Rectangle:
    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5)


def _percent(ax: Axes, highest: float) -> None:
    """Put ticks only where there are shares, and not under the text beside them."""
    step = next(size for size in (0.02, 0.05, 0.1, 0.2, 0.25) if highest / size <= 5)
    ticks = [step * k for k in range(int(np.ceil(min(highest, 1) / step - 1e-9)) + 1)]
    ax.set_xticks([tick for tick in ticks if tick <= 1.0001])
    ax.spines["bottom"].set_bounds(0, min(ticks[-1], 1))
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))


def _short(text: str, length: int = 26) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
