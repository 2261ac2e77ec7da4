"""Measure stitching: seconds and peak memory, as ratios to DuckDB merely sorting the same columns to Parquet.

`python tests/bench_stitch.py [EVENTS] [--memory 2GB]` simulates EVENTS (10 million) events of one person in 20, on one
or two devices each (one device in 50 is shared) with sign-ins of 60 % of them, sorts them by the planted person and
time with the engine alone, and makes people, touches and journeys of them. Each measurement runs in a process of its
own, so that its peak memory is its own; `--memory` limits the engine in both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

STUDY = """
[study]
title = "Benchmark"
as_of = "2026-01-01T00:00:00Z"

[[sources]]
name = "web"
path = "raw/*.csv"
time = { column = "timestamp" }
event = "event"
identifiers = { customer = "customer", email = "email", device = "device" }

[identity]
identifiers = ["customer", "email", "device"]
devices = ["device"]

[journeys]
conversion = "buy"
"""
NAMES = ["page_view", "product", "cart", "buy", "search", "login", "help", "survey", "mail_open", "ad", "ship", "chat"]
# p: the person; each random choice hashes another multiple of the row's number. What `%` leaves fits every integer.
PERSON = "(hash(i * 31) % greatest({n} // 20, 1))::BIGINT"
SHARED = "1000000000000 + hash(p) % greatest({n} // 200, 1)"
OWN = "p * 2 + (hash(i * 29) % 10 < 4)::INT"
SIGNS_IN = "hash(p) % 10 < 6"
EVENTS = """
    SELECT substr(md5(i::VARCHAR), 1, 16) AS event_id,
    TIMESTAMP '2025-01-01' + to_seconds((hash(i) % 31536000)::BIGINT) AS timestamp,
    CASE WHEN i % 10 < 7 THEN 'web' WHEN i % 10 < 9 THEN 'app' ELSE 'shop' END AS source,
    i AS source_row,
    {names}[1 + (hash(i * 7) % {names_n})::INT] AS event,
    ['web', 'app', 'email', 'store', 'call', 'chat'][1 + (hash(i * 11) % 6)::INT] AS channel,
    CASE WHEN i % 5 = 0 THEN ['paid_search', 'email', 'social'][1 + (hash(i * 13) % 3)::INT] END AS marketing_channel,
    'touchpoint ' || hash(i * 7) % {names_n} AS touchpoint,
    'stage ' || hash(i * 7) % 5 AS stage,
    NULL::VARCHAR AS team,
    CASE WHEN i % 30 = 0 THEN (hash(i) % 10000) / 100.0 END::DOUBLE AS value,
    NULL::DOUBLE AS satisfaction,
    NULL::VARCHAR AS comment,
    '{{"page":"/p/' || hash(i * 17) % 5000 || '","ref":"x"}}' AS properties,
    CASE WHEN {signs_in} AND hash(i * 19) % 10 < 4 THEN substr(sha256('c' || p), 1, 24) END AS id_customer,
    CASE WHEN {signs_in} AND hash(i * 23) % 20 = 0 THEN substr(sha256('e' || p), 1, 24) END AS id_email,
    substr(sha256('d' || CASE WHEN hash(p * 3 + hash(i * 29) % 2) % 50 = 0 THEN {shared} ELSE {own} END), 1, 24)
        AS id_device,
    epoch_us(timestamp) AS time_us,
    p AS segment_person
    FROM (SELECT i, {person} AS p FROM range({n}) r(i))
"""


def write(folder: Path, events: int) -> None:
    """Write a study whose events are there already."""
    from journeykit import engine, links, study

    (folder / "raw").mkdir()
    (folder / "raw" / "none.csv").write_text("timestamp,event,customer,email,device\n", encoding="utf-8")
    (folder / "journey.toml").write_text(STUDY, encoding="utf-8")
    opened = study.open_study(str(folder))
    note = {"fingerprint": "bench", "parts": opened.parts_hash("01_ingest"), "raw": opened.raw_marks()}
    shared, person = SHARED.format(n=events), PERSON.format(n=events)
    filled = {"names": NAMES, "names_n": len(NAMES), "signs_in": SIGNS_IN, "shared": shared, "own": OWN}
    query = EVENTS.format(n=events, person=person, **filled)
    engine.write_parquet(engine.query(query), opened.path("events"), note)
    engine.run(f"CREATE TEMP TABLE nothing ({links.DEFINITION}, rows_n BIGINT)")
    engine.write_parquet(engine.query("FROM nothing"), opened.path("links"), note)


def measure(what: str, folder: Path) -> None:
    """Do one thing and print what it cost; called in a process of its own."""
    import resource

    from journeykit import engine, journeys, study

    opened = study.open_study(str(folder))
    engine.rows("SELECT 1")
    start = time.time()
    if what == "sort":
        events, target = engine.relation(opened.path("events")), opened.derived / "floor.parquet"
        engine.run(
            f"COPY (FROM {events} ORDER BY segment_person, timestamp) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
        )
    else:
        journeys.build(opened)
    found = {"seconds": time.time() - start, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if what == "build":
        found["touches"] = max(opened.path(name).stat().st_mtime for name in ("touches", "people")) - start
    print(json.dumps(found))  # noqa: T201


def in_own_process(folder: Path, memory: str, *command: str) -> dict[str, float]:
    limits = {"JOURNEYKIT_MEMORY_LIMIT": memory, "JOURNEYKIT_SPILL": str(folder / "spill")} if memory else {}
    done = subprocess.run(
        [sys.executable, __file__, "--step", *command, "--folder", str(folder)],
        env={**os.environ, **limits},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout) if done.stdout else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", nargs="?", default="10_000_000", help="how many events (10 million)")
    parser.add_argument("--memory", default="", help='limit of the engine\'s memory, such as "2GB"; none without it')
    parser.add_argument("--step", choices=["write", "sort", "build"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    events = int(given.events.replace("_", ""))
    if given.step == "write":
        return write(given.folder, events)
    if given.step:
        return measure(given.step, given.folder)
    title = f"{events:,} events, engine's memory {given.memory or 'not limited'}"
    table = Table("what", "seconds", "events per second", "ratio", "peak MB", title=title)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_own_process(folder, given.memory, "write", str(events))  # memory of a parent shows in its children
        floor, built = (in_own_process(folder, given.memory, step) for step in ("sort", "build"))
        for what, seconds, cost in (
            ("sort to Parquet", floor["seconds"], floor),
            ("people and touches", built["touches"], built),
            ("people, touches and journeys", built["seconds"], built),
        ):
            ratio = f"{seconds / floor['seconds']:.2f} ×"
            table.add_row(what, f"{seconds:.1f}", f"{events / seconds:,.0f}", ratio, f"{cost['mb']:,.0f}")
    Console(width=120).print(table)
    return None


if __name__ == "__main__":
    main()
