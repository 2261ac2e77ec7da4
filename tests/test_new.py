"""`new`: what is guessed of files that nobody described, and that the study made of them can be run."""

from __future__ import annotations

import gzip
import json
import os
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from journeykit import cli, engine, events, study
from journeykit.discover.describe import describe
from journeykit.discover.groups import find, group
from journeykit.discover.guesses import SourceGuess
from journeykit.discover.moments import recognise as recognise_time
from journeykit.discover.new import Made, make
from journeykit.discover.samples import look
from journeykit.discover.screen import show
from journeykit.discover.story import tell
from journeykit.discover.trial import Event
from journeykit.errors import JourneyError

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("JOURNEYKIT_SHARED_DATA", ROOT.parent / "shared" / "data"))
TODAY = datetime(2026, 1, 1, tzinfo=UTC)


def guess(folder: Path, name: str, content: str | bytes) -> SourceGuess:
    """Guess what one file holds."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8")
    return describe(path.name.split(".")[0], [look(path)], TODAY)


def confidence(found: SourceGuess, key: str) -> str:
    return next(one.confidence for one in found.guesses if one.key == key)


def why(found: SourceGuess, key: str) -> str:
    return next(one.why for one in found.guesses if one.key == key)


def table(header: str, *rows: str) -> str:
    return "\n".join([header, *rows]) + "\n"


def ingested(made: Made) -> pd.DataFrame:
    """Ingest the study; every row must be accounted for."""
    assert made.problems == []
    opened = study.open_study(str(made.folder))
    events.ingest(opened)
    files = engine.fetch(opened.table("files"))
    parts = files[["kept_n", "duplicate_n", "quarantined_n", "left_out_n"]].sum(axis=1)
    assert (files["read_n"] == parts).all()
    return engine.fetch(opened.table("events").select("source", "event", "timestamp"))


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


# ── Times ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("values", "unit", "form", "first"),
    [
        (["1741000000"], "s", "", "2025-03-03 11:06:40"),
        (["1741000000.5"], "s", "", "2025-03-03 11:06:40"),
        (["1741000000123"], "ms", "", "2025-03-03 11:06:40"),
        (["1741000000123456"], "us", "", "2025-03-03 11:06:40"),
        (["1741000000123456789"], "ns", "", "2025-03-03 11:06:40"),
        (["2025-03-03T10:00:00Z"], "text", "", "2025-03-03 10:00:00"),
        (["2025-03-03 12:00:00 +0200"], "text", "", "2025-03-03 10:00:00"),
        (["2025-03-03"], "text", "", "2025-03-03 00:00:00"),
        (["20250303"], "text", "%Y%m%d", "2025-03-03 00:00:00"),
        (["03.03.2025 12:06"], "text", "%d.%m.%Y %H:%M", "2025-03-03 12:06:00"),
        (["3/31/25"], "text", "%m/%d/%y", "2025-03-31 00:00:00"),
        (["31/03/2025 1:05:07 PM"], "text", "%d/%m/%Y %I:%M:%S %p", "2025-03-31 13:05:07"),
        (["2025/03/31 10:00"], "text", "%Y/%m/%d %H:%M", "2025-03-31 10:00:00"),
        (["03/Mar/2025:10:00:00 +0100"], "text", "%d/%b/%Y:%H:%M:%S %z", "2025-03-03 09:00:00"),
        (["Mon, 03 Mar 2025 10:00:00 GMT"], "text", "%a, %d %b %Y %H:%M:%S GMT", "2025-03-03 10:00:00"),
        (["Mar 3, 2025"], "text", "%b %d, %Y", "2025-03-03 00:00:00"),
    ],
)
def test_times_are_recognised_with_unit_and_format(values: list[str], unit: str, form: str, first: str) -> None:
    moment = recognise_time(values, TODAY)
    assert moment is not None
    assert (moment.unit, moment.format) == (unit, form)
    assert moment.times[0] is not None
    assert f"{moment.times[0]:%Y-%m-%d %H:%M:%S}" == first


@pytest.mark.parametrize(
    "value", ["c-10002", "12.50", "10115", "1.0.2", "192.168.0.1", "4915112345678", "", "99999999"]
)
def test_what_is_no_time_is_not_taken_for_one(value: str) -> None:
    assert recognise_time([value] if value else [], TODAY) is None


def test_day_and_month_are_told_apart_by_evidence() -> None:
    day = recognise_time(["01/02/2025", "13/02/2025"], TODAY)
    month = recognise_time(["01/02/2025", "02/13/2025"], TODAY)
    assert day
    assert month
    assert (day.format, day.sure, month.format, month.sure) == ("%d/%m/%Y", True, "%m/%d/%Y", True)
    by_order = recognise_time(["01/01/2025", "02/01/2025", "12/01/2025", "01/02/2025", "02/02/2025"], TODAY)
    assert by_order
    assert (by_order.format, by_order.sure) == ("%d/%m/%Y", True)
    assert "in order of time only when the day comes first" in by_order.why
    nothing = recognise_time(["03/04/2025", "05/06/2025", "05/01/2025", "02/07/2025"], TODAY)
    assert nothing
    assert not nothing.sure
    assert "may be the other way round" in nothing.why


def test_an_ambiguous_date_and_a_time_without_a_zone_ask_to_be_checked(tmp_path: Path) -> None:
    found = guess(
        tmp_path, "log.csv", table("when,event,user_id", "03/04/2025,a,u1", "05/01/2025,b,u2", "02/07/2025,a,u3")
    )
    assert confidence(found, "time") == "check"
    found = guess(tmp_path, "log.csv", table("when,event,user_id", "2025-03-04 10:00,a,u1", "2025-03-05 10:00,b,u2"))
    assert confidence(found, "time") == "check"
    assert "carry no zone, UTC is taken" in why(found, "time")
    path = tmp_path / "log.csv"
    zoned = describe("log", [look(path)], TODAY, zone="Europe/Berlin")
    assert zoned.get("time") == {"column": "when", "zone": "Europe/Berlin"}
    assert confidence(zoned, "time") == "sure"


# ── How files are written ────────────────────────────────────────────────────────────────────────────────────────────


def test_delimiter_encoding_and_decimal_comma(tmp_path: Path) -> None:
    rows = [f"{day:02d}.03.2025 10:0{day % 9};Größe_{day % 3};{1000 + day};{day}.234,50" for day in range(1, 29)]
    found = guess(tmp_path, "shop.csv", table("Zeitpunkt;Ereignis;Kundennummer;Betrag", *rows).encode("cp1252"))
    assert (found.get("delimiter"), found.get("encoding")) == (";", "cp1252")
    assert found.get("time") == {"column": "Zeitpunkt", "format": "%d.%m.%Y %H:%M"}
    assert found.get("event") == "Ereignis"
    assert found.starting("identifiers.") == {"customer": "Kundennummer"}
    assert found.get("value") == {"expression": "number(replace(replace(col('Betrag'), '.', ''), ',', '.'))"}


def test_a_file_without_header_and_rows_above_the_header(tmp_path: Path) -> None:
    rows = [f"2025-03-0{day} 10:00:00,user{day}{day}@example.org,open" for day in range(1, 9)]
    found = guess(tmp_path, "a.csv", table(*rows))
    assert found.get("header_rows") == 0
    assert found.get("columns") == ["column_1", "column_2", "column_3"]
    assert found.starting("identifiers.") == {"email": "column_2"}
    above = table("Report of March", "made by the shop", "at,mail,event", *rows)
    found = guess(tmp_path, "b.csv", above)
    assert (found.get("header_rows"), found.get("columns")) == (3, ["at", "mail", "event"])
    assert found.get("time") == {"column": "at"}


def test_a_second_row_of_units_is_header(tmp_path: Path) -> None:
    rows = [f"2025-03-0{day} 10:00:00,c-10{day},{day}.5" for day in range(1, 9)]
    found = guess(tmp_path, "a.csv", table("time,customer_id,amount", "UTC,,EUR", *rows))
    assert found.get("header_rows") == 2


def test_json_documents_lines_excel_and_xes_are_looked_at(tmp_path: Path) -> None:
    records = [{"at": f"2025-03-0{day}T10:00:00Z", "event": "open", "user": {"id": f"u-{day}"}} for day in range(1, 9)]
    found = guess(tmp_path, "a.json", json.dumps({"meta": {"n": 8}, "items": records}))
    assert (found.get("records"), found.starting("identifiers.")) == ("items", {"customer": "user.id"})
    assert guess(tmp_path, "b.json", json.dumps(records)).get("event") == "event"
    assert guess(tmp_path, "c.txt", lines(*records)).get("format") == "jsonl"
    packed = guess(tmp_path, "d.jsonl.gz", gzip.compress(lines(*records).encode()))
    assert packed.get("time") == {"column": "at"}
    pd.DataFrame([{"at": one["at"], "event": "open", "user_id": f"u{n}"} for n, one in enumerate(records)]).to_excel(
        tmp_path / "e.xlsx", index=False
    )
    book = describe("e", [look(tmp_path / "e.xlsx")], TODAY)
    assert (book.get("event"), book.get("format")) == ("event", None)
    trace = (
        '<log><trace><string key="concept:name" value="case 1"/><event><string key="concept:name" value="Open"/>'
        '<date key="time:timestamp" value="2025-03-01T10:00:00+01:00"/></event></trace></log>'
    )
    assert guess(tmp_path, "f.xes", trace).preset == "xes"


def test_large_files_are_not_read_whole(tmp_path: Path) -> None:
    block = "".join(f"2025-03-{n % 28 + 1:02d} 10:00:00,open,c-{n:05d}\n" for n in range(30_000))
    path = tmp_path / "big.csv"
    with path.open("w") as out:
        out.write("at,event,customer_id\n")
        for _ in range(60):
            out.write(block)
    sample = look(path)
    assert 1000 < len(sample.rows) <= 1600
    assert sample.later_n > 0
    with gzip.open(tmp_path / "bomb.csv.gz", "wb", compresslevel=1) as packed:
        packed.write(b"at,event,customer_id\n")
        for _ in range(40):
            packed.write(block.encode())
    assert len(look(tmp_path / "bomb.csv.gz").rows) <= 1600


# ── Presets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

GA4 = {
    "event_date": "20250301",
    "event_timestamp": "1740830400000000",
    "event_name": "page_view",
    "user_pseudo_id": "1006633306.1736419048",
    "user_id": None,
    "event_params": [{"key": "ga_session_id", "value": {"int_value": "1740830400"}}],
    "device": {"category": "mobile"},
    "collected_traffic_source": {"manual_medium": "cpc"},
    "platform": "WEB",
}
VENDORS: dict[str, tuple[str, str]] = {
    "ga4": ("events_20250301.jsonl", lines(GA4)),
    "segment": (
        "tracks.csv",
        table(
            "id,event,event_text,anonymous_id,user_id,timestamp,original_timestamp,sent_at,received_at,"
            "context_library_name",
            "m1,order_completed,Order Completed,a1,u1,2025-03-01T10:00:00Z,2025-03-01T10:00:00Z,2025-03-01T10:00:01Z,"
            "2025-03-01T10:00:02Z,analytics.js",
        ),
    ),
    "snowplow": (
        "events.csv",
        table(
            "app_id,platform,etl_tstamp,collector_tstamp,dvce_created_tstamp,event,event_id,user_id,domain_userid,"
            "domain_sessionid,network_userid,derived_tstamp,event_name,mkt_medium,page_urlpath,se_action,se_category",
            "shop,web,2025-03-01 10:00:01,2025-03-01 10:00:00,2025-03-01 10:00:00,page_view,e1,,d1,s1,n1,"
            "2025-03-01 10:00:00,page_view,cpc,/,,",
        ),
    ),
    "posthog": (
        "events.jsonl",
        lines(
            {
                "uuid": "0195-1",
                "event": "$pageview",
                "distinct_id": "d1",
                "person_id": "p1",
                "timestamp": "2025-03-01T10:00:00Z",
                "created_at": "2025-03-01T10:00:01Z",
                "properties": {"$session_id": "s1", "$lib": "web", "$device_id": "d1"},
                "person_properties": {"email": "ada@example.com"},
            }
        ),
    ),
    "sendgrid": (
        "mail.jsonl",
        lines(
            {
                "email": "ada@example.com",
                "timestamp": 1740830400,
                "event": "open",
                "sg_event_id": "x1",
                "sg_message_id": "y1",
                "category": "news",
                "sg_machine_open": False,
            }
        ),
    ),
    "shopify_orders": (
        "orders.csv",
        table(
            "Name,Email,Financial Status,Paid at,Fulfilled at,Cancelled at,Currency,Total,Created at,Lineitem name,"
            "Phone,Source",
            "#1001,ada@example.com,paid,2025-03-01 10:00:05 +0100,,,EUR,10.00,2025-03-01 10:00:00 +0100,Mug,,web",
            "#1001,,,,,,,,,Cup,,",
        ),
    ),
    "zendesk_tickets": (
        "tickets.json",
        json.dumps(
            {
                "tickets": [
                    {
                        "id": 1,
                        "created_at": "2025-03-01T10:00:00Z",
                        "requester_id": 7,
                        "status": "solved",
                        "tags": ["a"],
                        "via": {"channel": "email"},
                        "metric_set": {"solved_at": "2025-03-02T10:00:00Z"},
                    }
                ]
            }
        ),
    ),
    "stripe_subscriptions": (
        "subscriptions.csv",
        table(
            "id,customer,customer_email,created,start_date,canceled_at,ended_at,status,plan_amount,livemode",
            "sub_1,cus_1,ada@example.com,1740830400,1740830400,,,active,1290,true",
        ),
    ),
    "mailchimp": (
        "activity.csv",
        table(
            "campaign_id,list_id,list_member_id,email_id,email_address,action,timestamp,url,ip",
            "c1,l1,m1,m1,ada@example.com,open,2025-03-01T10:00:00+00:00,,1.2.3.4",
        ),
    ),
    "matomo": (
        "actions.csv",
        table(
            "idlink_va,idsite,idvisitor,idvisit,user_id,server_time,action_type,action_name,action_url,referer_type",
            "1,1,ab12cd34ef56ab78,5,,2025-03-01 10:00:00,1,Home,example.org/,1",
        ),
    ),
}


@pytest.mark.parametrize("preset", VENDORS)
def test_presets_are_recognised_by_their_columns(tmp_path: Path, preset: str) -> None:
    name, content = VENDORS[preset]
    found = guess(tmp_path, name, content)
    assert found.preset == preset
    assert "columns that it may have are there" in why(found, "preset")


def test_a_table_that_only_shares_common_words_is_no_preset(tmp_path: Path) -> None:
    rows = [f"{n},2025-03-0{n} 10:00:00,open,c-10{n},ada{n}@example.com,paid" for n in range(1, 9)]
    assert guess(tmp_path, "log.csv", table("id,timestamp,event,user_id,email,status", *rows)).preset == ""


def test_a_survey_gets_its_answer_its_comment_and_its_zone(tmp_path: Path) -> None:
    head = (
        "StartDate,EndDate,Status,Progress,Finished,RecordedDate,ResponseId,RecipientEmail,ExternalReference,Q1_NPS,Q2"
    )
    import_ids = ",".join('"{""ImportId"":""x"",""timeZone"":""Europe/Berlin""}"' for _ in head.split(","))
    rows = [
        f"2025-03-0{n % 9 + 1} 10:00:00,2025-03-0{n % 9 + 1} 10:05:00,IP Address,100,True,"
        f"2025-03-0{n % 9 + 1} 10:05:00,R_{n},,c-{n},{n % 11},"
        for n in range(60)
    ]
    questions = head.replace("Q1_NPS", "How likely?")
    found = guess(tmp_path, "qualtrics_nps.csv", table(head, questions, import_ids, *rows))
    assert found.preset == "qualtrics"
    assert found.sample.header_zone == "Europe/Berlin"
    assert found.get("satisfaction") == {"column": "Q1_NPS", "low": 0, "high": 10}
    assert found.get("event") == {"constant": "survey_nps"}


def test_a_preset_whose_times_are_written_otherwise_is_mended(tmp_path: Path) -> None:
    name, content = VENDORS["sendgrid"]
    found = guess(tmp_path, name, content.replace("1740830400", "1740830400123"))
    assert found.get("time") == {"unit": "ms"}
    assert guess(tmp_path, name, content).get("time") is None


# ── What columns mean ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_log_of_events_is_mapped_column_by_column(tmp_path: Path) -> None:
    names = ("page_view", "add_to_cart", "purchase")
    media = ("cpc", "organic", "email", "direct")
    rows = [
        f"e-{n:04d},2025-03-{n % 28 + 1:02d}T10:00:00Z,2025-03-{n % 28 + 1:02d}T10:00:03Z,{names[n % 3]},u-{n % 40},"
        f"ada{n % 40}@example.com,+49151000000{n % 40:02d},{media[n % 4]},{n % 7 * 10}.50,{('web', 'app')[n % 2]},DE"
        for n in range(200)
    ]
    header = "event_id,occurred_at,received_at,action,user_id,mail,mobile,utm_medium,order_total,channel,country"
    found = guess(tmp_path, "log.csv", table(header, *rows))
    assert found.get("time") == {"column": "occurred_at"}
    assert confidence(found, "time") == "sure"
    assert found.get("received") == {"column": "received_at"}
    assert (found.get("event"), found.get("event_id")) == ("action", "event_id")
    assert found.starting("identifiers.") == {"customer": "user_id", "email": "mail", "phone": "mobile"}
    assert (found.get("marketing_channel"), found.get("channel"), found.get("value")) == (
        "utm_medium",
        "channel",
        "order_total",
    )
    assert found.missing == []


def test_several_stage_times_become_several_events(tmp_path: Path) -> None:
    rows = [
        f"o-{n},c-{n},2025-03-{n % 20 + 1:02d} 10:00:00,2025-03-{n % 20 + 1:02d} 10:05:00,"
        f"2025-03-{n % 20 + 3:02d} 10:00:00,2025-03-{n % 20 + 5:02d} 00:00:00,1980-01-01"
        for n in range(50)
    ]
    header = "order_id,customer_id,created_at,paid_at,shipped_at,estimated_delivery_date,birthday"
    found = guess(tmp_path, "orders.csv", table(header, *rows))
    assert [one["event"] for one in found.get("emits")] == ["order_created", "order_paid", "shipped"]
    assert any(note.startswith("estimated_delivery_date: not used") for note in found.notes)
    assert any(note.startswith("birthday: not used") for note in found.notes)


def test_spend_by_day_and_channel_is_no_event(tmp_path: Path) -> None:
    rows = [f"2025-03-0{n},paid_search,{n}.50,{n}" for n in range(1, 9)]
    found = guess(tmp_path, "ads.csv", table("date,channel,cost,clicks", *rows))
    assert (found.get("kind"), found.get("spend"), found.get("marketing_channel")) == ("spend", "cost", "channel")


def test_a_table_without_times_says_what_is_missing(tmp_path: Path) -> None:
    found = guess(tmp_path, "people.csv", table("colour,size", "red,1", "blue,2"))
    assert [line.split(":")[0] for line in found.missing] == ["time", "identifiers"]


def test_the_story_follows_the_order_of_events() -> None:
    steps = ("search", "product_view", "add_to_cart", "purchase", "support_chat")
    log = [
        Event(name, 1000.0 * person + place, "web", (("customer", f"c{person}"),), "cpc")
        for person in range(50)
        for place, name in enumerate(steps[: 5 if person % 2 else 2])
    ]
    story = tell(log)
    assert list(story.stages) == ["Discover", "Consider", "Buy", "Help"]
    assert story.stages["Buy"] == ["add_to_cart", "purchase"]
    assert (story.conversion, story.conversion_sure, story.marketing) == ("purchase", True, True)
    assert story.funnel == ["search", "product_view", "add_to_cart", "purchase"]


def test_names_that_say_nothing_are_cut_by_where_they_stand() -> None:
    log = [
        Event(name, 100.0 * person + place, "erp", (("case", f"c{person}"),))
        for person in range(30)
        for place, name in enumerate(("Alpha", "Beta", "Gamma", "Delta", "Omega"))
    ]
    story = tell(log)
    assert story.stages == {"Beginning": ["Alpha", "Beta"], "Middle": ["Gamma"], "End": ["Delta", "Omega"]}
    assert (story.conversion, story.conversion_sure) == ("Omega", False)


# ── Several files ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_of_one_shape_are_one_source_with_a_wildcard(tmp_path: Path) -> None:
    for day in ("20250101", "20250102"):
        (tmp_path / f"events_{day}.jsonl").write_text(lines(GA4))
    (tmp_path / "events_intraday_20250103.jsonl").write_text(lines(GA4))
    (tmp_path / "report_1.csv").write_text("at,event,user_id\n2025-03-01,a,u1\n")
    (tmp_path / "report_2.csv").write_text("colour,size\nred,1\n")
    (tmp_path / ".hidden.csv").write_text("x\n1\n")
    (tmp_path / "empty_1.csv").write_text("")
    groups, skipped = group(find([str(tmp_path)]))
    assert sorted((one.pattern, len(one.files)) for one in groups) == [
        ("events_*.jsonl", 3),
        ("report_1.csv", 1),
        ("report_2.csv", 1),
    ]
    assert len({one.name for one in groups}) == 3
    assert skipped == ["empty_1.csv: holds no rows. Leave it out, or give a file with data."]


def test_identifiers_that_share_values_get_one_name_and_tables_translate_ids(tmp_path: Path) -> None:
    orders = [f"o{n:04d},k{n:04d},2025-03-{n % 28 + 1:02d} 10:00:00,{n}.00" for n in range(100)]
    (tmp_path / "orders.csv").write_text(table("order_id,customer_id,created_at,total", *orders))
    parcels = [f"o{n:04d},2025-03-{n % 28 + 1:02d} 12:00:00" for n in range(50)]
    (tmp_path / "parcels.csv").write_text(table("shipment_reference_number,shipped_at", *parcels))
    (tmp_path / "parcels.csv").write_text(table("purchase_no,shipped_at", *parcels))
    people = [f"k{n:04d},person-{n % 60:03d}" for n in range(100)]
    (tmp_path / "customers.csv").write_text(table("customer_id,customer_unique_id", *people))
    made = make(
        tmp_path / "out" / "shop", [str(tmp_path / f"{name}.csv") for name in ("orders", "parcels", "customers")]
    )
    by_name = {one.name: one for one in made.sources}
    assert set(by_name) == {"orders", "parcels"}
    assert by_name["parcels"].starting("identifiers.") == {"order": "purchase_no"}
    customer = by_name["orders"].get("identifiers.customer")
    assert (customer["column"], customer["lookup"]["value"]) == ("customer_id", "customer_unique_id")
    assert len(ingested(made)) == 150
    people_n = engine.rows(
        f"SELECT count(DISTINCT id_customer) FROM '{made.folder}/derived/events.parquet' WHERE source = 'orders'"
    )
    assert people_n == [(60,)]


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────────────

LOG = table(
    "at,event,customer_id",
    *(f"2025-03-0{n % 9 + 1}T10:00:00Z,{('visit', 'order')[n % 2]},c-{n // 2}" for n in range(60)),
)


def test_new_makes_a_study_that_is_ready(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    result = call("new", f"{tmp_path}/my_shop", "--from", f"{tmp_path}/log.csv")
    assert result.exit_code == 0, result.output
    assert "ready: python -m journeykit run" in result.output
    said = tomllib.loads((tmp_path / "my_shop" / "journey.toml").read_text(encoding="utf-8"))
    assert said["sources"][0]["path"] == "raw/log/log.csv"
    assert said["study"]["title"] == "My shop"
    assert said["journeys"]["conversion"] == "order"
    assert (tmp_path / "log.csv").read_text() == LOG, "files are copied, never moved"
    assert call("check", f"{tmp_path}/my_shop").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "my_shop"], "nothing else is left"


def test_new_takes_what_lies_in_raw_and_leaves_files_where_they_are_when_asked(tmp_path: Path) -> None:
    raw = tmp_path / "own" / "raw" / "web"
    raw.mkdir(parents=True)
    (raw / "log.csv").write_text(LOG)
    assert call("new", f"{tmp_path}/own").exit_code == 0
    said = tomllib.loads((tmp_path / "own" / "journey.toml").read_text(encoding="utf-8"))
    assert said["sources"][0]["path"] == "raw/web/log.csv"
    result = call("new", f"{tmp_path}/far", "--from", f"{raw}/*.csv", "--refer")
    assert result.exit_code == 0, result.output
    said = tomllib.loads((tmp_path / "far" / "journey.toml").read_text(encoding="utf-8"))
    assert said["sources"][0]["path"] == f"{raw}/log.csv"
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["journey.toml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{t}/there", "--from", "{t}/log.csv"], "there/ is there already, and nothing in it is overwritten"),
        (["{t}/x", "--from", "{t}/lgo.csv"], "matches no file. Did you mean 'log.csv'?"),
        (["{t}/x", "--from", "{t}/empty"], "holds no file that can be read"),
        (["{t}/x"], "--from is missing"),
        (["{t}/x", "{t}/log.csv"], "Files come after --from"),
        (["{t}/x", "--from", "{t}/log.csv", "--zone", "Europe/Berlim"], "Did you mean 'Europe/Berlin'?"),
        (["{t}/x", "--from", "{t}/picture.csv"], "no file can be read"),
        (["{t}/ä b", "--from", "{t}/log.csv"], "is no name for a study"),
    ],
)
def test_what_new_refuses_is_exit_code_2_and_leaves_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "picture.csv").write_bytes(b"%PDF-1.7 \0\1\2")
    (tmp_path / "empty").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "kept.txt").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    result = call("new", *(one.format(t=tmp_path) for one in arguments))
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert sorted(tmp_path.rglob("*")) == before


def test_what_cannot_be_guessed_is_said_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(table("customer_id,tenure", *(f"c-{n},{n}" for n in range(30))))
    result = call("new", f"{tmp_path}/x", "--from", f"{tmp_path}/people.csv")
    assert result.exit_code == 2
    assert "not ready yet" in result.output
    assert "no column holds times" in result.output
    assert (tmp_path / "x" / "journey.toml").exists()


def test_names_of_columns_and_files_cannot_break_out(tmp_path: Path) -> None:
    """Quotes, line ends, markup and terminal codes in names end up in strings and comments, and nowhere else."""
    header = 'at,event,customer_id,"due\n[[sources]]\nname = ""x""","[red]planned\x1b[2J until","a""b] score"'
    rows = [
        f"2025-03-0{n % 9 + 1}T10:00:00Z,visit,c-{n},2025-04-01,2025-04-0{n % 3 + 1},{n % 5 + 1}" for n in range(40)
    ]
    (tmp_path / "[bold]log's.csv").write_text(table(header, *rows))
    made = make(tmp_path / "x", [str(tmp_path)])
    said = tomllib.loads((tmp_path / "x" / "journey.toml").read_text(encoding="utf-8"))
    assert len(said["sources"]) == 1
    assert said["sources"][0]["satisfaction"]["column"] == 'a"b] score'
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    show(made, console, "x")
    assert "\x1b" not in console.export_text()
    assert len(ingested(made)) == 40


