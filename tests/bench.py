"""Measure, in one run and side by side, what the pipeline costs on simulated studies: seconds, memory and ratios.

`python tests/bench.py [PEOPLE …]` simulates a study of each size in a temporary folder, reads and stitches it, and asks
the event-level questions. Each line is set against a floor measured in the same run: DuckDB merely reading and
counting the raw files, or scanning the touches.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import narwhals as nw
from rich.console import Console
from rich.table import Table

from journeykit import engine, events, funnels, journeys, paths, study
from journeykit.simulate import simulate


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_and_count(raw: Path) -> int:
    """The floor of ingestion: the engine reads every raw file as lines of text and counts them."""
    lines = "header = false, auto_detect = false, delim = '\x1f', quote = '', columns = {'line': 'VARCHAR'}"
    counted = 0
    for path in sorted(path for path in raw.rglob("*") if path.is_file()):
        reader = f"read_parquet('{path}')" if path.suffix == ".parquet" else f"read_csv('{path}', {lines})"
        counted += engine.rows(f"SELECT count(*) FROM {reader}")[0][0]
    return counted


def measure(people: int, table: Table) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bench"
        made, _ = timed(lambda: simulate(out, people=people))
        opened = study.open_study(str(out))
        floor, rows = timed(lambda: read_and_count(out / "raw"))

        def add(name: str, seconds: float, against: float, what: str) -> None:
            table.add_row(
                f"{people:,}", name, f"{seconds:.2f}", f"{seconds / against:.1f} × {what}", f"{peak_mb():,.0f}"
            )

        table.add_row(f"{people:,}", f"simulate ({rows:,} raw rows)", f"{made:.2f}", "", f"{peak_mb():,.0f}")
        add("ingest", timed(lambda: events.ingest(opened))[0], floor, "reading and counting")
        add("ingest again, nothing new", timed(lambda: events.ingest(opened))[0], floor, "reading and counting")
        touches = engine.read_parquet(opened.path("events"))
        order = touches.select("time_us", "source", "source_row", "event_id", "event").sort("time_us", "event_id")
        sort, _ = timed(lambda: engine.write_parquet(order, opened.derived / "floor.parquet"))
        add("stitch, sessions, journeys", timed(lambda: journeys.build(opened))[0], sort, "sorting the events")
        touches = opened.table("touches")
        scan, _ = timed(lambda: engine.fetch(touches.select(n=nw.len(), x=nw.col("time_us").max())))
        funnel = opened.config.funnels["buy"]
        questions: dict[str, Callable[[], Any]] = {
            "funnel": lambda: funnels.funnel(touches, **funnels.rules(funnel)),
            "transitions": lambda: paths.transitions(touches, on="touchpoint"),
            "step matrix": lambda: paths.step_matrix(touches, on="touchpoint"),
            "variants": lambda: paths.variants(touches, on="touchpoint"),
        }
        for name, work in questions.items():
            add(name, timed(work)[0], scan, "scanning the touches")


def main() -> None:
    sizes = [int(word.replace("_", "")) for word in sys.argv[1:]] or [6_000, 50_000]
    table = Table("people", "what", "seconds", "ratio to its floor", "peak MB so far")
    for people in sizes:
        measure(people, table)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
