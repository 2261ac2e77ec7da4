"""Presets of web analytics, product analytics and messaging: each reads its vendor's shape and minds its traps."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from journeykit import config, engine, events, journeys, privacy, study
from journeykit.fields import mapped_columns

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("JOURNEYKIT_SHARED_DATA", ROOT.parent / "shared" / "data")) / "snowplow_web_events"
NAMES = (
    "customer",
    "email",
    "phone",
    "order",
    "account",
    "person",
    "member",
    "profile",
    "session",
    "device",
    "network",
)

HEAD = """
[study]
title = "Small"
as_of = "2026-01-01T00:00:00Z"

[identity]
identifiers = [{identifiers}]

[[sources]]
name = "web"
preset = "{preset}"
{where}
{keys}
"""


class Read:
    """A study of one source, ingested; the accounting of every file is checked on the way."""

    def __init__(
        self,
        folder: Path,
        preset: str,
        files: Mapping[str, str | bytes],
        keys: str = "",
        where: str = 'path = "raw/*"',
        identifiers: tuple[str, ...] = NAMES,
    ) -> None:
        (folder / "raw").mkdir(parents=True, exist_ok=True)
        named = ", ".join(f'"{name}"' for name in identifiers)
        text = HEAD.format(preset=preset, keys=keys, where=where, identifiers=named)
        (folder / "journey.toml").write_text(text, encoding="utf-8")
        for name, content in files.items():
            path = folder / "raw" / name
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(content, encoding="utf-8")
        self.study = study.open_study(str(folder))
        events.ingest(self.study)
        self.events = engine.fetch(self.study.table("events"))
        self.files = engine.fetch(self.study.table("files")).set_index("file")
        parts = ["kept_n", "duplicate_n", "quarantined_n", "left_out_n"]
        assert (self.files["read_n"] == self.files[parts].sum(axis=1)).all()

    def counts(self) -> tuple[int, int, int, int]:
        """How many rows were kept, duplicates, quarantined, and left out."""
        parts = ["kept_n", "duplicate_n", "quarantined_n", "left_out_n"]
        kept, duplicates, quarantined, left_out = self.files[parts].sum().astype(int)
        return kept, duplicates, quarantined, left_out

    def column(self, name: str) -> list[Any]:
        return [None if pd.isna(value) else value for value in self.events[name]]

    def times(self) -> list[str]:
        return [moment.isoformat(sep=" ") for moment in self.events["timestamp"]]

    def properties(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.events["properties"]]


def token(name: str, value: str) -> str:
    return privacy.token(name, value, privacy.key(study.ROOT))


def lines(*rows: Mapping[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def parquet(path: Path, rows: list[dict[str, Any]]) -> bytes:
    pd.DataFrame(rows).to_parquet(path)
    return path.read_bytes()


PRESETS = (
    *("ga4", "segment", "rudderstack", "snowplow", "posthog", "posthog_bigquery"),
    *("matomo", "braze", "sendgrid", "mailchimp"),
)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_needs_one_line_beside_name_and_path(name: str) -> None:
    source = {"name": "web", "path": "raw/*", "preset": name}
    made = config.parse({"study": {"title": "x"}, "identity": {"identifiers": list(NAMES)}, "sources": [source]})
    assert made.sources[0].event
    assert made.sources[0].time.column
    assert {"customer", "email"} & set(made.sources[0].identifiers)


def test_presets_read_exports_that_lack_every_optional_column(tmp_path: Path) -> None:
    head = HEAD.split("[[sources]]")[0].format(identifiers=", ".join(f'"{name}"' for name in NAMES))
    listed = [f'[[sources]]\nname = "{name}"\npreset = "{name}"\npath = "raw/{name}.csv"\n' for name in PRESETS]
    (tmp_path / "raw").mkdir()
    (tmp_path / "journey.toml").write_text(head + "".join(listed), encoding="utf-8")
    opened = study.open_study(str(tmp_path))
    times = {"text": "2025-03-01T10:00:00Z", "s": "1740823200", "us": "1740823200000000"}
    for source in opened.config.sources:
        somebody = next(source.identifiers[name] for name in ("customer", "email") if name in source.identifiers)
        row = {column: "x" for column in mapped_columns(source) if column not in source.optional}
        row |= dict.fromkeys(somebody.columns(), "ada@example.com")
        row |= {column: values[0] for column, values in source.where.items()}
        row |= {source.sequence: "1"} if source.sequence in row else {}
        row[source.time.column.column] = times[source.time.unit]
        (tmp_path / "raw" / f"{source.name}.csv").write_text(pd.DataFrame([row]).to_csv(index=False), encoding="utf-8")
    braze = 'event = { constant = "email_open" }\n'  # event_type is optional there, and then the study names the event
    listed = [part.replace('preset = "braze"\n', f'preset = "braze"\n{braze}') for part in listed]
    (tmp_path / "journey.toml").write_text(head + "".join(listed), encoding="utf-8")
    opened = study.open_study(str(tmp_path))
    events.ingest(opened)
    read = engine.fetch(opened.table("files"))
    assert dict(zip(read["source"], read["kept_n"], strict=True)) == dict.fromkeys(PRESETS, 1)
    assert set(engine.fetch(opened.table("events"))["timestamp"]) == {pd.Timestamp("2025-03-01 10:00:00")}


def test_identifiers_of_a_preset_need_not_all_be_declared(tmp_path: Path) -> None:
    read = Read(tmp_path, "sendgrid", {"a.jsonl": lines(MAIL)}, identifiers=("customer", "email"))
    assert read.column("id_email") == [token("email", "ada@example.com")]
    rudder = {**dict.fromkeys(RUDDER, ""), "id": "1", "event": "x", "timestamp": "2025-03-01", "user_id": "c-1"}
    read = Read(tmp_path / "b", "rudderstack", {"a.jsonl": lines(rudder)}, identifiers=("customer",))
    assert read.column("id_customer") == [token("customer", "c-1")]


# ── GA4 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def ga4(at: str, name: str = "page_view", **more: Any) -> dict[str, Any]:
    """A row as BigQuery writes it: whole numbers are texts, parameters are a list."""
    row = {
        "event_date": "20250301",  # in the zone of the property, here west of UTC
        "event_timestamp": at,
        "event_name": name,
        "event_params": [
            {"key": "ga_session_id", "value": {"int_value": "1740870000"}},
            {"key": "page_location", "value": {"string_value": "https://shop.example/laptops"}},
        ],
        "event_bundle_sequence_id": "7",
        "user_pseudo_id": "123.456",
        "device": {"category": "mobile"},
        "platform": "WEB",
    }
    return {key: value for key, value in {**row, **more}.items() if value is not None}


def test_ga4_reads_microseconds_and_not_the_day_of_the_property(tmp_path: Path) -> None:
    rows = [
        ga4("1740880800000007", user_id="c-1", collected_traffic_source={"manual_medium": "email"}),
        ga4("1740880801000000", collected_traffic_source={"manual_medium": "(none)"}, platform="IOS"),
        ga4("1740880802000000", "purchase", ecommerce={"transaction_id": "#17", "purchase_revenue": 9.5}),
        ga4("1740880803000000", "view_item", collected_traffic_source={"gclid": "Cj0"}),
    ]
    read = Read(tmp_path, "ga4", {"events_20250301.jsonl": lines(*rows)})
    assert read.times() == [
        "2025-03-02 02:00:00.000007",
        "2025-03-02 02:00:01",
        "2025-03-02 02:00:02",
        "2025-03-02 02:00:03",
    ]
    assert read.column("event") == ["page_view", "page_view", "purchase", "view_item"]
    assert read.column("channel") == ["web", "app", "web", "web"]
    assert read.column("marketing_channel") == ["email", None, None, "cpc"]
    assert read.column("id_device") == [token("device", "123.456")] * 4
    assert read.column("id_session") == [token("session", "123.456.1740870000")] * 4
    assert read.column("id_customer") == [token("customer", "c-1"), None, None, None]
    assert read.column("id_order") == [None, None, token("order", "#17"), None]
    assert read.column("segment_device") == ["mobile"] * 4
    assert read.column("value") == [None] * 4
    assert read.properties()[0]["page_location"] == "https://shop.example/laptops"
    assert read.counts() == (4, 0, 0, 0)


def test_ga4_as_parquet_with_nested_columns(tmp_path: Path) -> None:
    row = ga4("1740880800000007", user_id="c-1", ecommerce={"transaction_id": "#17"})
    for parameter in row["event_params"]:
        parameter["value"] = {"string_value": None, "int_value": None} | parameter["value"]
    typed = {**row, "event_timestamp": 1740880800000007}
    read = Read(tmp_path, "ga4", {"events_20250301.parquet": parquet(tmp_path / "made.parquet", [typed])})
    assert read.times() == ["2025-03-02 02:00:00.000007"]
    assert read.column("id_session") == [token("session", "123.456.1740870000")]
    assert read.column("id_order") == [token("order", "#17")]
    assert read.column("segment_device") == ["mobile"]


def test_ga4_a_day_that_was_exported_again_adds_only_what_is_new(tmp_path: Path) -> None:
    old = [ga4("1740880800000000"), ga4("1740880801000000")]
    credited = {"session_traffic_source_last_click": {"manual_campaign": {"medium": "cpc"}}}
    new = [*({**row, **credited} for row in old), ga4("1740880802000000")]
    files = {"events_20250301.jsonl": lines(*old), "second_events_20250301.jsonl": lines(*new)}
    read = Read(tmp_path, "ga4", files)
    assert read.counts() == (3, 2, 0, 0)
    assert len(read.events) == 3


def test_ga4_drafts_are_skipped_where_the_day_is_final(tmp_path: Path) -> None:
    files = {
        "events_20250301.jsonl": lines(ga4("1740880800000000")),
        "events_intraday_20250301.jsonl": lines(ga4("1740880700000000")),
        "events_fresh_20250301.jsonl": lines(ga4("1740880600000000")),
        "events_intraday_20250302.jsonl": lines(ga4("1740900000000000", "scroll")),
    }
    read = Read(tmp_path, "ga4", files)
    assert read.files["read_n"].to_dict() == {
        "raw/events_20250301.jsonl": 1,
        "raw/events_fresh_20250301.jsonl": 0,
        "raw/events_intraday_20250301.jsonl": 0,
        "raw/events_intraday_20250302.jsonl": 1,
    }
    assert read.column("event") == ["page_view", "scroll"]


def test_ga4_events_of_one_batch_are_several_and_keep_their_order(tmp_path: Path) -> None:
    batch = {"batch_page_id": "1", "batch_ordering_id": "2"}
    rows = [
        ga4("1740880800000000", "view_item", batch_event_index="3", **batch),
        ga4("1740880800000000", "select_item", batch_event_index="2", **batch),
        ga4("1740880800000000", "view_item", batch_event_index="1", **batch),
        ga4("1740880800000000", "view_item", batch_event_index="1", **batch),
    ]
    read = Read(tmp_path, "ga4", {"a.jsonl": lines(*rows)})
    assert read.column("event") == ["view_item", "select_item", "view_item"]
    assert read.counts() == (3, 1, 0, 0)


def test_ga4_not_set_marks_nobody_and_no_consent_is_no_identifier(tmp_path: Path) -> None:
    rows = [
        ga4("1740880800000000", "purchase", ecommerce={"transaction_id": "(not set)"}),
        ga4("1740880801000000", user_pseudo_id=None),
    ]
    read = Read(tmp_path, "ga4", {"a.jsonl": lines(*rows)})
    assert read.column("id_order") == [None]
    assert read.counts() == (1, 0, 1, 0)
    blocked = engine.fetch(read.study.table("blocked"))
    assert blocked[["id_name", "value"]].values.tolist() == [["order", "(not set)"]]


# ── Segment and RudderStack ───────────────────────────────────────────────────────────────────────────────────────────

SEGMENT = """\
id,anonymous_id,user_id,event,event_text,timestamp,original_timestamp,sent_at,received_at,context_library_name,\
context_campaign_medium,context_traits_email,context_user_agent
m1,a-1,,product_viewed,Product Viewed,2025-03-01T10:00:00.250Z,2025-03-01T19:00:00Z,,2025-03-01T10:00:01Z,analytics.js,\
cpc,,Mozilla/5.0 Firefox/135.0
m2,a-1,c-1,order_completed,Order Completed,2025-03-01 12:00:00+02:00,,,2025-03-03T10:00:01Z,analytics-ios,\
,Ada@Example.com,
m2,a-1,c-1,order_completed,Order Completed,2025-03-01 12:00:00+02:00,,,2025-03-03T10:00:02Z,analytics-ios,\
,Ada@Example.com,
m3,a-2,,product_viewed,Product Viewed,2025-03-01 10:00:05.000 UTC,,,,analytics.js,,,\
Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)
m4,a-3,,product_viewed,Product Viewed,2025-03-01 10:00:06.000 UTC,,,,analytics.js,,,CUBOT_X18 Build/NRD90M
"""


def test_segment_corrected_time_late_rows_repeats_and_robots(tmp_path: Path) -> None:
    read = Read(tmp_path, "segment", {"tracks.csv": SEGMENT})
    assert read.times() == ["2025-03-01 10:00:00", "2025-03-01 10:00:00.250000", "2025-03-01 10:00:06"]
    assert read.column("event") == ["order_completed", "product_viewed", "product_viewed"]
    assert read.counts() == (3, 1, 0, 1)
    assert read.files["late_n"].sum() == 1
    assert read.column("id_device") == [token("device", name) for name in ("a-1", "a-1", "a-3")]
    assert read.column("id_customer") == [token("customer", "c-1"), None, None]
    assert read.column("id_email") == [token("email", "ada@example.com"), None, None]
    assert read.column("channel") == ["app", "web", "web"]
    assert read.column("marketing_channel") == [None, "cpc", None]


def test_segment_as_parquet_with_the_fewest_columns_and_an_overridden_name(tmp_path: Path) -> None:
    at = pd.Timestamp("2025-03-01 10:00:00.123456")
    rows = [{"id": "m1", "anonymous_id": "a-1", "name": "Home", "timestamp": at}]
    pages = 'event = { constant = "page_viewed" }\nproperties = ["name"]'
    read = Read(tmp_path, "segment", {"pages.parquet": parquet(tmp_path / "p.parquet", rows)}, pages)
    assert read.times() == ["2025-03-01 10:00:00.123456"]
    assert read.column("event") == ["page_viewed"]
    assert read.properties() == [{"name": "Home"}]
    assert read.counts() == (1, 0, 0, 0)


RUDDER = (
    *("id", "anonymous_id", "user_id", "event", "timestamp", "received_at", "uuid_ts", "channel", "context_session_id"),
    *("context_campaign_medium", "context_user_agent"),
)


def test_rudderstack_channel_session_and_late_rows(tmp_path: Path) -> None:
    rows = [
        RUDDER,
        (
            "1",
            "a-1",
            "",
            "cart_viewed",
            "2025-03-01 10:00:00.5+00",
            "2025-03-01 10:00:02+00",
            "2025-04-01",
            "web",
            "17408",
        ),
        ("2", "a-1", "c-1", "order_done", "2025-03-01T10:00:01Z", "2025-03-03T10:00:00Z", "2025-04-01", "mobile", ""),
        ("2", "a-1", "c-1", "order_done", "2025-03-01T10:00:01Z", "2025-03-03T10:00:00Z", "2025-04-02", "mobile", ""),
        ("3", "", "c-1", "refunded", "2025-03-01T10:00:02Z", "2025-03-01T10:00:02Z", "", "server", ""),
    ]
    text = "\n".join(",".join([*row, *[""] * (len(RUDDER) - len(row))]) for row in rows) + "\n"
    read = Read(tmp_path, "rudderstack", {"tracks.csv": text})
    assert read.times() == ["2025-03-01 10:00:00.500000", "2025-03-01 10:00:01", "2025-03-01 10:00:02"]
    assert read.column("event") == ["cart_viewed", "order_done", "refunded"]
    assert read.column("channel") == ["web", "app", "server"]
    assert read.column("id_session") == [token("session", "a-1.17408"), None, None]
    assert read.column("id_customer") == [None, token("customer", "c-1"), token("customer", "c-1")]
    assert read.counts() == (3, 1, 0, 0)
    assert read.files["late_n"].sum() == 1


# ── Snowplow ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def snowplow(number: int, event: str, name: str, **more: str) -> dict[str, str]:
    row = {
        "app_id": "shop",
        "platform": "web",
        "event": event,
        "event_id": f"e-{number}",
        "event_name": name,
        "collector_tstamp": "2025-03-01 10:00:30.000",
        "dvce_created_tstamp": "2025-03-01 12:00:00.000",  # the clock of the device is two hours wrong
        "derived_tstamp": f"2025-03-01 10:00:{number:02}.125",
        "domain_userid": "d-1",
        "domain_sessionid": "s-1",
        "network_userid": "n-1",
        "useragent": "Mozilla/5.0 Firefox/135.0",
        "contexts_com_iab_snowplow_spiders_and_robots_1": '[{"reason":"PASSED_ALL","spiderOrRobot":false}]',
        "tr_total": "",
        "tr_orderid": "",
        "se_action": "",
        "user_id": "",
    }
    return {**row, **more}


def test_snowplow_page_pings_and_robots_are_left_out(tmp_path: Path) -> None:
    iab = "contexts_com_iab_snowplow_spiders_and_robots_1"
    rows = [
        snowplow(1, "page_view", "page_view"),
        snowplow(2, "page_ping", "page_ping"),
        snowplow(3, "struct", "event", se_action="add_to_cart", platform="mob"),
        snowplow(4, "transaction", "transaction", tr_total="19.90", tr_orderid="o-1", user_id="c-1"),
        snowplow(5, "page_view", "page_view", **{iab: '[{"reason":"FAILED_UA_INCLUDE","spiderOrRobot":true}]'}),
        snowplow(6, "page_view", "page_view", useragent="Mozilla/5.0 (compatible; bingbot/2.0)"),
        snowplow(7, "unstruct", "link_click", derived_tstamp="2025-02-27 10:00:00"),
        snowplow(3, "struct", "event", se_action="add_to_cart", platform="mob"),
    ]
    text = pd.DataFrame(rows).to_csv(index=False)
    read = Read(tmp_path, "snowplow", {"events.csv": text})
    assert read.times() == [
        "2025-02-27 10:00:00",
        "2025-03-01 10:00:01.125000",
        "2025-03-01 10:00:03.125000",
        "2025-03-01 10:00:04.125000",
    ]
    assert read.column("event") == ["link_click", "page_view", "add_to_cart", "transaction"]
    assert read.column("channel") == ["web", "web", "app", "web"]
    assert read.column("value") == [None, None, None, 19.9]
    assert read.column("id_order") == [None, None, None, token("order", "o-1")]
    assert read.column("id_device") == [token("device", "d-1")] * 4
    assert read.column("id_network") == [token("network", "n-1")] * 4
    assert read.column("id_session") == [token("session", "s-1")] * 4
    assert read.counts() == (4, 1, 0, 3)
    assert read.files["late_n"].sum() == 1
    nested = [{**row, iab: json.loads(row[iab])} for row in rows]
    whole = parquet(tmp_path / "made.parquet", nested)
    assert Read(tmp_path / "parquet", "snowplow", {"events.parquet": whole}).counts() == (4, 1, 0, 3)
    again = Read(tmp_path / "pings", "snowplow", {"events.csv": text}, "where_not = { event = [] }")
    assert "page_ping" in again.column("event")
    assert again.counts() == (5, 1, 0, 2)


# ── PostHog ───────────────────────────────────────────────────────────────────────────────────────────────────────────

ANONYMOUS = {
    "$device_id": "dev-1",
    "$session_id": "s-1",
    "$is_identified": False,
    "$lib": "web",
    "$device_type": "Mobile",
}
POSTHOG: list[dict[str, Any]] = [
    {
        "uuid": "1",
        "event": "$pageview",
        "distinct_id": "dev-1",
        "properties": {**ANONYMOUS, "utm_medium": "cpc", "$pathname": "/laptops"},
        "timestamp": "2025-03-01T10:00:00.123456+00:00",
    },
    {
        "uuid": "2",
        "event": "$identify",
        "distinct_id": "c-1",
        "properties": {**ANONYMOUS, "$is_identified": True, "$anon_distinct_id": "dev-1"},
        "timestamp": "2025-03-01T10:00:01Z",
    },
    {
        "uuid": "3",
        "event": "$feature_flag_called",
        "distinct_id": "c-1",
        "properties": {
            **ANONYMOUS,
            "$is_identified": True,
            "$feature_flag": "shipping_upfront",
            "$feature_flag_response": "treatment",
        },
        "timestamp": "2025-03-01T10:00:02Z",
    },
    {
        "uuid": "4",
        "event": "$pageleave",
        "distinct_id": "c-1",
        "properties": {**ANONYMOUS, "$is_identified": True},
        "timestamp": "2025-03-01T10:00:03Z",
    },
    {
        "uuid": "5",
        "event": "order_paid",
        "distinct_id": "c-1",
        "properties": {"$lib": "posthog-python"},
        "timestamp": "2025-03-01T10:00:04Z",
    },
    {
        "uuid": "6",
        "event": "$screen",
        "distinct_id": "anon-9",
        "properties": {"$lib": "posthog-ios", "$is_identified": False},
        "timestamp": "2025-03-01T10:00:05Z",
    },
]


def s3_rows(as_text: bool) -> list[dict[str, Any]]:
    made = []
    for row in POSTHOG:
        person = {"email": "ada@example.com"} if row["distinct_id"] == "c-1" else {}
        nested = {"properties": row["properties"], "person_properties": person}
        said = {key: json.dumps(value) for key, value in nested.items()} if as_text else nested
        late = "2025-03-04T10:00:00Z" if row["uuid"] == "5" else row["timestamp"]
        made.append({**row, **said, "person_id": "p-1", "created_at": late, "elements_chain": ""})
    return made


def check_posthog(read: Read) -> None:
    assert read.times() == [
        "2025-03-01 10:00:00.123456",
        "2025-03-01 10:00:01",
        "2025-03-01 10:00:02",
        "2025-03-01 10:00:04",
        "2025-03-01 10:00:05",
    ]
    assert read.column("event") == ["$pageview", "$identify", "$feature_flag_called", "order_paid", "$screen"]
    customer, device, phone = token("customer", "c-1"), token("device", "dev-1"), token("device", "anon-9")
    assert read.column("id_customer") == [None, customer, customer, customer, None]
    assert read.column("id_device") == [device, device, device, None, phone]
    assert read.column("id_session") == [*[token("session", "s-1")] * 3, None, None]
    assert read.column("channel") == ["web", "web", "web", "server", "app"]
    assert read.column("marketing_channel") == ["cpc", None, None, None, None]
    assert read.column("segment_experiment") == [None, None, "shipping_upfront", None, None]
    assert read.column("segment_variant") == [None, None, "treatment", None, None]
    assert read.column("segment_device") == ["Mobile", "Mobile", "Mobile", None, None]
    assert read.properties()[0] == {"path": "/laptops"}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_posthog_in_both_forms_of_an_export_to_s3(form: str, tmp_path: Path) -> None:
    rows = s3_rows(as_text=form == "parquet")
    content = lines(*rows) if form == "jsonl" else parquet(tmp_path / "made.parquet", rows)
    read = Read(tmp_path, "posthog", {f"events.{form}": content})
    check_posthog(read)
    assert read.counts() == (5, 0, 0, 1)
    assert read.files["late_n"].sum() == 1
    assert read.column("id_person") == [token("person", "p-1")] * 5
    known = token("email", "ada@example.com")
    assert read.column("id_email") == [None, known, known, known, None]


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl", "nested.jsonl"])
def test_posthog_from_bigquery_reaches_into_json_text(form: str, tmp_path: Path) -> None:
    rows = []
    for row in [*POSTHOG, POSTHOG[4]]:  # a backfill writes a row again
        said = {"properties": row["properties"], "set": {"email": "ada@example.com"} if row["uuid"] == "2" else {}}
        text = said if form.startswith("nested") else {key: json.dumps(value) for key, value in said.items()}
        at = row["timestamp"].replace("T", " ").replace("Z", " UTC") if form == "csv" else row["timestamp"]
        rows.append({**row, **text, "timestamp": at, "team_id": 1, "bq_ingested_timestamp": "2026-03-01 00:00:00 UTC"})
    made: dict[str, str | bytes] = {"a.csv": pd.DataFrame(rows).to_csv(index=False), "a.jsonl": lines(*rows)}
    made["a.nested.jsonl"] = lines(*rows)
    made["a.parquet"] = b"" if form != "parquet" else parquet(tmp_path / "made.parquet", rows)
    read = Read(tmp_path, "posthog_bigquery", {f"a.{form}": made[f"a.{form}"]})
    check_posthog(read)
    assert read.counts() == (5, 1, 0, 1)
    assert read.files["late_n"].sum() == 0
    assert read.column("id_email") == [None, token("email", "ada@example.com"), None, None, None]


# ── Matomo ────────────────────────────────────────────────────────────────────────────────────────────────────────────

MATOMO = """
CREATE TABLE matomo_log_visit (idvisit INTEGER, user_id TEXT, profilable INTEGER, referer_type INTEGER,
  config_device_type INTEGER);
