"""Measure churn side by side: seconds, peak memory and ratios to plain pandas, lifelines and scikit-learn alone.

`python tests/bench_churn.py [PEOPLE …]` (100 thousand and one million) makes touches of so many customers, about 14
events each, as 02_stitch writes them, and asks three questions: what was known of everybody at the start of each of
their 30 days (person-periods, eight covariates), how much faster people with each covariate leave (Cox, at the
landmark), and the chance of leaving by tenure and covariates (discrete-time hazard). Contestants are this package,
which builds the tables in the engine, and what one writes by hand: pandas with `merge_asof`, lifelines, scikit-learn.

Each question is asked in a process of its own, so that its peak memory is its own; what comes before the question (the
table that a model needs, or for pandas the events in memory) is in `loading`, not in `seconds`. Contestants are asked
one after another, `ROUNDS` times, and the quickest counts. `answer` is one number of the result: rows, or the ratio of
late delivery, planted as 1.8; it is lower in the discrete-time hazard, where the first 30 days do not know of it yet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROUNDS = 2
AS_OF = "2026-02-05"  # 400 days after the first customers
START, END = "joined", "left"
QUESTIONS = {
    "person-periods": "eight covariates at the start of each 30 days",
    "landmark": "spells, and eight covariates on day 30",
    "Cox": "eight covariates, on day 30",
    "hazard": "discrete-time, on the person-periods",
}
COVARIATES: list[dict[str, Any]] = [
    {"name": "late", "events": ["late"]},
    {"name": "ticket", "events": ["ticket"], "without": ["solved"]},
    {"name": "help", "kind": "count", "events": ["help"]},
    {"name": "login", "kind": "count", "events": ["login"], "last": "30d"},
    {"name": "chat", "events": ["chat"]},
    {"name": "review", "kind": "count", "events": ["review"]},
    {"name": "mail", "kind": "count", "events": ["mail", "push"]},
    {"name": "shop", "events": ["shop", "store"]},
]
# People join over 300 days; a planted 1.8 of late delivery and 2.4 of a ticket multiply a rate of 0.0016 a day.
PEOPLE = """
    SELECT p, (hash(p * 3) % 25920000)::BIGINT AS start_s, hash(p * 5) % 10 < 3 AS late, hash(p * 7) % 10 < 2 AS ticket,
    -ln((1 + hash(p * 11) % 999983) / 999984.0) / (0.0016 * CASE WHEN hash(p * 5) % 10 < 3 THEN 1.8 ELSE 1 END
        * CASE WHEN hash(p * 7) % 10 < 2 THEN 2.4 ELSE 1 END) AS life
    FROM range({n}) r(p)
"""
EVENTS = """
    WITH people AS ({people}), told AS (
        SELECT p, 'joined' AS event, start_s AS at_s FROM people
        UNION ALL SELECT p, 'left', start_s + (life * 86400)::BIGINT FROM people WHERE life < 400
        UNION ALL SELECT p, 'late', start_s + 100000 + (hash(p * 13) % 600000)::BIGINT FROM people WHERE late
        UNION ALL SELECT p, 'ticket', start_s + 200000 + (hash(p * 17) % 600000)::BIGINT FROM people WHERE ticket
        UNION ALL SELECT p, ['help', 'login', 'login', 'login', 'chat', 'review', 'mail', 'mail', 'push', 'shop',
            'store', 'view'][1 + (hash(p * 100 + k) % 12)::INT],
            start_s - 1700000 + (hash(p * 1000 + k) % 19000000)::BIGINT
        FROM people, range(12) t(k)
    )
    SELECT substr(md5(p || '-' || row_number() OVER ()), 1, 16) AS event_id,
    TIMESTAMP '2025-01-01' + to_seconds(at_s) AS timestamp, 'web' AS source, row_number() OVER () AS source_row, event,
    'web' AS channel, NULL::VARCHAR AS marketing_channel, event AS touchpoint, NULL::VARCHAR AS stage,
    NULL::VARCHAR AS team, NULL::DOUBLE AS value, NULL::DOUBLE AS satisfaction, p AS person_id
    FROM told WHERE at_s BETWEEN 0 AND 34560000
