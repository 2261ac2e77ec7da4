"""What was delivered, in sentences and findings: files, times, columns, volume, and the limits of journey.toml."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present, volume
from journeykit.findings import Finding
from journeykit.stats import wilson


def accounting(table: pd.DataFrame, events_n: int | None = None, spend_n: int = 0, profiles_n: int = 0) -> str:
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
    erased = int(table["erased_n"].sum())
    if erased:
        text += f" Of those left out, {present.count(erased)} are of people on the erasure list."
    if events_n is None or events_n == total["kept_n"]:
        return text
    text += f" The {present.count(total['kept_n'])} kept rows are {present.count(events_n)} events"
    wide = "a wide row, such as an order with several dates, holds several events"
    none = [f"{present.count(spend_n)} rows of daily spend are money and no events"] if spend_n else []
    none += [f"{present.count(profiles_n)} rows of profiles say who is who and are no events"] if profiles_n else []
    return f"{text}: {', '.join(none)}, and {wide}." if none else f"{text} because {wide}."


def notes(table: pd.DataFrame) -> str:
    """Say how many files there is something to say about, and how many of them gave no row."""
    if table.empty:
        return ""
    unread = int((table["read_n"] == 0).sum())
    return f"{_files(len(table))} with a note; {_were(unread)} not read."


def clocks(table: pd.DataFrame) -> str:
    """Say how many rows came late or too early, lie in the future, or fell on a change of the clocks."""
    if table.empty:
        return ""
    total = table[["late_n", "early_n", "future_n", "ambiguous_n", "skipped_n"]].sum()
    parts = [f"{_rows(total['late_n'])} arrived late."]
    if total["early_n"]:
        worst = table.sort_values(["early_n", "source"], ascending=[False, True]).iloc[0]
        n = int(total["early_n"])
        most = "of" if n == worst["early_n"] else f"{present.count(worst['early_n'])} of them of"
        they = "it" if n == 1 else "they"
        parts.append(f"{_rows(n)} arrived before {they} happened, {most} {worst['source']}: a clock there is wrong.")
    if total["future_n"]:
        n = int(total["future_n"])
        was, their = ("was", "its") if n == 1 else ("were", "their")
        parts.append(f"{_rows(n)} {was} set aside because {their} time lies in the future.")
    if total["ambiguous_n"] or total["skipped_n"]:
        carry = "carries" if total["ambiguous_n"] == 1 else "carry"
        parts.append(
            f"{_rows(total['ambiguous_n'])} {carry} a local time that occurred twice when the clocks went back (the "
            f"first of the two is taken), and {present.count(total['skipped_n'])} one that never occurred when they "
            "went forward (moved on by an hour)."
        )
    return " ".join(parts)


def reasons(table: pd.DataFrame) -> str:
    """Say the most frequent reason of quarantine."""
    if table.empty:
        return ""
    top = table.iloc[0]
    return (
        f"The most frequent reason is “{top['reason']}” in {top['source']} ({present.count(top['rows_n'])} of "
        f"{present.count(table['rows_n'].sum())} quarantined rows)."
    )


def freshness(table: pd.DataFrame, as_of: pd.Timestamp) -> str:
    """Say which source ends first, how long before the end of observation, and which gave no row at all."""
    if table.empty:
        return ""
    none = table[table["last_at"].isna()]
    some = table[table["last_at"].notna()]
    parts = []
    if len(some):
        first = some.iloc[0]
        parts.append(
            f"The data of {first['source']} ends first, on {first['last_at']:%Y-%m-%d}, "
            f"{present.seconds(86400 * max(first['age_days'], 0))} before the end of observation "
            f"({as_of:%Y-%m-%d %H:%M} UTC)."
        )
        if "longest_silence_seconds" in some and some["longest_silence_seconds"].max() > 0:
            row = some.sort_values(["longest_silence_seconds", "source"], ascending=[False, True]).iloc[0]
            length = present.seconds(row["longest_silence_seconds"])
            parts.append(
                f"The longest silence of all is that of {row['source']}: {length} "
                f"from {row['silence_from_at']:%Y-%m-%d %H:%M} UTC on."
            )
    if len(none):
        parts.append(f"No row was kept of {', '.join(none['source'])}.")
    return " ".join(parts)


def unusual_days(judged: pd.DataFrame, runs: pd.DataFrame) -> str:
    """Say how many days could be judged, how many of them are unusual, and which silence is the longest."""
    if judged.empty or (judged["expected_n"].isna().all() and runs.empty):
        return ""
    known = judged[judged["expected_n"].notna()]
    few = sorted(set(judged["source"]) - set(known["source"]))
    text = f"{present.count(len(known))} of {present.count(len(judged))} days of {_sources(judged)} could be judged."
    if few:
        text += f" None of {', '.join(few)}."
    counts = {kind: int((judged["unusual"] == kind).sum()) for kind in volume.KINDS}
    found = [f"{present.count(n)} {kind} {'day' if n == 1 else 'days'}" for kind, n in counts.items() if n]
    text += f" Unusual: {_joined(found)}." if found else " None of them is unusual against the weeks before it."
    silent = runs[runs["unusual"] == "silent"] if len(runs) else runs
    if len(silent):
        row = silent.iloc[0]
        expected = f"; about {present.count(row['expected_n'])} events were to be expected"
        text += f" The longest silence is that of {row['source']}, {_span(row)}{expected}."
    return text


def column_changes(table: pd.DataFrame) -> str:
    """Say how many files differ in their columns from the one before, and which sources they belong to."""
    if table.empty:
        return ""
    gone = int((table["missing_columns"] != "").sum())
    also = (
        f"{present.count(gone)} of them lack a column that was there before" if gone else "none of them lacks a column"
    )
    have = "1 file has" if len(table) == 1 else f"{present.count(len(table))} files have"
    return f"{have} other columns than the file of its source before it; {also}."


def ties(table: pd.DataFrame) -> str:
    """Say how many events are tied, where most of them are, and how many lie between sources."""
    if table.empty:
        return ""
    worst = table.sort_values(["tied_share", "source"], ascending=[False, True]).iloc[0]
    across = int(table["across_n"].sum())
    between = f", {present.count(across)} of them with an event of another source" if across else ""
    return (
        f"{present.count(table['tied_n'].sum())} events have the time of the event before them{between}. Most of them, "
        f"as a share, are in {worst['source']} ({present.share(worst['tied_share'])})."
    )


def stops(table: pd.DataFrame) -> str:
    """Say whether the limits of journey.toml hold."""
    if table.empty:
        return ""
    broken = table[~table["held"].astype(bool)]
    if broken.empty:
        return f"All {len(table)} limits hold." if len(table) > 1 else "The one limit holds."
    names = [f"{row['rule']} of {row['source']}" for row in broken.to_dict("records")]
    return f"{len(broken)} of {len(table)} limits of journey.toml do not hold, and end the run: {_joined(names)}."


def findings(
    files: pd.DataFrame, reason_table: pd.DataFrame, judged: pd.DataFrame, runs: pd.DataFrame
) -> list[Finding]:
    """Return the findings on what was delivered: rows that could not be used, days that a source is silent or low."""
    return _quarantined(files, reason_table) + _missing_days(judged, runs)


def _quarantined(table: pd.DataFrame, reason_table: pd.DataFrame) -> list[Finding]:
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


def _missing_days(judged: pd.DataFrame, runs: pd.DataFrame) -> list[Finding]:
    if runs.empty:
        return []
    less = runs[runs["unusual"].isin(["silent", "low"])]
    if less.empty:
        return []
    worst, n = less.iloc[0], int(less["days_n"].sum())
    days = "1 day is" if n == 1 else f"{present.count(n)} days are"
    return [
        Finding(
            id="days-missing",
            chapter="01_ingest",
            statement=f"{days} silent or far below the weeks before, in {_sources(less)}.",
            value=n,
            n=int(judged["expected_n"].notna().sum()),
            unit="days",
            better="down",
            action=f"Ask the owner of {worst['source']} about {_span(worst)}, and fetch those days again.",
            caveat="Counted per source and day, without an interval, because it is no estimate. A day that the source "
            "was closed looks the same as one whose events were lost.",
            table="01_ingest__unusual_days",
        )
    ]


def _rows(n: float) -> str:
    return "1 row" if n == 1 else f"{present.count(n)} rows"


def _files(n: int) -> str:
    return "There is 1 file" if n == 1 else f"There are {present.count(n)} files"


def _were(n: int) -> str:
    return "1 of them was" if n == 1 else f"{present.count(n) if n else 'none'} of them were"


def _sources(table: pd.DataFrame) -> str:
    n = table["source"].nunique()
    return "1 source" if n == 1 else f"{n} sources"


def _span(row: pd.Series[Any]) -> str:
    if row["days_n"] == 1:
        return f"{row['first_day']:%Y-%m-%d}"
    return f"{row['first_day']:%Y-%m-%d} to {row['last_day']:%Y-%m-%d}"


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
