"""What the tables of events, identity, visits and outcomes say, in sentences and findings."""

from __future__ import annotations

import pandas as pd

from journeykit import present
from journeykit.config import Sessions, seconds
from journeykit.findings import Finding


def unmapped(table: pd.DataFrame) -> str:
    """Say how many events belong to no touchpoint."""
    if table.empty:
        return ""
    return (
        f"{present.count(table['events_n'].sum())} events ({present.share(table['events_share'].sum())}) belong to no "
        "touchpoint; they are kept, count for identity and order, and are not on the map."
    )


def identified(table: pd.DataFrame) -> str:
    """Say what stitching gained."""
    if table.empty:
        return ""
    before, after = (present.share(value) for value in table["identified_share"])
    return f"{before} of the events carry a verified identity; after stitching, {after} belong to a person who has one."


def sessions(table: pd.DataFrame, plan: Sessions) -> str:
    """Say by which rule visits are cut, how many there are, and how long they last."""
    if table.empty:
        return ""
    row = table.iloc[0]
    interval = present.interval(row["single_touch_share_low"], row["single_touch_share_high"], "share")
    return (
        f"{_rule(plan)} That makes "
        f"{present.count(row['sessions_n'])} visits of {present.count(row['people_n'])} people. Half of the people "
        f"have {present.number(row['median_sessions_per_person'], 0)} visits or more; half of the visits have "
        f"{present.number(row['median_touches_per_session'], 0)} touches or more and last "
        f"{present.seconds(row['median_length_seconds'])} or longer. {present.share(row['single_touch_share'])} "
        f"({interval}) have a single touch."
    )


def _rule(plan: Sessions) -> str:
    cuts = [f"after {present.seconds(seconds(plan.gap))} without a touch"]
    cuts += ["at midnight"] * plan.cut_at_midnight
    cuts += ["when another marketing channel brings somebody"] * plan.cut_at_campaign
    joined = ", and ".join(cuts) if len(cuts) < 3 else f"{', '.join(cuts[:-1])}, and {cuts[-1]}"
    if not plan.identifier:
        return f"A new visit starts {joined}."
    own = f"A visit is one value of {plan.identifier} for one person."
    return f"{own} Among touches without one, a new visit starts {joined}."


def outcomes(table: pd.DataFrame) -> str:
    """Say how the journeys that are over ended, and how many are still open."""
    if table.empty:
        return ""
    count = table.set_index("outcome")["journeys_n"]
    opened = int(count.get("open", 0))
    over = int(table["n"].iloc[0]) - opened
    still = f"{present.count(opened)} of {present.count(table['n'].iloc[0])} journeys are still open."
    if not over:
        return still
    won = table[table["outcome"] == "converted"]
    if won.empty:
        return f"Of {present.count(over)} journeys that are over, none converted. {still}"
    row = won.iloc[0]
    interval = present.interval(row["of_finished_share_low"], row["of_finished_share_high"], "share")
    share = present.share(row["of_finished_share"])
    return f"Of {present.count(over)} journeys that are over, {share} ({interval}) converted. {still}"


def stitch_findings(identified_table: pd.DataFrame, outcome_table: pd.DataFrame) -> list[Finding]:
    """Return the findings on identity and on how journeys end."""
    found = []
    if len(identified_table) == 2:
        after = identified_table.iloc[1]
        found.append(
            Finding(
                id="events-identified",
                chapter="02_stitch",
                statement=f"{present.share(after['identified_share'])} of the events belong to a person with a "
                "verified identity.",
                value=after["identified_share"],
                low=after["identified_share_low"],
                high=after["identified_share_high"],
                n=int(after["n"]),
                unit="share",
                better="up",
                caveat=(
                    "The rest are devices and visits that nobody ever signed in on; they may be the same people. "
                    if after["identified_share"] < 1
                    else ""
                )
                + "The interval takes people, not events, as independent.",
                table="02_stitch__identified",
            )
        )
    converted = outcome_table[outcome_table["outcome"] == "converted"] if len(outcome_table) else outcome_table
    if len(converted):
        row = converted.iloc[0]
        still_open = present.count(row["n"] - row["finished_n"])
        found.append(
            Finding(
                id="journeys-converted",
                chapter="02_stitch",
                statement=f"{present.share(row['of_finished_share'])} of the {present.count(row['finished_n'])} "
                f"journeys that are over converted; {still_open} are still open.",
                value=row["of_finished_share"],
                low=row["of_finished_share_low"],
                high=row["of_finished_share_high"],
                n=int(row["finished_n"]),
                unit="share",
                better="up",
                caveat="Journeys that begin with a request for support or an answer to a survey are included. "
                "A journey is known to have converted sooner than to be abandoned, which flatters recent ones. "
                "The interval takes people, not journeys, as independent.",
                table="02_stitch__outcomes",
                headline=True,
                label="Finished journeys that converted",
            )
        )
    return found
