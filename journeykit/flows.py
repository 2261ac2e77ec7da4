"""The flow from place to place: what a Sankey diagram shows, with nobody left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from journeykit import engine, stats
from journeykit.path_grid import ALL, SPECIAL, Window, cells, kept, labels, links, names, window
from journeykit.walks import shares, walks

FEW = "(few)"

_FLOW = ["position", "source", "target", "n", "people_n", "share", "share_low", "share_high"]


def flow(
    touches: Any,
    *,
    on: str = "event",
    within: str = "session",
    steps: int = 5,
    top: int = 6,
    anchor: str = "",
    before: int = 0,
    after: int = 4,
    occurrence: str = "first",
    collapse: bool = False,
    min_n: int = 1,
) -> pd.DataFrame:
    """Count how units go from each place to the next, with those who end and all that is not shown by itself.

    From the start: `steps` places. With `anchor` (a value of `on`, or several: "a | b"): `before` places before its
    first, last or any `occurrence` and `after` places after it, place 0 being the event itself. At each place the `top`
    values are shown, the others are "(other)"; those without a further event are "(ended)", those without an event so
    far "(not begun)", and units without the anchor "(without it)". Every place sums to all units, and what flows into a
    value flows out of it (but for the links in "(few)"). With `occurrence` "any", every time that the event comes
    counts, and all are those.

    Requires the columns of `paths.transitions` (no time), or `walks.Walks`. One row per link, by place and then most
    frequent first: `position` of the source (the target is at the next one), `source`, `target`, n units, `people_n`
    different people, and the share of all units with its interval (95 %), which takes people as independent. Links of
    fewer than `min_n` people are in one row a place, from "(few)" to "(few)", which has no number of people and no
    interval. `attrs`: `values`, in the order in which to show them; `units_n`, `within`, `anchor`.

    >>> from tests.conftest import make_log
    >>> flow(make_log("u1: ad buy | u2: ad | u3: ad buy"), steps=2)[["source", "target", "n"]].values.tolist()
    [['ad', 'buy', 2], ['ad', '(ended)', 1]]
    """
    with engine.scratch():
        ways = walks(touches, on=on, within=within, collapse=collapse)
        at = Window(after=steps)
        if anchor:
            at = window(ways, anchor, before=before, after=after, occurrence=occurrence, where="flow")
        if anchor and not at.anchor:
            return stats.not_enough(_FLOW, f"nobody has {anchor} (n = 0)")
        counted = cells(ways, at)
        if not counted.loc[counted["place"] == ALL, "n"].sum():
            return stats.not_enough(_FLOW, "not enough data (n = 0)")
        values_n = len(ways.values)
        found = links(ways, at, labels(counted, at, values_n, top=top, min_n=min_n, by_place=True))
    everything, found = found[found["place"] == ALL], found[found["place"] != ALL]
    n = int(everything["n"].iloc[0])
    text = np.array(names(ways), dtype=object)
    enough = found[found["people_n"] >= min_n]
    table = enough.assign(
        position=np.array(at.places)[enough["place"]],
        source=text[enough["code"]],
        target=text[enough["next"]],
        **shares("share", enough, everything),
    )[_FLOW]
    few = found[found["people_n"] < min_n].groupby("place")["n"].sum()
    rest = pd.DataFrame({"position": np.array(at.places)[few.index], "source": FEW, "target": FEW, "n": few.to_numpy()})
    if len(rest):
        table = pd.concat([table, rest.assign(share=rest["n"] / n)], ignore_index=True)
    if table["source"].isin([FEW]).all():
        return stats.not_enough(_FLOW, f"not enough data (no link has at least {min_n} people)")
    table = table.assign(last=table["source"] == FEW)
    table = table.sort_values(
        ["position", "last", "n", "source", "target"], ascending=[True, True, False, True, True], ignore_index=True
    )[_FLOW]
    ranked = kept(counted, values_n, top=values_n, min_n=1, by_place=False)
    order = [text[code] for code in dict.fromkeys(code for _, code in ranked)] + [*SPECIAL, FEW]
    seen = {*table["source"], *table["target"]}
    table.attrs |= {"values": [value for value in order if value in seen]}
    table.attrs |= {"units_n": n, "within": within, "anchor": anchor}
    return table


def nodes(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many units are at each place with each value.

    Requires the table of `flow`. One row per place and value, by place and then most frequent first: `position`,
    `value`, `n` units, `share` of all; every place sums to all. The share has no interval here: that of a place is in
    `paths.step_matrix` and `path_anchors.around`.

    >>> from tests.conftest import make_log
    >>> nodes(flow(make_log("u1: ad buy | u2: ad | u3: ad buy"), steps=2))["n"].tolist()
    [3, 2, 1]
    """
    columns = ["position", "value", "n", "share"]
    if table.empty:
        return stats.not_enough(columns, stats.reason_of(table))
    left = table[["position", "source", "n"]].rename(columns={"source": "value"})
    last = table.loc[table["position"] == table["position"].max(), ["position", "target", "n"]]
    last = last.rename(columns={"target": "value"}).assign(position=last["position"] + 1)
    every = pd.concat([left, last]).groupby(["position", "value"])["n"].sum().reset_index()
    every = every.sort_values(["position", "n", "value"], ascending=[True, False, True], ignore_index=True)
    return every.assign(share=every["n"] / table.attrs["units_n"])[columns]