# ── Blind trials: the bundled study and real data ────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("blind") / "shop", [str(ROOT / "data" / "laptop_store" / "raw")])


def test_the_bundled_exports_are_recognised_blind(blind: Made) -> None:
    found = {one.name: one for one in blind.sources}
    assert {name: one.preset for name, one in found.items()} == {
        "ga4": "ga4",
        "segment_tracks": "segment",
        "shopify_orders": "shopify_orders",
        "zendesk_tickets": "zendesk_tickets",
        "qualtrics_nps": "qualtrics",
        "qualtrics_csat": "qualtrics",
        "sendgrid_events": "sendgrid",
        "stripe_subscriptions": "stripe_subscriptions",
        "carrier": "",
        "visits": "",
        "spend": "",
    }
    assert found["ga4"].path == "raw/ga4/ga4_*.jsonl.gz"
    assert [one["event"] for one in found["carrier"].get("emits")] == ["shipped", "delivered"]
    assert found["carrier"].starting("identifiers.") == {"order": "order_name"}
    assert found["spend"].get("kind") == "spend"
    assert found["visits"].get("time") == {"column": "visited_at"}
    assert {"customer", "email", "phone"} <= set(found["visits"].starting("identifiers."))
    assert found["qualtrics_nps"].get("satisfaction") == {"column": "Q1_NPS", "low": 0, "high": 10}
    assert found["qualtrics_csat"].get("satisfaction") == {"column": "Q1_CSAT", "low": 1, "high": 5}
    assert found["qualtrics_csat"].get("identifiers.device") == "ga_client_id"
    assert found["sendgrid_events"].get("identifiers.customer") == "customer_id"
    assert blind.story.conversion == "order_placed"
    assert blind.story.funnel[-1] == "order_placed"
    assert blind.problems == []


