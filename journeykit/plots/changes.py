"""Charts of changes without a test: observed against expected, placebo dates, methods side by side."""

from __future__ import annotations

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from journeykit.plots import theme

ROWS = 12


def counterfactual(table: pd.DataFrame) -> Axes:
    """Draw what was observed, and what was expected without the change with its 95 % band, change by change.

    Takes `effects.paths` (see `changes.effects`) of at most 3 changes; one panel below the other.
    """
    names = list(dict.fromkeys(table["change"]))[:3]
    panels = theme.panels(len(names), height=2.9)
    for ax, name in zip(panels, names, strict=True):
        _one_path(ax, table.loc[table["change"] == name], name if len(names) > 1 else "")
    panels[0].legend(
        loc="upper left", bbox_to_anchor=(0, 1.4 if len(names) > 1 else 1.16), ncols=3, fontsize=8.5, frameon=False
    )
    return panels[0]


def _one_path(ax: Axes, path: pd.DataFrame, name: str) -> None:
    at, after = path["at"], path["is_after"].astype(bool)
    start = at.loc[after].iloc[0]
    known = path["expected"].notna()
    band = path.loc[known, ["expected_low", "expected_high"]].to_numpy(dtype=float).T
    ax.fill_between(
        at.loc[known], band[0], band[1], color=theme.MAIN, alpha=0.16, linewidth=0, label="95 % of what may be"
    )
    ax.plot(
        at.loc[known], path.loc[known, "expected"], color=theme.MAIN, linewidth=1.6, label="expected without the change"
    )
    ax.plot(at, path["observed"], color=theme.INK, linewidth=0.9, marker="o", markersize=2.6, label="observed")
    ax.axvline(start, color=theme.CONTRAST, linewidth=1.3, linestyle="--")
    seen = pd.concat([path["observed"], path["expected"]]).dropna()
    low, high = float(seen.min()), float(seen.max())
    room = 0.25 * (high - low or 1)
    ax.set_ylim(low - room, high + room)
    ax.text(start, high + room, " change", color=theme.CONTRAST, fontsize=8.5, va="top")
    share = str(path["unit"].iloc[0]) if "unit" in path else ""
    ax.set_ylabel({"share": "share", "": "a day"}.get(share, share))
    if name:
        ax.set_title(name, loc="left", fontsize=9.5)
    _dates(ax)


def _dates(ax: Axes) -> None:
    locator = mdates.AutoDateLocator(minticks=4, maxticks=9)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))


def placebo(table: pd.DataFrame) -> Axes:
    """Draw the effect found at each placebo date as a grey dot with its interval, and the real one in colour.

    Takes `effects.placebo` of at most 3 changes; one panel beside the other, dates from left to right.
    """
    names = list(dict.fromkeys(table["change"]))[:3]
    panels = theme.panels(len(names), height=2.3)
    for ax, name in zip(panels, names, strict=True):
        part = table.loc[table["change"] == name]
        scale, unit = (100, "percentage points") if part["unit"].iloc[0] == "share" else (1, str(part["unit"].iloc[0]))
        for is_real, colour in ((False, theme.MUTED), (True, theme.CONTRAST)):
            rows = part.loc[part["is_real"].astype(bool) == is_real]
            errors = scale * theme.reach(rows["effect"], rows["effect_low"], rows["effect_high"])
            label = "at the change" if is_real else "at dates without a change"
            ax.errorbar(
                rows["at"], scale * rows["effect"], yerr=errors, fmt="o", color=colour, label=label,
                markersize=5 if is_real else 3.5, elinewidth=1.4 if is_real else 0.8,
            )  # fmt: skip
        ax.axhline(0, color=theme.INK, linewidth=0.9)
        ax.set_ylabel(f"effect,\n{unit}")
        if len(names) > 1:
            ax.set_title(name, loc="left", fontsize=9.5)
        _dates(ax)
    panels[0].legend(
        loc="upper left", bbox_to_anchor=(0, 1.48 if len(names) > 1 else 1.2), ncols=2, fontsize=8.5, frameon=False
    )
    return panels[0]


