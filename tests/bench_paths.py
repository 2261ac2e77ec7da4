"""Measure funnels and paths side by side: seconds, peak memory and ratios to SQL written by hand for DuckDB.

`python tests/bench_paths.py [EVENTS …]` (1 and 10 million) makes touches of so many events, 20 a person, as 02_stitch
writes them, and asks five questions of each contestant: this package; plain SQL on DuckDB; the engine of ClickHouse
(chdb, with `windowFunnel`); retentioneering; pm4py. The last three are installed in an environment of their own,
`.venv/peers`, on the first call. Each question is asked in a process of its own, so that its peak memory is its own;
what it takes to load a table into memory, where a contestant works on one, is in `loading`, not in `seconds`.
Contestants are asked one after another, `ROUNDS` times, and the quickest counts. `answer` is one number of the result,
so that it can be seen who was asked the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEERS = Path(__file__).resolve().parents[1] / ".venv" / "peers"
PACKAGES = ["retentioneering==5.2.4", "pm4py==2.7.23.11", "chdb==4.4.0"]
ROUNDS = 2
STEPS = ["ad", "product", "cart", "checkout", "buy"]
WEEK = 7 * 86_400
ALWAYS = 400 * 86_400
QUESTIONS = {
    "funnel": "five steps within 7 days, by person",
    "funnel, any time": "five steps, by person",
    "transitions": "what follows what, by session",
    "step matrix": "the first 10 positions, by session",
    "variants": "the 15 most frequent paths of 10, by session",
}
# One person in 20 events; names are drawn with unequal weights and lean on the place in the session.
EVENTS = """
    SELECT substr(md5(i::VARCHAR), 1, 16) AS event_id,
    TIMESTAMP '2025-01-01' + to_seconds((start + hash(i * 5) % 5400)::BIGINT) AS timestamp,
    CASE WHEN i % 10 < 8 THEN 'web' ELSE 'app' END AS source, i AS source_row,
    ['view', 'view', 'view', 'product', 'product', 'search', 'search', 'cart', 'checkout', 'buy', 'ad', 'ad', 'mail',
     'help', 'login', 'chat', 'wish', 'review', 'compare', 'store'][1 + (hash(i * 7) % 20)::INT] AS event,
    'web' AS channel, NULL::VARCHAR AS marketing_channel, NULL::VARCHAR AS touchpoint, NULL::VARCHAR AS stage,
    NULL::VARCHAR AS team, NULL::DOUBLE AS value, NULL::DOUBLE AS satisfaction, person AS person_id
    FROM (SELECT i, i // 20 AS person, (hash(i // 20) % 25000000 + hash(i // 7) % 1500000)::BIGINT AS start
          FROM range({n}) r(i))