CREATE TABLE matomo_log_action (idaction INTEGER, name TEXT, type INTEGER);
CREATE TABLE matomo_log_link_visit_action (idlink_va INTEGER, idsite INTEGER, idvisitor BLOB, idvisit INTEGER,
  server_time TEXT, idaction_url INTEGER, idaction_name INTEGER, idaction_event_category INTEGER,
  idaction_event_action INTEGER, idaction_content_name INTEGER);
INSERT INTO matomo_log_visit VALUES (1, 'c-1', 1, 6, 1), (2, NULL, 0, 1, 0);
INSERT INTO matomo_log_action VALUES (1, 'shop.example/laptops', 1), (2, 'Laptops', 4), (3, 'paper.example/', 2),
  (4, 'shop.example/manual.pdf', 3), (5, 'thin laptop', 8), (6, 'cart', 10), (7, 'add_to_cart', 11), (8, 'banner', 13);
INSERT INTO matomo_log_link_visit_action VALUES
  (14, 1, x'0a1B2c3d4e5f6071', 1, '2025-03-01 23:30:00', NULL, 5, NULL, NULL, NULL),
  (11, 1, x'0a1B2c3d4e5f6071', 1, '2025-03-01 23:30:00', 1, 2, NULL, NULL, NULL),
  (12, 1, x'0a1B2c3d4e5f6071', 1, '2025-03-01 23:30:00', 1, NULL, 6, 7, NULL),
  (13, 1, x'0a1B2c3d4e5f6071', 1, '2025-03-01 23:30:00', 3, NULL, NULL, NULL, NULL),
  (15, 1, x'0a1B2c3d4e5f6071', 1, '2025-03-01 23:30:01', 1, NULL, NULL, NULL, 8),
  (16, 1, x'ffffffffffffff01', 2, '2025-03-01 23:30:02', 4, NULL, NULL, NULL, NULL);