def methods(table: pd.DataFrame) -> Axes:
    """Draw the relative effect of each change by each method with its 95 % interval, and a line at 0.

    Takes `effects.effects`; at most 12 rows. The plain comparison is drawn in grey and hollow: do not believe its
    interval.
    """
    rows = table.loc[table["relative_share"].notna()].head(ROWS).iloc[::-1].reset_index(drop=True)
    ax = theme.axes(height=1.0 + 0.36 * max(len(rows), 1))
    for place, row in enumerate(rows.to_dict("records")):
        value, low, high = (100 * row[f"relative_share{side}"] for side in ("", "_low", "_high"))
        plain = row["method"] == "before/after"
        colour = theme.MUTED if plain else theme.MAIN
        ax.plot([low, high], [place, place], color=colour, linewidth=2, linestyle=":" if plain else "-")
        ax.plot([value], [place], marker="o", color=colour, markerfacecolor="none" if plain else colour, markersize=6)
        text = f"{value:+.1f} % ({low:+.1f} to {high:+.1f})".replace("-", "−")
        ax.text(1.02, place, text, transform=ax.get_yaxis_transform(), va="center", fontsize=8.5, color=theme.INK)
    ax.axvline(0, color=theme.INK, linewidth=1)
    ax.set_yticks(range(len(rows)), [f"{row['change']} · {row['method']}" for row in rows.to_dict("records")])
    ax.set_ylim(-0.6, max(len(rows), 1) - 0.4)
    ax.grid(axis="x")
    ax.set_xlabel("change relative to what was expected, %\n(hollow: plain before/after, whose interval is too narrow)")
    return ax


def trends(table: pd.DataFrame) -> Axes:
    """Draw those who met a change and the others week by week, each relative to its own mean before the change."""
    name = table["change"].iloc[0]
    part = table.loc[table["change"] == name]
    ax = theme.axes(height=3.0)
    before = ~part["is_after"].astype(bool)
    for column, label, colour in (
        ("treated", "met the change", theme.CONTRAST),
        ("comparison", "did not", theme.MAIN),
    ):
        usual = float(part.loc[before, column].mean())
        ax.plot(part["at"], part[column] / usual if usual else np.nan, color=colour, label=label, linewidth=1.4)
    ax.axvline(part.loc[~before, "at"].iloc[0], color=theme.INK, linewidth=1.1, linestyle="--")
    ax.set_ylabel("relative to the mean before = 1")
    ax.legend(loc="upper left", ncols=2, fontsize=8.5, frameon=False)
    _dates(ax)
    return ax


def actions(table: pd.DataFrame) -> Axes:
    """Draw the predicted effect of each action (bar of its range) and the realised one (dot with interval).

    Takes `actions.followed`; at most 12 actions. Shares are in percentage points, everything else in % of what was
    expected.
    """
    rows = table.tail(ROWS).iloc[::-1].reset_index(drop=True)
    ax = theme.axes(height=1.2 + 0.5 * len(rows))
    for place, row in enumerate(rows.to_dict("records")):
        scale = 100 if row["unit"] == "share" else 1
        low, high = (scale * row[f"predicted_{side}"] for side in ("low", "high"))
        guess = scale * row["predicted"]
        if low == low and high == high:
            ax.barh(place, high - low, left=low, height=0.5, color=theme.MAIN, alpha=0.22)
        ax.plot([guess, guess], [place - 0.25, place + 0.25], color=theme.MAIN, linewidth=2)
        if row["realised"] == row["realised"]:
            ends = [scale * row["realised_low"], scale * row["realised_high"]]
            ax.plot(ends, [place, place], color=theme.CONTRAST, linewidth=1.8)
            ax.plot([scale * row["realised"]], [place], "o", color=theme.CONTRAST, markersize=6)
        ax.text(1.02, place, row["verdict"], transform=ax.get_yaxis_transform(), va="center", fontsize=8.5)
    ax.axvline(0, color=theme.INK, linewidth=1)
    ax.set_yticks(range(len(rows)), rows["action"])
    ax.set_ylim(-0.7, len(rows) - 0.3)
    units = set(rows["unit"])
    unit = "percentage points" if units == {"points"} else "%" if units == {"share"} else "% or percentage points"
    ax.set_xlabel(f"effect, {unit} (blue: predicted with its range; red: realised, 95 % interval)")
    return ax
