"""Charts of why people leave a funnel."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from journeykit import present
from journeykit.leaver_sides import words
from journeykit.leaver_tests import SURE
from journeykit.plots import theme

ROWS = 14


def next_events(table: pd.DataFrame) -> Axes:
    """Draw what came next at the step where most stopped: those who stopped beside those who went on."""
    step = table.sort_values(["stopped_n", "step_number"], ascending=[False, True])["step"].iloc[0]
    rows = table[table["step"] == step].reset_index(drop=True)
    ax = theme.axes(height=1.3 + 0.46 * len(rows))
    groups = (
        ("", "share", theme.CONTRAST, "stopped_n", "stopped there"),
        ("went_on_", "went_on_share", theme.MAIN, "went_on_n", "went on"),
    )
    for offset, (_, name, colour, total, label) in zip((-0.2, 0.2), groups, strict=True):
        errors = theme.reach(rows[name], rows[f"{name}_low"], rows[f"{name}_high"])
        shown = f"{label} (n = {present.count(rows[total].iloc[0])})"
        ax.barh(rows.index + offset, rows[name].fillna(0), color=colour, height=0.36, label=shown)
        ax.errorbar(rows[name], rows.index + offset, xerr=errors, fmt="none", ecolor=theme.INK, elinewidth=1, capsize=2)
    ax.set_yticks(range(len(rows)), [_short(value) for value in rows["next_step"]])
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.set_xlabel(f"What came directly after {_short(str(step), 40)} (share of each group, 95 % interval)")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    ax.grid(axis="x")
    return ax


def drivers(table: pd.DataFrame) -> Axes:
    """Draw by how much the share that leaves differs between units with and without each feature (the surest 14).

    Red: they leave more often; green: less often; grey: may be chance. Structural features are not drawn.
    """
    rows = table[~table["is_structural"]].head(ROWS)
    rows = rows.sort_values(["difference_points", "feature"], ascending=[False, True]).reset_index(drop=True)
    ax = theme.axes(height=1.1 + 0.34 * max(len(rows), 1))
    for position, row in enumerate(rows.to_dict("records")):
        sure = row["p_adjusted"] < SURE
        colour = theme.MUTED if not sure else theme.CONTRAST if row["difference_points"] > 0 else theme.GOOD
        low, high = row["difference_points_low"], row["difference_points_high"]
        ax.plot([low, high], [position, position], color=colour, linewidth=2, solid_capstyle="butt")
        face = colour if sure else "none"
        ax.plot([row["difference_points"]], [position], marker="o", color=colour, markerfacecolor=face, markersize=6)
        ax.text(
            1.02,
            position,
            _numbers(row),
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=8.5,
            color=theme.INK,
        )
    ax.axvline(0, color=theme.INK, linewidth=1)
    ax.set_yticks(range(len(rows)), [_short(_feature(row), 36) for row in rows.to_dict("records")])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.text(
        1.02,
        1.01,
        "leave with · without · adjusted p",
        transform=ax.transAxes,
        fontsize=8,
        color=theme.MUTED,
        va="bottom",
    )
    ax.grid(axis="x")
    step = _short(str(table.attrs.get("step", "the step")), 30)
    ax.set_xlabel(
        f"Share that leaves at {step}: with the feature less without it, percentage points\n"
        "(among those who took about as long to get there; line: 95 % interval; hollow: may be chance)"
    )
    return ax


def levels(table: pd.DataFrame) -> Axes:
    """Draw the share lost at each level with its interval: along a line for numbers, as dots for words."""
    numeric = bool(table["level_mean"].notna().all())
    at = table["level_mean"] if numeric else pd.Series(range(len(table)), dtype=float)
    ax = theme.axes(height=3.4)
    errors = theme.reach(table["lost_share"], table["lost_share_low"], table["lost_share_high"])
    style = "o-" if numeric else "o"
    ax.errorbar(
        at, table["lost_share"], yerr=errors, fmt=style, color=theme.CONTRAST, elinewidth=1.6, capsize=3, lw=1.2
    )
    names = [f"{_short(str(row['level']), 18)}\nn = {present.count(row['n'])}" for row in table.to_dict("records")]
    ax.set_xticks(at, names)
    ax.margins(x=0.1)
    ax.set_ylim(0, min(1.0, 1.12 * float(table["lost_share_high"].max())))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.set_ylabel(f"Stopped at {_short(str(table.attrs.get('step', 'the step')), 28)}\n(95 % interval)")
    ax.set_xlabel(words(str(table["by"].iloc[0])).capitalize())
    ax.grid(axis="y")
    return ax


def _numbers(row: dict[Any, Any]) -> str:
    p_value = "< 0.001" if row["p_adjusted"] < 0.001 else f"{row['p_adjusted']:.3f}"
    return f"{present.share(row['lost_share'], 0)} · {present.share(row['lost_without_share'], 0)} · {p_value}"


def _feature(row: dict[Any, Any]) -> str:
    kind = words(str(row["kind"]))
    return str(row["feature"]) if kind in ("event", "touchpoint", "stage") else f"{kind}: {row['feature']}"


def _short(text: str, length: int = 28) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