"""


def check_matomo(read: Read) -> None:
    assert read.column("event") == ["page_view", "add_to_cart", "outlink", "site_search", "download"]
    assert read.times() == [*["2025-03-01 23:30:00"] * 4, "2025-03-01 23:30:02"]
    assert read.column("id_device") == [*[token("device", "0a1b2c3d4e5f6071")] * 4, None]
    assert read.column("id_customer") == [*[token("customer", "c-1")] * 4, None]
    assert read.column("id_session") == [*[token("session", "1")] * 4, token("session", "2")]
    assert read.column("marketing_channel") == [*["campaign"] * 4, None]
    assert read.column("segment_device") == [*["mobile"] * 4, "desktop"]
    assert read.properties()[0] == {"url": "shop.example/laptops", "title": "Laptops"}
    assert read.counts() == (5, 0, 0, 0)


def test_matomo_asked_in_its_database_and_from_an_export_of_the_same_query(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with sqlite3.connect(tmp_path / "raw" / "matomo.db") as connection:
        connection.executescript(MATOMO)
    asked = Read(tmp_path, "matomo", {}, where='database = "sqlite:///raw/matomo.db"')
    check_matomo(asked)
    with sqlite3.connect(tmp_path / "raw" / "matomo.db") as connection:
        exported = pd.read_sql_query(asked.study.config.sources[0].query, connection).convert_dtypes()
    text = exported.sample(frac=1, random_state=1).to_csv(index=False)  # the order within a second is idlink_va's
    check_matomo(Read(tmp_path / "csv", "matomo", {"actions.csv": text}))


# ── Messages ──────────────────────────────────────────────────────────────────────────────────────────────────────────

MAIL = {
    "email": "Ada@example.com",
    "timestamp": 1740823200,
    "event": "open",
    "sg_event_id": "a",
    "sg_machine_open": False,
    "category": ["offer"],
}


def test_sendgrid_repeats_machines_and_what_the_service_did(tmp_path: Path) -> None:
    rows = [
        {**MAIL, "event": "click", "sg_event_id": "b", "timestamp": 1740823260},
        MAIL,
        MAIL,
        {**MAIL, "sg_event_id": "c", "sg_machine_open": True},
        {**MAIL, "event": "delivered", "sg_event_id": "d"},
        {**MAIL, "event": "unsubscribe", "sg_event_id": "e", "timestamp": 1740823320},
    ]
    read = Read(tmp_path, "sendgrid", {"a.jsonl": lines(*rows), "b.jsonl": lines(MAIL)})
    assert read.times() == ["2025-03-01 10:00:00", "2025-03-01 10:01:00", "2025-03-01 10:02:00"]
    assert read.column("event") == ["email_open", "email_click", "email_unsubscribe"]
    assert read.column("channel") == ["email"] * 3
    assert read.column("id_email") == [token("email", "ada@example.com")] * 3
    assert read.counts() == (3, 2, 0, 2)


def test_sendgrid_keys_of_the_preset_can_be_overridden(tmp_path: Path) -> None:
    rows = [{**MAIL, "customer_id": "c-1"}, {**MAIL, "sg_event_id": "b", "event": "delivered", "customer_id": "c-1"}]
    keys = 'where = { event = ["delivered"] }\nevent = "event"\n'
    keys += 'identifiers = { customer = "customer_id" }'
    read = Read(tmp_path, "sendgrid", {"request.json": json.dumps(rows)}, keys)
    assert read.column("event") == ["delivered"]
    assert read.column("id_customer") == [token("customer", "c-1")]
    assert read.column("id_email") == [token("email", "ada@example.com")]
    assert read.counts() == (1, 0, 0, 1)


def braze(number: int, kind: str, at: int = 1740823200, **properties: Any) -> dict[str, Any]:
    return {
        "event_type": kind,
        "id": f"b-{number}",
        "time": at + number,
        "user": {"user_id": "5f1e", "external_user_id": "c-1", "device_id": "dev-1", "timezone": "America/Chicago"},
        "properties": properties,
    }


BRAZE = [
    braze(1, "users.messages.email.Open", email_address="Ada@example.com", campaign_name="Spring"),
    braze(1, "users.messages.email.Open", email_address="Ada@example.com", campaign_name="Spring"),
    braze(2, "users.messages.email.Open", email_address="Ada@example.com", machine_open="true"),
    braze(3, "users.messages.email.Delivery", email_address="Ada@example.com"),
    braze(4, "users.messages.email.Click", email_address="Ada@example.com", is_suspected_bot_click=True),
    braze(5, "users.messages.pushnotification.Open", canvas_name="Welcome"),
    braze(6, "users.messages.sms.ShortLinkClick", to_phone_number="+16462345678"),
    braze(7, "users.behaviors.CustomEvent", name="Compared laptops"),
    braze(8, "users.behaviors.Purchase", price=12.5, currency="EUR"),
    braze(9, "users.behaviors.app.SessionStart"),
]


def check_braze(read: Read) -> None:
    assert read.times() == [f"2025-03-01 10:00:{second:02}" for second in (1, 5, 6, 7, 8, 9)]
    assert read.column("event") == [
        "email_open",
        "pushnotification_open",
        "sms_shortlinkclick",
        "Compared laptops",
        "purchase",
        "app_sessionstart",
    ]
    assert read.column("channel") == ["email", "push", "sms", "app", "app", "app"]
    assert read.column("value") == [None, None, None, None, 12.5, None]
    assert read.column("id_customer") == [token("customer", "c-1")] * 6
    assert read.column("id_profile") == [token("profile", "5f1e")] * 6
    assert read.column("id_device") == [token("device", "dev-1")] * 6
    assert read.column("id_email")[:2] == [token("email", "ada@example.com"), None]
    assert read.column("id_phone")[2] == token("phone", "+16462345678")
    assert [row["campaign"] for row in read.properties()[:3]] == ["Spring", "Welcome", None]
    assert read.counts() == (6, 1, 0, 3)


def test_braze_nested_as_lines_and_as_whole_requests(tmp_path: Path) -> None:
    check_braze(Read(tmp_path / "lines", "braze", {"events.jsonl": lines(*BRAZE)}))
    requests = {"a.json": json.dumps({"events": BRAZE[:4]}), "b.json": json.dumps({"events": BRAZE[4:]})}
    check_braze(Read(tmp_path / "requests", "braze", requests, 'records = "events"'))


def test_braze_flat_as_in_storage(tmp_path: Path) -> None:
    flat = [{**row, **row["user"], **row["properties"]} for row in BRAZE]
    table = pd.DataFrame(flat).drop(columns=["user", "properties"])
    check_braze(Read(tmp_path / "csv", "braze", {"events.csv": table.to_csv(index=False)}))
    (tmp_path / "made").mkdir()
    table.to_parquet(tmp_path / "made" / "a.parquet")
    whole = (tmp_path / "made" / "a.parquet").read_bytes()
    check_braze(Read(tmp_path / "parquet", "braze", {"events.parquet": whole}))


def test_braze_a_table_of_one_event_is_named_by_the_study(tmp_path: Path) -> None:
    text = "id,time,external_user_id,email_address,machine_open\n1,1740823200,c-1,ada@example.com,\n"
    text += "2,1740823201,c-1,,true\n"
    keys = 'event = { constant = "email_open" }\nchannel = { constant = "email" }'
    read = Read(tmp_path, "braze", {"opens.csv": text}, keys)
    assert (read.column("event"), read.column("channel")) == (["email_open"], ["email"])
    assert read.counts() == (1, 0, 0, 1)


def test_mailchimp_activity_of_recipients(tmp_path: Path) -> None:
    text = (
        "campaign_id,list_id,email_id,email_address,action,timestamp,url\n"
        "k1,l1,0c83f57c786a0b4a39efab23731c7ebc,Ada@example.com,open,2025-03-01T11:00:00+01:00,\n"
        "k1,l1,0c83f57c786a0b4a39efab23731c7ebc,Ada@example.com,open,2025-03-01T11:00:00+01:00,\n"
        "k1,l1,0c83f57c786a0b4a39efab23731c7ebc,Ada@example.com,click,2025-03-01T10:00:05Z,https://shop.example/a\n"
        "k1,l1,0c83f57c786a0b4a39efab23731c7ebc,Ada@example.com,click,2025-03-01T10:00:05Z,https://shop.example/b\n"
        "k1,l1,d41d8cd98f00b204e9800998ecf8427e,bob@example.com,bounce,2025-03-01 10:00:06,\n"
    )
    read = Read(tmp_path, "mailchimp", {"email_activity.csv": text})
    assert read.times() == ["2025-03-01 10:00:00", "2025-03-01 10:00:05", "2025-03-01 10:00:05"]
    assert read.column("event") == ["email_open", "email_click", "email_click"]
    assert read.column("id_email") == [token("email", "ada@example.com")] * 3
    assert read.column("id_member") == [token("member", "0c83f57c786a0b4a39efab23731c7ebc")] * 3
    assert read.counts() == (3, 1, 0, 1)
    fivetran = "campaign_id,member_id,action,timestamp\nk1,m1,open,2025-03-01 10:00:00\n"
    assert Read(tmp_path / "b", "mailchimp", {"a.csv": fivetran}).column("id_member") == [token("member", "m1")]


# ── Real data: events of Snowplow's own sites ─────────────────────────────────────────────────────────────────────────

needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"the public data set is not there ({DATA.name}/)")


def figures() -> dict[str, Any]:
    found = json.loads((DATA / "expected.json").read_text(encoding="utf-8"))["figures"]
    return {key: figure["value"] for key, figure in found.items()}


class Snowplow:
    """The study in tests/studies/, with keys of it replaced, or left out, where a test asks for that."""

    def __init__(self, folder: Path, **replaced: str | None) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "raw").symlink_to(DATA)
        text = (ROOT / "tests" / "studies" / "snowplow_web_events.toml").read_text(encoding="utf-8")
        for key, value in replaced.items():
            before = next(line for line in text.splitlines() if line.startswith(f"{key} = "))
            text = text.replace(before, "" if value is None else f"{key} = {value}")
        (folder / "journey.toml").write_text(text, encoding="utf-8")
        self.study = study.open_study(str(folder))
        events.ingest(self.study)
        self.events = engine.fetch(self.study.table("events"))
        self.files = engine.fetch(self.study.table("files")).iloc[0]
        self.tokens = engine.fetch(self.study.table("tokens"))
        self.expected = figures()

    def people(self) -> int:
        """How many people stitching makes of the events."""
        journeys.build(self.study)
        return int(engine.fetch(self.study.table("touches"))["person_id"].nunique())


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Snowplow:
    return Snowplow(tmp_path_factory.mktemp("snowplow") / "study")


@needs_data
def test_snowplow_rows_repeats_and_distinct_ids(sites: Snowplow) -> None:
    assert sites.files["read_n"] == sites.expected["rows"]
    assert sites.files["kept_n"] == sites.events["event_id"].nunique() == sites.expected["distinct_event_id"]
    repeats = sites.expected["duplicate_event_ids"]
    assert sites.files["duplicate_n"] == sum(rows - 1 for rows in repeats.values())
    assert (sites.files["quarantined_n"], sites.files["left_out_n"]) == (0, 0)
    named = {
        "device": "domain_userid",
        "customer": "user_id",
        "network": "network_userid",
        "session": "domain_sessionid",
    }
    distinct = sites.tokens["id_name"].map(named).value_counts().to_dict()  # not of "row", which is the event's id
    assert distinct == sites.expected["distinct_ids"]
    missing = {named[name]: int(sites.events[f"id_{name}"].isna().sum()) for name in ("device", "session")}
    assert missing == sites.expected["missing_ids"]


@needs_data
def test_snowplow_events_by_name_with_repeats_and_without_page_pings(tmp_path: Path) -> None:
    names = figures()["events_by_name"]
    kept = Snowplow(tmp_path / "kept", duplicates='"keep"')
    assert kept.events["event"].value_counts().to_dict() == names
    assert (
        kept.events["properties"].map(json.loads).map(lambda row: row["mkt_source"]).value_counts().to_dict()
        == (kept.expected["utm_first_page_events"])
    )
    bare = Snowplow(tmp_path / "bare", duplicates='"keep"', where_not=None, event=None)  # the preset alone
    assert bare.files["left_out_n"] == names.pop("page_ping")
    names["login"] = names.pop("event")  # structured events are called by their action
    assert bare.events["event"].value_counts().to_dict() == names


@needs_data
@pytest.mark.parametrize(
    ("identifiers", "figure"),
    [
        ('["device", "row"]', "components_domain_userid"),
        ('["device", "network", "row"]', "components_domain_network"),
        ('["customer", "device", "network", "row"]', "components_domain_network_user"),
    ],
)
def test_snowplow_people_are_the_connected_components(identifiers: str, figure: str, tmp_path: Path) -> None:
    made = Snowplow(tmp_path / "study", identifiers=identifiers, identifier='""', devices="[]", policy='"graph"')
    assert made.people() == made.expected[figure]


@needs_data
def test_snowplow_one_device_on_which_ten_people_sign_in(sites: Snowplow) -> None:
    case = sites.expected["user_stitch_case"]
    last = next(iter(case["last_user_id_by_domain_userid"].values()))
    found = sites.events[sites.events["id_customer"] == token("customer", last)]
    device = found["id_device"].iloc[0]
    rows = sites.events[sites.events["id_device"] == device]
    assert len(rows) == case["rows"]
    assert rows["id_customer"].nunique() == case["user_ids"]
    assert rows["id_session"].nunique() == case["domain_sessionids"]
    assert rows.sort_values("timestamp")["id_customer"].iloc[-1] == token("customer", last)


@needs_data
def test_snowplow_events_that_came_days_later_are_late(sites: Snowplow) -> None:
    given = pd.read_csv(DATA / "snowplow_web_events.csv.gz", parse_dates=["collector_tstamp", "derived_tstamp"])
    first = given.sort_values("derived_tstamp", kind="stable").drop_duplicates("event_id")
    held = first["collector_tstamp"] - first["derived_tstamp"] > pd.Timedelta("24h")
    assert sites.files["late_n"] == held.sum() > 0
    assert sorted(sites.events["timestamp"]) == sorted(first["derived_tstamp"])