def test_the_blind_study_reads_what_the_bundled_one_reads(blind: Made) -> None:
    counts = ingested(blind)["event"].value_counts()
    # What the bundled study reads; its rules for tags and channels are beyond guessing.
    for event, n in {
        "page_view": 35_000,
        "add_to_cart": 5_700,
        "survey_csat": 1_400,
        "survey_nps": 440,
        "shipped": 1_700,
    }.items():
        assert n <= counts[event] <= 1.1 * n, event
    assert counts["order_placed"] == pytest.approx(2800, rel=0.05), "an order counts once, whatever its line items"
    assert 115_000 < counts.sum() < 135_000


def test_no_identifier_of_the_input_is_written_or_shown(blind: Made) -> None:
    text = (blind.folder / "journey.toml").read_text(encoding="utf-8")
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    show(blind, console, "shop")
    shown = text + console.export_text()
    orders = pd.read_csv(
        ROOT / "data" / "laptop_store" / "raw" / "shop" / "shopify_orders.csv", dtype=str, on_bad_lines="skip"
    )
    tickets = pd.read_csv(
        ROOT / "data" / "laptop_store" / "raw" / "support" / "zendesk_tickets.csv", dtype=str, on_bad_lines="skip"
    )
    values = {
        *orders["Email"].dropna(),
        *orders["Phone"].dropna(),
        *orders["Name"],
        *tickets["requester_external_id"].dropna(),
    }
    values |= set(tickets["requester_email"].dropna())
    values -= {"anonymous", "unknown"}  # they mark nobody
    assert len(values) > 3000
    assert [value for value in values if value in shown and len(value) > 4] == []
    assert not re.search(r"[\w.]+@[\w.]+\.\w+", shown)