"""


def write(path: Path, events: int) -> None:
    """Write touches of so many events, and the same rows as CSV-free Parquet for those who load them."""
    from journeykit import config, engine, journeys

    plan = config.parse(
        {
            "study": {"title": "Benchmark"},
            "identity": {"identifiers": ["customer"]},
            "sources": [{"name": "web", "path": "x", "time": {"column": "t"}, "event": "e"}],
        }
    )
    journeys.write_touches(engine.query(EVENTS.format(n=events)), plan, path)


def by_journeykit(path: Path) -> tuple[float, dict[str, Callable[[], Any]]]:
    from journeykit import engine, funnels, paths

    touches = engine.read_parquet(path)
    engine.rows("SELECT 1")
    return 0.0, {
        "funnel": lambda: int(funnels.funnel(touches, steps=STEPS, within="7d")["n"].iloc[-1]),
        "funnel, any time": lambda: int(funnels.funnel(touches, steps=STEPS)["n"].iloc[-1]),
        "transitions": lambda: int(paths.transitions(touches, on="event", within="session")["n"].sum()),
        "step matrix": lambda: int(paths.step_matrix(touches, on="event", steps=10, top=20)["n"].sum()),
        "variants": lambda: int(
            paths.variants(touches, on="event", within="session", length=10, collapse=False)["n"].iloc[0]
        ),
    }


def by_sql(path: Path) -> tuple[float, dict[str, Callable[[], Any]]]:
    import duckdb

    connection = duckdb.connect()

    def ask(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query).fetchall()

    touches = f"read_parquet('{path}')"
    window = "OVER (PARTITION BY person_id ORDER BY position)"

    def funnel(within: int) -> int:
        named = ", ".join(f"'{step}'" for step in STEPS)
        inner = (
            f"SELECT person_id, position, epoch_us(timestamp) AS t, event, "
            f"max(CASE WHEN event = '{STEPS[0]}' THEN epoch_us(timestamp) END) {window} AS s1 "
            f"FROM {touches} WHERE event IN ({named})"
        )
        for k, step in enumerate(STEPS[1:], start=2):
            goes_on = f"event = '{step}' AND t - s{k - 1} <= {within * 1_000_000}"
            inner = f"SELECT *, max(CASE WHEN {goes_on} THEN s{k - 1} END) {window} AS s{k} FROM ({inner})"
        each = ", ".join(f"max(s{k}) AS s{k}" for k in range(1, len(STEPS) + 1))
        counts = ", ".join(f"count(s{k})" for k in range(1, len(STEPS) + 1))
        return int(ask(f"SELECT {counts} FROM (SELECT {each} FROM ({inner}) GROUP BY person_id)")[0][-1])

    lag = "OVER (PARTITION BY session_id ORDER BY position)"
    pairs = (
        f"SELECT person_id, event, lag(event) {lag} AS before, "
        f"epoch_us(timestamp) - lag(epoch_us(timestamp)) {lag} AS t FROM {touches}"
    )
    following = ", ".join(f"lead(event, {k}) {lag} AS e{k}" for k in range(1, 10))
    path_of = "concat_ws(' > ', event, " + ", ".join(f"e{k}" for k in range(1, 10)) + ")"
    numbered = f"SELECT event, row_number() {lag} AS place FROM {touches}"
    first = f"SELECT event, {following}, row_number() {lag} AS place FROM {touches}"
    return 0.0, {
        "funnel": lambda: funnel(WEEK),
        "funnel, any time": lambda: funnel(ALWAYS),
        "transitions": lambda: sum(
            row[2]
            for row in ask(
                "SELECT before, event, count(*), count(DISTINCT person_id), median(t) "
                f"FROM ({pairs}) WHERE before IS NOT NULL GROUP BY ALL"
            )
        ),
        "step matrix": lambda: sum(
            row[2] for row in ask(f"SELECT place, event, count(*) FROM ({numbered}) WHERE place <= 10 GROUP BY ALL")
        ),
        "variants": lambda: ask(
            f"SELECT {path_of} AS path, count(*) AS n FROM ({first}) WHERE place = 1 "
            "GROUP BY ALL ORDER BY n DESC LIMIT 15"
        )[0][1],
    }


def by_chdb(path: Path) -> tuple[float, dict[str, Callable[[], Any]]]:
    import chdb

    def ask(query: str) -> list[list[Any]]:
        return json.loads(chdb.query(query, "JSONCompact").data() or "{}")["data"]

    touches = f"file('{path}', Parquet)"
    conditions = ", ".join(f"event = '{step}'" for step in STEPS)
    named = ", ".join(f"'{step}'" for step in STEPS)

    def funnel(within: int) -> int:
        levels = (
            f"SELECT windowFunnel({within})(toDateTime(timestamp), {conditions}) AS level FROM {touches} "
            f"WHERE event IN ({named}) GROUP BY person_id"
        )
        return int(ask(f"SELECT countIf(level >= {len(STEPS)}) FROM ({levels})")[0][0])

    lag = "OVER (PARTITION BY session_id ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
    at = "toUnixTimestamp64Micro(assumeNotNull(timestamp))"
    pairs = (
        f"SELECT person_id, assumeNotNull(event) AS what, lagInFrame(what, 1, '') {lag} AS before, "
        f"{at} - lagInFrame({at}) {lag} AS t FROM {touches}"
    )
    numbered = f"SELECT event, row_number() {lag} AS place FROM {touches}"
    each = f"SELECT arrayStringConcat(arraySlice(arrayMap(x -> x.2, arraySort(groupArray((position, assumeNotNull(event))))), 1, 10), ' > ') AS path FROM {touches} GROUP BY session_id"  # noqa: E501
    return 0.0, {
        "funnel": lambda: funnel(WEEK),
        "funnel, any time": lambda: funnel(ALWAYS),
        "transitions": lambda: sum(
            int(row[2])
            for row in ask(
                f"SELECT before, what, count(), uniqExact(person_id), median(t) FROM ({pairs}) WHERE before != '' "
                "GROUP BY before, what"
            )
        ),
        "step matrix": lambda: sum(
            int(row[2])
            for row in ask(f"SELECT place, event, count() FROM ({numbered}) WHERE place <= 10 GROUP BY place, event")
        ),
        "variants": lambda: int(
            ask(f"SELECT path, count() AS n FROM ({each}) GROUP BY path ORDER BY n DESC LIMIT 15")[0][1]
        ),
    }


def loaded(path: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(path, columns=["person_id", "session_id", "event", "timestamp"])


def by_retentioneering(path: Path) -> tuple[float, dict[str, Callable[[], Any]]]:
    import retentioneering

    start = time.perf_counter()
    schema = {"path_cols": ["person_id", "session_id"], "event_col": "event", "timestamp_col": "timestamp"}
    stream = retentioneering.Eventstream(loaded(path), schema)
    loading = time.perf_counter() - start

    def transitions() -> int:
        found = stream.transition_graph_data(edge_weight="count", path_col="session_id")
        inner = [name for name in found.columns if not str(name).startswith("path_")]
        return int(found.loc[[name for name in found.index if name in inner], inner].sum().sum())

    return loading, {
        "funnel, any time": lambda: int(
            stream.funnel_data(steps=STEPS, path_col="person_id")["steps"][-1]["unique_paths"]
        ),
        "transitions": transitions,
        "step matrix": lambda: len(stream.step_matrix_data(max_steps=10, path_col="session_id")),
    }


def by_pm4py(path: Path) -> tuple[float, dict[str, Callable[[], Any]]]:
    import pm4py

    start = time.perf_counter()
    frame = pm4py.format_dataframe(loaded(path), case_id="session_id", activity_key="event", timestamp_key="timestamp")
    loading = time.perf_counter() - start
    return loading, {
        "transitions": lambda: sum(pm4py.discover_dfg(frame)[0].values()),
        "variants": lambda: max(pm4py.get_variants(frame).values()),
    }


CONTESTANTS: dict[str, Callable[[Path], tuple[float, dict[str, Callable[[], Any]]]]] = {
    "journeykit": by_journeykit,
    "DuckDB SQL": by_sql,
    "chdb": by_chdb,
    "retentioneering": by_retentioneering,
    "pm4py": by_pm4py,
}
OWN = ("journeykit", "DuckDB SQL")  # they run in this environment
ASKED = {
    "journeykit": list(QUESTIONS),
    "DuckDB SQL": list(QUESTIONS),
    "chdb": list(QUESTIONS),
    "retentioneering": ["funnel, any time", "transitions", "step matrix"],
    "pm4py": ["transitions", "variants"],
}


def measure(contestant: str, question: str, path: Path) -> None:
    """Ask one question and print what it cost; called in a process of its own."""
    import resource

    loading, questions = CONTESTANTS[contestant](path)
    start = time.perf_counter()
    answer = questions[question]()
    seconds = time.perf_counter() - start
    mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"loading": loading, "seconds": seconds, "mb": mb, "answer": answer}))  # noqa: T201


def in_own_process(python: Path | str, *command: str) -> dict[str, Any]:
    environment = {**os.environ, "RETENTIONEERING_NO_TRACK": "1"}
    done = subprocess.run(
        [str(python), __file__, *command], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["killed"])[-1]}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}


def peers() -> Path:
    """Return the interpreter of the peers' environment, which is made on the first call."""
    python = PEERS / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (PEERS / "ready").exists():
        print(f"installing {', '.join(PACKAGES)} into {PEERS.name} (a few minutes, the first time)")  # noqa: T201
        venv.create(PEERS, clear=True, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], check=True)
        (PEERS / "ready").touch()
    return python


