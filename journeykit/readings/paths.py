"""What the tables of paths, patterns and their comparison say, in sentences and findings."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.findings import Finding
from journeykit.path_compare import SURE
from journeykit.path_grid import ENDED, SPECIAL, WITHOUT
from journeykit.paths import REST

CHAPTER = "05_paths"
TYPICAL = 0.05  # a path that fewer take is not called typical
ENOUGH = 30  # of fewer journeys that are over, no conversion is told
UNITS = {"person": "people", "session": "sessions", "journey": "journeys"}


def transitions(table: pd.DataFrame, within: str = "session") -> str:
    """Say which transition is the most frequent, how long it takes, and how much is the same value again."""
    if not len(table):
        return ""
    top = table.iloc[0]
    text = (
        f"The most frequent transition is {top['from']} → {top['to']} ({present.count(top['n'])} times, by "
        f"{present.count(top['people_n'])} people): {_share(top, 'share')} of what follows {top['from']} in the same "
        f"{within}, half of the times within {present.seconds(top['median_seconds'])}."
    )
    again, pairs = table.attrs.get("again_n", 0), table.attrs.get("pairs_n", table["n"].sum())
    text += f" In {present.share(again / pairs)} of all transitions the same value comes again." if again else ""
    if "shown_edges_n" in table.attrs:
        text += (
            f" Shown are {present.count(table.attrs['shown_edges_n'])} of {present.count(table.attrs['edges_n'])} "
            f"different transitions; they are {present.share(table.attrs['shown_share'])} of all."
        )
    return text


def step_matrix(table: pd.DataFrame, within: str = "session") -> str:
    """Say how units begin, and how many have ended by the last position shown."""
    if not len(table):
        return ""
    first = table[(table["position"] == 1) & ~table["value"].isin(SPECIAL)]
    last_position = table["position"].max()
    ended = table[(table["position"] == last_position) & (table["value"] == ENDED)].iloc[0]
    total = int(table.loc[table["position"] == 1, "n"].sum())
    text = ""
    if len(first):
        start = first.sort_values(["n", "value"], ascending=[False, True]).iloc[0]
        text = (
            f"{_share(start, 'share')} of {present.count(total)} {UNITS[within]} begin with {start['value']}. "
            if start["n"]
            else ""
        )
    return text + f"{_share(ended, 'share')} have no event number {last_position}."


def variants(table: pd.DataFrame, within: str = "journey") -> str:
    """Say which path is the most frequent, and how much the listed ones cover."""
    named = table[table["variant"] != REST] if len(table) else table
    if not len(named):
        return ""
    top, total = named.iloc[0], int(table["n"].sum())
    different = int(table["paths_n"].sum())
    none = "No path is typical. " if top["share_high"] < TYPICAL else ""
    text = (
        f"{none}The most frequent path is {top['variant']}, taken by {_share(top, 'share')} of {present.count(total)} "
        f"{UNITS[within]}. The {len(named)} paths listed cover {present.share(named['n'].sum() / total)}; there are "
        f"{present.count(different)} different ones."
    )
    if "converted_share" in table and top["finished_n"] >= ENOUGH:
        text += f" Of its {present.count(top['finished_n'])} that are over, {_share(top, 'converted_share')} converted."
    return text


def coverage(table: pd.DataFrame, within: str = "journey") -> str:
    """Say how many paths it takes to tell the story of half of all, and of most."""
    if not len(table):
        return ""
    half, most = (table[table["covered_share"] >= share].iloc[0] for share in (0.5, 0.8))
    different, units = int(table["paths_n"].max()), UNITS[within]
    text = (
        f"{_paths(half['paths_n'])} cover {present.share(half['covered_share'], 0)} of {present.count(half['n'])} "
        f"{units}, and {_paths(most['paths_n'])} cover {present.share(most['covered_share'], 0)}; there are "
        f"{present.count(different)} different ones."
    )
    if most["paths_n"] / different > 0.5:
        text += f" Most {units} go ways of their own: look at transitions and patterns rather than at whole paths."
    return text


def around(table: pd.DataFrame, within: str = "session") -> str:
    """Say how many have the event, and what comes most often directly before and after it."""
    if not len(table):
        return ""
    anchor, total = table.attrs["anchor"], table.attrs["units_n"]
    if (table["value"] == WITHOUT).any():
        without = table[(table["position"] == 0) & (table["value"] == WITHOUT)].iloc[0]
        reached = total - int(without["n"])
        text = f"{present.count(reached)} of {present.count(total)} {UNITS[within]} have {anchor}."
    else:
        reached, text = total, f"{anchor} comes {present.count(total)} times."
    for place, words in ((-1, "Directly before it"), (1, "Directly after it")):
        rows = table[(table["position"] == place) & (table["value"] != WITHOUT) & (table["n"] > 0)]
        if len(rows):
            top = rows.sort_values(["n", "value"], ascending=[False, True]).iloc[0]
            what = {ENDED: "nothing more comes", "(not begun)": "there is nothing"}.get(top["value"], "")
            what = what or f"comes most often {top['value']}"
            text += f" {words} {what}: in {present.count(top['n'])} of {present.count(reached)}"
            text += f", or {_share(top, 'share')} of all." if reached < total else f", or {_share(top, 'share')}."
    return text


def ways(table: pd.DataFrame, within: str = "session") -> str:
    """Say which way around the event is the most frequent, and how much the listed ones leave out."""
    named = table[~table["way"].isin([REST, WITHOUT])] if len(table) else table
    if not len(named):
        return ""
    top, rest = named.iloc[0], table[table["way"] == REST]
    text = (
        f"The most frequent way is {top['way']}: {_share(top, 'share')} of {present.count(table.attrs['units_n'])} "
        f"{UNITS[within]}."
    )
    if len(rest):
        others = _paths(rest["ways_n"].iloc[0])
        text += f" {others} that are not listed are taken by {present.share(rest['share'].iloc[0])}."
    return text


def flow(table: pd.DataFrame) -> str:
    """Say which link is the widest, and how much goes on to the last place shown."""
    if not len(table):
        return ""
    units, total = UNITS[table.attrs["within"]], table.attrs["units_n"]
    going = table[~table["source"].isin(SPECIAL) & ~table["target"].isin(SPECIAL) & table["share_low"].notna()]
    last = table[table["position"] == table["position"].max()]
    ended = int(last.loc[last["target"] == ENDED, "n"].sum())
    text = ""
    if len(going):
        top = going.sort_values(["n", "position", "source", "target"], ascending=[False, True, True, True]).iloc[0]
        place = f"{top['position']} to {top['position'] + 1}".replace("-", "−")
        text = (
            f"The widest link goes from {top['source']} to {top['target']} (place {place}): {_share(top, 'share')} of "
            f"{present.count(total)} {units}. "
        )
    return text + f"By the last place shown, {present.share(ended / total)} have ended."


def patterns(table: pd.DataFrame, within: str = "session", values: str = "value") -> str:
    """Say in how many units each pattern is found, and which value that it names is nowhere."""
    if not len(table):
        return ""
    parts = [
        f"“{row['pattern']}” is in {_share(row, 'share')} of {present.count(row['n'])} {UNITS[within]}"
        for row in table.to_dict("records")
    ]
    text = "; ".join(parts) + "."
    for value, hint in table.attrs.get("unknown", {}).items():
        text += f" No {values} is called “{value}”, so that the pattern may not say what it seems to.{hint}"
    return text


def compare(table: pd.DataFrame) -> str:
    """Say how many differences are sure, and which one is the largest to either side."""
    if not len(table):
        return ""
    a, b, sure = table.attrs["a"], table.attrs["b"], table[table["p_adjusted"] < SURE]
    row = table.iloc[0]
    said = (
        f"Compared are {present.count(row['a_of_n'])} people (A: {a}) with {present.count(row['b_of_n'])} (B: {b}), "
        f"over the first {table.attrs['steps']} steps. "
    )
    if sure.empty:
        return said + (
            f"Of {present.count(len(table))} differences none is sure: each may be chance, as so many were looked at."
        )
    text = said + f"Of {present.count(len(table))} differences {present.count(len(sure))} are sure."
    for side, other, rows in (
        (a, b, sure[sure["difference_points"] > 0]),
        (b, a, sure[sure["difference_points"] < 0]),
    ):
        if len(rows):
            top = rows.iloc[0]
            mine, theirs = ("a", "b") if side == a else ("b", "a")
            text += (
                f" More often {side} than {other}: {_what(top)}, {present.share(top[f'{mine}_share'])} against "
                f"{present.share(top[f'{theirs}_share'])} (difference {_points(top)})."
            )
    return text


def findings(paths: pd.DataFrame, differences: pd.DataFrame | None = None, *, within: str = "journey") -> list[Finding]:
    """Return the chapter's findings: the most frequent path, and the strongest difference between two groups."""
    found: list[Finding] = []
    named = paths[paths["variant"] != REST] if len(paths) else paths
    if len(named):
        top = named.iloc[0]
        found.append(
            Finding(
                id="top_path",
                chapter=CHAPTER,
                statement=f"The most frequent path, {top['variant']}, is taken by {_share(top, 'share')} of "
                f"{present.count(paths['n'].sum())} {UNITS[within]}.",
                value=top["share"],
                low=top["share_low"],
                high=top["share_high"],
                n=int(paths["n"].sum()),
                unit="share",
                caveat="A value that follows itself counts once, and only the first values of long paths are compared.",
                table=f"{CHAPTER}__variants",
            )
        )
    if differences is not None and len(differences):
        sure = differences[differences["p_adjusted"] < SURE]
        if len(sure):
            found.append(_strongest(sure.iloc[0], str(differences.attrs["a"]), str(differences.attrs["b"])))
    return found


