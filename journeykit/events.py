"""From raw files to `events`: every row is kept, a duplicate, quarantined or left out by a rule, and counted."""

from __future__ import annotations

import fnmatch
import hashlib

import pandas as pd

from journeykit import __version__, engine, privacy
from journeykit.config import Emit, Source, Study
from journeykit.errors import JourneyError
from journeykit.mapping import NULL, TYPED, columns_of, is_blocked, local_date, mapped_sql, meant, one_of
from journeykit.sources import RawFile, Rows, find_files, identifier, literal, mapped_columns, read_rows
from journeykit.study import ROOT, OpenStudy

TABLES = ("events", "quarantine", "files", "blocked", "spend")


def ingest(study: OpenStudy) -> bool:
    """Read every raw file and write the tables of 01_ingest; do nothing when they are up to date.

    `events`, `quarantine`, `files` (one row per raw file, with its row accounting), `blocked` (identifier values that
    mark nobody) and `spend` (one row per day and marketing channel).

    Returns:
        True when the tables were built, False when they were there for the same inputs.

    Raises:
        JourneyError: a source matches no file, a mapped column is not in a file, or no row of a source can be used.
    """
    mark = _fingerprint(study)
    note = {"fingerprint": mark, "parts": study.parts_hash("01_ingest"), "raw": study.raw_sizes()}
    if all(note.items() <= engine.read_metadata(study.path(name)).items() for name in TABLES):
        return False
    plan, secret = study.config, privacy.key(ROOT)
    _prepare(plan)
    for source in plan.sources:
        for file in find_files(source, study.folder):
            try:
                _read(source, file, plan, secret)
            except engine.EngineError as error:
                why = str(error).split("\n")[0]
                raise JourneyError(
                    f"sources.{source.name}: {file.name} cannot be read as journey.toml describes it: {why}. "
                    "Look at format, delimiter, header_rows and time."
                ) from error
    _refuse_useless(plan)
    _name_touchpoints(plan)
    for name, select in _selects(plan).items():
        engine.write_parquet(engine.query(select), study.path(name), note)
    return True


