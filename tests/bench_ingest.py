"""Measure ingestion: rows per second and peak memory, as ratios to DuckDB merely reading and counting the same file.

`python tests/bench_ingest.py [ROWS]` writes ROWS (10 million) rows of GA4-style JSON Lines and of CSV to a temporary
folder, counts them with the engine alone, ingests them as a study of one source, and prints the ratio of the two. Each
measurement runs in a process of its own with a memory limit of 1.2 GB for the engine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

LIMIT = "1200MB"
STUDY = """
[study]
title = "Benchmark"
as_of = "2026-12-31T00:00:00Z"

[identity]
identifiers = ["customer", "device"]
devices = ["device"]

[[stages]]
name = "Visit"
touchpoints = {{ Page = "page_view", Product = "view_item", Cart = "add_to_cart", Order = "purchase" }}

{source}
"""
SOURCES = {
    "ga4.jsonl": '[[sources]]\nname = "web"\npath = "raw/ga4.jsonl"\npreset = "ga4"\n',
    "shop.csv": """[[sources]]
name = "shop"
path = "raw/shop.csv"
time = { column = "timestamp" }
event = "event"
event_id = "message_id"
marketing_channel = "medium"
value = "value"
properties = ["url"]
identifiers = { device = "anonymous_id", customer = "user_id" }
""",
}
COUNTS = {
    "ga4.jsonl": "SELECT count(event_name) FROM read_json_auto('{path}')",
    "shop.csv": "SELECT count(event) FROM read_csv('{path}')",
}
ROWS = """
    SELECT i, 1735689600000000 + i * (30000000000000 // {n}) + (hash(i) % 1000)::BIGINT AS us, (hash(i) >> 2)::BIGINT AS h,
    (hash(i * 7) % greatest({n} // 20, 1))::BIGINT AS p FROM range({n}) r(i)
"""
NAMES = "['page_view', 'view_item', 'add_to_cart', 'purchase', 'scroll'][1 + h % 5]"
MEDIA = "['cpc', 'organic', 'email'][1 + h % 3]"
# ruff: noqa: E501 (the lines of a query that writes lines)
LINES = """
    SELECT printf('{{"event_date":"20250101","event_timestamp":"%d","event_name":"%s","event_params":[{{"key":'
    '"page_location","value":{{"string_value":"https://shop.example/p/%d?utm_source=x&q=%d"}}}},{{"key":"ga_session_id",'
    '"value":{{"int_value":"%d"}}}},{{"key":"engagement_time_msec","value":{{"int_value":"%d"}}}}],'
    '"event_bundle_sequence_id":"%d","user_pseudo_id":"%d.%d","user_id":%s,"device":{{"category":"%s","language":"de-de",'
    '"operating_system":"Android"}},"geo":{{"country":"Germany","city":"Berlin"}},"platform":"WEB","stream_id":'
    '"1234567890","collected_traffic_source":{{"manual_medium":"%s","manual_source":"google"}}}}', us, {names}, h % 5000,
    h % 100, h % 1000000, h % 20000, i, p, p * 3 + 17, CASE WHEN p % 3 = 0 THEN '"c' || p || '"' ELSE 'null' END,
    ['mobile', 'desktop'][1 + p % 2], {media}) AS line FROM ({rows}) ORDER BY i
"""
CELLS = """
    SELECT make_timestamp(us) AS timestamp, {names} AS event, p || '.' || (p * 3 + 17) AS anonymous_id,
    CASE WHEN p % 3 = 0 THEN 'c' || p END AS user_id, 'm' || i AS message_id,
    'https://shop.example/p/' || (h % 5000) AS url, {media} AS medium, round((h % 10000) / 100.0, 2) AS value
    FROM ({rows}) ORDER BY i
"""


def write(folder: Path, rows: int) -> None:
    """Write the two files."""
    from journeykit import engine

    filled = {"rows": ROWS.format(n=rows), "names": NAMES, "media": MEDIA}
    for name, query, options in (
        ("ga4.jsonl", LINES, "FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x1f'"),
        ("shop.csv", CELLS, "FORMAT csv, HEADER"),
    ):
        home = folder / Path(name).stem
        (home / "raw").mkdir(parents=True)
        (home / "journey.toml").write_text(STUDY.format(source=SOURCES[name]), encoding="utf-8")
        engine.run(f"COPY ({query.format(**filled)}) TO '{home / 'raw' / name}' ({options})")


def measure(what: str, folder: Path, name: str) -> None:
    """Do one thing and print what it cost; called in a process of its own."""
    import resource

    from journeykit import engine, events, study

    engine.rows("SELECT 1")
    home = folder / Path(name).stem
    start = time.perf_counter()
    if what == "count":
        engine.rows(COUNTS[name].format(path=home / "raw" / name))
    else:
        events.ingest(study.open_study(str(home)))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))  # noqa: T201


def in_own_process(what: str, folder: Path, name: str) -> dict[str, float]:
    import os

    spill = {"JOURNEYKIT_MEMORY_LIMIT": LIMIT, "JOURNEYKIT_SPILL": str(folder / "spill")}
    command = [sys.executable, __file__, what, str(folder), name]
    done = subprocess.run(command, env={**os.environ, **spill}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout) if done.stdout else {}


def main() -> None:
    if sys.argv[1:2] == ["write"]:
        return write(Path(sys.argv[2]), int(sys.argv[3]))
    if sys.argv[1:2] in (["count"], ["ingest"]):
        return measure(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    rows = int(sys.argv[1].replace("_", "")) if sys.argv[1:] else 10_000_000
    table = Table("file", "rows", "size", "what", "seconds", "rows per second", "ratio", "peak MB")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_own_process("write", folder, str(rows))  # memory of a parent shows in its children
        for file in SOURCES:
            size = (folder / Path(file).stem / "raw" / file).stat().st_size / 1e9
            floor = in_own_process("count", folder, file)
            floor = in_own_process("count", folder, file)  # once more, with the file in the page cache
            found = {"read and count": floor, "ingest": in_own_process("ingest", folder, file)}
            found["ingest again, nothing new"] = in_own_process("ingest", folder, file)
            for what, cost in found.items():
                ratio = f"{cost['seconds'] / floor['seconds']:.1f} ×"
                speed = f"{rows / cost['seconds']:,.0f}"
                table.add_row(
                    file,
                    f"{rows:,}",
                    f"{size:.2f} GB",
                    what,
                    f"{cost['seconds']:.1f}",
                    speed,
                    ratio,
                    f"{cost['mb']:,.0f}",
                )
    Console(width=130).print(table)
    return None


if __name__ == "__main__":
    main()
