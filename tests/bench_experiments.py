"""Measure experiments: ten metrics of millions of units from touches, beside SQL written by hand for DuckDB.

`python tests/bench_experiments.py [UNITS …]` (1 and 10 million) writes touches of so many exposed people, ten events a
person, and asks three questions of this package and of plain SQL on DuckDB: one row per unit with ten metrics, their
denominators and what they were before the exposure; a funnel of three steps; and, of this package only, all effects
with their intervals on top of the first. Each is asked in a process of its own, so that its peak memory is its own,
and `ROUNDS` times; the quickest counts. `answer` is one number of the result, so that it can be seen who was asked the
same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 2
EACH = 10  # events a person
WEEK = 7 * 86_400_000_000
MONTH = 28 * 86_400_000_000
AS_OF = "2025-06-01"
QUESTIONS = {
    "ten metrics": "one row per unit: 10 metrics, after and before the exposure",
    "funnel": "three steps in order, after and before the exposure",
    "effects": "ten metrics, and their effects with fixed and always-valid intervals and CUPED",
}
# The fourth event of a person is the exposure; the others lie up to 5 days around it, in three visits.
TOUCHES = """
    SELECT person AS person_id, to_timestamp((1740000000 + hash(person) % 4000000
    + (place - 4) * 90000 + hash(i * 3) % 80000)::BIGINT)::TIMESTAMP AS timestamp,
    CASE WHEN place = 4 THEN 'seen' ELSE ['view', 'view', 'cart', 'cart', 'checkout', 'buy', 'chat', 'ticket', 'rate',
     'login'][1 + (hash(i * 7) % 10)::INT] END AS event, place AS position, person * 3 + place // 4 AS session_id,
    CASE WHEN place = 4 THEN 'test' END AS segment_experiment,
    CASE WHEN place = 4 THEN CASE WHEN hash(person * 11) % 2 = 0 THEN 'a' ELSE 'b' END END AS segment_variant,
    (hash(i * 13) % 20000)::DOUBLE / 100 AS value, (hash(i * 17) % 5)::DOUBLE / 4 AS satisfaction
    FROM (SELECT i, i // {each} AS person, i % {each} AS place FROM range({n}) r(i))
"""
METRICS = [
    {"name": "buys", "event": "buy"},
    {"name": "carts", "event": "cart", "role": "secondary"},
    {"name": "tickets", "event": "ticket", "role": "guardrail", "better": "down"},
    {"name": "orders", "event": "buy", "kind": "count", "role": "secondary"},
    {"name": "views", "event": "view", "kind": "count", "cap": 3, "role": "secondary"},
    {"name": "revenue", "event": "buy", "kind": "value", "cap": 300, "role": "secondary"},
    {"name": "mood", "event": "rate", "kind": "satisfaction", "role": "guardrail"},
    {"name": "per_visit", "event": "buy", "kind": "ratio", "per": "session", "role": "secondary"},
    {"name": "per_cart", "event": "buy", "kind": "ratio", "per": "cart", "role": "secondary"},
    {"name": "wait", "event": "buy", "kind": "time", "role": "secondary"},
]
FUNNEL = {"name": "way", "kind": "funnel", "steps": ["cart", "checkout", "buy"]}


def by_journeykit(path: Path) -> dict[str, Callable[[], Any]]:
    import pandas as pd

    from journeykit import engine
    from journeykit.config import Experiment
    from journeykit.experiments import effects, units

    def plan(*metrics: dict[str, Any]) -> Experiment:
        keys = {"name": "test", "hypothesis": "h", "exposure": "seen", "control": "a", "within": "7d"}
        return Experiment.model_validate({**keys, "arms": {"a": 0.5, "b": 0.5}, "metrics": list(metrics)})

    def found(experiment: Experiment) -> pd.DataFrame:
        return units.units(engine.read_parquet(path), experiment=experiment, as_of=pd.Timestamp(AS_OF))

    def all_effects() -> int:
        experiment = plan(*METRICS)
        return int(effects.effects(found(experiment), experiment=experiment)["n_control"].sum())

    engine.rows("SELECT 1")
    return {
        "ten metrics": lambda: int(found(plan(*METRICS))["orders"].sum()),
        "funnel": lambda: int(found(plan(FUNNEL))["way"].sum()),
        "effects": all_effects,
    }


def by_sql(path: Path) -> dict[str, Callable[[], Any]]:
    import duckdb

    connection = duckdb.connect()
    touches = f"(SELECT *, epoch_us(timestamp) AS t FROM read_parquet('{path}'))"
    exposed = (
        "(SELECT person_id, min(segment_variant) AS arm, min(t) AS t0 FROM " + touches + " WHERE event = 'seen' AND "
        "segment_experiment = 'test' GROUP BY person_id HAVING min(segment_variant) = max(segment_variant))"
    )
    rows = (
        f"(SELECT x.*, arm, t0, t - t0 AS o FROM {touches} x JOIN {exposed} e USING (person_id) "
        f"WHERE t - t0 BETWEEN -{MONTH} AND {WEEK})"
    )

    def sums(side: str, inside: str) -> str:
        def of(what: str, event: str) -> str:
            return f"{what} FILTER ({inside} AND event = '{event}')"

        parts = [
            *(f"{of('count(*)', event)} > 0" for event in ("buy", "cart", "ticket")),
            of("count(*)", "buy"),
            f"least({of('count(*)', 'view')}, 3)",
            f"least({of('sum(value)', 'buy')}, 300)",
            of("avg(satisfaction)", "rate"),
            f"count(DISTINCT session_id) FILTER ({inside})",
            of("count(*)", "cart"),
        ]
        return ", ".join(f"{part} AS {side}{number}" for number, part in enumerate(parts))

    def ten() -> int:
        query = (
            f"SELECT person_id, any_value(arm) AS arm, any_value(t0) AS t0, count(*) FILTER (o < 0) AS before, "
            f"{sums('m', 'o > 0')}, {sums('b', 'o < 0')}, min(o) FILTER (o > 0 AND event = 'buy') AS wait "
            f"FROM {rows} GROUP BY person_id ORDER BY person_id"
        )
        return int(connection.sql(query).df()["m3"].sum())

    def funnel() -> int:
        over = "OVER (PARTITION BY person_id ORDER BY position)"
        total = 0
        for inside in ("o > 0", "o < 0"):
            steps = f"SELECT person_id, position, event, max(event = 'cart') {over} AS s1 FROM {rows} WHERE {inside}"
            steps = f"SELECT *, max(event = 'checkout' AND s1) {over} AS s2 FROM ({steps})"
            done = f"SELECT person_id, bool_or(event = 'buy' AND s2) AS done FROM ({steps}) GROUP BY person_id"
            flags = connection.sql(
                f"SELECT person_id, coalesce(done, FALSE) AS done FROM {exposed} LEFT JOIN ({done}) USING (person_id)"
            )
            total = total or int(flags.df()["done"].sum())
        return total

    return {"ten metrics": ten, "funnel": funnel}


CONTESTANTS = {"journeykit": by_journeykit, "DuckDB SQL": by_sql}


def measure(contestant: str, question: str, path: Path) -> None:
    """Ask one question and print what it cost; called in a process of its own."""
    import resource

    questions = CONTESTANTS[contestant](path)
    start = time.perf_counter()
    answer = questions[question]()
    seconds = time.perf_counter() - start
    mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "mb": mb, "answer": answer}))  # noqa: T201


def in_own_process(*command: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["killed"])[-1]}
    return json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])


def write(path: Path, units: int) -> None:
    import duckdb

    query = TOUCHES.format(n=units * EACH, each=EACH)
    duckdb.connect().execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")


def compare(units: int, folder: Path) -> Any:
    from rich.table import Table

    table = Table("question", "contestant", "seconds", "ratio", "peak MB", "answer")
    table.title = f"{units:,} units, {units * EACH:,} events; ratio to DuckDB SQL; {os.cpu_count()} processors"
    path = folder / "touches.parquet"
    write(path, units)
    for question, meaning in QUESTIONS.items():
        best: dict[str, dict[str, Any]] = {}
        for _ in range(ROUNDS):
            for contestant in CONTESTANTS:
                if question == "effects" and contestant != "journeykit":
                    continue
                found = in_own_process("--ask", contestant, question, "--path", str(path))
                if contestant not in best or found.get("seconds", 1e9) < best[contestant].get("seconds", 1e9):
                    best[contestant] = found
        for contestant, cost in best.items():
            asked = f"{question}: {meaning}" if contestant == next(iter(best)) else ""
            if "seconds" not in cost:
                table.add_row(asked, contestant, "failed", cost["failed"], "", "")
                continue
            against = best.get("DuckDB SQL", {}).get("seconds")
            ratio = f"{cost['seconds'] / against:.2f} ×" if against else ""
            table.add_row(
                asked, contestant, f"{cost['seconds']:.2f}", ratio, f"{cost['mb']:,.0f}", f"{cost['answer']:,}"
            )
        table.add_section()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("units", nargs="*", default=["1_000_000", "10_000_000"], help="how many (1 and 10 million)")
    parser.add_argument("--ask", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask:
        return measure(*given.ask, given.path)
    from rich.console import Console

    with tempfile.TemporaryDirectory() as folder:
        for units in given.units:
            Console(width=120).print(compare(int(str(units).replace("_", "")), Path(folder)))
    return None


if __name__ == "__main__":
    main()
