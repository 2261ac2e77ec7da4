"""From raw files to `events`: every row is kept, a duplicate, quarantined or left out by a rule, and counted."""

from __future__ import annotations

import fnmatch
import hashlib
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from journeykit import __version__, engine, erasure, parts, privacy, staging
from journeykit.config import Study, seconds
from journeykit.errors import JourneyError
from journeykit.mapping import columns_of, local_date
from journeykit.parts import Inputs, Part
from journeykit.sql import NULL, identifier, literal
from journeykit.study import ROOT, OpenStudy

TABLES = ("events", "quarantine", "files", "blocked", "spend", "tokens")


def ingest(study: OpenStudy) -> bool:
    """Read the raw files that are new or changed and write the tables of 01_ingest; do nothing when they are there.

    `events`, `quarantine`, `files` (one row per raw file, with its row accounting), `blocked` (identifier values that
    mark nobody), `spend` (one row per day and marketing channel) and `tokens` (every identifier of the input, keyed).
    The tables are the same as if every file had been read again.

    Returns:
        True when the tables were built, False when they were there for the same inputs.

    Raises:
        JourneyError: a source matches no file, a mapped column is not in a file, or no row of a source can be used.
    """
    with TemporaryDirectory(prefix="journeykit-") as scratch:
        return _ingest(study, Path(scratch))


def _ingest(study: OpenStudy, scratch: Path) -> bool:
    secret = privacy.key(ROOT)
    plan, home = study.config, study.derived / "parts"
    inputs = Inputs(plan, study.folder, secret, erasure.tokens(plan, study.folder, secret), scratch)
    wanted = parts.current(inputs, home)
    note = {"parts": study.parts_hash("01_ingest"), "raw": study.raw_marks()}
    mark = _fingerprint(note["parts"], wanted)
    noted = [engine.read_metadata(study.path(name)) for name in TABLES]
    same = all({"fingerprint": mark, **note}.items() <= found.items() for found in noted)
    if same and (noted[0]["future"] == "0" or noted[0]["day"] == _today()):
        return False
    read = [parts.ensure(part, inputs) for part in wanted]
    try:
        staging.stage(read, plan)
    except engine.EngineError:  # a part that was damaged on disk is made anew
        shutil.rmtree(home)
        read = [parts.ensure(part, inputs) for part in wanted]
        staging.stage(read, plan)
    _refuse_useless(plan)
    _name_touchpoints(plan)
    future = engine.rows("SELECT count(*) FROM quarantined WHERE reason = 'time lies in the future'")[0][0]
    settled = "0" if plan.study.as_of or not future else str(future)  # tomorrow they may lie in the past
    for name, select in _selects(plan).items():
        noted_with = {"fingerprint": mark, **note, "future": settled, "day": _today() if settled != "0" else ""}
        engine.write_parquet(engine.query(select), study.path(name), noted_with)
    parts.forget(home, read)
    if any(inputs.erased.values()):  # what chapters noted before may hold a token of somebody who is to be forgotten
        shutil.rmtree(study.derived / "chapters", ignore_errors=True)
    return True


def _today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def _fingerprint(said: str, wanted: Sequence[Part]) -> str:
    """One hash of what `events` depends on: the parts of the raw files, their names, parts of journey.toml."""
    listed = [f"{part.source.name}|{part.file.name}|{part.key}|{part.file.superseded_by}" for part in wanted]
    return hashlib.sha256("\n".join([__version__, said, *listed]).encode()).hexdigest()[:16]


def _refuse_useless(plan: Study) -> None:
    """Raise JourneyError when every row of a source is set aside: then the mapping is wrong, not the rows."""
    found = []
    for source in plan.sources:
        if engine.rows(f"SELECT 1 FROM {identifier('staged_' + source.name)} LIMIT 1"):
            continue
        n, reason = engine.rows(
            f"SELECT count(*), mode(reason) FROM quarantined WHERE source = {literal(source.name)}"
        )[0]
        if n:
            found.append(f"sources.{source.name}: none of its {n:,} rows can be used; most often: {reason}")
    if found:
        raise JourneyError("\n".join([*found, "Mend the mapping of these sources in journey.toml, then run again."]))


def _name_touchpoints(plan: Study) -> None:
    """Match each event name with the first touchpoint whose patterns (wildcards * and ?) fit it."""
    found = {}
    for (event,) in engine.rows("SELECT DISTINCT event FROM staged ORDER BY event"):
        for stage in plan.stages:
            for touchpoint, patterns in stage.touchpoints.items():
                if event not in found and any(
                    fnmatch.fnmatchcase(event, pattern.replace("[", "[[]")) for pattern in patterns
                ):
                    found[event] = (event, touchpoint, stage.name, stage.owner or None)
    engine.insert(pd.DataFrame(list(found.values()), columns=["event", "touchpoint", "stage", "owner"]), "touchpoints")


