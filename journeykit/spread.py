"""01_ingest on a cluster: each raw file is read in a task of its own, and what is across files is asked of the cluster.

A task reads its file with the very reader that a run without a cluster uses, and writes what the file says into a
folder that all machines share, beside the parts. What is small (spend, profiles, the accounts of files) is merged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from journeykit import engine, merge, parts, staging
from journeykit.config import Study
from journeykit.parts import Inputs, Part
from journeykit.raw_files import QueryResult
from journeykit.sql import identifier

LARGE = ("events", "quarantine", "tokens")  # the tables that the cluster makes
SAID = {  # what a task writes of its file
    "staged": "",
    "counted": "SELECT * FROM counted",
    "keyed": "SELECT DISTINCT * FROM keyed",
    "unused": "SELECT * FROM unused",
    "named": "SELECT DISTINCT event FROM staged",
    "quarantined": "",
}


def read(wanted: Sequence[Part], inputs: Inputs) -> None:
    """Read the files that are not parts yet, each in a task; queries are asked here, which has their answers.

    Raises:
        JourneyError: as `parts.ensure`.
    """
    one_each = list({part.path: part for part in wanted if not isinstance(part.file, QueryResult)}.values())
    missing = [part for part in one_each if not parts.is_made(part)]
    bare = replace(inputs, results={}, prepared=set())

    def ensure(number: int) -> None:
        parts.ensure(missing[number], bare)

    engine.each(len(missing), ensure)


def stage(read: Sequence[Part], plan: Study, shared: Path) -> None:
    """Make the temporary views that the tables are selected from, as `staging.stage` does, here and on the cluster.

    Args:
        read: the parts.
        plan: the study.
        shared: a folder that all machines share, to be deleted when the tables are written.
    """
    ordered = staging.numbered(read)
    staging.lay_out(ordered, plan)
    columns = engine.rows("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM staged)")
    # A number of 128 bits is a text on a cluster, as it is in an event's id.
    typed = {name: "VARCHAR" if name == "row_key" else kind for name, kind in columns}
    cells = ", ".join(f"CAST({identifier(name)} AS {kind}) AS {identifier(name)}" for name, kind in typed.items())
    queries = SAID | {"staged": f"SELECT {cells} FROM staged", "quarantined": staging.set_aside(plan)}
    for name in queries:
        (shared / name).mkdir(parents=True)

    def say(number: int) -> None:
        staging.lay_out([ordered[number]], plan)
        for name, query in queries.items():
            engine.write_parquet(engine.query(query), shared / name / f"part-{number:05}.parquet")

    engine.each(len(ordered), say)
    for name in queries:
        # What is counted here; `staged` was only needed for its schema.
        if name == "quarantined":
            engine.run(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT source, reason FROM {_said(shared, name)}")
        elif name != "staged":
            engine.run(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM {_said(shared, name)}")
        if name in ("staged", "keyed", "quarantined"):
            engine.view(engine.read_parquet(shared / name), name)
    for name, query in merge.kept(plan).items():
        found = engine.query(query, on="spark")
        engine.view(engine.materialise(found, name) if name == "repeats" else found, name)
    small = merge.listed(source.name for source in plan.sources if source.kind != "events")
    for name, query in {
        "kept": f"SELECT * FROM kept WHERE source IN ({small})",
        "per_part": "SELECT * FROM per_part",
    }.items():
        engine.write_parquet(engine.query(query, on="spark"), shared / f"{name}.parquet")
        engine.run(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM {engine.relation(shared / f'{name}.parquet')}")


def _said(shared: Path, name: str) -> str:
    return engine.relation(shared / name)


def share(names: Sequence[str], shared: Path) -> None:
    """Make tables that were made here known to the cluster."""
    for name in names:
        engine.write_parquet(engine.query(f"SELECT * FROM {name}"), shared / f"{name}.parquet")
        engine.view(engine.read_parquet(shared / f"{name}.parquet"), name)
