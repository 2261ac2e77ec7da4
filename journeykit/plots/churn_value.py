"""Figures of what customers are worth: value by tenure, by purchases so far, the back-test, and payback."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from journeykit.churn.payback import ALL
from journeykit.plots import theme

MOST = 6  # curves that one figure can carry
RIGHT = 1.015  # of the last day, where the names of curves stand


def growth(table: pd.DataFrame, *, currency: str = "") -> Axes:
    """Draw what a new customer has contributed by each day, in today's money, with bands.

    Needs the table of `margin.growth`. The six segments of most people are drawn; the table has all.
    """
    sizes = table.groupby("segment")["n"].max().sort_values(ascending=False, kind="stable")
    names = list(sizes.index[:MOST])
    ax = theme.axes(height=3.6)
    _curves(ax, [table[table["segment"] == name] for name in names], names, "value")
    ax.set(xlabel="days since the start", ylabel=f"margin of a new customer so far{_unit(currency)}")
    return ax


def worth(table: pd.DataFrame, *, currency: str = "") -> Axes:
    """Draw what all customers of a group are worth together, with intervals, and one of them beside it.

    Needs the table of `worth.total`; where value is refused, the purchases to come are drawn.
    """
    refused = bool(table["total_value"].isna().all())
    name = "purchases_n" if refused else "total_value"
    part = table[table["group"] != "all"] if len(table) > 1 else table
    ax = theme.axes(height=1.4 + 0.45 * len(part))
    place = np.arange(len(part))
    value, low, high = (part[f"{name}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    ax.barh(place, value, height=0.62, color=theme.MAIN, alpha=0.85)
    ax.errorbar(
        value, place, xerr=theme.reach(value, low, high), fmt="none", ecolor=theme.INK, capsize=3, linewidth=1.1
    )
    for y, (_, row) in enumerate(part.iterrows()):
        each = row["purchases_n"] / row["n"] if refused else row["value"]
        text = f"{each:,.2f} each" if refused else f"{_money(each, currency)} each"
        ax.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    ax.set_yticks(place, [f"{row['group']}\n({row['n']:,})" for _, row in part.iterrows()])
    ax.set_ylim(len(part) - 0.4, -0.6)
    ax.set_xlim(0, max(float(np.nanmax(np.append(high, value))) * 1.06, 1e-9))
    days = float(part["horizon_days"].iloc[0])
    what = "purchases expected" if refused else f"expected margin{_unit(currency)}"
    ax.set_xlabel(f"{what} in the next {days:.0f} days, all customers of the group")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}"))
    ax.locator_params(axis="x", nbins=6)
    return ax


def alive(table: pd.DataFrame) -> Axes:
    """Draw how many customers who bought again have which probability to be active. Needs `worth.alive`."""
    ax = theme.axes(height=3.0)
    width = table["to_share"] - table["from_share"]
    ax.bar(table["from_share"], table["n"], width=width * 0.94, align="edge", color=theme.MAIN, alpha=0.85)
    ax.set(xlim=(0, 1), xlabel="probability to be still active", ylabel="customers who bought again")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}"))
    ax.set_xticks(np.arange(0, 1.01, 0.1))
    ax.grid(axis="y", color=theme.GRID, linewidth=0.7)
    return ax


def backtest(table: pd.DataFrame) -> Axes:
    """Draw the purchases foretold for the time held out, with intervals, beside those that came and the same pace.

    Needs the table of `worth.backtest`; purchases of one customer of each group, so that groups compare.
    """
    ax = theme.axes(height=1.5 + 0.5 * len(table))
    place, n = np.arange(len(table)), table["n"].to_numpy(float)
    value, low, high = (table[f"predicted_n{end}"].to_numpy(float) / n for end in ("", "_low", "_high"))
    reach = theme.reach(value, low, high)
    ax.scatter(table["same_pace_n"] / n, place, marker="|", s=130, color=theme.MUTED, label="if the pace stayed")
    ax.errorbar(value, place - 0.1, xerr=reach, fmt="o", color=theme.MAIN, capsize=3, linewidth=1.4, label="foretold")
    ax.scatter(table["actual_n"] / n, place + 0.1, marker="D", s=34, color=theme.CONTRAST, label="came", zorder=3)
    for y, error in enumerate(table["error_share"]):
        text = "–" if np.isnan(error) else f"{100 * error:+.0f} %".replace("-", "−")
        ax.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    ax.annotate("error", (1.02, 1.0), xycoords="axes fraction", va="bottom", fontsize=8, color=theme.MUTED)
    names = table["group"].replace("all", "all customers")
    ax.set_yticks(place, [f"{name}\n({count:,})" for name, count in zip(names, table["n"], strict=True)])
    ax.set_ylim(len(table) - 0.4, -0.6)
    days = float(table["days"].iloc[0])
    ax.set(xlabel=f"purchases of one customer in the {days:.0f} days held out (lines: 95 % interval)")
    ax.set_xlim(left=0)
    ax.grid(axis="x", color=theme.GRID, linewidth=0.7)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=3, frameon=False, fontsize=8.5, handletextpad=0.3)
    return ax


def payback(curves: pd.DataFrame, *, currency: str = "") -> Axes:
    """Draw the margin of a new customer by day and channel, and where it reaches the cost (dashed, same colour).

    Needs the curves of `payback.of_contract` or `payback.of_orders`. Channels with a cost are drawn, at most six; all
    channels together only where none has a cost of its own.
    """
    known = curves[curves["cost"].notna()]
    names = [name for name in dict.fromkeys(known["channel"]) if name != ALL][:MOST]
    names = names or list(dict.fromkeys(known["channel"])) or list(dict.fromkeys(curves["channel"]))[:MOST]
    parts = [curves[curves["channel"] == name] for name in names]
    ax = theme.axes(height=3.8)
    _curves(ax, parts, names, "earned_value")
    for part, colour in zip(parts, theme.COLOURS, strict=False):
        cost, last = float(part["cost"].iloc[0]), float(part["day"].max())
        if np.isnan(cost):
            continue
        ax.plot([0, last], [cost, cost], color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
        earned = part["earned_value"].to_numpy(float)
        if earned[0] < cost <= earned[-1]:
            day = float(np.interp(cost, earned, part["day"].to_numpy(float)))
            ax.plot([day], [cost], "o", color=colour, markersize=7, markeredgecolor="white", zorder=4)
            ax.annotate(f"day {day:.0f}", (day, cost), xytext=(7, -11), textcoords="offset points", fontsize=8.5)
    ax.set(xlabel="days since the start", ylabel=f"margin of a new customer so far{_unit(currency)}")
    ax.set_title("dashed: what a new customer costs", fontsize=8.5, color=theme.MUTED, loc="left")
    return ax


def _curves(ax: Axes, parts: list[pd.DataFrame], names: list[str], column: str) -> None:
    """Draw a curve with its band for each part, and its name at its end where there are several."""
    last = max(float(part["day"].max()) for part in parts)
    top = max(float(part[f"{column}_high"].max()) for part in parts)
    ends = []
    for part, name, colour in zip(parts, names, theme.COLOURS, strict=False):
        low, high = part[f"{column}_low"], part[f"{column}_high"]
        ax.fill_between(part["day"], low, high, color=colour, alpha=0.18, linewidth=0)
        ax.plot(part["day"], part[column], color=colour, linewidth=1.8)
        ends.append((float(part[column].iloc[-1]), name, colour))
    if len(ends) > 1:
        places: list[float] = []
        for height, _, _ in sorted(ends):
            places.append(max(height, places[-1] + 0.065 * top) if places else height)
        over = max(0.0, places[-1] - top)
        for place, (_, name, colour) in zip(places, sorted(ends), strict=True):
            ax.text(last * RIGHT, place - over, name, color=colour, va="center", fontsize=9, fontweight="bold")
    ax.set(xlim=(0, max(last, 1)), ylim=(0, top * 1.06 if top > 0 else 1))
    step = next((s for s in (1, 5, 10, 15, 30, 60, 90, 180, 365) if last / s <= 8), max(1, int(last // 8)))
    ax.set_xticks(np.arange(0, last + 1e-9, step))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}" if top > 5 else f"{number:,.2f}"))
    ax.grid(axis="y", color=theme.GRID, linewidth=0.7)


def _unit(currency: str) -> str:
    return f" ({currency})" if currency else ""


def _money(value: float, currency: str) -> str:
    return f"{currency} {value:,.2f}".strip()
