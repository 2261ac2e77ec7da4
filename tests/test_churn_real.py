"""Inactivity on real purchases: the published counts of CDNOW, and what the reactivation curve says of them."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from journeykit import config
from journeykit.churn import curves, quiet, spells
from tests.conftest import ROOT

DATA = Path(os.environ.get("JOURNEYKIT_SHARED_DATA", ROOT.parent / "shared" / "data")) / "cdnow_purchases"
SHOP = config.Churn(kind="inactivity", activity="purchase", quiet="180d")
AS_OF = "1998-06-30T00:00:00Z"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the public data sets are not beside the repository")


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    figures = json.loads((DATA / "expected.json").read_text())["figures"]
    return {key: figure["value"] for key, figure in figures.items()}


@pytest.fixture(scope="module")
def purchases() -> pd.DataFrame:
    table = pd.read_csv(
        DATA / "CDNOW_master.txt.gz", sep=r"\s+", skiprows=1, names=["customer", "date", "cds", "value"]
    )
    moment = pd.to_datetime(table["date"].astype(str), format="%Y%m%d").astype("datetime64[us]")
    columns = {"person_id": table["customer"].astype("int64"), "timestamp": moment, "value": table["value"]}
    rows = np.arange(len(table))
    return pd.DataFrame({**columns, "event": "purchase", "source": "shop", "source_row": rows}).assign(
        event_id=[f"e{k:06d}" for k in rows]
    )


def test_who_is_silent_for_half_a_year(purchases: pd.DataFrame, reference: dict[str, Any]) -> None:
    gaps = quiet.gaps(purchases, SHOP, as_of=AS_OF)
    today = purchases.loc[purchases["timestamp"] == pd.Timestamp("1998-06-30"), "person_id"].nunique()
    assert gaps["open_n"].sum() == reference["customers"] - today  # theirs is no silence yet
    assert gaps["returned_n"].sum() == reference["customer_days"] - reference["customers"]
    assert gaps.loc[gaps["gap_days"] > 180, "open_n"].sum() == reference["inactive_over_180_days"]


def test_leaving_is_the_first_long_silence(purchases: pd.DataFrame, reference: dict[str, Any]) -> None:
    found = spells.of(purchases, SHOP, as_of=AS_OF)
    assert len(found) == reference["customers"]  # all of them started before 1998
    day = purchases.drop_duplicates(["person_id", "timestamp"]).sort_values(["person_id", "timestamp"])
    after = day.groupby("person_id")["timestamp"].shift(-1).fillna(pd.Timestamp("1998-06-30"))
    long = day[(after - day["timestamp"]) > pd.Timedelta("180D")]
    assert found["ended"].sum() == long["person_id"].nunique()
    # Who is silent now left, and so did who was and came back.
    back = found.attrs["came_back_n"]
    last = day.groupby("person_id")["timestamp"].max()
    gone = long.groupby("person_id")["timestamp"].min()
    assert back == (last.reindex(gone.index) > gone).sum()
    assert found["ended"].sum() - back <= reference["inactive_over_180_days"] <= found["ended"].sum()
    middle = curves.median_table(found)["median_days"].iloc[0]
    assert middle == 0  # more than half never bought again within half a year of their first purchase


def test_the_silence_of_the_music_shop(purchases: pd.DataFrame) -> None:
    plan = SHOP.model_copy(update={"quiet": ""})
    curve = quiet.reactivation_curve(purchases, plan, as_of=AS_OF)
    assert curve.attrs["quantile_days"] < curve.attrs["quiet_days"]
    assert curve.attrs["quantile_return_share"] > plan.returns
    assert math.isfinite(quiet.threshold(purchases, plan, as_of=AS_OF))
    moved = quiet.sensitivity(purchases, plan, as_of=AS_OF)
    assert moved["came_back_share"].is_monotonic_decreasing
