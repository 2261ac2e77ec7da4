"""Spark gives what DuckDB gives, to the last row and digit: the engine's own functions, the bundled study, random logs.

Skipped where pyspark or Java is missing, unless JOURNEYKIT_REQUIRE_SPARK is set. One session serves all tests.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import matplotlib as mpl
import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from journeykit import (
    attribution,
    config,
    deliveries,
    detours,
    deviations,
    dwell,
    engine,
    events,
    flows,
    friction,
    funnel_modes,
    funnel_segments,
    funnel_times,
    funnel_trend,
    funnels,
    handoffs,
    identity,
    journey_map,
    journeys,
    leavers,
    opportunity,
    ordering,
    path_anchors,
    path_compare,
    paths,
    patterns,
    plan_times,
    plan_ways,
    plans,
    quality,
    reconcile,
    strips,
    study,
    volume,
)
from journeykit.churn import (
    acquisition,
    cohorts,
    covariates,
    lifecycle,
    periods,
    purchases,
    quiet,
    spells,
    stages,
)
from journeykit.engine import files
from journeykit.errors import JourneyError
from journeykit.experiments import units
from tests.conftest import ROOT

HERE = "local[2]"
# A study of a few thousand people: compiling pays less than it costs.
QUICK = "spark.sql.codegen.wholeStage=false;spark.driver.extraJavaOptions=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
CHAPTERS = ("03_map", "04_funnel", "05_paths", "06_attribution", "07_churn", "08_experiment")
SMILES = pd.DataFrame(
    {
        "key": [1, 1, 2, 3, 3, 4],
        "text": ["", None, "🙂 é", "a\\'b\"c", "Ω", ""],
        "whole": pd.array([1, None, 2**53 + 1, -1, 0, None], dtype="Int64"),
        "part": [0.1, np.nan, -0.0, 1e300, 0.2, 1 / 3],
        "flag": pd.array([True, False, None, True, None, False], dtype="boolean"),
        "timestamp": pd.to_datetime(
            [
                "2025-01-01 00:00:00.000001",
                None,
                "1970-01-01",
                "2262-01-01",
                "1969-12-31 23:59:59.999999",
                "2025-03-30",
            ],
            format="ISO8601",
        ),
        "kind": pd.Categorical(["b", "a", None, "a", "b", "a"]),
    }
)


@contextlib.contextmanager
def on(name: str) -> Iterator[None]:
    """Open tables with an engine for a while."""
    before = os.environ.get("JOURNEYKIT_ENGINE")
    os.environ["JOURNEYKIT_ENGINE"] = name
    try:
        yield
    finally:
        os.environ.pop("JOURNEYKIT_ENGINE")
        if before is not None:
            os.environ["JOURNEYKIT_ENGINE"] = before


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[Any]:
    try:
        engine.require(HERE)
    except JourneyError as error:
        if os.environ.get("JOURNEYKIT_REQUIRE_SPARK"):
            raise
        pytest.skip(str(error))
    from journeykit.engine import spark

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOURNEYKIT_SPARK", QUICK)
        patch.setenv("JOURNEYKIT_SPARK_MEMORY", "2g")
        patch.setenv("JOURNEYKIT_THREADS", "2")
        with on(HERE):
            made = spark.session()
        yield made
        made.stop()


def spark_frame(table: Any) -> Any:
    from journeykit.engine import spark

    return spark.from_arrow(pa.Table.from_pandas(table, preserve_index=False))


def same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    """Equal but for the order of rows, and to ten digits, as tables are written."""
    assert list(left.columns) == list(right.columns)
    assert left.attrs == right.attrs
    columns = list(left.columns)
    ordered = [
        table.assign(**{name: table[name].astype(object).where(table[name].notna(), None) for name in columns})
        .sort_values(columns, key=lambda column: column.map(lambda value: f"{value!r:>40}"), ignore_index=True)
        .map(lambda value: float(f"{value:.10g}") if isinstance(value, float) else value)
        for table in (left, right)
    ]
    pd.testing.assert_frame_equal(*ordered, check_dtype=False, check_exact=True)


# ── The engine's own functions ───────────────────────────────────────────────────────────────────────────────────────


def test_values_of_every_kind_come_back_as_they_were() -> None:
    same(engine.fetch(engine.lazy(spark_frame(SMILES))), engine.fetch(engine.lazy(SMILES)))
    nothing = engine.fetch(engine.lazy(spark_frame(SMILES.head(0))))
    assert nothing.empty
    assert list(nothing.columns) == [*SMILES.columns, "time_us"]


def test_a_small_table_goes_to_where_the_large_one_is() -> None:
    table = engine.lazy(spark_frame(SMILES[["key"]]))
    small = pd.DataFrame({"key": [1, 3], "name": ["", None], "none": [None, None], "n": pd.array([None, 7], "Int64")})
    small["size"] = np.array([1, 2], dtype="uint8")
    here = engine.fetch(engine.lazy(SMILES[["key"]]).join(engine.beside(small, SMILES), on="key", how="left"))
    there = engine.fetch(table.join(engine.beside(small, table), on="key", how="left"))
    same(there, here)
    assert engine.beside(table, table).implementation.is_pyspark()
    same(engine.fetch(engine.beside(engine.lazy(small), table)), small)
    same(engine.fetch(engine.beside(table, SMILES)), SMILES[["key"]])
    assert engine.fetch(engine.beside(small.head(0), table)).empty


def test_sums_overflow_loudly_and_whole_numbers_stay_whole() -> None:
    table = engine.lazy(spark_frame(pd.DataFrame({"x": [2**60, 1]})))
    assert engine.fetch(table.select(nw.col("x").sum()))["x"].tolist() == [2**60 + 1]
    table = engine.lazy(spark_frame(pd.DataFrame({"x": [2**62] * 4})))
    with pytest.raises(Exception, match=r"(?i)overflow"):
        engine.fetch(table.select(nw.col("x").sum()))


def test_a_large_result_is_refused() -> None:
    with pytest.raises(JourneyError, match="more than 2 rows"):
        engine.fetch(engine.lazy(spark_frame(SMILES)), limit=2)


def test_what_is_materialised_is_computed_once() -> None:
    table = engine.materialise(engine.lazy(spark_frame(SMILES)), "smiles")
    same(engine.fetch(table), engine.fetch(engine.lazy(SMILES)))


@pytest.mark.parametrize(("writes", "reads"), [(HERE, "duckdb"), ("duckdb", HERE), (HERE, HERE)])
def test_either_engine_reads_what_the_other_wrote(writes: str, reads: str, tmp_path: Path) -> None:
    path = tmp_path / "it's [a] {b} ü" / "table.parquet"
    note = {"fingerprint": "it is", "future": "0"}
    for rows in (SMILES, SMILES.head(2), SMILES.head(0)):  # the later ones replace the first
        with on(writes):
            table = spark_frame(rows) if writes == HERE else engine.lazy(rows)
            engine.write_parquet(table, path, note)
        with on(reads):
            assert engine.read_metadata(path) == note
            same(engine.fetch(engine.read_parquet(path)), engine.fetch(engine.lazy(rows)))
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_table_of_one_engine_replaces_that_of_the_other(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    for table in (engine.lazy(SMILES), spark_frame(SMILES), engine.lazy(SMILES)):
        engine.write_parquet(table, path, {"a": "b"})
        assert len(engine.fetch(engine.read_parquet(path))) == len(SMILES)
        assert engine.read_metadata(path) == {"a": "b"}
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def numbering() -> Callable[[pa.Table, int], pa.Table]:
    """A function that numbers rows, in all and within one `who`, and leaves a column out."""

    def number(table: pa.Table, first: int) -> pa.Table:  # inside, because tasks do not know this module
        who = table["who"].to_numpy()
        row = np.arange(len(who))
        start = np.maximum.accumulate(np.where(np.r_[True, who[1:] != who[:-1]][: len(who)], row, 0))
        numbered = table.append_column("row", pa.array(row + first)).append_column("turn", pa.array(row - start))
        return numbered.drop_columns(["gone"])

    return number


@pytest.mark.parametrize("rows", [20_000, 7, 0])
def test_rows_are_worked_on_in_order(rows: int, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    table = pd.DataFrame({"who": random.integers(0, 900, rows) ** 2 // 900, "time_us": random.integers(0, 50, rows)})
    table = table.assign(gone="x", name=[[None, "", "🙂", "z"][k % 4] for k in range(rows)], last=np.arange(rows))
    table = table.astype({"name": object})
    for name, frame in (("here", engine.lazy(table)), ("there", spark_frame(table))):
        path = tmp_path / f"{name}.parquet"
        engine.write_in_order(
            frame, path, {"made": name}, by="who", order=["time_us", "name", "last"], work=numbering()
        )
        assert engine.read_metadata(path) == {"made": name}
    here, there = (engine.fetch(engine.read_parquet(tmp_path / f"{name}.parquet")) for name in ("here", "there"))
    pd.testing.assert_frame_equal(here, there)  # the folder's parts are in order too
    assert here["row"].tolist() == list(range(1, rows + 1))


def test_an_error_in_a_task_is_said_as_it_is(tmp_path: Path) -> None:
    def refuse(table: pa.Table, first: int) -> pa.Table:
        if len(table):
            raise JourneyError("these rows are wrong")
        return table

    with pytest.raises(JourneyError, match=r"^these rows are wrong$"):
        engine.write_in_order(spark_frame(SMILES), tmp_path / "x.parquet", by="key", order=["time_us"], work=refuse)
    assert list(tmp_path.iterdir()) == []


def test_errors_in_tasks_are_those_of_the_first(tmp_path: Path) -> None:
    def work(number: int) -> None:
        (tmp_path / str(number)).write_text(engine.describe() + engine.kind())
        if number == 2:
            engine.run("SELECT broken")
        if number == 3:
            raise JourneyError("the third is wrong")

    with on(HERE):
        engine.each(2, work)
        assert (tmp_path / "1").read_text() == f"duckdb {duckdb.__version__}duckdb"
        with pytest.raises(engine.EngineError, match="broken"):
            engine.each(4, work)
        with pytest.raises(JourneyError, match="third"):
            engine.each(4, lambda number: work(3) if number == 3 else None)
        engine.each(0, work)


def test_settings_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    from journeykit.engine import spark

    monkeypatch.setenv("JOURNEYKIT_SPARK", "spark.executor.memory=8g; memory=3g")
    with pytest.raises(JourneyError, match="'memory=3g' is no setting"):
        spark._settings("yarn")
    monkeypatch.setenv("JOURNEYKIT_SPARK", "spark.executor.memory=8g;spark.sql.session.timeZone=Asia/Tokyo")
    found = spark._settings("yarn")
    assert found["spark.executor.memory"] == "8g"
    assert found["spark.sql.session.timeZone"] == "UTC"  # results depend on it


# ── The bundled study ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def studies(session: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, study.OpenStudy]:
    """The bundled study, ingested and stitched by each engine."""
    made = {}
    for name in ("duckdb", HERE):
        folder = tmp_path_factory.mktemp("studies") / name.strip("[2]") / "laptop_store"
        shutil.copytree(ROOT / "data" / "laptop_store", folder, ignore=shutil.ignore_patterns("derived"))
        with on(name):
            made[name] = study.open_study(str(folder))
            assert events.ingest(made[name])
            assert journeys.build(made[name])
            assert not events.ingest(made[name])
            assert not journeys.build(made[name])
    return made


@pytest.mark.parametrize("table", study.TABLES)
def test_tables_are_the_same(table: str, studies: dict[str, study.OpenStudy]) -> None:
    here, there = (f"read_parquet('{files.pattern(opened.path(table))}')" for opened in studies.values())

    def ask(query: str) -> list[Any]:
        return duckdb.connect().execute(query).fetchall()

    assert ask(f"DESCRIBE SELECT * FROM {there}") == ask(f"DESCRIBE SELECT * FROM {here}")
    assert ask(f"SELECT * FROM {there}") == ask(f"SELECT * FROM {here}")  # in this order, every value
    assert studies[HERE].fingerprint(table) == studies["duckdb"].fingerprint(table)


def test_tables_that_spark_wrote_serve_duckdb(studies: dict[str, study.OpenStudy]) -> None:
    opened = studies[HERE]
    assert opened.path("events").is_dir()
    with on("duckdb"):
        assert not events.ingest(opened)
        assert len(quality.event_names(opened.table("events"))) > 10
    assert sorted(path.name for path in opened.derived.iterdir() if path.suffix != ".parquet") == ["parts"]


def test_tables_that_spark_wrote_are_searched_for_leaks(studies: dict[str, study.OpenStudy], tmp_path: Path) -> None:
    from journeykit import leaks

    address = "ada.lovelace@example.com"
    known = pd.read_csv(next((studies[HERE].folder / "raw" / "shop").glob("*.csv")), usecols=["Email"])["Email"].iloc[0]
    (tmp_path / "page.html").write_text(f"<p>{known} and {address}</p>", encoding="utf-8")
    assert [leak.file for leak in leaks.scan(studies[HERE], tmp_path)] == ["page.html"]


def execute(chapter: str, opened: study.OpenStudy, folder: Path) -> None:
    """Execute the code cells of a notebook in this process."""
    notebook = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    with contextlib.redirect_stdout(io.StringIO()):
        for place, cell in enumerate(cells):
            exec(compile(cell, f"{chapter}, code cell {place}", "exec"), names)
            if place == 0:
                names |= {"study": str(opened.folder), "run_dir": str(folder)}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapters_are_the_same(
    chapter: str, studies: dict[str, study.OpenStudy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mpl.use("Agg")
    monkeypatch.chdir(ROOT / "notebooks")
    for name, opened in studies.items():
        with on(name):
            execute(chapter, opened, tmp_path / name)
    here, there = (sorted((tmp_path / name / "tables").iterdir()) for name in studies)
    assert [path.name for path in here] == [path.name for path in there] != []
    for left, right in zip(here, there, strict=True):
        assert right.read_text(encoding="utf-8") == left.read_text(encoding="utf-8"), left.name
    here, there = (sorted((tmp_path / name / "findings").iterdir()) for name in studies)
    assert [rounded(path) for path in here] == [rounded(path) for path in there]


def rounded(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"), parse_float=lambda text: f"{float(text):.10g}")


# ── Random logs ──────────────────────────────────────────────────────────────────────────────────────────────────────

IDENTITY = config.Identity(identifiers=["user", "device"], devices=["device"])
TEST = config.Experiment(
    name="look",
    hypothesis="looks help",
    control="",
    arms={"": 0.5, "🙂": 0.5},
    exposure="see",
    identifier_column="",
    arm_column="variant",
    within="1h",
    before="1h",
    metrics=[
        config.Metric(name="buys", event=["buy 🙂"], kind="conversion"),
        config.Metric(name="sales", event=["buy 🙂", ""], kind="value"),
        config.Metric(name="liked", event=["ask"], kind="satisfaction"),
        config.Metric(name="through", kind="funnel", steps=["see", "buy 🙂"]),
        config.Metric(name="asks", event="ask", kind="ratio", per="session"),
        config.Metric(name="wait", event="Ω", kind="time", within="30m"),
    ],
)
STEPS = ["see", "ask", "buy 🙂"]
STAYING = config.Churn(
    start="see",
    end="Ω",
    observed_from="2025-01-01",
    reasons={"web": {"channel": "web"}, "pro": {"properties.plan": ["pro", "🙂"]}},
)
SILENCE = config.Churn(kind="inactivity", activity=["see", "ask"], returns_within="10m", returns=0.5)
KNOWN = [
    config.Covariate(name="asked", events="ask", without="buy 🙂", kind="count", last="20m"),
    config.Covariate(name="liked", kind="satisfaction"),
    config.Covariate(name="poor", kind="poor", events=""),
    config.Covariate(name="by", kind="category", column="marketing_channel"),
    config.Covariate(name="back", kind="detours"),
]
CHAIN = [
    "see",
    config.Step(match=["ask"], optional=True, within="20m"),
    config.Step(match=["Ω"], optional=True, where={"channel": ["web", "🙂"], "value": [">= 10"]}),
    config.Step(touchpoint=["page", "é"], without=["see"]),
]
STAGES = ["look", "", "Ω"]
END = pd.Timestamp("2025-01-02")


def by_period(rows: Any) -> pd.DataFrame:
    return engine.fetch(rows).sort_values(["person_id", "period"], ignore_index=True)


def random_log(seed: int) -> pd.DataFrame:
    """A log of few people with many ties, nulls, emoji and empty texts, in no order."""
    random, n = np.random.default_rng(seed), 600

    def pick(*values: object) -> np.ndarray:
        return random.choice(np.array([*values, None], dtype=object), n)

    who = random.integers(1, 25, n)
    return pd.DataFrame(
        {
            "event_id": [f"e{k:04}" for k in random.permutation(n)],
            "timestamp": pd.Timestamp("2025-01-01")
            + pd.to_timedelta(random.integers(0, 90, n) * 61_000_001, unit="us"),
            "source": random.choice(["a", "🙂", "B"], n),
            "source_row": random.integers(1, 5, n),
            "event": random.choice(["see", "", "buy 🙂", "ask", "Ω"], n),
            "channel": pick("web", "", "🙂"),
            "marketing_channel": pick("ad", "🙂", ""),
            "touchpoint": pick("page", "", "Survey", "é"),
            "stage": pick(*STAGES),
            "team": pick("", "team"),
            "value": np.where(random.random(n) < 0.5, np.nan, np.round(random.random(n) * 100, 2)),
            "satisfaction": np.where(random.random(n) < 0.4, np.nan, random.integers(0, 7, n) / 6),
            "person_id": who,
            "id_user": np.where(who % 3 == 0, None, pick("u1", "u2", "🙂")),
            "id_device": pick("d1", ""),
            "segment_variant": pick("", "🙂", "other"),
            "variant": pick("", "🙂"),
            "properties": pick('{"plan": "pro"}', '{"plan": "🙂"}', "{}"),
        }
    )


@pytest.fixture(scope="module")
def logs(session: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Touches and journeys of a random log on each engine, ordered and cut there."""
    log, made = random_log(1), {}
    cuts = {
        "sessions": config.Sessions(gap="5m"),
        "journeys": config.Journeys(conversion=["buy 🙂"], gap="20m", window="1h"),
    }

    def work(table: pa.Table, first: int) -> pa.Table:
        return ordering.order_touches(table, first, **cuts)

    for name, frame in (("duckdb", log), (HERE, spark_frame(log))):
        path = tmp_path_factory.mktemp("logs") / "touches.parquet"
        engine.write_in_order(frame, path, by="person_id", order=engine.ORDER, work=work)
        with on(name):
            touches = engine.read_parquet(path)
        found = journeys.journeys(touches, plan=cuts["journeys"], as_of=END)
        made[name] = (touches, engine.materialise(found, "random_journeys"))
    return made


