"""What the tables of `leavers` and `leaver_levels` say, in sentences and findings."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.findings import Finding
from journeykit.funnels import NOTHING_MORE, OTHER
from journeykit.leaver_sides import words
from journeykit.leaver_tests import SURE
from journeykit.leavers import AT_ONCE

CHAPTER = "04_funnel"
NAMED = 3
_UNITS = {"person": "people", "session": "sessions", "journey": "journeys", "attempt": "attempts"}
_WHO = {"person": "people who", "session": "sessions that", "journey": "journeys that", "attempt": "attempts that"}


def next_events(table: pd.DataFrame) -> str:
    """Say what came next for those who stopped, and for those who went on, at the step where most stopped."""
    named = table[~table["next_step"].isin([OTHER, AT_ONCE])] if len(table) else table
    named = named[named["n"] > 0] if len(named) else named
    if not len(named):
        return ""
    row = named.sort_values(["stopped_n", "step_number", "n"], ascending=[False, True, False], kind="stable").iloc[0]
    what = "nothing more happened" if row["next_step"] == NOTHING_MORE else f"{row['next_step']} came next"
    text = (
        f"Of {present.count(row['stopped_n'])} who got no further than {row['step']}, for {_share(row, 'share')} "
        f"{what}, more often than anything else."
    )
    at_once = table[(table["next_step"] == AT_ONCE) & (table["step_number"] == row["step_number"])]
    at_once = at_once.dropna(subset="went_on_next_n")
    if len(at_once):
        on = at_once.iloc[0]
        text += (
            f" Of {present.count(on['went_on_n'])} who went on, {_share(on, 'went_on_share')} did so at once, with "
            "nothing between."
        )
    return text


def last_seen(table: pd.DataFrame) -> str:
    """Say where those who stopped were seen last."""
    named = table[table["last_seen"] != OTHER] if len(table) else table
    if not len(named):
        return ""
    gone = named[named["last_seen"] == NOTHING_MORE]
    others = named[named["last_seen"] != NOTHING_MORE]
    text = ""
    if len(gone):
        row = gone.iloc[0]
        text = (
            f"{_share(row, 'share')} of {present.count(row['stopped_n'])} who stopped at {row['step']} did nothing "
            "more in that time."
        )
    if len(others):
        row = others.iloc[0]
        text += f" {'The others were' if text else 'They were'} last seen at {row['last_seen']} most often: "
        text += f"{_share(row, 'share')} of all who stopped."
    return text.strip()


def drivers(table: pd.DataFrame, per: str = "person") -> str:
    """Say which features tell those who leave, and those who stay, and how many were looked at."""
    if not len(table):
        return ""
    who, step = _WHO[per], str(table.attrs.get("step", "the step"))
    tested = table[~table["is_structural"]]
    sure = tested[tested["p_adjusted"] < SURE]
    if tested.empty:
        text = ""
    elif sure.empty:
        text = (
            f"None of {present.count(len(tested))} things that were there before tells the {who} stop at {step} from "
            "those who go on, beyond chance."
        )
    else:
        text = (
            f"{present.count(len(sure))} of {present.count(len(tested))} things that were there before tell the {who} "
            f"stop at {step} from those who go on."
        )
    for direction, more in (("leave", "more"), ("stay", "less")):
        rows = sure[sure["direction"] == direction].head(NAMED).to_dict("records")
        if rows:
            listed = "; ".join(f"{_feature(row)}: {_gap(row)}" for row in rows)
            text += f" These leave {more} often: {listed}."
    if len(sure) and table.attrs.get("strata_n", 1) > 1:
        text += f" The differences are between {who} took about as long to get there."
    structural = table[table["is_structural"]]
    if len(structural):
        names = ", ".join(_feature(row) for row in structural.head(NAMED).to_dict("records"))
        text += f" Set apart, because nearly all of one side have it and nearly none of the other: {names}."
    return text.strip()


def afterwards(table: pd.DataFrame) -> str:
    """Say what those who stopped did in the time after it."""
    shown = table[~table["is_structural"]] if len(table) else table
    if not len(shown):
        return ""
    rows = shown.head(NAMED).to_dict("records")
    listed = ", ".join(f"{_feature(row)} ({present.share(row['stopped_share'])})" for row in rows)
    window = str(table.attrs.get("window", "afterwards"))
    who = f"{present.count(rows[0]['stopped_of_n'])} who stopped"
    text = f"{window[:1].upper()}{window[1:]}, what {who} did most often: {listed}."
    structural = table[table["is_structural"]]
    if len(structural):
        names = ", ".join(_feature(row) for row in structural.head(NAMED).to_dict("records"))
        text += f" Part of the next step, and no reason for it: {names}."
    return text


def levels(table: pd.DataFrame, trend: pd.DataFrame) -> str:
    """Say how the share lost differs between levels, and whether it rises or falls with a number."""
    if not len(table):
        return ""
    by, step = words(str(table["by"].iloc[0])), str(table.attrs.get("step", "the step"))
    if len(trend):
        row, first, last = trend.iloc[0], table.iloc[0], table.iloc[-1]
        sure = row["p_value"] < SURE
        way = "rises" if row["change_points"] > 0 else "falls"
        change = f"{present.number(abs(row['change_points']))} points ({_reach(row)}) for each {row['per']:g} more"
        ends = (
            f"from {_share(first, 'lost_share')} at {first['level']} to {_share(last, 'lost_share')} at {last['level']}"
        )
        if sure:
            return f"The share lost at {step} {way} with {by}: {ends}, which is {change}."
        return f"The share lost at {step} goes {ends} with {by}; that it changes with it at all may be chance."
    ordered = table.sort_values(["lost_share", "level"], ascending=[False, True])
    worst, best = ordered.iloc[0], ordered.iloc[-1]
    if worst["level"] == best["level"]:
        return (
            f"At {step}, {_share(worst, 'lost_share')} of {present.count(worst['n'])} with {by} {worst['level']} stop."
        )
    return (
        f"By {by}, most stop at {step} with {worst['level']} ({_share(worst, 'lost_share')} of "
        f"{present.count(worst['n'])}), fewest with {best['level']} ({_share(best, 'lost_share')} of "
        f"{present.count(best['n'])})."
    )


def adjusted(table: pd.DataFrame) -> str:
    """Say what is left of each column when the others are held equal."""
    if not len(table):
        return ""
    others = "with the others held equal" if len(set(table["by"])) > 1 else "taken alone"
    rows = table.sort_values("p_value", kind="stable").head(NAMED).to_dict("records")
    listed = "; ".join(f"{_term(row)}: {_points(row)}" for row in rows)
    return f"Change of the share that stops at {table.attrs.get('step', 'the step')}, {others}: {listed}."


def findings(
    told: pd.DataFrame, equal: pd.DataFrame | None = None, *, owner: str = "", per: str = "person"
) -> list[Finding]:
    """Return what goes most surely with leaving at a step, as a finding.

    Args:
        told: of `leavers.drivers`.
        equal: of `leaver_levels.adjusted`; its surest row is preferred, because others are held equal there.
        owner: the team of the step.
        per: what is counted.
    """
    units = _UNITS[per]
    source: dict[str, Any] = {}
    if equal is not None and len(equal) and equal["p_value"].min() < SURE:
        row = equal.sort_values("p_value", kind="stable").iloc[0].to_dict()
        step, way = equal.attrs.get("step", "the step"), "more" if row["change_points"] > 0 else "fewer"
        held = [words(name) for name in dict.fromkeys(equal["by"]) if name != row["by"]]
        statement = (
            f"{_term(row)} goes with {present.number(abs(row['change_points']))} percentage points ({_reach(row)}) "
            f"{way} {units} leaving at {step}" + (f", {' and '.join(held)} held equal." if held else ".")
        )
        source = {"value": row["change_points"], "low": row["change_points_low"], "high": row["change_points_high"]}
        source |= {"n": equal.attrs.get("n"), "table": f"{CHAPTER}__adjusted"}
        what = words(str(row["by"]))
    else:
        sure = told[~told["is_structural"] & (told["p_adjusted"] < SURE)] if len(told) else told
        if not len(sure):
            return []
        row, step = sure.iloc[0].to_dict(), told.attrs.get("step", "the step")
        way = "more" if row["difference_points"] > 0 else "less"
        statement = f"{units.capitalize()} with {_feature(row)} leave {way} often at {step}: {_gap(row)}."
        names = {"": "value", "_low": "low", "_high": "high"}
        source = {name: row[f"difference_points{end}"] for end, name in names.items()}
        source |= {"n": row["stopped_of_n"] + row["went_on_of_n"], "table": f"{CHAPTER}__drivers"}
        what = _feature(row)
    return [
        Finding(
            id="leak_driver",
            chapter=CHAPTER,
            statement=statement[:1].upper() + statement[1:],
            unit="points",
            evidence="associated",
            caveat="Who differs in this differs in other things too; only a test says whether changing it keeps them.",
            action=f"Test a remedy for {what} at {step} in an experiment, with the last step of the funnel as metric.",
            owner=owner,
            label=f"What goes with leaving at {step}",
            **source,
        )
    ]


def _feature(row: dict[Any, Any]) -> str:
    kind = words(str(row["kind"]))
    return str(row["feature"]) if kind in ("event", "touchpoint", "stage") else f"{kind} {row['feature']}"


def _term(row: dict[Any, Any]) -> str:
    by = words(str(row["by"]))
    number = str(row["level"]).removeprefix("per ")
    return f"{by} {row['level']} against {row['against']}" if row["against"] else f"each {number} more of {by}"


def _gap(row: dict[Any, Any]) -> str:
    return (
        f"{present.share(row['lost_share'])} stop, against {present.share(row['lost_without_share'])} of those without "
        f"({_signed(row['difference_points'])} points, {_span(row, 'difference_points')})"
    )


def _points(row: dict[Any, Any]) -> str:
    return f"{_signed(row['change_points'])} points ({_span(row, 'change_points')})"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _span(row: dict[Any, Any], name: str) -> str:
    return present.interval(row[f"{name}_low"], row[f"{name}_high"])


def _reach(row: Any) -> str:
    """The interval of the size of a change, whichever way it goes."""
    bounds = sorted([row["change_points_low"], row["change_points_high"]], key=abs)
    if row["change_points_low"] * row["change_points_high"] < 0:
        return present.interval(row["change_points_low"], row["change_points_high"])
    return present.interval(abs(bounds[0]), abs(bounds[1]))


def _share(row: Any, name: str) -> str:
    return f"{present.share(row[name])} ({present.interval(row[f'{name}_low'], row[f'{name}_high'], 'share')})"