needs_data = pytest.mark.skipif(not DATA.exists(), reason="the shared data sets are not on this machine")


def real(folder: Path, *names: str) -> Made:
    return make(folder / "study", [str(DATA / name) for name in names])


@needs_data
def test_real_orders_with_reviews(tmp_path: Path) -> None:
    folder = "olist_orders_sample"
    files = [
        f"{folder}/olist_{name}_dataset.csv.gz" for name in ("orders", "customers", "order_items", "order_payments")
    ]
    made = real(tmp_path, *files, "olist_reviews_sample/olist_order_reviews_dataset.csv.gz")
    counts = ingested(made)["event"].value_counts().to_dict()
    expected = json.loads((DATA / folder / "expected.json").read_text())["figures"]["stages_reached"]["value"]
    assert counts == {
        "order_purchase": expected["order_purchase_timestamp"],
        "order_approved": expected["order_approved_at"],
        "order_delivered_carrier": expected["order_delivered_carrier_date"],
        "order_delivered_customer": expected["order_delivered_customer_date"],
        "review_creation": 6123,
        "review_answer": 6123,
    }
    found = {one.name: one for one in made.sources}
    assert found["olist_orders_dataset"].get("identifiers.customer")["lookup"]["value"] == "customer_unique_id"
    reviews = found["olist_order_reviews_dataset"]
    assert reviews.get("satisfaction") == {"column": "review_score", "low": 1, "high": 5}
    assert reviews.get("comment") == "review_comment_message"
    assert sorted(one.name for one in made.aside) == ["olist_order_items_dataset", "olist_order_payments_dataset"]
    assert made.story.conversion == "order_purchase"