def judged(touches: Any, made: Any, **more: Any) -> plans.Judged:
    steps = ["look+", config.Step(match=["Ω"], within="30m"), "look"]
    return plans.judge(touches, steps=steps, journeys=made, conversion=["buy 🙂"], within="1h", **more)


def reached(touches: Any, **rules: Any) -> pd.DataFrame:
    return engine.fetch(funnels.reach(touches, **rules).table).sort_values(["unit", "attempt"])


ANSWERS: dict[str, Callable[[Any, Any], Any]] = {
    "touches": lambda t, j: engine.fetch(t),
    "journeys": lambda t, j: engine.fetch(j),
    "unmapped": lambda t, j: quality.unmapped(t, [config.Stage(name="look", touchpoints={"page": ["see"]})]),
    "coverage": lambda t, j: quality.coverage(t, ["user", "device"]),
    "identified": lambda t, j: quality.identified(t, IDENTITY),
    "known": lambda t, j: quality.funnel_of_known(t, IDENTITY, steps=STEPS),
    "sessions": lambda t, j: quality.sessions(t),
    "ties": lambda t, j: quality.ties(t),
    "outcomes": lambda t, j: quality.outcomes(j),
    "tied sources": lambda t, j: deliveries.ties(t, ["user", "device"]),
    "daily": lambda t, j: volume.daily(t, "Europe/Berlin"),
    "silences": lambda t, j: volume.silences(t),
    "funnel": lambda t, j: funnels.funnel(t, steps=STEPS, within="30m"),
    "funnel by channel": lambda t, j: funnels.funnel(t, steps=STEPS, by="channel", per="session"),
    "chains": lambda t, j: reached(
        t, steps=CHAIN, within="1h", until=END - pd.Timedelta("23h"), by=["channel", "team"]
    ),
    "latest entry": lambda t, j: reached(t, steps=CHAIN, clock="last", exclude=["buy 🙂"], per="session"),
    "first entry": lambda t, j: reached(t, steps=STEPS, mode="mixpanel", same=["channel"]),
    "strict attempts": lambda t, j: reached(t, steps=STEPS[::2], order="strict", per="attempt", within="5m"),
    "any order": lambda t, j: reached(t, steps=["see | ask", "ask", "Ω"], order="any", exclude="buy 🙂", within="10m"),
    "open funnel": lambda t, j: funnels.funnel(t, steps=CHAIN, entry="open", exclude="Ω", excluded="unit", within="1h"),
    "to the end": lambda t, j: reached(t, steps=["see", config.Step(match=["(exit)"], without=["ask"])], per="journey"),
    "many steps": lambda t, j: funnels.funnel(t, steps=STEPS[::2] * 33, by="team"),
    "modes": lambda t, j: funnel_modes.compare(t, steps=STEPS, within="20m", exclude="Ω", until=END),
    "time to convert": lambda t, j: funnel_times.times(funnels.reach(t, steps=STEPS[::2]), min_n=1),
    "curve": lambda t, j: funnel_times.conversion_curve(funnels.reach(t, steps=STEPS[::2]), min_n=1),
    "segments": lambda t, j: funnel_segments.by_segment(
        funnels.reach(t, steps=STEPS, by=["channel"]), "channel", credit="last"
    ),
    "speeds": lambda t, j: funnel_times.compare_curves(
        funnels.reach(t, steps=STEPS[::2], by=["channel"], until=END), by="channel", min_n=1
    ),
    "trend": lambda t, j: funnel_trend.trend(funnels.reach(t, steps=STEPS[::2], until=END)),
    "next events": lambda t, j: leavers.next_events(t, funnels.reach(t, steps=STEPS)),
    "leaks": lambda t, j: opportunity.leaks(funnels.reach(t, steps=STEPS), draws=50),
    "transitions": lambda t, j: paths.transitions(t, within="person"),
    "steps": lambda t, j: paths.step_matrix(t, on="channel"),
    "variants": lambda t, j: paths.variants(t, on="event", journeys=j, length=4),
    "transitions of runs": lambda t, j: paths.transitions(t, on="channel", within="journey", collapse=True),
    "paths covered": lambda t, j: paths.coverage(t, on="event", length=3),
    "patterns": lambda t, j: patterns.share(t, ["see -> [^ask]* -> exit", 'start -> [^""]* -> buy 🙂', ".* -> see+"]),
    "kept by a pattern": lambda t, j: engine.fetch(patterns.keep(t, "see -> ask", within="person")),
    "around": lambda t, j: path_anchors.around(t, "see", before=2, after=2, occurrence="last", within="journey"),
    "ways": lambda t, j: path_anchors.ways(t, "see | ask", before=1, occurrence="any", within="person"),
    "flow from place to place": lambda t, j: flows.flow(t, top=2, steps=4, min_n=2),
    "strips": lambda t, j: strips.strips(t, j, on="event", strips_n=9),
    "two outcomes": lambda t, j: path_compare.compare(
        t, path_compare.by_outcome(j), within="journey", steps=1, goal="buy 🙂", min_n=1
    ),
    "two channels": lambda t, j: path_compare.compare(
        t, path_compare.by_column(t, "channel", "web", "🙂"), within="person", steps=3, min_n=3
    ),
    "two dates": lambda t, j: path_compare.compare(t, path_compare.by_date(t, "2025-01-01 00:10"), min_n=1),
    "plan": lambda t, j: plans.plan_share(judged(t, j)),
    "deviations": lambda t, j: deviations.count(judged(t, j, others="extra", allowed=["Ω"])),
    "ways off the plan": lambda t, j: plan_ways.off_plan(judged(t, j), top=100),
    "rework": lambda t, j: friction.rework(t, on="event"),
    "to and fro": lambda t, j: friction.ping_pong(t, on="touchpoint", within="person"),
    "next steps": lambda t, j: friction.next_steps(t, on="event", within="session", min_pairs=5),
    "detours": lambda t, j: detours.detours(t, plan=["see", "ask", "buy 🙂"], on="event", journeys=j),
    "hand-offs": lambda t, j: handoffs.handoffs(
        t.with_columns(team=nw.col("event")), journeys=j, conversion=["buy 🙂"], answers_within="1h"
    ),
    "time in state": lambda t, j: dwell.time_in_state(t, until=END, gap="20m", order=STAGES),
    "reconciliation": lambda t, j: reconcile.reconcile(
        t, j, funnel={"steps": ["see", "ask", "buy 🙂"], "on": "event", "within": "1h"}, stages=["look", "Ω"]
    ),
    "in time": lambda t, j: plan_times.kept(
        t, steps=["see", config.Step(match=["buy 🙂"], within="10m")], on="event", until=END
    ),
    "map": lambda t, j: journey_map.touchpoint_map(t, stages=STAGES, min_n=1),
    "answers": lambda t, j: journey_map.satisfaction_by_stage(t, stages=STAGES),
    "flow": lambda t, j: journey_map.stage_flow(t, stages=STAGES, until=END, min_n=1),
    "people": lambda t, j: journey_map.people_by_stage(t, STAGES, ["Survey"], None),
    "credit": lambda t, j: attribution.person_paths(t, conversion=["buy 🙂"], lookback="1h"),
    "churn": lambda t, j: covariates.at_landmark(
        t,
        spells.spells(t, start=["see"], end=["Ω"], as_of=END, by="variant"),
        covariates=[config.Covariate(name="asked", events="ask", without="buy 🙂", kind="count")],
        landmark="1m",
    ),
    "stays": lambda t, j: spells.of(t, STAYING, as_of=END, by="variant"),
    "gaps of silence": lambda t, j: quiet.gaps(t, SILENCE, as_of=END),
    "coming back": lambda t, j: quiet.reactivation_curve(t, SILENCE, as_of=END, min_n=1),
    "known in periods": lambda t, j: by_period(
        periods.person_periods(t, spells.of(t, STAYING, as_of=END), covariates=KNOWN, width_days=0.02)
    ),
    "cohorts": lambda t, j: cohorts.cohorts(t, start=["see"], returning=["ask", ""], as_of=END, period="day", min_n=1),
    "lifecycle": lambda t, j: lifecycle.lifecycle(t, as_of=END, timezone="Europe/Berlin", period="day", min_n=1),
    "after stages": lambda t, j: stages.stays(t, spells.of(t, STAYING, as_of=END), stages=["look", "Ω"], end=["Ω"]),
    "buyers": lambda t, j: purchases.customers(t, orders=["buy 🙂", "ask"], as_of=END),
    "first channels": lambda t, j: acquisition.first_channels(t, spells.of(t, STAYING, as_of=END)),
    "exposed": lambda t, j: units.exposure_check(t, experiment=TEST, as_of=END),
    "units": lambda t, j: units.units(t, experiment=TEST, as_of=END),
}


