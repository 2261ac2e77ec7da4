"""What the ingestion and stitching tables say, in sentences and findings."""

from __future__ import annotations

import pandas as pd

from journeykit import present
from journeykit.config import seconds
from journeykit.findings import Finding
from journeykit.stats import wilson


def accounting(table: pd.DataFrame, events_n: int | None = None, spend_n: int = 0) -> str:
    """Say where the rows went, whether the account balances, and why events are not as many as kept rows."""
    if table.empty:
        return ""
    total = table[["read_n", "kept_n", "duplicate_n", "quarantined_n", "left_out_n"]].sum()
    balance = "The account balances for every file." if table["balances"].all() else "The account does not balance."
    text = (
        f"{present.count(total['read_n'])} rows were read: {present.count(total['kept_n'])} were kept, "
        f"{present.count(total['duplicate_n'])} were duplicates, {present.count(total['quarantined_n'])} were "
        f"quarantined and {present.count(total['left_out_n'])} were left out by a rule. {balance}"
    )
    if events_n is None or events_n == total["kept_n"]:
        return text
    text += f" The {present.count(total['kept_n'])} kept rows are {present.count(events_n)} events"
    why = " because a wide row, such as an order with several dates, holds several events"
    if spend_n:
        of_spend = f"{present.count(spend_n)} rows of daily spend are money and no events"
        return f"{text}: {of_spend}, and a wide row, such as an order with several dates, holds several events."
    return text + why + "."


def clocks(table: pd.DataFrame) -> str:
    """Say how many rows came late or fell on a change of the clocks."""
    if table.empty:
        return ""
    total = table[["late_n", "ambiguous_n", "skipped_n"]].sum()
    return (
        f"{present.count(total['late_n'])} kept rows arrived late. {present.count(total['ambiguous_n'])} carry a local "
        "time that occurred twice when the clocks went back (the first of the two is taken), and "
        f"{present.count(total['skipped_n'])} one that never occurred when they went forward (moved on by an hour)."
    )


def reasons(table: pd.DataFrame) -> str:
    """Say the most frequent reason of quarantine."""
    if table.empty:
        return ""
    top = table.iloc[0]
    return (
        f"The most frequent reason is “{top['reason']}” in {top['source']} ({present.count(top['rows_n'])} of "
        f"{present.count(table['rows_n'].sum())} quarantined rows)."
    )


def unmapped(table: pd.DataFrame) -> str:
    """Say how many events belong to no touchpoint."""
    if table.empty:
        return ""
    return (
        f"{present.count(table['events_n'].sum())} events ({present.share(table['events_share'].sum())}) belong to no "
        "touchpoint; they are kept, count for identity and order, and are not on the map."
    )


def gaps(table: pd.DataFrame) -> str:
    """Say which sources have weeks without any event between their first and their last."""
    found = []
    for source, part in table.groupby("source") if len(table) else []:
        filled = part[part["events_n"] > 0]
        inside = part[(part["week_at"] > filled["week_at"].min()) & (part["week_at"] < filled["week_at"].max())]
        empty = int((inside["events_n"] == 0).sum())
        if empty:
            found.append(f"{source} ({empty} weeks)")
    if table.empty:
        return ""
    if not found:
        return "No source has a week without events between its first and its last."
    return f"Weeks without any event: {', '.join(found)}."


def identified(table: pd.DataFrame) -> str:
    """Say what stitching gained."""
    if table.empty:
        return ""
    before, after = (present.share(value) for value in table["identified_share"])
    return f"{before} of the events carry a verified identity; after stitching, {after} belong to a person who has one."


def policies(table: pd.DataFrame) -> str:
    """Say how much the number of people depends on the policy."""
    if len(table) < 2:
        return ""
    low, high = table["people_n"].min(), table["people_n"].max()
    if low == high:
        return f"Every rule gives the same {present.count(low)} people: the choice does not matter on this study."
    return (
        f"The same events are {present.count(low)} to {present.count(high)} people, depending on the policy alone. "
        "Every figure per person in this report inherits that choice."
    )


def sessions(table: pd.DataFrame, gap: str) -> str:
    """Say how many visits there are, how long they last, and the gap that cuts them."""
    if table.empty:
        return ""
    row = table.iloc[0]
    interval = present.interval(row["single_touch_share_low"], row["single_touch_share_high"], "share")
    return (
        f"A new visit starts after {present.seconds(seconds(gap))} without a touch. That makes "
        f"{present.count(row['sessions_n'])} visits of {present.count(row['people_n'])} people. Half of the people "
        f"have {present.number(row['median_sessions_per_person'], 0)} visits or more; half of the visits have "
        f"{present.number(row['median_touches_per_session'], 0)} touches or more and last "
        f"{present.seconds(row['median_length_seconds'])} or longer. {present.share(row['single_touch_share'])} "
        f"({interval}) have a single touch."
    )


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
    won = int(count.get("converted", 0))
    interval = present.interval(*wilson(won, over), "share")
    return (
        f"Of {present.count(over)} journeys that are over, {present.share(won / over)} ({interval}) converted. {still}"
    )


def ingest_findings(table: pd.DataFrame, reason_table: pd.DataFrame) -> list[Finding]:
    """Return the finding on data quality: the share of rows that could not be used."""
    if table.empty:
        return []
    bad, n = int(table["quarantined_n"].sum()), int(table["read_n"].sum())
    if not bad:
        return []
    low, high = wilson(bad, n)
    share = bad / n
    source = (
        f" Start with {reason_table.iloc[0]['source']}: {reason_table.iloc[0]['reason']}." if len(reason_table) else ""
    )
    return [
        Finding(
            id="rows-quarantined",
            chapter="01_ingest",
            statement=f"{present.share(share, 2)} of the raw rows cannot be used and were set aside.",
            value=share,
            low=low,
            high=high,
            n=n,
            unit="share",
            better="down",
            action="Show the quarantined rows to the owners of the exports." + source,
            caveat="A share of rows, not of people; a lost order weighs more than a lost page view.",
            table="01_ingest__files",
        )
    ]


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
                caveat="The rest are devices and visits that nobody ever signed in on; they may be the same people."
                if after["identified_share"] < 1
                else "",
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
                "A journey is known to have converted sooner than to be abandoned, which flatters recent ones.",
                table="02_stitch__outcomes",
                headline=True,
                label="Finished journeys that converted",
            )
        )
    return found
