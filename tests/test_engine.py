"""The engine: any dataframe in, the same integers out; tables on disk are whole and say what made them."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from journeykit import engine
from journeykit.engine import chunks, files
from journeykit.errors import JourneyError
from tests.conftest import ROOT

TABLE = pd.DataFrame({"timestamp": pd.to_datetime(["2025-01-01 00:00:00.000001"]), "event": ["a"]})


@pytest.mark.parametrize(
    "make", [lambda t: t, pl.from_pandas, lambda t: pl.from_pandas(t).lazy(), pa.Table.from_pandas]
)
def test_any_dataframe_gets_the_same_clock(make: object) -> None:
    assert callable(make)
    found = engine.fetch(engine.lazy(make(TABLE)))
    assert found["time_us"].tolist() == [1735689600000001]


def test_an_index_does_not_become_a_column() -> None:
    table = TABLE.set_index(pd.Index([7]))
    assert list(engine.fetch(engine.lazy(table)).columns) == ["timestamp", "event", "time_us"]


def test_sums_are_integers() -> None:
    table = engine.lazy(pd.DataFrame({"k": ["a", "a"], "x": [2**60, 1]}))
    found = engine.fetch(table.group_by("k").agg(nw.col("x").sum()))
    assert found["x"].tolist() == [2**60 + 1]


def test_a_sum_beyond_an_integer_is_a_float() -> None:
    found = engine.fetch(engine.lazy(pd.DataFrame({"x": [2**62] * 4})).select(nw.col("x").sum()))
    assert found["x"].tolist() == [2.0**64]


def test_a_large_result_is_refused() -> None:
    with pytest.raises(JourneyError, match="more than 2 rows"):
        engine.fetch(pd.DataFrame({"x": range(3)}).pipe(engine.lazy), limit=2)


def test_something_that_is_no_table() -> None:
    with pytest.raises(JourneyError, match="expected a table"):
        engine.lazy("events.csv")


def test_a_table_on_disk_keeps_its_notes(tmp_path: Path) -> None:
    path = tmp_path / "it's here.parquet"
    engine.write_parquet(engine.lazy(TABLE), path, {"fingerprint": "abc"})
    assert engine.read_metadata(path)["fingerprint"] == "abc"
    assert engine.fetch(engine.read_parquet(path))["event"].tolist() == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert engine.read_metadata(tmp_path / "missing.parquet") == {}


def test_times_on_disk_are_of_microseconds(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    engine.write_parquet(pl.from_pandas(TABLE).lazy(), path)
    engine.write_parquet(TABLE.astype({"timestamp": "datetime64[ns]"}), path)
    assert engine.rows(f"SELECT column_type FROM (DESCRIBE SELECT timestamp FROM '{path}')") == [("TIMESTAMP",)]


@pytest.mark.parametrize("make", [lambda t: t, pl.from_pandas, lambda t: pl.from_pandas(t).lazy(), engine.lazy])
def test_a_small_table_goes_beside_any_other(make: object) -> None:
    assert callable(make)
    small = pd.DataFrame({"event": ["a"], "n": pd.array([None], "Int64"), "name": [""]})
    table = make(TABLE)
    for one in (small, pa.Table.from_pandas(small), pl.from_pandas(small).lazy()):
        found = engine.fetch(engine.lazy(table).join(engine.beside(one, table), on="event"))
        assert found[["event", "name"]].to_numpy().tolist() == [["a", ""]]
        assert found["n"].isna().all()


def test_the_engine_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, kind in (("", "duckdb"), ("duckdb", "duckdb"), ("spark", "spark"), ("spark://host:7077", "spark")):
        monkeypatch.setenv("JOURNEYKIT_ENGINE", said)
        assert engine.kind() == kind
    monkeypatch.setenv("JOURNEYKIT_ENGINE", "sparc")
    with pytest.raises(JourneyError, match="Did you mean 'spark'"):
        engine.kind()
    engine.require("duckdb")


def test_what_is_missing_for_spark_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from journeykit.engine import spark

    monkeypatch.setattr(spark, "find_spec", lambda name: None)
    with pytest.raises(JourneyError, match="pyspark is not installed"):
        engine.require("spark")
    monkeypatch.setattr(spark, "find_spec", lambda name: name)
    monkeypatch.setattr(spark.shutil, "which", lambda name: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(JourneyError, match="no Java was found"):
        engine.require("local[2]")


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("least", [1, 5, 40])
def test_chunks_hold_whole_people(size: int, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "ROWS", least)
    random = np.random.default_rng(size)
    who = np.sort(np.r_[random.integers(0, 12, 60), np.full(20, 5)])
    table = pa.table({"who": who, "row": np.arange(len(who))})
    found = list(chunks.chunks(table.to_batches(max_chunksize=size), "who"))
    assert pa.concat_tables(found).equals(table)
    for before, after in pairwise(found):
        assert before["who"][-1] != after["who"][0]
    if size <= least:
        assert max(map(len, found)) <= least + size + np.bincount(who).max()


def test_nothing_is_left_of_what_could_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    engine.write_parquet(TABLE, path, {"a": "b"})

    def fail(table: pa.Table, first: int) -> pa.Table:
        if len(table):
            raise JourneyError("no")
        return table

    with pytest.raises(JourneyError, match=r"^no$"):
        engine.write_in_order(TABLE, path, by="event", order=["time_us"], work=fail)
    assert engine.read_metadata(path) == {"a": "b"}
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    folder = tmp_path / "parts.parquet"

    def stop() -> None:
        with files.replacing(folder) as part:
            part.mkdir()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop()
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_an_answer_in_order_is_written_in_order(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table = pd.DataFrame({"who": [2, 1, 1, 2], "at": [5, 7, 7, 1], "name": ["b", None, "a", ""]})

    def work(table: pa.Table, first: int) -> pa.Table:
        return table.append_column("row", pa.array(range(first, first + len(table)), pa.int64())).drop_columns(["at"])

    for rows in (table, table.head(0)):
        engine.write_in_order(rows, path, {"a": "b"}, by="who", order=["at", "name"], work=work)
        found = engine.fetch(engine.read_parquet(path))
        assert list(found.columns) == ["who", "name", "row"]
        assert found["row"].tolist() == list(range(1, len(rows) + 1))
        assert engine.read_metadata(path) == {"a": "b"}
    engine.write_in_order(table, path, by="who", order=["at", "name"], work=work)
    names = engine.fetch(engine.read_parquet(path))["name"].astype(object)
    assert names.where(names.notna(), None).tolist() == ["a", None, "", "b"]


def test_work_in_order_keeps_its_result_in_a_spill_folder_that_is_made(tmp_path: Path) -> None:
    spill = tmp_path / "not" / "there"
    code = (
        "import pandas as pd\nfrom journeykit import engine\n"
        "rows = pd.DataFrame({'who': [2, 1, 1], 'n': [1, 2, 1]})\n"
        "with engine.scratch():\n"
        "    found = engine.in_order(rows, by='who', order=['n'], work=lambda table, first: table)\n"
        "    print(engine.fetch(found).values.tolist())\n"
        f"    print(len(list(__import__('pathlib').Path({str(spill)!r}).rglob('*.parquet'))))\n"
        f"print(len(list(__import__('pathlib').Path({str(spill)!r}).rglob('*.parquet'))))\n"
    )
    env = {**os.environ, "JOURNEYKIT_SPILL": str(spill), "JOURNEYKIT_ENGINE": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False, cwd=ROOT)
    assert done.stdout.split("\n")[:3] == ["[[1, 1], [1, 2], [2, 1]]", "1", "0"], done.stderr


def test_an_error_in_work_is_the_error_that_is_told(tmp_path: Path) -> None:
    def fails(table: pa.Table, first: int) -> pa.Table:
        if len(table):
            raise JourneyError("the work went wrong")
        return table

    rows = pd.DataFrame({"who": np.arange(500_000), "n": 1})

    def ask() -> None:
        with engine.scratch():
            engine.keep(rows, "kept")
            engine.in_order(rows, by="who", order=["n"], work=fails)

    with pytest.raises(JourneyError, match="the work went wrong"):
        ask()
    assert engine.rows("SELECT 1") == [(1,)]
