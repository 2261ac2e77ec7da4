"""From raw files to `events`: every row is kept, a duplicate, quarantined or left out by a rule, and counted."""

from __future__ import annotations

import fnmatch
import hashlib
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pandas as pd

from journeykit import __version__, engine, erasure, links, merge, overrides, parts, privacy, spread, staging
from journeykit.config import Study
from journeykit.errors import JourneyError
from journeykit.mapping import local_date
from journeykit.parts import Inputs, Part
from journeykit.sql import identifier, literal
from journeykit.study import ROOT, OpenStudy

TABLES = ("events", "quarantine", "files", "blocked", "spend", "tokens", "links")


def ingest(study: OpenStudy) -> bool:
    """Read the raw files that are new or changed and write the tables of 01_ingest; do nothing when they are there.

    `events`, `quarantine`, `files` (one row per raw file, with its row accounting), `blocked` (identifier values that
    mark nobody), `spend` (one row per day and marketing channel), `tokens` (every identifier of the input, keyed) and
    `links` (pairs of identifiers that profiles and overrides declare). The tables are the same as if every file had
    been read again.

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
    mark = _fingerprint(note["parts"] + overrides.mark(plan, study.folder, secret), wanted)
    noted = [engine.read_metadata(study.path(name)) for name in TABLES]
    same = all({"fingerprint": mark, **note}.items() <= found.items() for found in noted)
    if same and (noted[0]["future"] == "0" or noted[0]["day"] == _today()):
        return False
    spreads, shared = engine.kind() == "spark", study.derived / ".merge"

    def lay_out() -> list[Part]:
        if spreads:
            shutil.rmtree(shared, ignore_errors=True)  # of a run that was killed
            spread.read(wanted, inputs)
        read = [parts.ensure(part, inputs) for part in wanted]
        if spreads:
            spread.stage(read, plan, shared)
        else:
            staging.stage(read, plan)
        return read

    try:
        read = lay_out()
    except engine.EngineError:  # a part that was damaged on disk is made anew
        shutil.rmtree(home)
        read = lay_out()
    _refuse_useless(plan)
    links.stage(plan, read, inputs)
    _name_touchpoints(plan)
    future = engine.rows("SELECT count(*) FROM quarantined WHERE reason = 'time lies in the future'")[0][0]
    settled = "0" if plan.study.as_of or not future else str(future)  # tomorrow they may lie in the past
    if spreads:
        spread.share(("touchpoints", "links"), shared)
    for name, select in _selects(plan).items():
        on: Literal["duckdb", "spark"] = "spark" if spreads and name in spread.LARGE else "duckdb"
        noted_with = {"fingerprint": mark, **note, "future": settled, "day": _today() if settled != "0" else ""}
        engine.write_parquet(engine.query(select, on), study.path(name), noted_with)
    shutil.rmtree(shared, ignore_errors=True)
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
        which = "this source" if len(found) == 1 else "these sources"
        raise JourneyError("\n".join([*found, f"Mend the columns of {which} in journey.toml, then run again."]))


def _name_touchpoints(plan: Study) -> None:
    """Match each event name with the first touchpoint whose patterns (wildcards * and ?) fit it."""
    found = {}
    for (event,) in engine.rows("SELECT DISTINCT event FROM named ORDER BY event"):
        for stage in plan.stages:
            for touchpoint, patterns in stage.touchpoints.items():
                if event not in found and any(
                    fnmatch.fnmatchcase(event, pattern.replace("[", "[[]")) for pattern in patterns
                ):
                    found[event] = (event, touchpoint, stage.name, stage.owner or None)
    engine.insert(pd.DataFrame(list(found.values()), columns=["event", "touchpoint", "stage", "owner"]), "touchpoints")


def _selects(plan: Study) -> dict[str, str]:
    """The queries of the tables of 01_ingest."""
    dated = [
        f"SELECT {local_date(source)} AS date, * FROM kept WHERE source = {literal(source.name)}"
        for source in plan.sources
        if source.kind == "spend"
    ] or ["SELECT CAST(NULL AS DATE) AS date, * FROM kept WHERE false"]
    # Those of overrides too.
    sides = " UNION ALL ".join(
        f"SELECT {side}_name AS id_name, {side}_token AS id_token FROM links" for side in ("left", "right")
    )
    return {
        "events": merge.events(plan),
        "quarantine": "SELECT * FROM quarantined ORDER BY source, file, line, reason, record NULLS LAST",
        "files": _files(),
        "blocked": (
            "SELECT id_name, value, CAST(sum(rows_n) AS BIGINT) AS rows_n FROM unused GROUP BY ALL ORDER BY 1, 2"
        ),
        "spend": (
            "SELECT date, s.marketing_channel, sum(value ORDER BY s.part, s.line) AS spend "
            f"FROM ({' UNION ALL BY NAME '.join(dated)}) s "
            "GROUP BY date, s.marketing_channel ORDER BY date, s.marketing_channel"
        ),
        "tokens": (
            f"SELECT DISTINCT id_name, id_token FROM (SELECT * FROM keyed UNION ALL {sides}) "
            "WHERE id_token IS NOT NULL ORDER BY id_name, id_token"
        ),
        "links": links.select(),
    }


def _files() -> str:
    """The query of `files`: where every row of each raw file went, and when its events lie."""
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
        f"SELECT {', '.join(columns)} FROM part_files p LEFT JOIN counted c USING (part) "
        "LEFT JOIN per_part k USING (part) "
        "LEFT JOIN (SELECT part, count(*) AS broken_n FROM broken_rows GROUP BY part) b USING (part) "
        "ORDER BY p.source, p.file"
    )
