"""Charts of chapter 08: the split by day, balance before the exposure, effects by segment and by day since exposure."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from journeykit import present
from journeykit.experiments.words import difference
from journeykit.plots import theme

PANELS = 3
ROWS = 14


def split_days(table: pd.DataFrame) -> Axes:
    """Draw the share of the arm that is furthest off, day by day, in the band that is compatible with the plan.

    Takes the table of `split_by_day` (of several experiments: the most suspicious ones); at most three panels. The line
    turns red on the day on which the split is first found broken.
    """
    worst = table.groupby("experiment", sort=False)["p_value"].min().sort_values(kind="stable").index[:PANELS]
    ax = theme.axes(width=2.7 * len(worst) + 1.2, height=2.9, columns=len(worst))
    for panel, name in zip(ax.figure.axes, worst, strict=True):
        _one_split(panel, table.loc[table["experiment"] == name], str(name))
    ax.figure.axes[0].set_ylabel("share of people so far, %")
    cast(Figure, ax.figure).tight_layout()
    return ax


def balance(table: pd.DataFrame) -> Axes:
    """Draw how far the arms were apart before the exposure, in standard deviations, the largest first.

    Takes the table of `balance`; at most 14 rows. Red: the arms of this test are unlike, all measures together.
    """
    order = table["standard_difference"].abs().sort_values(ascending=False, kind="stable").index
    rows = table.loc[order].head(ROWS).iloc[::-1].reset_index(drop=True)
    ax = theme.axes(height=1.0 + 0.32 * len(rows))
    value, low, high = (rows[f"standard_difference{side}"].to_numpy(float) for side in ("", "_low", "_high"))
    reach = theme.reach(value, low, high)
    for place, row in enumerate(rows.to_dict("records")):
        colour = theme.CONTRAST if row["verdict"] == "unlike" else theme.MAIN
        bars = reach[:, place : place + 1]
        ax.errorbar(value[place], place, xerr=bars, fmt="o", color=colour, capsize=2, linewidth=1.4, markersize=5)
    ax.axvline(0, color=theme.INK, linewidth=1)
    limit = max(0.12, float(np.nanmax(np.abs([low, high]))) * 1.1)
    ax.set(xlim=(-limit, limit), ylim=(-0.6, len(rows) - 0.4))
    ax.set_yticks(range(len(rows)), [_balance_name(row, rows) for row in rows.to_dict("records")])
    ax.set_xlabel("treatment minus control before the exposure, standard deviations (line: 95 % interval)")
    ax.grid(axis="x")
    return ax


def segments(table: pd.DataFrame) -> Axes:
    """Draw the effect in each segment with its simultaneous interval, for metrics of which it differs.

    Takes the table of `by_segment`; draws the first metric and column of it, at most 14 values.
    """
    first = table.iloc[0]
    same = (table[["experiment", "segment", "metric", "arm"]] == first[["experiment", "segment", "metric", "arm"]]).all(
        axis=1
    )
    rows = table.loc[same].head(ROWS).iloc[::-1].reset_index(drop=True)
    scale = 100 if first["unit"] == "share" else 1
    ax = theme.axes(height=1.2 + 0.36 * len(rows))
    value, low, high = (scale * rows[f"effect{side}"].to_numpy(float) for side in ("", "_low", "_high"))
    for place, row in enumerate(rows.to_dict("records")):
        colour = _colour(row)
        ax.plot([low[place], high[place]], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        ax.plot([value[place]], [place], marker="o", color=colour, markersize=6)
        text = difference(row["effect"], row["unit"]).replace("percentage points", "points").split(" per")[0]
        ax.text(1.02, place, text, transform=ax.get_yaxis_transform(), va="center", fontsize=8.5, color=theme.INK)
    ax.axvline(0, color=theme.INK, linewidth=1)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    sizes = rows["n_control"] + rows["n_treatment"]
    ax.set_yticks(
        range(len(rows)), [f"{v}\n(n = {present.count(n)})" for v, n in zip(rows["value"], sizes, strict=True)]
    )
    name = str(first["segment"]).removeprefix("segment_").replace("_", " ")
    ax.set_title(f"{first['experiment']}: {first['metric']} by {name}", loc="left", fontsize=10, color=theme.INK)
    ax.set_xlabel(f"effect, {_unit(first['unit'])} (line: interval; all of them hold together 95 times out of 100)")
    ax.grid(axis="x")
    return ax


def novelty(table: pd.DataFrame) -> Axes:
    """Draw the effect on primary metrics by whole days since the exposure, with each day's interval.

    Takes the table of `novelty.by_day`; at most three panels.
    """
    groups = list(table.groupby(["experiment", "metric", "arm"], sort=False))[:PANELS]
    ax = theme.axes(width=2.7 * len(groups) + 1.2, height=2.9, columns=len(groups))
    for panel, ((name, metric, _), rows) in zip(ax.figure.axes, groups, strict=True):
        scale = 100 if rows["unit"].iloc[0] == "share" else 1
        day = rows["day"].to_numpy()
        value, low, high = (scale * rows[f"effect{side}"].to_numpy(float) for side in ("", "_low", "_high"))
        panel.fill_between(day, low, high, color=theme.MAIN, alpha=0.18, linewidth=0)
        panel.plot(day, value, color=theme.MAIN, linewidth=1.6, marker="o", markersize=3)
        panel.axhline(0, color=theme.INK, linewidth=1)
        panel.set_title(f"{_short(str(name))}\n{metric}", loc="left", fontsize=9, color=theme.INK)
        panel.set_xlabel("days since the exposure")
        panel.set_ylabel(f"effect of the day, {_unit(rows['unit'].iloc[0])}", fontsize=8.5)
        panel.grid(axis="y")
    cast(Figure, ax.figure).tight_layout()
    return ax


def _one_split(ax: Axes, table: pd.DataFrame, name: str) -> None:
    last = table.loc[table["day"] == table["day"].max()]
    arm = last.loc[(last["share"] - last["planned_share"]).abs().idxmax(), "arm"]
    rows = table.loc[table["arm"] == arm]
    ax.fill_between(
        rows["day"], 100 * rows["allowed_low"], 100 * rows["allowed_high"], color=theme.GRID, alpha=0.8, linewidth=0
    )
    ax.axhline(100 * float(rows["planned_share"].iloc[0]), color=theme.INK, linestyle="--", linewidth=1)
    broken = rows["verdict"] == "broken"
    marker = "o" if len(rows) == 1 else ""  # a line of one day would not be seen
    ax.plot(rows["day"], 100 * rows["share"], color=theme.MAIN, linewidth=1.6, marker=marker)
    if broken.any():
        late = rows.loc[broken]
        ax.plot(late["day"], 100 * late["share"], color=theme.CONTRAST, linewidth=2, marker=marker)
    later = rows.iloc[min(len(rows) - 1, max(2, len(rows) // 10)) :]
    far = 100 * float(
        np.abs(later[["share", "allowed_low", "allowed_high"]].sub(later["planned_share"], axis=0)).max().max()
    )
    middle = 100 * float(rows["planned_share"].iloc[0])
    ax.set_ylim(max(0.0, middle - 1.15 * min(far, 25)), min(100.0, middle + 1.15 * min(far, 25)))
    ax.set_title(f"{_short(name)}\n{arm}", loc="left", fontsize=9, color=theme.INK)
    ends = [rows["day"].iloc[0], rows["day"].iloc[-1]]
    ends = ends[: len(set(ends))]
    ax.set_xticks(ends, [f"{end:%d %b %Y}" for end in ends])
    if len(ends) > 1:
        first, last = ax.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
    ax.set_xlabel("grey: compatible with the plan", fontsize=8.5)


def _balance_name(row: dict[Any, Any], rows: pd.DataFrame) -> str:
    several = len(rows[["experiment", "arm"]].drop_duplicates()) > rows["experiment"].nunique()
    name = f"{row['measure']} ({row['arm']})" if several else str(row["measure"])
    return f"{_short(row['experiment'])} · {name}" if len(set(rows["experiment"])) > 1 else name


def _colour(row: dict[Any, Any]) -> str:
    low, high = float(row["effect_low"]), float(row["effect_high"])
    if low <= 0 <= high:
        return theme.MUTED
    return theme.GOOD if (low > 0) == (row["better"] == "up") else theme.CONTRAST


def _unit(unit: str) -> str:
    return {"share": "percentage points", "events": "events per person", "score": "on the scale 0–1"}.get(unit, unit)


def _short(name: str) -> str:
    return name if len(name) <= 34 else f"{name[:33]}…"