@needs_data
@pytest.mark.parametrize(
    ("file", "time", "event", "identifiers", "events_n"),
    [
        (
            "cdnow_purchases/CDNOW_master.txt.gz",
            {"column": "date", "format": "%Y%m%d"},
            {"constant": "purchase"},
            {"customer": "customer_id"},
            69_659,
        ),
        (
            "cfpb_complaints/Consumer_Complaints.csv.gz",
            {"column": "Date received", "format": "%m/%d/%Y"},
            None,
            {"ticket": "Complaint ID"},
            2 * 349,
        ),
        (
            "ecom_clickstream/ecom.csv.gz",
            {"column": "timestamp"},
            "event",
            {"customer": "user_id", "session": "session_id"},
            31_106 - 30,
        ),
    ],
)
def test_real_tables(
    tmp_path: Path, file: str, time: dict[str, str], event: Any, identifiers: dict[str, str], events_n: int
) -> None:
    made = real(tmp_path, file)
    found = made.sources[0]
    assert (found.preset, found.get("time"), found.get("event")) == ("", time, event)
    assert found.starting("identifiers.") == identifiers
    assert len(ingested(made)) == events_n


@needs_data
def test_a_real_event_log_and_a_vendors_table_are_recognised(tmp_path: Path) -> None:
    log = real(tmp_path / "log", "helpdesk_tickets/helpdesk.csv.gz")
    assert log.sources[0].preset == "xes"
    assert len(ingested(log)) == 21_348
    web = real(tmp_path / "web", "snowplow_web_events/snowplow_web_events.csv.gz")
    assert web.sources[0].preset == "snowplow"
    assert web.problems == []