@pytest.mark.parametrize("asked", ANSWERS)
def test_random_logs_give_the_same(asked: str, logs: dict[str, Any]) -> None:
    here, there = (ANSWERS[asked](*tables) for tables in logs.values())
    assert len(here)
    same(there, here)


@pytest.mark.parametrize("policy", identity.POLICIES)
def test_random_logs_have_the_same_people(policy: str, session: Any) -> None:
    log = random_log(3)
    log["id_device"] = log["id_device"].replace("", None).fillna("d" + (log["person_id"] % 7).astype(str))
    log["id_mail"] = np.where(log["source_row"] == 1, "🙂" + (log["person_id"] % 3).astype(str), None)
    plan = config.Identity(
        identifiers=["user", "mail", "device"], devices=["device"], policy=policy, caps={"mail": "2 per 10d"}
    )
    made = [identity.stitch(frame, plan) for frame in (log, spark_frame(log))]
    same(*(engine.fetch(found.people) for found in reversed(made)))
    same(*(engine.fetch(found.events.select("event_id", "person_id")) for found in reversed(made)))


def test_journeys_beside_touches_of_another_engine(logs: dict[str, Any]) -> None:
    (_, small), (touches, _) = logs["duckdb"], logs[HERE]
    found = [paths.variants(touches, on="event", journeys=j) for j in (small, engine.fetch(small))]
    same(*found)
