"""What the tables of a watch say: alerts in words, how many checks were quiet, and how often rules cry in vain."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.findings import Finding
from journeykit.watch.alerts import ALERT, DAY, FRESHNESS, OPEN, QUIET, VOLUME

CHAPTER = "09_summary"
SPAN = {DAY: "on", "week": "in the week from"}


def alerts(table: pd.DataFrame, checked: pd.DataFrame) -> str:
    """Say what is unusual now, and how much was looked at."""
    quiet, open_ = (int((checked["verdict"] == verdict).sum()) if len(checked) else 0 for verdict in (QUIET, OPEN))
    looked = f"{present.count(quiet)} checks are quiet" + (
        f", {present.count(open_)} had too little to go by." if open_ else "."
    )
    if table.empty:
        return f"Nothing is unusual: {looked}" if quiet else ""
    told = " ".join(_told(row) for row in table.to_dict("records"))
    return f"{told} {looked}"


def _told(row: dict[Any, Any]) -> str:
    day = "" if present.missing(row["period_at"]) else f"{pd.Timestamp(row['period_at']):%Y-%m-%d}"
    if row["rule"] == FRESHNESS:
        return (
            f"{row['kpi']} has been silent since {day}: {row['reason']}." if day else f"{row['kpi']}: {row['reason']}."
        )
    expected = (
        "" if present.missing(row["expected"]) else f", {_amount(row['expected'], row['unit'])} were to be expected"
    )
    if row["rule"] == VOLUME:
        return f"{row['kpi']} gave {_amount(row['observed'], row['unit'])} on {day}{expected}: {row['reason']}."
    limits = " to ".join(_amount(row[side], row["unit"]).split(" ")[0] for side in ("low", "high"))
    return (
        f"{row['kpi']} {SPAN[row['rule']]} {day}: {_amount(row['observed'], row['unit'])}, "
        f"{present.share(abs(row['change_share']), 0)} {'above' if row['change_share'] > 0 else 'below'} what was "
        f"to be expected ({_amount(row['expected'], row['unit'])}, usual is {limits})."
    )


def _amount(value: float, unit: str) -> str:
    if unit == "share":
        return present.share(value)
    digits = 2 if unit == "score" else 0 if abs(value) >= 100 else 1
    return f"{present.number(value, digits)} {unit}"


def freshness(table: pd.DataFrame) -> str:
    """Say which sources are stale."""
    if table.empty:
        return ""
    stale = table.loc[table["verdict"] == "stale"]
    if stale.empty:
        return f"All {len(table)} sources are fresh: none has been silent for longer than is usual for it."
    told = ", ".join(
        f"{row['source']} ({'no row' if present.missing(row['last_at']) else present.seconds(row['silent_seconds'])})"
        for row in stale.to_dict("records")
    )
    return f"Stale: {told}. Numbers that rest on these sources are judged up to their last event only."


def firings(table: pd.DataFrame) -> str:
    """Say how often the rules would have fired in the past, and which would have been the noisiest."""
    known = table.loc[table["judged_n"] > 0] if len(table) else table
    if known.empty:
        return ""
    told = []
    for rule, words in ((DAY, "days"), ("week", "weeks")):
        part = known.loc[known["rule"] == rule]
        if len(part):
            fired, judged = int(part["fired_n"].sum()), int(part["judged_n"].sum())
            told.append(f"{fired} of {present.count(judged)} {words} judged ({present.share(fired / judged)})")
    worst = known.loc[known["a_year"].astype(float).idxmax()]
    noisy = ""
    if worst["fired_n"] > 0:
        often = present.number(float(worst["a_year"]), 0)
        noisy = f" Most often: {worst['kpi']}, by the {worst['rule']}, about {often} times a year."
    return f"In the past the rules would have fired at {' and '.join(told)}; chance alone gives about 0.3 %.{noisy}"


def findings(table: pd.DataFrame) -> list[Finding]:
    """Return one finding per alert."""
    return [_finding(row, number) for number, row in enumerate(table.to_dict("records"), start=1)]


def _finding(row: dict[Any, Any], number: int) -> Finding:
    is_source = row["rule"] in (FRESHNESS, VOLUME)
    scale = 1
    return Finding(
        id=f"alert_{number:02d}_{row['rule']}",
        chapter=CHAPTER,
        statement=_told(row),
        value=None if present.missing(row["observed"]) else scale * row["observed"],
        low=None if is_source else row["low"],
        high=None if is_source else row["high"],
        unit=row["unit"],
        evidence="observed",
        caveat="low and high are what was usual, not an interval of the value." if not is_source else "",
        action="Ask the owner of the source whether its export ran."
        if is_source
        else "Look first whether the day was a holiday or the export incomplete; then what changed that day.",
        table=f"{CHAPTER}__alerts",
        label=f"{row['kpi']}: {ALERT}",
    )
