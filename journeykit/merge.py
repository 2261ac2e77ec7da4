"""The queries across files: what repeats, which rows stay, and `events`; in SQL that DuckDB and Spark both understand.

They read `staged`, which `staging.lay_out` makes of each file; see there.
"""

from __future__ import annotations

from collections.abc import Iterable

from journeykit.config import Study, seconds
from journeykit.mapping import columns_of
from journeykit.sql import identifier, literal


def kept(plan: Study) -> dict[str, str]:
    """Return the queries, each after the other, that end in `kept` and `per_part`.

    `repeats` numbers the second and later occurrences of an event, over all files; the first in time is the first.
    `kept` are the events without those that a source drops, each with the number of its `occurrence`. `per_part` is
    what `files` says of each part's kept rows.
    """
    again = listed(source.name for source in plan.sources if source.duplicates == "keep")
    return {
        "repeated": "SELECT source, row_key, event FROM staged GROUP BY source, row_key, event HAVING count(*) > 1",
        "repeats": (
            f"SELECT part, line, place, occurrence, source IN ({again}) AS kept FROM (SELECT s.part, s.line, s.place, "
            "s.source, row_number() OVER (PARTITION BY s.source, s.row_key, s.event "
            "ORDER BY s.timestamp, s.source_row, s.part, s.line, s.place) AS occurrence FROM staged s JOIN repeated r "
            "ON r.source = s.source AND r.row_key = s.row_key AND r.event = s.event) numbered WHERE occurrence > 1"
        ),
        "kept": (
            "SELECT s.*, n.occurrence FROM staged s LEFT JOIN repeats n "
            "ON n.part = s.part AND n.line = s.line AND n.place = s.place WHERE n.occurrence IS NULL OR n.kept"
        ),
        "per_part": _per_part(plan),
    }


def listed(names: Iterable[str]) -> str:
    """Return names as they stand in `IN (…)`; of none, one that nothing has."""
    return ", ".join(literal(name) for name in names) or "''"


def events(plan: Study) -> str:
    """Return the query of `events` over `kept` and `touchpoints`."""
    eventless = listed(source.name for source in plan.sources if source.kind != "events")
    emitting = listed(source.name for source in plan.sources if source.emits)
    # The number of an occurrence is part of the event's id where a source keeps its repeats, so that ids stay unique.
    replaced = {
        "event_id": f"CASE WHEN s.source IN ({emitting}) THEN CAST(s.place AS STRING) || '-' ELSE '' END || "
        "substr(md5(s.source || CAST(s.row_key AS STRING) || s.event), 1, 16) || "
        "coalesce('-' || CAST(s.occurrence AS STRING), '')",
        "touchpoint": "t.touchpoint",
        "stage": "t.stage",
        "team": "coalesce(s.team, t.owner)",
    }
    columns = columns_of(plan).all
    cells = ", ".join(f"{replaced.get(name, f's.{identifier(name)}')} AS {identifier(name)}" for name in columns)
    return (
        f"SELECT {cells} FROM kept s LEFT JOIN touchpoints t ON t.event = s.event WHERE s.source NOT IN ({eventless}) "
        "ORDER BY s.timestamp, s.source, s.source_row, event_id"
    )


def _per_part(plan: Study) -> str:
    late = " ".join(
        f"WHEN {literal(source.name)} THEN {seconds(source.late_after or '24h') * 1_000_000}" for source in plan.sources
    )
    # When a profile was known says nothing about how far a source reaches.
    profiles = listed(source.name for source in plan.sources if source.kind == "profiles")
    at = f"CASE WHEN source NOT IN ({profiles}) THEN timestamp END"
    fates = (
        "SELECT part, line, any_value(source) AS source, any_value(lag_us) AS lag_us, max(clock) AS clock, "
        f"min({at}) AS first_at, max({at}) AS last_at FROM kept GROUP BY part, line"
    )
    return (
        f"SELECT part, count(*) AS once_n, count(*) FILTER (WHERE lag_us > CASE source {late} END) AS late_n, "
        "count(*) FILTER (WHERE lag_us < 0) AS early_n, count(*) FILTER (WHERE clock = 'ambiguous') AS ambiguous_n, "
        "count(*) FILTER (WHERE clock = 'skipped') AS skipped_n, median(lag_us) / 1e6 AS lag_median_seconds, "
        f"min(first_at) AS first_at, max(last_at) AS last_at FROM ({fates}) once GROUP BY part"
    )
