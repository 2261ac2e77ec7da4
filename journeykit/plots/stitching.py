"""Charts of how much the stitching policy matters."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from journeykit import present
from journeykit.plots import theme

MARKS = {"last_login": "v", "device_split": "s", "graph": "^", "graph_strict": "o"}
COLOURS = dict(zip(MARKS, (theme.WARN, theme.GOOD, theme.CONTRAST, theme.MAIN), strict=True))


def policies(table: pd.DataFrame) -> Axes:
    """Draw each headline figure under each policy, as its difference from the policy in use, in percent of it.

    The grey bar is the 95 % interval of sampling of the policy in use. `none` is left out: it would be off the scale.
    """
    table = table.dropna(subset="value")
    used = table[table["used"]].set_index("figure")
    names = [name for name in table["figure"].unique() if name in used.index and used.loc[name, "value"]]
    shown = table[table["policy"].isin(MARKS) & table["figure"].isin(names)]
    ax = theme.axes(7.2, 0.55 * len(names) + 1.5)
    rows = {name: place for place, name in enumerate(reversed(names))}
    for name in names:
        own = used.loc[name]
        if not present.missing(own["value_low"]):
            ends = [100 * (own[side] / own["value"] - 1) for side in ("value_low", "value_high")]
            ax.barh(rows[name], ends[1] - ends[0], left=ends[0], height=0.5, color=theme.GRID, zorder=1)
    apart = {policy: 0.27 - 0.18 * place for place, policy in enumerate(MARKS)}  # so that equal ones do not hide
    for policy, part in shown.groupby("policy", sort=False):
        change = 100 * (part["value"].to_numpy() / used.loc[part["figure"], "value"].to_numpy() - 1)
        at = [rows[name] + apart[str(policy)] for name in part["figure"]]
        label = f"{policy} (used)" if part["used"].any() else str(policy)
        ax.scatter(change, at, s=34, marker=MARKS[str(policy)], color=COLOURS[str(policy)], label=label, zorder=3)
    ax.axvline(0, color=theme.MUTED, linewidth=0.8, zorder=2)
    labels = [f"{name}\n{present.amount(used.loc[name, 'value'], used.loc[name, 'unit'])}" for name in rows]
    ax.set_yticks(list(rows.values()), labels)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlabel("difference from the rule in use (% of the figure); grey: 95 % interval of sampling")
    if len(shown):
        ax.legend(
            loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4, fontsize=8.5, handletextpad=0.2, frameon=False
        )
    return ax