def compare(events: int, python: Path, folder: Path) -> Any:
    from rich.table import Table

    table = Table("question", "contestant", "seconds", "ratio", "loading", "peak MB", "answer")
    table.title = f"{events:,} events; ratio to DuckDB SQL; {os.cpu_count()} processors"
    path = folder / "touches.parquet"
    in_own_process(sys.executable, "--write", str(events), "--path", str(path))
    for question, meaning in QUESTIONS.items():
        best: dict[str, dict[str, Any]] = {}
        for _ in range(ROUNDS):
            for contestant in CONTESTANTS:
                if question not in ASKED[contestant]:
                    continue
                where = sys.executable if contestant in OWN else python
                found = in_own_process(where, "--ask", contestant, question, "--path", str(path))
                if contestant not in best or found.get("seconds", 1e9) < best[contestant].get("seconds", 1e9):
                    best[contestant] = found
        for contestant, cost in best.items():
            first = contestant == next(iter(best))
            asked = f"{question}: {meaning}" if first else ""
            if "seconds" not in cost:
                table.add_row(asked, contestant, "failed", cost.get("failed", "no answer"), "", "", "")
                continue
            ratio = f"{cost['seconds'] / best['DuckDB SQL']['seconds']:.2f} ×"
            numbers = [f"{cost['seconds']:.2f}", ratio, f"{cost['loading']:.1f}", f"{cost['mb']:,.0f}"]
            table.add_row(asked, contestant, *numbers, f"{cost['answer']:,}")
        table.add_section()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", nargs="*", default=["1_000_000", "10_000_000"], help="how many (1 and 10 million)")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--ask", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        return write(given.path, int(given.write))
    if given.ask:
        return measure(*given.ask, given.path)
    from rich.console import Console

    python = peers()
    with tempfile.TemporaryDirectory() as folder:
        for events in given.events:
            Console(width=120).print(compare(int(str(events).replace("_", "")), python, Path(folder)))
    return None


if __name__ == "__main__":
    main()