def _selects(plan: Study) -> dict[str, str]:
    """The queries of the tables of 01_ingest."""
    spend = ", ".join(literal(source.name) for source in plan.sources if source.kind == "spend") or "''"
    emitting = ", ".join(literal(source.name) for source in plan.sources if source.emits) or "''"
    # The number of an occurrence is part of the event's id where a source keeps its repeats, so that ids stay unique.
    replaced = {
        "event_id": f"CASE WHEN s.source IN ({emitting}) THEN s.place || '-' ELSE '' END || "
        "substr(md5(s.source || s.row_key || s.event), 1, 16) || coalesce('-' || n.occurrence, '')",
        "touchpoint": "t.touchpoint",
        "stage": "t.stage",
        "team": "coalesce(s.team, t.owner)",
    }
    columns = columns_of(plan)
    listed = ", ".join(f"{replaced.get(name, f's.{identifier(name)}')} AS {identifier(name)}" for name in columns.all)
    first = "LEFT JOIN repeats n ON n.part = s.part AND n.line = s.line AND n.place = s.place"
    dated = [
        f"SELECT {local_date(source)} AS date, * FROM {identifier('staged_' + source.name)}"
        for source in plan.sources
        if source.kind == "spend"
    ] or ["SELECT CAST(NULL AS DATE) AS date, * FROM staged WHERE false"]
    tokens = [
        f"SELECT {literal(name)} AS id_name, {identifier('id_' + name)} AS id_token "
        f"FROM {identifier('rows_' + source.name)}"
        for source in plan.sources
        for name in columns.identifiers
        if name in source.identifiers
    ] or [f"SELECT {NULL} AS id_name, {NULL} AS id_token"]
    blocked = [f"SELECT unnest(blocked) AS b FROM {identifier('rows_' + source.name)}" for source in plan.sources]
    return {
        "events": (
            f"SELECT {listed} FROM staged s {first} LEFT JOIN touchpoints t USING (event) "
            f"WHERE (n.occurrence IS NULL OR n.kept) AND s.source NOT IN ({spend}) "
            "ORDER BY s.timestamp, s.source, s.source_row, event_id"
        ),
        "quarantine": "SELECT * FROM quarantined ORDER BY source, file, line, reason, record",
        "files": _files(plan),
        "blocked": (
            f"SELECT b.id_name AS id_name, b.value AS value, CAST(count(*) AS BIGINT) AS rows_n "
            f"FROM ({' UNION ALL '.join(blocked)}) GROUP BY ALL ORDER BY 1, 2"
        ),
        "spend": (
            "SELECT date, s.marketing_channel, sum(value ORDER BY s.part, s.line) AS spend "
            f"FROM ({' UNION ALL BY NAME '.join(dated)}) s {first} WHERE n.occurrence IS NULL OR n.kept "
            "GROUP BY date, s.marketing_channel ORDER BY date, s.marketing_channel"
        ),
        "tokens": (
            f"SELECT DISTINCT id_name, id_token FROM ({' UNION ALL '.join(tokens)}) WHERE id_token IS NOT NULL "
            "ORDER BY id_name, id_token"
        ),
    }


def _files(plan: Study) -> str:
    """The query of `files`: where every row of each raw file went, and when its events lie."""
    late = " ".join(
        f"WHEN {literal(source.name)} THEN {seconds(source.late_after or '24h') * 1_000_000}" for source in plan.sources
    )
    counted = " UNION ALL ".join(
        "SELECT part, count(*) FILTER (fate IS DISTINCT FROM 'blank') AS rows_n, "
        "count(*) FILTER (fate IN ('left_out', 'erased')) AS left_out_n, "
        "count(*) FILTER (fate = 'erased') AS erased_n, "
        "count(*) FILTER (fate = 'continued') AS continued_n, "
        "count(*) FILTER (fate IS NULL AND reason IS NULL) AS sound_n, "
        "count(*) FILTER (fate = 'silent' OR fate IS NULL AND reason IS NOT NULL) AS bad_n "
        f"FROM {identifier('rows_' + source.name)} GROUP BY part"
        for source in plan.sources
    )
    fates = (
        "SELECT s.part, s.line, any_value(s.source) AS source, any_value(s.lag_us) AS lag_us, max(s.clock) AS clock, "
        "min(s.timestamp) AS first_at, max(s.timestamp) AS last_at FROM staged s LEFT JOIN repeats n "
        "ON n.part = s.part AND n.line = s.line AND n.place = s.place WHERE n.occurrence IS NULL OR n.kept "
        "GROUP BY s.part, s.line"
    )
    kept = (
        f"SELECT part, count(*) AS once_n, count(*) FILTER (lag_us > CASE source {late} END) AS late_n, "
        "count(*) FILTER (lag_us < 0) AS early_n, count(*) FILTER (clock = 'ambiguous') AS ambiguous_n, "
        "count(*) FILTER (clock = 'skipped') AS skipped_n, median(lag_us) / 1e6 AS lag_median_seconds, "
        f"min(first_at) AS first_at, max(last_at) AS last_at FROM ({fates}) GROUP BY part"
    )
    zero = "coalesce({0}, 0) AS {1}"
    columns = [
        "p.source",
        "p.file",
        "coalesce(c.rows_n, 0) + coalesce(b.broken_n, 0) AS read_n",
        "coalesce(k.once_n, 0) + coalesce(c.continued_n, 0) AS kept_n",
        "coalesce(c.sound_n, 0) - coalesce(k.once_n, 0) AS duplicate_n",
        *(zero.format(f"k.{name}", name) for name in ("late_n", "early_n", "ambiguous_n", "skipped_n")),
        "coalesce(c.bad_n, 0) + coalesce(b.broken_n, 0) AS quarantined_n",
        *(zero.format(f"c.{name}", name) for name in ("left_out_n", "erased_n")),
        "k.lag_median_seconds",
        "k.first_at",
        "k.last_at",
        "p.columns",
        "p.note",
    ]
    return (
        f"SELECT {', '.join(columns)} FROM part_files p LEFT JOIN ({counted}) c USING (part) "
        f"LEFT JOIN ({kept}) k USING (part) "
        "LEFT JOIN (SELECT part, count(*) AS broken_n FROM broken_rows GROUP BY part) b USING (part) "
        "ORDER BY p.source, p.file"
    )
