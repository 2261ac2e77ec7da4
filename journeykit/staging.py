"""Parts of raw files as views of the engine: rows, events and quarantined rows of each source, and what repeats."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pandas as pd

from journeykit import engine, merge
from journeykit.config import Source, Study
from journeykit.mapping import columns_of
from journeykit.parts import Part
from journeykit.sql import NULL, identifier, literal, path_literal
from journeykit.verdict import latest

NAMED = "SELECT DISTINCT event FROM staged"
BROKEN = "source VARCHAR, part INTEGER, line BIGINT, reason VARCHAR, size BIGINT"


def stage(read: Sequence[Part], plan: Study) -> None:
    """Make the temporary tables and views that the tables are selected from."""
    lay_out(numbered(read), plan)
    for name, query in merge.kept(plan).items():
        # What is asked for several times is computed once; a view costs nothing.
        engine.run(f"CREATE OR REPLACE TEMP {'TABLE' if name.startswith('repeat') else 'VIEW'} {name} AS {query}")
    engine.run(f"CREATE OR REPLACE TEMP TABLE quarantined AS {set_aside(plan)}")


def numbered(read: Iterable[Part]) -> list[tuple[int, Part]]:
    """Number parts in the order of their content, so that the names of files decide nothing."""
    return list(enumerate(sorted(read, key=lambda part: (part.source.name, part.content, part.file.name))))


def lay_out(ordered: Sequence[tuple[int, Part]], plan: Study) -> None:
    """Make the temporary views of numbered parts: what one part says, whatever the others say."""
    made = {
        "part_files": "part INTEGER, path VARCHAR, source VARCHAR, file VARCHAR, columns VARCHAR, headers BIGINT, "
        "note VARCHAR",
        "line_numbers": "part INTEGER, line BIGINT, shown BIGINT",
        "broken_rows": BROKEN,
        "touchpoints": "event VARCHAR, touchpoint VARCHAR, stage VARCHAR, owner VARCHAR",
    }
    for name, definition in made.items():
        engine.run(f"CREATE OR REPLACE TEMP TABLE {name} ({definition})")
    files = pd.DataFrame(
        [
            (
                number,
                str(part.path),
                part.source.name,
                part.file.name,
                json.dumps(part.columns),
                part.headers,
                part.note or None,
            )
            for number, part in ordered
        ],
        columns=["part", "path", "source", "file", "columns", "headers", "note"],
    )
    engine.insert(files, "part_files")
    broken = [
        (part.source.name, number, row.line, row.reason, row.size) for number, part in ordered for row in part.broken
    ]
    engine.insert(pd.DataFrame(broken, columns=["source", "part", "line", "reason", "size"]), "broken_rows")
    lines = [(number, *pair) for number, part in ordered for pair in part.lines]
    engine.insert(pd.DataFrame(lines, columns=["part", "line", "shown"]), "line_numbers")
    for source in plan.sources:
        _stage_source(source, [part for _, part in ordered if part.source.name == source.name], plan)
    names = [source.name for source in plan.sources]
    engine.run(f"CREATE OR REPLACE TEMP VIEW staged AS {_union(f'staged_{name}' for name in names)}")
    for name, query in {
        "counted": _counted(plan),
        "keyed": _keyed(plan),
        "unused": _unused(plan),
        "named": NAMED,
    }.items():
        engine.run(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}")


def set_aside(plan: Study) -> str:
    """Return the query of the quarantined rows of the parts that are laid out."""
    names = (f"quarantined_{source.name}" for source in plan.sources)
    return (
        f"SELECT p.source, p.file, q.line, q.reason, q.record FROM ({_union(names, 'part, line, reason, record')}"
        " UNION ALL SELECT part, line, reason, '(' || size || ' characters, not shown)' FROM broken_rows"
        ") q JOIN part_files p USING (part)"
    )


def _counted(plan: Study) -> str:
    """The query of where the rows of each part went, before repeats are known."""
    return " UNION ALL ".join(
        "SELECT part, count(*) FILTER (fate IS DISTINCT FROM 'blank') AS rows_n, "
        "count(*) FILTER (fate IN ('left_out', 'erased')) AS left_out_n, "
        "count(*) FILTER (fate = 'erased') AS erased_n, "
        "count(*) FILTER (fate = 'continued') AS continued_n, "
        "count(*) FILTER (fate IS NULL AND reason IS NULL) AS sound_n, "
        "count(*) FILTER (fate = 'silent' OR fate IS NULL AND reason IS NOT NULL) AS bad_n "
        f"FROM {identifier('rows_' + source.name)} GROUP BY part"
        for source in plan.sources
    )


def _keyed(plan: Study) -> str:
    """The query of the identifiers of all rows, keyed, also of those that are set aside."""
    tokens = [
        f"SELECT {literal(name)} AS id_name, {identifier(column)} AS id_token "
        f"FROM {identifier('rows_' + source.name)} WHERE {identifier(column)} IS NOT NULL"
        for source in plan.sources
        for name in columns_of(plan).identifiers
        if name in source.identifiers
        for column in (f"id_{name}", *([f"same_{name}"] if name in source.same_as else []))
    ]
    return " UNION ALL ".join(tokens) or f"SELECT {NULL} AS id_name, {NULL} AS id_token WHERE false"


def _unused(plan: Study) -> str:
    """The query of the identifier values that mark nobody."""
    blocked = [f"SELECT unnest(blocked) AS b FROM {identifier('rows_' + source.name)}" for source in plan.sources]
    return (
        "SELECT b.id_name AS id_name, b.value AS value, count(*) AS rows_n "
        f"FROM ({' UNION ALL '.join(blocked)}) GROUP BY ALL"
    )


def _union(names: Iterable[str], columns: str = "*") -> str:
    return " UNION ALL BY NAME ".join(f"SELECT {columns} FROM {identifier(name)}" for name in names)


def _stage_source(source: Source, read: Sequence[Part], plan: Study) -> None:
    """Make the views of a source: `rows_…` one row per raw row, `staged_…` one per event, `quarantined_…`."""
    rows, staged, bad = (identifier(f"{kind}_{source.name}") for kind in ("rows", "staged", "quarantined"))
    paths = dict.fromkeys(str(part.path) for part in read if part.columns or _any_rows(part))
    columns = columns_of(plan)
    if not paths:
        _stage_nothing(rows, staged, bad, source, plan)
        return
    listed = ", ".join(literal(path) for path in paths)
    at = "list_max(list_transform(happenings, lambda h: h.timestamp))" if source.emits else "timestamp"
    base = (
        f"SELECT p.part, r.file_row_number + 1 AS line, r.* EXCLUDE (file_row_number, filename, reason), "
        f"coalesce(r.reason, CASE WHEN fate IS NULL AND {at} > {latest(plan)} THEN 'time lies in the future' END) "
        f"AS reason FROM read_parquet([{listed}], filename = true, file_row_number = true) r "
        "JOIN part_files p ON p.path = r.filename "
        f"AND p.source = {literal(source.name)}"
    )
    if source.once_per:
        # Of a record's rows the first sound one is used and stands for all; one that is left out takes all along.
        same = "PARTITION BY part, coalesce(CAST(once_key AS VARCHAR), CAST(line AS VARCHAR))"
        sound = "fate IS NULL AND reason IS NULL"
        base = (
            "SELECT * EXCLUDE (fate, reason, record, turn, gone), fate, reason, record FROM (SELECT * REPLACE ("
            "CASE WHEN gone IS NOT NULL THEN gone WHEN fate IS NOT NULL AND fate <> 'silent' THEN fate "
            "WHEN turn IS NOT NULL AND line <> turn THEN 'continued' ELSE fate END AS fate) FROM (SELECT *, "
            f"min(line) FILTER ({sound}) OVER ({same}) AS turn, "
            f"max(fate) FILTER (fate IN ('left_out', 'erased')) OVER ({same}) AS gone FROM ({base})))"
        )
    engine.run(f"CREATE OR REPLACE TEMP VIEW {rows} AS {base}")
    engine.run(
        f"CREATE OR REPLACE TEMP VIEW {bad} AS SELECT r.part, coalesce(n.shown, r.line + p.headers) AS line, "
        f"coalesce(r.reason, 'no time') AS reason, r.record FROM {rows} r JOIN part_files p USING (part) "
        "LEFT JOIN line_numbers n ON n.part = r.part AND n.line = r.line "
        "WHERE fate = 'silent' OR fate IS NULL AND reason IS NOT NULL"
    )
    kept = ["channel", "marketing_channel", "team", "properties"]
    kept += [f"id_{name}" for name in columns.identifiers] + [f"segment_{name}" for name in columns.segments]
    kept += [f"same_{name}" for name in source.same_as]
    shared = ", ".join(identifier(name) for name in kept)
    measures = ("value", "satisfaction", "comment")
    if source.emits:
        carried = ", ".join(f"CASE WHEN h.carries THEN {name} END AS {name}" for name in measures)
        happening = f"h.place AS place, h.event AS event, h.timestamp AS timestamp, h.clock AS clock, {carried}"
        origin = f"(SELECT *, unnest(happenings) AS h FROM {rows} WHERE fate IS NULL AND reason IS NULL)"
    else:
        happening = f"0 AS place, event, timestamp, clock, {', '.join(measures)}"
        origin = f"{rows} WHERE fate IS NULL AND reason IS NULL"
    engine.run(
        f"CREATE OR REPLACE TEMP VIEW {staged} AS SELECT part, line, {literal(source.name)} AS source, "
        f"coalesce(sequence, line) AS source_row, row_key, lag_us, {happening}, {shared} FROM {origin}"
    )


def _any_rows(part: Part) -> bool:
    """Whether a part without columns has rows: JSON names none."""
    return bool(
        engine.rows(
            f"SELECT 1 FROM (DESCRIBE SELECT * FROM read_parquet({path_literal(part.path)})) "
            "WHERE column_name = 'row_key'"
        )
    )


def _stage_nothing(rows: str, staged: str, bad: str, source: Source, plan: Study) -> None:
    """Make the views of a source whose files are all empty."""
    columns = columns_of(plan)
    text = {
        "channel",
        "marketing_channel",
        "team",
        "properties",
        "event",
        "clock",
        "comment",
        "record",
        "fate",
        "reason",
    }
    text |= {f"id_{name}" for name in columns.identifiers} | {f"segment_{name}" for name in columns.segments}
    text |= {f"same_{name}" for name in source.same_as}
    typed = dict.fromkeys(sorted(text), NULL)
    typed |= dict.fromkeys(("line", "source_row", "lag_us"), "CAST(NULL AS BIGINT)")
    typed |= dict.fromkeys(("value", "satisfaction"), "CAST(NULL AS DOUBLE)")
    typed |= {"part": "CAST(NULL AS INTEGER)", "place": "0", "row_key": "CAST(NULL AS UUID)"}
    typed |= {"timestamp": "CAST(NULL AS TIMESTAMP)", "source": literal(source.name)}
    typed |= {"blocked": "CAST(NULL AS STRUCT(id_name VARCHAR, value VARCHAR)[])"}
    listed = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in typed.items())
    for name in (rows, staged):
        engine.run(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT {listed} WHERE false")
    engine.run(f"CREATE OR REPLACE TEMP VIEW {bad} AS SELECT part, line, reason, record FROM {rows}")
