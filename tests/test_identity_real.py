"""Who is who in real data: reference figures, a vendor's own tables, and events that become known only later."""

from __future__ import annotations

import json
import os
from pathlib import Path

import narwhals as nw
import pandas as pd
import pytest

from journeykit import engine, identity
from journeykit.config import Identity
from tests.conftest import ROOT

DATA = Path(os.environ.get("JOURNEYKIT_SHARED_DATA", ROOT.parent / "shared" / "data"))
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the shared data are not here")


def figures(name: str) -> dict[str, object]:
    found = json.loads((DATA / name / "expected.json").read_text(encoding="utf-8"))["figures"]
    return {key: figure["value"] for key, figure in found.items()}


def people_of(events: pd.DataFrame, plan: Identity, as_of: pd.Timestamp | None = None) -> pd.Series:
    found = engine.fetch(identity.stitch(events, plan, as_of=as_of).events)
    return found.set_index("event_id")["person_id"].reindex(events["event_id"])


@pytest.fixture(scope="module")
def snowplow() -> pd.DataFrame:
    """The events as they are, each with a row of its own, so that one without any other identifier is somebody too."""
    raw = pd.read_csv(DATA / "snowplow_web_events" / "snowplow_web_events.csv.gz", dtype=str)
    row = pd.Series(range(len(raw))).astype(str)
    ids = {"user": "user_id", "domain": "domain_userid", "network": "network_userid"}
    at = pd.to_datetime(raw["collector_tstamp"], format="ISO8601", utc=True).dt.tz_localize(None)
    table = pd.DataFrame({f"id_{name}": raw[column] for name, column in ids.items()})
    rest = {"source": "web", "source_row": range(len(raw)), "event_id": "e" + row, "id_row": row, "timestamp": at}
    return table.assign(**rest, raw_id=raw["event_id"], session=raw["domain_sessionid"], event=raw["event_name"])


@pytest.mark.parametrize(
    ("names", "figure"),
    [
        (["domain"], "components_domain_userid"),
        (["domain", "network"], "components_domain_network"),
        (["user", "domain", "network"], "components_domain_network_user"),
    ],
)
def test_snowplow_components(snowplow: pd.DataFrame, names: list[str], figure: str) -> None:
    plan = Identity(identifiers=[*names, "row"], policy="graph")
    assert people_of(snowplow, plan).nunique() == figures("snowplow_web_events")[figure]


def test_snowplow_people_are_the_vendors(snowplow: pd.DataFrame) -> None:
    """The vendor maps a device to the last user it ever saw; `last_login` does so for events that name no user."""
    plan = Identity(identifiers=["user", "domain", "row"], devices=["domain"], policy="last_login")
    who = people_of(snowplow, plan)
    vendor = pd.read_csv(
        DATA / "snowplow_web_events" / "vendor_expected" / "snowplow_web_page_views_expected.csv.gz", dtype=str
    )
    assert len(vendor) == figures("snowplow_web_events")["vendor_expected_rows"]["page_views"]  # type: ignore[index]
    owner = dict(zip(snowplow["id_user"], who, strict=True))
    person = dict(zip(snowplow["raw_id"], who, strict=True))
    same = [
        person[event] == owner[stitched]
        for event, stitched, user in vendor[["event_id", "stitched_user_id", "user_id"]].itertuples(index=False)
        if user == stitched or pd.isna(user)
    ]
    assert len(same) > 30
    assert all(same)


def test_snowplow_device_of_ten_users_merges_nobody(snowplow: pd.DataFrame) -> None:
    case = snowplow[snowplow["id_user"].fillna("").str.startswith("user stitch")]
    plan = Identity(identifiers=["user", "domain", "row"], devices=["domain"])
    expected = figures("snowplow_web_events")["user_stitch_case"]
    assert people_of(case, plan).nunique() == expected["user_ids"]  # type: ignore[index]
    merged = people_of(case, plan.model_copy(update={"policy": "graph"}))
    assert merged.nunique() == expected["domain_userids"]  # type: ignore[index]  # the trap


@pytest.fixture(scope="module")
def sparkify() -> pd.DataFrame:
    paths = sorted((DATA / "sparkify_log" / "log_data").glob("*.jsonl.gz"))
    raw = pd.concat([pd.read_json(path, lines=True, dtype={"userId": str}) for path in paths], ignore_index=True)
    user = raw["userId"].astype(str)
    return pd.DataFrame(
        {
            "event_id": [f"e{i:05d}" for i in range(len(raw))],
            "timestamp": pd.to_datetime(raw["ts"], unit="ms"),
            "source": "log",
            "source_row": range(len(raw)),
            "id_user": user.where(user != ""),
            "id_session": raw["sessionId"].astype(str),
        }
    )


USERS = Identity(identifiers=["user", "session"], devices=["session"])


@pytest.mark.parametrize("policy", ["last_login", "device_split", "graph", "graph_strict"])
def test_sparkify_events_that_become_known(sparkify: pd.DataFrame, policy: str) -> None:
    expected = figures("sparkify_log")
    made = identity.stitch(sparkify, USERS.model_copy(update={"policy": policy}))
    named = made.people.filter(nw.col("id_name") == "user").select("person_id").unique()
    known = set(engine.fetch(named)["person_id"])
    assert len(known) == expected["identified_users"]
    events = engine.fetch(made.events)
    anonymous = events[events["id_user"].isna()]
    assert len(anonymous) == expected["anonymous_events"]
    assert anonymous["person_id"].isin(known).sum() == expected["anonymous_events_stitched_by_session"]
    left = anonymous[~anonymous["person_id"].isin(known)]
    assert len(left) == expected["anonymous_events_left"]
    assert left["id_session"].nunique() == expected["sessions_never_identified"]


def test_sparkify_as_of_a_day_knows_only_who_had_signed_in_by_then(sparkify: pd.DataFrame) -> None:
    for day in pd.date_range("2018-11-05", "2018-11-29", freq="8D"):
        past = sparkify[sparkify["timestamp"] <= day]
        signed_in = set(past.loc[past["id_user"].notna(), "id_session"])
        anonymous = past[past["id_user"].isna()]
        who = people_of(sparkify, USERS, as_of=day)
        known = set(who[past.loc[past["id_user"].notna(), "event_id"]])
        assert who[anonymous["event_id"]].isin(known).sum() == anonymous["id_session"].isin(signed_in).sum(), day
