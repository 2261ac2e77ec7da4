"""Whether the experiments of chapter 08 can be believed, in sentences."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.experiments.assignment import BEFORE_START, NEVER
from journeykit.experiments.declared import WHOLE
from journeykit.experiments.telemetry import ALL
from journeykit.experiments.words import difference
from journeykit.readings.funnel_words import chance, share_of


def declared(table: pd.DataFrame, timing: pd.DataFrame) -> str:
    """Say which tests are declared, what is missing from their declarations, and which are read too early."""
    if table.empty:
        return ""
    text = f"{in_words(table['experiment'].nunique()).capitalize()} declared."
    for item, what in (("Horizon", "no horizon"), ("Decision", "no decision table"), ("Minimum effect", "no effect")):
        lacking = (table["item"] == item) & table["declared"].str.startswith("not declared")
        if lacking.any():
            names = ", ".join(table.loc[lacking, "experiment"])
            text += f" {what.capitalize()}{' worth acting on' if what == 'no effect' else ''} is declared for {names}."
    for row in timing.loc[timing["early"].astype(bool)].to_dict("records") if len(timing) else []:
        read = f"{row['read_at']:%Y-%m-%d}"
        if present.missing(row["ends_at"]):
            text += f" {row['experiment']} is still running: {present.count(row['open_n'])} windows are open on {read}."
        else:
            text += f" {row['experiment']} is read on {read}, before its horizon ends on {row['ends_at']:%Y-%m-%d}."
    return text


def changes(table: pd.DataFrame) -> str:
    """Say what was declared otherwise after the start."""
    if table.empty:
        return ""
    told = []
    for name, rows in table.groupby("experiment", sort=False):
        items = [
            f"{row['item']} was “{row['declared_then']}” and is now “{row['declared_now']}”"
            if row["item"] != WHOLE
            else (
                "it was declared after its start" if row["declared_now"] == "declared" else "it is no longer declared"
            )
            for row in rows.to_dict("records")
        ]
        noted = "" if (rows["announced"] == "yes").all() else " No amendment says why."
        told.append(f"{name}: {'; '.join(items)}.{noted}")
    return f"Changed after the start. {' '.join(told)}"


def exposure(table: pd.DataFrame) -> str:
    """Say how many people are compared and why the others are not."""
    if table.empty:
        return ""
    counts = table.groupby("status", sort=False)["people_n"].sum()
    total, number = int(counts.sum()), table["experiment"].nunique()
    others = ", ".join(f"{present.count(n)} ({status})" for status, n in counts.items() if status != "compared" and n)
    compared = f"{present.count(counts['compared'])} of {present.count(total)} exposed people"
    text = f"In {in_words(number)}, {compared} are compared"
    repeat = " (a person counts once in each test)" if number > 1 else ""
    return f"{text}{repeat}; not compared: {others}." if others else f"{text}{repeat}."


def split(table: pd.DataFrame) -> str:
    """Say which splits can be trusted."""
    if table.empty:
        return ""
    number = table["experiment"].nunique()
    broken, warned = (table.loc[table["verdict"] == verdict] for verdict in ("broken", "warning"))
    sound = number - broken["experiment"].nunique() - warned["experiment"].nunique()
    text = f"The observed split is compatible with the plan in {sound} of {in_words(number)}."
    for name, arms in broken.groupby("experiment", sort=False):
        text += f" {name}: {off_plan(arms)}; no effect of it is shown."
    for name, arms in warned.groupby("experiment", sort=False):
        text += f" Warning for {name}: {off_plan(arms)}; a fair split is seldom so far off, so look for lost people."
    return text


def split_days(table: pd.DataFrame) -> str:
    """Say on which day a split was first found broken, by the test that may be looked at every day."""
    if table.empty:
        return ""
    broken = table.loc[table["verdict"] == "broken"].drop_duplicates("experiment")
    if broken.empty:
        last = table["p_value"].min()
        return f"No split left the band of what is compatible with the plan (smallest sequential {chance(last)})."
    told = [
        f"{row['experiment']}: broken from {row['day']:%Y-%m-%d} on, after {present.count(row['total_n'])} people"
        for row in broken.to_dict("records")
    ]
    return f"{'; '.join(told)}. A check every day would have stopped it then."


def split_segments(table: pd.DataFrame) -> str:
    """Say where people are lost."""
    if table.empty:
        return ""
    bad = table.loc[table["verdict"] != "ok"]
    if bad.empty:
        return "In no segment is the split off the plan, after correction for the number of segments."
    told = []
    for (name, segment, value), arms in bad.groupby(["experiment", "segment", "value"], sort=False):
        worst = arms.sort_values("missing_n", ascending=False, kind="stable").iloc[0].to_dict()
        looked = table.loc[table["experiment"] == name, ["segment", "value"]].drop_duplicates()
        told.append(
            f"{name}: with {_segment(str(segment))} {value} about {present.count(worst['missing_n'])} people are "
            f"missing from {worst['arm']} ({chance(worst['p_adjusted'])} after correction for {len(looked)} segments)"
        )
    return f"{'; '.join(told)}."


def assignment(table: pd.DataFrame) -> str:
    """Say whether people were assigned as a fair test does."""
    if table.empty:
        return ""
    told = []
    for row in table.loc[table["verdict"] != "ok"].to_dict("records"):
        who = f"{share_of(row, 'people_share')} of {present.count(row['n'])} people"
        if row["check"] == NEVER:
            told.append(
                f"{row['experiment']}: {who} assigned to {row['arm']} were never exposed; "
                f"the arms differ in that ({chance(row['p_value'])})"
            )
        else:
            stops = row["verdict"] == "failed" and row["check"] != BEFORE_START
            told.append(f"{row['experiment']}: {who} were {row['check']}{', too many for a verdict' if stops else ''}")
    if told:
        return f"{'. '.join(told)}."
    return "Nobody, or hardly anybody, was assigned in a way that a fair test does not know."


def balance(table: pd.DataFrame) -> str:
    """Say whether the arms were alike before the exposure, and name what was furthest apart."""
    if table.empty:
        return ""
    bad = table.loc[table["verdict"] != "alike"].drop_duplicates(["experiment", "arm"])
    number = table["experiment"].nunique()
    worst = table.loc[table["standard_difference"].abs().idxmax()]
    furthest = (
        f"The largest difference of all is {present.number(abs(worst['standard_difference']), 2)} standard deviations "
        f"({worst['measure']} in {worst['experiment']})."
    )
    if bad.empty:
        return f"Before the exposure the arms were alike in {in_words(number)}, all measures together. {furthest}"
    told = [
        f"{row['experiment']}: {row['arm']} was not like control before the exposure "
        f"(all measures together {chance(row['joint_p_value'])}), most in {row['measure']} "
        f"({present.number(row['control'], 2)} in control, {present.number(row['treatment'], 2)} in {row['arm']})"
        for row in bad.to_dict("records")
    ]
    return f"{'. '.join(told)}. Their effects may be older than the change."


def response(table: pd.DataFrame) -> str:
    """Say whether the arms answered at the same rate."""
    if table.empty:
        return ""
    told = []
    for (experiment, metric, verdict), arms in table.groupby(["experiment", "metric", "verdict"], sort=False):
        if verdict == "differs":
            rates = ", ".join(f"{row['arm']} {present.share(row['answered_share'])}" for row in arms.to_dict("records"))
            told.append(f"{metric} in {experiment} ({rates})")
    if told:
        return f"The arms answered at different rates for {'; '.join(told)}: do not read this difference as an effect."
    return "No satisfaction metric shows a difference in how many people of each arm answered."


def telemetry(table: pd.DataFrame) -> str:
    """Say whether more is heard of one arm than of the other after the exposure."""
    if table.empty:
        return ""
    bad = table.loc[table["verdict"] != "alike"].drop_duplicates(["experiment", "segment", "value"])
    if bad.empty:
        quiet = table.loc[table["segment"] == ALL]
        share = quiet["silent_n"].sum() / quiet["n"].sum()
        return (
            f"After the exposure as much is heard of one arm as of the other; {present.share(share)} of people have no "
            "event at all."
        )
    told = []
    for row in bad.to_dict("records"):
        same = (table["experiment"] == row["experiment"]) & (table["segment"] == row["segment"])
        arms = table.loc[same & (table["value"] == row["value"])].to_dict("records")
        heard = ", ".join(
            f"{arm['arm']} {present.number(arm['events_per_person'], 1)} events per person and "
            f"{present.share(arm['silent_share'])} silent"
            for arm in arms
        )
        where = "" if row["segment"] == ALL else f" with {_segment(row['segment'])} {row['value']}"
        told.append(f"{row['experiment']}{where}: {heard}")
    return f"Less is heard of one arm. {'; '.join(told)}. Either events get lost or the change made people do less."


def overlap(table: pd.DataFrame, interactions: pd.DataFrame) -> str:
    """Say whether tests that share people disturb each other."""
    if table.empty:
        return ""
    dependent = table.loc[table["verdict"] != "ok"]
    text = f"{len(table)} {'pair' if len(table) == 1 else 'pairs'} of tests share people."
    if dependent.empty:
        text += " Among these the arms of the one were drawn independently of those of the other."
    for row in dependent.to_dict("records"):
        text += f" The arms of {row['experiment']} and {row['other']} go together ({chance(row['p_value'])})."
    if interactions.empty:
        return text
    met = interactions.loc[interactions["verdict"] == "interact"]
    if met.empty:
        compared = f"{len(interactions)} {'comparison' if len(interactions) == 1 else 'comparisons'}"
        return f"{text} In {compared} no effect is shown to depend on another test."
    for row in met.to_dict("records"):
        alone, together = (difference(row[f"effect_{which}"], row["unit"]) for which in ("alone", "together"))
        text += (
            f" The effect of {row['experiment']} on {row['metric']} depends on {row['other']}: {alone} in its control, "
            f"{together} in {row['other_arm']}."
        )
    return text


def off_plan(arms: pd.DataFrame) -> str:
    """Say by how much the arm that is furthest from its plan is off."""
    worst: Any = furthest(arms)
    interval = present.interval(worst["share_low"], worst["share_high"], "share")
    return (
        f"{worst['arm']} has {present.share(worst['share'])} ({interval}) of {present.count(arms['n'].sum())} people, "
        f"planned {present.share(worst['planned_share'])} ({chance(worst['p_value'])})"
    )


def furthest(arms: pd.DataFrame) -> Any:
    """Return the row of the arm that is furthest from its planned share."""
    return arms.loc[(arms["share"] - arms["planned_share"]).abs().idxmax()]


def in_words(n: int) -> str:
    """Return a number of tests in words.

    >>> in_words(1), in_words(4)
    ('1 test', '4 tests')
    """
    return f"{n} test" if n == 1 else f"{n} tests"


def _segment(column: str) -> str:
    return column.removeprefix("segment_").replace("_", " ")
