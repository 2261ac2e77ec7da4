"""The engine: any dataframe in, the same integers out; tables on disk are whole and say what made them."""

from __future__ import annotations

from pathlib import Path

import narwhals as nw
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from journeykit import engine
from journeykit.errors import JourneyError

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