"""


def write(path: Path, people: int) -> None:
    """Write touches of so many customers."""
    from journeykit import config, engine, journeys

    plan = config.parse(
        {
            "study": {"title": "Benchmark"},
            "identity": {"identifiers": ["customer"]},
            "sources": [{"name": "web", "path": "x", "time": {"column": "t"}, "event": "e"}],
        }
    )
    journeys.write_touches(engine.query(EVENTS.format(people=PEOPLE.format(n=people))), plan, path)


def declared() -> list[Any]:
    from journeykit.config import Covariate

    return [Covariate(**one) for one in COVARIATES]


def known_spells(touches: Any) -> pd.DataFrame:
    from journeykit.churn import spells

    return spells.spells(touches, start=[START], end=[END], as_of=AS_OF)


def landmark_table(path: Path) -> pd.DataFrame:
    from journeykit import engine
    from journeykit.churn import covariates

    touches = engine.read_parquet(path)
    return covariates.at_landmark(touches, known_spells(touches), covariates=declared(), landmark="30d")


def person_periods(touches: Any, known: pd.DataFrame) -> pd.DataFrame:
    from journeykit import engine
    from journeykit.churn import periods

    with engine.scratch():
        rows = periods.person_periods(touches, known, covariates=declared(), width_days=30.0)
        return engine.fetch(rows, limit=100_000_000)


Asked = tuple[float, Callable[[], Any]]


def by_journeykit(question: str, path: Path) -> Asked:
    from journeykit import engine
    from journeykit.churn import cox, models

    begin = time.perf_counter()
    touches = engine.read_parquet(path)
    engine.rows("SELECT 1")
    if question == "landmark":
        return 0.0, lambda: len(landmark_table(path))
    if question == "person-periods":
        known = known_spells(touches)
        return time.perf_counter() - begin, lambda: len(person_periods(touches, known))
    if question == "Cox":
        table = landmark_table(path)
        return time.perf_counter() - begin, lambda: _ratio(cox.cox(table, declared()))
    rows = person_periods(touches, known_spells(touches))

    def hazard() -> float:
        model, reason = models.fit("Discrete-time hazard", models.training(rows, declared()))
        assert model is not None, reason
        few = rows.sort_values(["person_id", "period"]).head(1)
        people = pd.concat([few.assign(late=late, tenure_days=30.0) for late in (0.0, 1.0)])
        gone = -np.log(model.survival(people, [30.0])[:, 0])
        return round(float(gone[1] / gone[0]), 2)

    return time.perf_counter() - begin, hazard


def by_hand(question: str, path: Path) -> Asked:
    """Pandas, lifelines and scikit-learn, each on the table that it asks for."""
    begin = time.perf_counter()
    names = [one["name"] for one in COVARIATES]
    if question in ("person-periods", "landmark"):
        events = pd.read_parquet(path, columns=["person_id", "event", "timestamp"])
        if question == "landmark":
            return time.perf_counter() - begin, lambda: len(_known_at(events, _plain_spells(events), [30.0]))
        known = _plain_spells(events)
        return time.perf_counter() - begin, lambda: len(_known_at(events, known, np.arange(0.0, 420.0, 30.0)))
    if question == "Cox":
        from lifelines import CoxPHFitter

        table = landmark_table(path)[["duration_days", "ended", *names]]
        fitted = lambda: CoxPHFitter().fit(table, "duration_days", "ended").hazard_ratios_["late"]  # noqa: E731
        return time.perf_counter() - begin, lambda: round(float(fitted()), 2)
    from sklearn.linear_model import LogisticRegression

    from journeykit import engine

    touches = engine.read_parquet(path)
    rows = person_periods(touches, known_spells(touches))

    def logistic() -> float:
        x = np.hstack([np.eye(int(rows["period"].max()) + 1)[rows["period"]], rows[names].to_numpy(float)])
        model = LogisticRegression(C=np.inf, solver="newton-cholesky", fit_intercept=False)
        return round(float(np.exp(model.fit(x, rows["ended"]).coef_[0][-len(names)])), 2)

    return time.perf_counter() - begin, logistic


def _ratio(table: pd.DataFrame) -> float:
    return round(float(table.set_index("covariate").loc["late", "hazard_ratio"]), 2)


def _plain_spells(events: pd.DataFrame) -> pd.DataFrame:
    began = events[events["event"] == START].groupby("person_id")["timestamp"].min().rename("start")
    ended = events[events["event"] == END].groupby("person_id")["timestamp"].min().rename("end")
    known = pd.concat([began, ended], axis=1).dropna(subset="start")
    return known.assign(over=known["end"].fillna(pd.Timestamp(AS_OF))).rename_axis("person_id").reset_index()


def _known_at(events: pd.DataFrame, known: pd.DataFrame, days: Any) -> pd.DataFrame:
    """The covariates of everybody at some days of tenure, as long as they were there: one `merge_asof` a covariate."""
    rows = known.loc[np.repeat(known.index, len(days))].assign(from_days=np.tile(days, len(known)))
    rows["at"] = (rows["start"] + pd.to_timedelta(rows["from_days"], unit="D")).astype("datetime64[ns]")
    rows = rows[rows["at"] < rows["over"]].sort_values("at")
    events = events.assign(timestamp=events["timestamp"].astype("datetime64[ns]")).sort_values("timestamp")
    for one in COVARIATES:
        part = events[events["event"].isin([*one["events"], *one.get("without", [])])]
        step = np.where(part["event"].isin(one["events"]), 1.0, -1.0)
        count = part[["person_id"]].assign(at=part["timestamp"], n=pd.Series(step, part.index))
        count["n"] = count.groupby("person_id")["n"].cumsum()
        found = pd.merge_asof(rows[["person_id", "at"]], count, on="at", by="person_id")["n"].fillna(0)
        if one.get("last"):
            earlier = rows[["person_id"]].assign(at=(rows["at"] - pd.Timedelta(one["last"])).astype("datetime64[ns]"))
            found = found - pd.merge_asof(earlier, count, on="at", by="person_id")["n"].fillna(0)
        rows[one["name"]] = (found if one.get("kind") == "count" else (found > 0).astype(float)).to_numpy()
    return rows


CONTESTANTS = {"journeykit": by_journeykit, "by hand": by_hand}


def measure(contestant: str, question: str, path: Path) -> None:
    """Ask one question and print what it cost; called in a process of its own."""
    import resource

    warnings.simplefilter("ignore")
    loading, ask = CONTESTANTS[contestant](question, path)
    start = time.perf_counter()
    answer = ask()
    seconds = time.perf_counter() - start
    mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"loading": loading, "seconds": seconds, "mb": mb, "answer": answer}))  # noqa: T201


def in_own_process(*command: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["killed"])[-1]}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}


def compare(people: int, folder: Path) -> Any:
    from rich.table import Table

    table = Table("question", "contestant", "seconds", "ratio", "loading", "peak MB", "answer")
    table.title = f"{people:,} people; ratio to the work by hand; {os.cpu_count()} processors"
    path = folder / "touches.parquet"
    in_own_process("--write", str(people), "--path", str(path))
    for question, meaning in QUESTIONS.items():
        best: dict[str, dict[str, Any]] = {}
        for _ in range(ROUNDS):
            for contestant in CONTESTANTS:
                found = in_own_process("--ask", contestant, question, "--path", str(path))
                if contestant not in best or found.get("seconds", 1e9) < best[contestant].get("seconds", 1e9):
                    best[contestant] = found
        for contestant, cost in best.items():
            asked = f"{question}: {meaning}" if contestant == next(iter(best)) else ""
            if "seconds" not in cost:
                table.add_row(asked, contestant, "failed", cost.get("failed", "no answer"), "", "", "")
                continue
            by = best["by hand"].get("seconds")
            ratio = f"{cost['seconds'] / by:.2f} ×" if by else ""
            numbers = [f"{cost['seconds']:.2f}", ratio, f"{cost['loading']:.1f}", f"{cost['mb']:,.0f}"]
            table.add_row(asked, contestant, *numbers, f"{cost['answer']:,}")
        table.add_section()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "people", nargs="*", default=["100_000", "1_000_000"], help="how many (100 thousand, 1 million)"
    )
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--ask", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        return write(given.path, int(given.write))
    if given.ask:
        return measure(*given.ask, given.path)
    from rich.console import Console

    with tempfile.TemporaryDirectory() as folder:
        for people in given.people:
            Console(width=120).print(compare(int(str(people).replace("_", "")), Path(folder)))
    return None


if __name__ == "__main__":
    main()
