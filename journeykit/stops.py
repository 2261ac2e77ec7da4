"""When a run must not go on: the limits that journey.toml states, held against what was read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import deliveries, engine, present, volume
from journeykit.config import Source, Stops, Study, seconds
from journeykit.errors import JourneyError
from journeykit.stats import not_enough

COLUMNS = ["source", "rule", "found", "allowed", "held", "stated_in"]
GENERAL = "stops"  # where the limits for every source stand
OF_EVENTS = ("max_gap", "max_unmapped_share")  # sources of spend and of profiles make no events
ADVICE = {
    "max_quarantine_share": "read the reasons in the table 01_ingest__reasons; one reason on most rows is a mapping "
    "to mend in journey.toml, else ask the owner of the export for a clean one",
    "min_rows": "check that path finds all files and that the export is whole",
    "max_age": "fetch a newer export, or set study.as_of to the day that the data ends",
    "max_gap": "fetch the missing days again; if the source was closed then, allow a longer gap",
    "max_unmapped_share": "give the events of the table 01_ingest__unmapped a touchpoint in [[stages]], or leave them "
    "out with where_not",
    "same_columns": "ask what has changed, mend the mapping (or optional), then set same_columns = false until the "
    "next export",
}

Judged = tuple[str, bool]  # what was found, as text, and whether it holds


@dataclass(frozen=True)
class _Facts:
    """What the rules look at, of one source; durations in seconds."""

    read_n: int
    kept_n: int
    quarantined_n: int
    last_at: pd.Timestamp  # of its kept rows, or NaT
    age: float
    silence: float
    silence_at: pd.Timestamp  # when it began, or NaT
    events_n: int
    unmapped_n: int
    without_columns: bool  # it has rows, and no file of it has columns
    changes: pd.DataFrame  # see `deliveries.column_changes`


def check(plan: Study, files: Any, events: Any, now: pd.Timestamp | None = None) -> pd.DataFrame:
    """Return whether each rule that journey.toml states for a source holds; a value at its limit does.

    A key of `sources.<name>.stops` wins over the same key of `[stops]`, which is meant for every source that it can be
    known of: spend and profiles have no events, profiles no last time, and records of JSON no columns. Stated for such
    a source itself, it is broken. A source without any row breaks `min_rows` and `max_age` and no other rule.

    Args:
        plan: the study.
        files: the table `files` of 01_ingest.
        events: the table `events`.
        now: what `max_age` counts from where `study.as_of` is not given; the present (UTC) unless given.

    Returns:
        One row per source and rule, broken ones first: source, rule, found, allowed (text with units), held, stated_in
        (the place in journey.toml).
    """
    stated = [(source, rule, where) for source in plan.sources for rule, where in _stated(plan, source).items()]
    if not stated:
        return not_enough(COLUMNS, "no [stops] in journey.toml: nothing that is read here ends a run")
    facts = _facts(plan, files, events, {rule for _, rule, _ in stated}, _until(plan, now))
    found = []
    for source, rule, where in stated:
        limit = getattr(_limits(plan, source), rule)
        why_not = _unknowable(source, rule, facts[source.name])
        if why_not and where == GENERAL:
            continue
        text, held = (f"{why_not}; remove the key", False) if why_not else RULES[rule](facts[source.name], limit)
        found.append([source.name, rule, text, _allowed(rule, limit), held, where])
    if not found:
        return not_enough(COLUMNS, "no limit of [stops] applies to what was read")
    return pd.DataFrame(found, columns=COLUMNS).sort_values("held", kind="stable", ignore_index=True)


def enforce(checked: pd.DataFrame) -> None:
    """Do nothing when every rule of `check` holds.

    Raises:
        JourneyError: naming all rules that do not hold, with what was found, what is allowed and what to do.
    """
    broken = [row for row in checked.to_dict("records") if not row["held"]] if len(checked) else []
    if broken:
        lines = [
            f"  · {row['stated_in']}.{row['rule']}"
            + (f" (source {row['source']})" if row["stated_in"] == GENERAL else "")
            + f": found {row['found']} · allowed {row['allowed']} · {ADVICE[row['rule']]}."
            for row in broken
        ]
        what = "1 limit does" if len(broken) == 1 else f"{len(broken)} limits do"
        raise JourneyError("\n".join([f"the data cannot be trusted: {what} not hold.", *lines]))


def _stated(plan: Study, source: Source) -> dict[str, str]:
    """The rules that hold for a source, and where journey.toml states them."""
    own, general = source.stops.model_fields_set, plan.stops.model_fields_set
    limits = _limits(plan, source)
    found = {}
    for rule in Stops.model_fields:
        inherited = rule not in own
        limit = getattr(limits, rule)
        if limit is None or limit is False or limit == "" or rule not in own | general:  # 0 is a limit
            continue
        found[rule] = GENERAL if inherited else f"sources.{source.name}.stops"
    return found


def _unknowable(source: Source, rule: str, facts: _Facts) -> str:
    """Why a rule cannot be known of a source, or ""."""
    if source.kind != "events" and rule in OF_EVENTS:
        return f"a source of {source.kind} has no events"
    if source.kind == "profiles" and rule == "max_age":
        return "a source of profiles reaches to no time"
    return "records of JSON have no columns to compare" if rule == "same_columns" and facts.without_columns else ""


def _limits(plan: Study, source: Source) -> Stops:
    """The limits of a source: its own keys over those for all."""
    own = {name: getattr(source.stops, name) for name in source.stops.model_fields_set}
    return plan.stops.model_copy(update=own)


def _until(plan: Study, now: pd.Timestamp | None) -> pd.Timestamp:
    """The end of observation, or now; without zone, in UTC."""
    moment = pd.Timestamp(plan.study.as_of) if plan.study.as_of else now if now is not None else pd.Timestamp.now("UTC")
    return moment.tz_convert("UTC").tz_localize(None) if moment.tzinfo else moment


def _facts(plan: Study, files: Any, events: Any, rules: set[str], until: pd.Timestamp) -> dict[str, _Facts]:
    """Measure what the stated rules look at; the events are scanned only for a rule about them."""
    table = engine.fetch(files)
    silences = _by_source(volume.silences(events, _finest(plan))) if "max_gap" in rules else {}
    unmapped = _by_source(_unmapped(events)) if "max_unmapped_share" in rules else {}
    changes = deliveries.column_changes(files)
    found = {}
    for source in plan.sources:
        part = table[table["source"] == source.name]
        last = pd.to_datetime(part["last_at"]).max()
        silence, mapped = silences.get(source.name, {}), unmapped.get(source.name, {})
        found[source.name] = _Facts(
            **{name: int(part[name].sum()) for name in ("read_n", "kept_n", "quarantined_n")},
            last_at=last,
            age=(until - last).total_seconds(),
            silence=silence.get("longest_silence_seconds", 0.0),
            silence_at=silence.get("silence_from_at", pd.NaT),
            events_n=int(mapped.get("n", 0)),
            unmapped_n=int(mapped.get("unmapped_n", 0)),
            without_columns=bool(part["read_n"].sum()) and not part["columns"].map(deliveries.names).map(len).any(),
            changes=changes[changes["source"] == source.name],
        )
    return found


def _by_source(table: pd.DataFrame) -> dict[str, dict[Any, Any]]:
    return {row["source"]: row for row in table.to_dict("records")}


def _finest(plan: Study) -> int:
    """Seconds to which silences are measured: a minute, or less where a limit is shorter."""
    limits = [limit for source in plan.sources if (limit := _limits(plan, source).max_gap)]
    return max(1, min(60, *map(seconds, limits)))


def _unmapped(events: Any) -> pd.DataFrame:
    """One row per source: all its events, n, and those that no touchpoint has, unmapped_n."""
    one = nw.when(nw.col("touchpoint").is_null()).then(1).otherwise(0)
    table = engine.lazy(events).with_columns(_one=one)
    return engine.fetch(table.group_by("source").agg(unmapped_n=nw.col("_one").sum(), n=nw.len()))


def _quarantined(facts: _Facts, limit: float) -> Judged:
    return _share(facts.quarantined_n, facts.read_n, "rows", limit)


def _kept(facts: _Facts, limit: int) -> Judged:
    return f"{facts.kept_n:,} rows", facts.kept_n >= limit


def _age(facts: _Facts, limit: str) -> Judged:
    if pd.isna(facts.last_at):
        return "no row was kept", False
    return _duration(facts.age, limit, f"; the last row is of {facts.last_at:%Y-%m-%d %H:%M} UTC")


def _gap(facts: _Facts, limit: str) -> Judged:
    begin = "" if pd.isna(facts.silence_at) else f" from {facts.silence_at:%Y-%m-%d %H:%M} UTC"
    return _duration(facts.silence, limit, begin)


def _without_touchpoint(facts: _Facts, limit: float) -> Judged:
    return _share(facts.unmapped_n, facts.events_n, "events", limit)


def _columns(facts: _Facts, limit: bool) -> Judged:
    return (_changed(facts.changes), not limit) if len(facts.changes) else ("the same in all files", True)


RULES: dict[str, Callable[[_Facts, Any], Judged]] = {
    "max_quarantine_share": _quarantined,
    "min_rows": _kept,
    "max_age": _age,
    "max_gap": _gap,
    "max_unmapped_share": _without_touchpoint,
    "same_columns": _columns,
}


def _share(part_n: int, n: int, unit: str, limit: float) -> Judged:
    """A share as text with as many digits as tell it from its limit, and whether it holds."""
    if not n:
        return f"no {unit}", True
    value = part_n / n
    digits = next((d for d in range(1, 6) if value == limit or f"{100 * value:.{d}f}" != f"{100 * limit:.{d}f}"), 6)
    return f"{present.share(value, digits)} ({part_n:,} of {n:,} {unit})", value <= limit


def _duration(length: float, limit: str, rest: str) -> Judged:
    """A duration as text, and whether it holds; where rounding hides that it is too long, by how much it is."""
    allowed = seconds(limit)
    text = present.seconds(length)
    if length > allowed and text == present.seconds(allowed):
        text += f" ({length - allowed:,.3g} s too long)"
    return text + rest, length <= allowed


def _changed(changes: pd.DataFrame) -> str:
    row = changes.iloc[0]
    parts = [f"{kind}: {row[f'{kind}_columns']}" for kind in ("new", "missing") if row[f"{kind}_columns"]]
    rest = f", and {len(changes) - 1:,} more" if len(changes) > 1 else ""
    return f"{row['file']} differs from {row['before']} ({'; '.join(parts)}){rest}"


def _allowed(rule: str, limit: Any) -> str:
    if rule.endswith("_share"):
        return f"at most {100 * limit:.10g} %"
    if rule == "min_rows":
        return f"at least {limit:,} rows"
    return "no change" if rule == "same_columns" else f"at most {present.seconds(seconds(limit))}"