def _strongest(row: Any, a: str, b: str) -> Finding:
    is_outcome = (a, b) == ("converted", "not converted")
    caveat = (
        "Associated, not caused: those who mean to buy take other paths." if is_outcome else "Associated, not caused."
    )
    return Finding(
        id="path_difference",
        chapter=CHAPTER,
        statement=f"{_what(row)[:1].upper()}{_what(row)[1:]}: {present.share(row['a_share'])} of {a} against "
        f"{present.share(row['b_share'])} of {b} (difference {_points(row)}).",
        value=row["difference_points"],
        low=row["difference_points_low"],
        high=row["difference_points_high"],
        n=row["n"],
        unit="points",
        evidence="associated",
        caveat=f"{caveat} It is the largest of many that were looked at, so the true one is likely smaller.",
        action="Test whether bringing people there, or sparing them that, changes the outcome." if is_outcome else "",
        table=f"{CHAPTER}__compared",
    )


def _what(row: Any) -> str:
    return f"{row['what']} as event number {row['position']}" if row["kind"] == "place" else str(row["what"])


def _points(row: Any) -> str:
    low, high = row["difference_points_low"], row["difference_points_high"]
    return f"{present.amount(row['difference_points'], 'points')}; {present.interval(low, high)}"


def _paths(n: float) -> str:
    return "1 path" if n == 1 else f"{present.count(n)} paths"


def _share(row: Any, name: str) -> str:
    return f"{present.share(row[name])} ({present.interval(row[f'{name}_low'], row[f'{name}_high'], 'share')})"