@needs_data
def test_real_daily_files_in_milliseconds(tmp_path: Path) -> None:
    made = real(tmp_path, "sparkify_log/log_data")
    found = made.sources[0]
    assert len(made.sources) == 1
    assert found.get("time") == {"column": "ts", "unit": "ms"}
    assert found.get("event") == "page"
    assert found.starting("identifiers.") == {"customer": "userId", "session": "sessionId"}
    assert found.path.endswith("*-events.jsonl.gz")


@needs_data
def test_a_real_table_without_a_time_says_so(tmp_path: Path) -> None:
    made = real(tmp_path, "telco_churn/Telco-Customer-Churn.csv.gz")
    assert made.problems == [
        "sources.telco_customer_churn: time: no column holds times. Name it: time = { column = … }"
    ]
    assert made.sources[0].starting("identifiers.") == {"customer": "customerID"}


def test_an_error_of_new_is_one_that_can_be_mended(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match="matches no file"):
        make(tmp_path / "x", [str(tmp_path / "nothing.csv")])


HOSTILE: dict[str, bytes] = {
    "deep.json": b"[" * 1000 + b"]" * 1000,
    "deep.jsonl": b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"\n",
    "wide.csv": b",".join(b"c%d" % n for n in range(100_000)) + b"\n" + b",".join([b"1"] * 100_000) + b"\n",
    "long.csv": b'at,event,user_id,comment\n2025-01-01,a,u1,"' + b"x" * 3_000_000 + b'"\n',
    "nul.csv": LOG.encode().replace(b"visit", b"vi\0sit"),
    "open_quote.csv": LOG.encode() + b'2025-01-01,"open,c-1\n' * 5,
    "half_a_letter.jsonl": b'{"at":"2025-01-01T00:00:00Z","event":"\\ud800","user_id":"u1"}\n' * 5,
    "same_names.csv": b"at,at,AT,event,user_id\n2025-01-01,1,2,a,u1\n2025-01-02,1,2,a,u2\n",
    "brackets.csv": b"a[b,a.b,at,event,user_id\n1,2,2025-01-01,a,u1\n1,2,2025-01-02,b,u2\n",
    "cut.json": b'{"at": ',
    "no_book.xlsx": b"PK\x03\x04junk",
    "no_table.parquet": b"PAR1junkPAR1",
    "no_log.xes": b"<log><trace>",
    "no_gzip.csv.gz": b"\x1f\x8bjunk",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_in_a_study_or_in_an_error_that_names_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(HOSTILE[name])
    result = call("new", f"{tmp_path}/x", "--from", f"{tmp_path}/{name}")
    assert result.exit_code in (0, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if (tmp_path / "x").exists():
        tomllib.loads((tmp_path / "x" / "journey.toml").read_text(encoding="utf-8"))
    else:
        assert name in result.output