def _fingerprint(study: OpenStudy) -> str:
    """One hash of what `events` depends on: the bytes of the raw files, parts of journey.toml, the key."""
    files = [
        f"{source.name}|{file.name}|{file.fingerprint()}"
        for source in study.config.sources
        for file in find_files(source, study.folder)
    ]
    key = hashlib.sha256(privacy.key(ROOT)).hexdigest()
    parts = [__version__, study.parts_hash("01_ingest"), key, *files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _prepare(plan: Study) -> None:
    """Make the temporary tables that the files are read into."""
    columns = ", ".join(f"{identifier(name)} {TYPED.get(name, 'VARCHAR')}" for name in columns_of(plan).all)
    made = {
        "staged": f"{columns}, file VARCHAR, row_number BIGINT, row_key VARCHAR, keep BOOLEAN, late BOOLEAN, "
        "clock VARCHAR",
        "ledger": "source VARCHAR, file VARCHAR, read_n BIGINT, left_out_n BIGINT, continued_n BIGINT",
        "quarantined": "source VARCHAR, file VARCHAR, line BIGINT, reason VARCHAR, record VARCHAR",
        "blocked_values": "id_name VARCHAR, value VARCHAR, rows_n BIGINT",
        "spent": "row_key VARCHAR, date DATE, marketing_channel VARCHAR, spend DOUBLE",
        "touchpoints": "event VARCHAR, touchpoint VARCHAR, stage VARCHAR, owner VARCHAR",
    }
    for name, definition in made.items():
        engine.run(f"CREATE OR REPLACE TEMP TABLE {name} ({definition})")


def _read(source: Source, file: RawFile, plan: Study, secret: bytes) -> None:
    """Read one file into the temporary tables."""
    rows, broken = read_rows(source, file)
    at = f"{literal(source.name)}, {literal(file.name)}"
    engine.run(
        f"INSERT INTO quarantined SELECT {at}, line, reason, '(' || size || ' characters, not shown)' FROM {broken}"
    )
    if not rows.columns:  # an empty file
        engine.run(f"INSERT INTO ledger SELECT {at}, (SELECT count(*) FROM {broken}), 0, 0")
        return
    emits: list[Emit | None] = [*source.emits] or [None]
    mapped = [mapped_sql(source, file, rows, emit, plan, secret) for emit in emits]
    engine.run(f"CREATE OR REPLACE TEMP TABLE mapped AS {' UNION ALL BY NAME '.join(mapped)}")
    if len(source.emits) > 1:
        # A row that gives several events has one value and one answer: they stand on one event, or sums count twice.
        lowest = "(SELECT row_number AS r, min(emit_rank) AS lowest FROM mapped GROUP BY row_number)"
        engine.run(
            "UPDATE mapped SET value = NULL, satisfaction = NULL, comment = NULL "
            f"FROM {lowest} WHERE r = row_number AND emit_rank > lowest"
        )
    # A wide row whose every time is empty stands for nothing; it is set aside rather than lost.
    silent = f"{meant(source, rows)} AND r.source_row NOT IN (SELECT row_number FROM mapped)"
    continued = "0"
    if source.once_per:
        key = rows.field(source.once_per, f"sources.{source.name}")
        known = f"(SELECT {key} FROM {rows.name} r WHERE r.source_row IN (SELECT row_number FROM mapped))"
        continued = f"(SELECT count(*) FROM {rows.name} r WHERE {silent} AND coalesce({key} IN {known}, false))"
        silent = f"{silent} AND NOT coalesce({key} IN {known}, false)"
    bad = "(SELECT row_number, min(reason) AS reason FROM mapped WHERE reason IS NOT NULL GROUP BY row_number)"
    engine.run(
        f"INSERT INTO ledger SELECT {at}, (SELECT count(*) FROM {rows.name}) + (SELECT count(*) FROM {broken}), "
        f"(SELECT count(*) FROM {rows.name} r WHERE NOT {meant(source, rows)}), {continued}"
    )
    record = _redacted(source, rows, plan, secret)
    engine.run(
        f"INSERT INTO quarantined SELECT {at}, r.source_row, b.reason, {record} FROM {rows.name} r "
        f"JOIN (SELECT * FROM {bad} UNION ALL SELECT source_row, 'no time' FROM {rows.name} r WHERE {silent}) b "
        "ON b.row_number = r.source_row"
    )
    sound = f"row_number NOT IN (SELECT row_number FROM {bad})"
    if source.kind == "spend":
        repeats = " || '|' || file || '|' || row_number" if source.duplicates == "keep" else ""
        key = f"{literal(source.name + '|')} || row_key{repeats}"
        engine.run(
            f"INSERT INTO spent SELECT {key}, {local_date(source)}, marketing_channel, value FROM mapped WHERE {sound}"
        )
    for name, column in source.identifiers.items():
        text = rows.field(column, f"sources.{source.name}")
        engine.run(
            f"INSERT INTO blocked_values SELECT {literal(name)}, {_placeholder(text, plan)}, count(*) "
            f"FROM {rows.name} r "
            f"WHERE {text} IS NOT NULL AND {is_blocked(text, plan)} GROUP BY 2"
        )
    columns = ", ".join(identifier(name) for name in columns_of(plan).all)
    keep = "true" if source.duplicates == "keep" else "false"
    engine.run(
        f"INSERT INTO staged SELECT {columns}, file, row_number, row_key, {keep}, late, clock FROM mapped WHERE {sound}"
    )


def _placeholder(text: str, plan: Study) -> str:
    """The SQL of a blocked value: as it is where journey.toml lists it, else only that a pattern fits it."""
    listed = one_of(text, plan.identity.blocked or [""])
    filler = f"regexp_full_match({text}, '[0-]+')"  # any other match of a pattern may be somebody's number
    return f"CASE WHEN {listed} OR {filler} THEN {text} ELSE '(fits a pattern)' END"


def _redacted(source: Source, rows: Rows, plan: Study, secret: bytes) -> str:
    """The SQL of a quarantined row: the columns that are mapped, identifiers as tokens, other text redacted."""
    names = {column: name for name, column in source.identifiers.items()}
    times = {source.time.column, *(emit.time for emit in source.emits)}
    packed = []
    for column in mapped_columns(source):
        text = rows.field(column, f"sources.{source.name}")
        shown = privacy.redact_email_sql(text) if column in times else privacy.redact_sql(text)
        shown = privacy.token_sql(names[column], text, secret) if column in names else shown
        packed.append(f"{literal(column)}, {shown}")
    return f"CAST(json_object({', '.join(packed)}) AS VARCHAR)"


def _refuse_useless(plan: Study) -> None:
    """Raise JourneyError when every row of a source is set aside: then the mapping is wrong, not the rows."""
    bad = engine.rows(
        "SELECT source, count(*), mode(reason) FROM quarantined WHERE source NOT IN (SELECT source FROM staged) "
        "GROUP BY source ORDER BY source"
    )
    if bad:
        lines = [f"sources.{name}: none of its {n:,} rows can be used; most often: {reason}" for name, n, reason in bad]
        raise JourneyError("\n".join([*lines, "Mend the mapping of these sources in journey.toml, then run again."]))


def _name_touchpoints(plan: Study) -> None:
    """Match each event name with the first touchpoint whose patterns (wildcards * and ?) fit it."""
    found = []
    for (event,) in engine.rows("SELECT DISTINCT event FROM staged ORDER BY event"):
        for stage in plan.stages:
            for touchpoint, patterns in stage.touchpoints.items():
                if any(fnmatch.fnmatchcase(event, pattern) for pattern in patterns):
                    found.append((event, touchpoint, stage.name, stage.owner or None))
    first = pd.DataFrame(found, columns=["event", "touchpoint", "stage", "owner"]).drop_duplicates("event")
    for row in first.itertuples(index=False):
        engine.run(f"INSERT INTO touchpoints VALUES ({', '.join(NULL if v is None else literal(v) for v in row)})")


def _selects(plan: Study) -> dict[str, str]:
    """The queries that turn the temporary tables into the tables of 01_ingest."""
    columns = columns_of(plan).all
    spend = ", ".join(literal(source.name) for source in plan.sources if source.kind == "spend") or "''"
    # Rows with the same key are the same row; the first in time wins. The number of an occurrence is part of the
    # event's id where a source keeps its repeats, so that ids stay unique.
    first = "PARTITION BY source, row_key, event ORDER BY timestamp, source_row, file, row_number"
    staged = f"SELECT *, row_number() OVER ({first}) AS occurrence FROM staged"
    replaced = {
        "event_id": "CASE WHEN occurrence > 1 THEN s.event_id || '-' || occurrence ELSE s.event_id END",
        "touchpoint": "t.touchpoint",
        "stage": "t.stage",
        "team": "coalesce(s.team, t.owner)",
    }
    listed = ", ".join(f"{replaced.get(name, f's.{identifier(name)}')} AS {identifier(name)}" for name in columns)
    fates = (
        "SELECT source, file, row_number, bool_or(keep OR occurrence = 1) AS kept, bool_or(late) AS late, "
        f"max(clock) AS clock FROM ({staged}) GROUP BY ALL"
    )
    fate_counts = (
        "SELECT source, file, count(*) FILTER (kept) AS kept_n, count(*) FILTER (NOT kept) AS duplicate_n, "
        "count(*) FILTER (kept AND late) AS late_n, count(*) FILTER (kept AND clock = 'ambiguous') AS ambiguous_n, "
        f"count(*) FILTER (kept AND clock = 'skipped') AS skipped_n FROM ({fates}) GROUP BY ALL"
    )
    counted = ("duplicate_n", "late_n", "ambiguous_n", "skipped_n")
    return {
        "events": (
            f"SELECT {listed} FROM ({staged}) s LEFT JOIN touchpoints t USING (event) "
            f"WHERE (s.keep OR occurrence = 1) AND s.source NOT IN ({spend}) "
            "ORDER BY s.timestamp, s.source, s.source_row, event_id"
        ),
        "quarantine": "SELECT * FROM quarantined ORDER BY source, file, line, reason",
        "files": (
            "SELECT l.source, l.file, l.read_n, coalesce(k.kept_n, 0) + l.continued_n AS kept_n, "
            + ", ".join(f"coalesce(k.{name}, 0) AS {name}" for name in counted)
            + ", coalesce(q.quarantined_n, 0) AS quarantined_n, l.left_out_n FROM ledger l "
            f"LEFT JOIN ({fate_counts}) k USING (source, file) "
            "LEFT JOIN (SELECT source, file, count(*) AS quarantined_n FROM quarantined GROUP BY ALL) q "
            "USING (source, file) ORDER BY l.source, l.file"
        ),
        "blocked": "SELECT id_name, value, sum(rows_n) AS rows_n FROM blocked_values GROUP BY ALL ORDER BY 1, 2",
        "spend": (
            "SELECT date, marketing_channel, sum(spend) AS spend FROM (SELECT any_value(date) AS date, "
            "any_value(marketing_channel) AS marketing_channel, any_value(spend) AS spend FROM spent GROUP BY row_key) "
            "GROUP BY date, marketing_channel ORDER BY date, marketing_channel"
        ),
    }
