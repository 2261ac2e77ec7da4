"""Presets of shop, CRM, support, surveys, billing and process mining: a small export of each, and its own trap."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from journeykit import config, engine, events, privacy, study

HEAD = """
[study]
title = "Presets"
as_of = "2026-01-01T00:00:00Z"

[identity]
identifiers = ["customer", "email", "phone", "order", "ticket", "contact", "lead", "deal", "account", "case"]

"""
MINE = (
    "generic", "hubspot_contacts", "hubspot_deals", "hubspot_email_events", "intercom_conversations", "intercom_parts",
    "qualtrics", "salesforce_leads", "salesforce_opportunities", "salesforce_tasks", "shopify_api", "shopify_orders",
    "stripe_invoices", "stripe_subscriptions", "typeform", "xes", "zendesk_history", "zendesk_tickets",
)  # fmt: skip


@dataclass
class Read:
    """What became of an export."""

    events: pd.DataFrame
    files: pd.DataFrame
    quarantine: pd.DataFrame

    def happened(self) -> list[tuple[str, str]]:
        """Time (UTC) and name of each event, in order."""
        return [(f"{at:%Y-%m-%d %H:%M:%S}", name) for at, name in self.events[["timestamp", "event"]].to_numpy()]

    def counts(self) -> tuple[int, int, int, int]:
        """Rows kept, duplicate, quarantined and left out."""
        parts = self.files[["kept_n", "duplicate_n", "quarantined_n", "left_out_n"]].sum()
        return tuple(int(part) for part in parts)  # type: ignore[return-value]


def ingest(folder: Path, preset: str, files: dict[str, str], keys: str = "") -> Read:
    """Read an export by its preset alone, or with keys that override it; the accounting must balance."""
    (folder / "raw").mkdir()
    for name, text in files.items():
        (folder / "raw" / name).write_text(text, encoding="utf-8")
    ending = next(iter(files)).split(".", 1)[1]
    source = f'[[sources]]\nname = "it"\npath = "raw/*.{ending}"\npreset = "{preset}"\n{keys}\n'
    (folder / "journey.toml").write_text(HEAD + source, encoding="utf-8")
    opened = study.open_study(str(folder))
    assert events.ingest(opened)
    found = Read(*(engine.fetch(opened.table(name)) for name in ("events", "files", "quarantine")))
    assert sum(found.counts()) == found.files["read_n"].sum()
    return found


def rows(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def json_lines(*items: dict[str, Any]) -> str:
    return rows(*(json.dumps(item) for item in items))


def token(name: str, value: str) -> str:
    return privacy.token(name, value, privacy.key(study.ROOT))


def values(found: Read, column: str) -> list[Any]:
    """The column of the events, with None for what is missing."""
    return [None if pd.isna(value) else value for value in found.events[column]]


@pytest.mark.parametrize("name", MINE)
def test_a_preset_is_switched_on_by_one_line_and_says_what_it_fits(name: str) -> None:
    source = {"name": "it", "path": "raw/*", "preset": name}
    settings = {
        "study": {"title": "Small"},
        "identity": {"identifiers": ["customer", "email", "phone", "order", "ticket", "contact", "case"]},
    }
    parsed = config.parse({**settings, "sources": [source]}).sources[0]
    assert parsed.time.column
    text = config.presets()[name].read_text(encoding="utf-8")
    head = text.split("\n\n")[0]
    assert head.startswith("# ")
    for said in ("# Time:", "# Traps:"):
        assert said in head
    assert "# Left out:" in head or "Left out:" in head
    assert max(len(line) for line in text.splitlines()) <= 120


# ── Shop ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

SHOPIFY = (
    "Name,Email,Financial Status,Fulfilled at,Cancelled at,Currency,Shipping,Total,Created at,Lineitem quantity,"
    "Lineitem name,Lineitem price,Phone,Payment Method,Source"
)


def test_shopify_line_items_repeat_the_order_and_times_carry_the_offset_of_the_shop(tmp_path: Path) -> None:
    first = rows(
        SHOPIFY,
        "#1001,ada@example.com,paid,,,EUR,4.90,120.00,2025-07-01 00:30:00 +0200,1,Lamp,100.00,+491512345678,shop,web",
        "#1001,ada@example.com,,,,,,,,2,Bulb,7.55,,,",
        "#1002,ben@example.com,paid,,,EUR,0.00,30.00,2025-01-05 09:00:00 +0100,1,Bulb,30.00,,shop,pos",
        "#1003,me@example.com,paid,,,EUR,0.00,1.00,2025-01-06 09:00:00 +0100,1,Bulb,1.00,,bogus,web",
    )
    later = rows(  # the next export overlaps: the order was sent and cancelled since
        SHOPIFY,
        "#1001,ada@example.com,refunded,2025-07-02 10:00:00 +0200,2025-07-03 10:00:00 +0200,EUR,4.90,120.00,"
        "2025-07-01 00:30:00 +0200,1,Lamp,100.00,+491512345678,shop,web",
    )
    found = ingest(tmp_path, "shopify_orders", {"a.csv": first, "b.csv": later})
    assert found.happened() == [
        ("2025-01-05 08:00:00", "order_placed"),
        ("2025-06-30 22:30:00", "order_placed"),
        ("2025-07-02 08:00:00", "order_fulfilled"),
        ("2025-07-03 08:00:00", "order_cancelled"),
    ]
    assert values(found, "value")[:2] == [30.0, 120.0]
    assert found.events["value"].sum() == 150.0
    assert values(found, "channel")[:2] == ["store", "web"]
    assert found.events["id_order"].tolist()[1:] == [token("order", "#1001")] * 3
    assert found.events["id_email"].tolist()[1:] == [token("email", "ada@example.com")] * 3
    assert found.files["left_out_n"].sum() == 1
    assert len(found.quarantine) == 0


def test_shopify_line_items_of_an_order_that_is_left_out_are_left_out_too(tmp_path: Path) -> None:
    text = rows(
        SHOPIFY,
        "#1001,ada@example.com,paid,,,EUR,4.90,120.00,2025-07-01 00:30:00 +0200,1,Lamp,100.00,,shop,web",
        "#1003,me@example.com,paid,,,EUR,0.00,2.00,2025-01-06 09:00:00 +0100,1,Bulb,1.00,,bogus,web",
        "#1003,me@example.com,,,,,,,,1,Lamp,1.00,,,",
    )
    found = ingest(tmp_path, "shopify_orders", {"a.csv": text})
    assert found.counts() == (1, 0, 0, 2)


def shopify_order(**changed: Any) -> dict[str, Any]:
    order = {
        "id": 5001, "name": "#1001", "email": "ada@example.com", "phone": None, "customer": {"id": 7700, "note": "x"},
        "created_at": "2025-02-01T12:00:00+01:00", "processed_at": "2025-01-15T23:30:00-05:00", "cancelled_at": None,
        "test": False, "total_price": "99.90", "currency": "EUR", "presentment_currency": "USD",
        "total_price_set": {
            "shop_money": {"amount": "99.90", "currency_code": "EUR"},
            "presentment_money": {"amount": "108.12", "currency_code": "USD"},
        },
        "source_name": "pos", "financial_status": "paid", "line_items": [{"id": 1, "price": "99.90"}],
    }  # fmt: skip
    return {**order, **changed}


def test_shopify_api_leaves_out_tests_and_reads_the_currency_of_the_shop(tmp_path: Path) -> None:
    page = {
        "orders": [
            shopify_order(),
            shopify_order(id=5002, name="#1002", test=True),
            shopify_order(id=5003, name="#1003", processed_at=None, cancelled_at="2025-02-02T12:00:00+01:00"),
        ]
    }
    again = {"orders": [shopify_order(financial_status="refunded")]}
    files = {"1.json": json.dumps(page, indent=1), "2.json": json.dumps(again)}
    found = ingest(tmp_path, "shopify_api", files)
    assert found.happened() == [
        ("2025-01-16 04:30:00", "order_placed"),
        ("2025-02-01 11:00:00", "order_placed"),
        ("2025-02-02 11:00:00", "order_cancelled"),
    ]
    assert values(found, "value") == [99.9, 99.9, None]
    assert values(found, "channel") == ["store"] * 3
    assert found.events["id_customer"].tolist() == [token("customer", "7700")] * 3
    assert found.events["id_order"].tolist()[0] == token("order", "#1001")
    assert found.counts() == (2, 1, 0, 1)


def test_shopify_api_reads_a_table_of_a_warehouse_as_well(tmp_path: Path) -> None:
    table = rows(
        "id,name,created_at,processed_at,cancelled_at,total_price,currency,customer_id,email,test,source_name",
        "5001,#1001,2025-02-01 11:00:00+00,2025-02-01 11:00:00+00,,99.90,EUR,7700,,false,web",
        "5002,#1002,2025-02-01 12:00:00+00,2025-02-01 12:00:00+00,,10.00,EUR,7701,,true,web",
    )
    found = ingest(tmp_path, "shopify_api", {"orders.csv": table})
    assert found.happened() == [("2025-02-01 11:00:00", "order_placed")]
    assert found.events["id_customer"].tolist() == [token("customer", "7700")]


# ── Support ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_zendesk_tickets_that_were_merged_do_not_count_twice(tmp_path: Path) -> None:
    table = rows(
        "id,requester_email,requester_external_id,created_at,solved_at,via_channel,group,status,satisfaction_score,tags",
        "1,ada@example.com,c-1,2025-03-01T09:00:00Z,2025-03-02T10:00:00Z,email,Returns,solved,bad,late refund",
        "2,ada@example.com,c-1,2025-03-01T09:05:00Z,2025-03-01T09:10:00Z,web,Returns,closed,,late closed_by_merge",
        "3,ben@example.com,,2025-03-03T09:00:00Z,,chat,Sales,open,offered,",
        "4,cyd@example.com,,2025-03-03T09:00:00Z,,chat,Sales,deleted,,",
    )
    rating = """
[sources.satisfaction]
column = { column = "satisfaction_score", lookup = { good = "1", bad = "0" } }
low = 0
high = 1
"""
    found = ingest(tmp_path, "zendesk_tickets", {"tickets.csv": table}, rating)
    assert found.happened() == [
        ("2025-03-01 09:00:00", "ticket_opened"),
        ("2025-03-02 10:00:00", "ticket_solved"),
        ("2025-03-03 09:00:00", "ticket_opened"),
    ]
    assert values(found, "team") == ["Returns", "Returns", "Sales"]
    assert values(found, "satisfaction") == [None, 0.0, None]
    assert found.events["id_ticket"].tolist() == [token("ticket", "1")] * 2 + [token("ticket", "3")]
    assert found.events["id_customer"].tolist()[:1] == [token("customer", "c-1")]
    assert found.counts() == (2, 0, 0, 2)


def test_zendesk_tickets_are_read_as_the_api_gives_them(tmp_path: Path) -> None:
    ticket = {
        "id": 11, "created_at": "2025-03-01T09:00:00Z", "via": {"channel": "web", "source": {}}, "group_id": 7,
        "requester_id": 900, "status": "solved", "tags": ["a"], "metric_set": {"solved_at": "2025-03-01T12:00:00Z"},
    }  # fmt: skip
    merged = {**ticket, "id": 12, "tags": ["closed_by_merge"]}
    page = {"tickets": [ticket, merged], "count": 2, "end_of_stream": True}
    keys = 'team = { column = "group_id", lookup = { "7" = "Returns" } }'
    found = ingest(tmp_path, "zendesk_tickets", {"1.json": json.dumps(page)}, keys)
    assert found.happened() == [("2025-03-01 09:00:00", "ticket_opened"), ("2025-03-01 12:00:00", "ticket_solved")]
    assert values(found, "channel") == ["web", "web"]
    assert values(found, "team") == ["Returns", "Returns"]
    assert found.counts() == (1, 0, 0, 1)


HISTORY = rows(
    "ticket_id,field_name,updated,value,user_id,_synced",
    "1,group_id,2025-03-01T09:00:00Z,7,-1,a",
    "1,priority,2025-03-01T09:00:00Z,high,-1,a",
    "1,assignee_id,2025-03-01T09:10:00Z,501,501,a",
    "1,status,2025-03-01T09:11:00Z,open,501,a",
    "1,group_id,2025-03-01T11:00:00Z,8,501,a",
    "1,group_id,2025-03-01T11:00:00Z,8,501,b",
    "1,status,2025-03-02T09:00:00Z,solved,502,a",
    "1,status,2025-03-06T09:00:00Z,closed,-1,a",
)


def test_zendesk_history_gives_the_hand_offs_with_the_names_of_teams_from_a_file(tmp_path: Path) -> None:
    groups = tmp_path / "groups.txt"
    groups.write_text("id,name\n7,First line\n8,Returns\n", encoding="utf-8")
    keys = """
[sources.team]
expression = "value if field_name == 'group_id' else None"
lookup = { path = "groups.txt", key = "id", value = "name" }
"""
    found = ingest(tmp_path, "zendesk_history", {"history.csv": HISTORY}, keys)
    assert found.happened() == [
        ("2025-03-01 09:00:00", "ticket_group_changed"),
        ("2025-03-01 09:10:00", "ticket_assignee_changed"),
        ("2025-03-01 09:11:00", "ticket_status_open"),
        ("2025-03-01 11:00:00", "ticket_group_changed"),
        ("2025-03-02 09:00:00", "ticket_status_solved"),
    ]
    assert values(found, "team") == ["First line", None, None, "Returns", None]
    assert set(found.events["id_ticket"]) == {token("ticket", "1")}
    assert found.events["id_customer"].isna().all()  # user_id is the agent
    assert found.counts() == (5, 1, 0, 2)


def test_zendesk_history_alone_shows_the_numbers_of_teams(tmp_path: Path) -> None:
    found = ingest(tmp_path, "zendesk_history", {"history.csv": HISTORY})
    assert values(found, "team") == ["7", None, None, "8", None]


def test_intercom_conversations_are_in_seconds_and_bots_are_left_out(tmp_path: Path) -> None:
    conversation = {
        "id": "c1", "created_at": 1741000000, "state": "closed", "team_assignee_id": 814865,
        "source": {"author": {"type": "user", "id": "u1", "email": "ada@example.com"}, "body": "<p>ada</p>"},
        "contacts": {"type": "contact.list", "contacts": [{"type": "contact", "id": "u1", "external_id": "c-1"}]},
        "statistics": {"last_close_at": 1741003600},
        "conversation_rating": {"rating": 4, "remark": "<b>fine</b>", "created_at": 1741007200},
    }  # fmt: skip
    by_admin = {
        **conversation, "id": "c2", "state": "open", "conversation_rating": None,
        "source": {"author": {"type": "admin", "id": "9", "email": "agent@example.com"}},
        "contacts": {"contacts": [{"type": "contact", "id": "u2", "external_id": None}]},
    }  # fmt: skip
    by_bot = {**conversation, "id": "c3", "source": {"author": {"type": "bot", "id": "b"}}}
    page = {"type": "conversation.list", "conversations": [conversation, by_admin, by_bot]}
    found = ingest(tmp_path, "intercom_conversations", {"1.json": json.dumps(page)})
    assert sorted(found.happened()) == [
        ("2025-03-03 11:06:40", "conversation_started"),
        ("2025-03-03 11:06:40", "conversation_started"),
        ("2025-03-03 12:06:40", "conversation_closed"),
        ("2025-03-03 13:06:40", "conversation_rated"),
    ]
    by_name = found.events.set_index("event")
    assert by_name.loc["conversation_rated", "satisfaction"] == 0.75
    assert found.events["satisfaction"].notna().sum() == 1
    assert by_name.loc["conversation_closed", "id_email"] == token("email", "ada@example.com")
    assert by_name.loc["conversation_closed", "id_customer"] == token("customer", "c-1")
    assert set(found.events["id_contact"]) == {token("contact", "u1"), token("contact", "u2")}
    assert token("email", "agent@example.com") not in set(found.events["id_email"])
    assert found.events["comment"].isna().all()
    assert found.counts() == (2, 0, 0, 1)


def test_intercom_conversations_of_a_warehouse(tmp_path: Path) -> None:
    table = rows(
        "id,created_at,state,source_author_id,source_author_type,conversation_rating_value",
        "1,2025-03-03 11:06:40,open,u1,lead,5",
        "2,2025-03-03 11:06:40,open,b1,bot,",
    )
    found = ingest(tmp_path, "intercom_conversations", {"c.csv": table}, 'time = { unit = "text" }')
    assert found.happened() == [("2025-03-03 11:06:40", "conversation_started")]
    assert values(found, "id_contact") == [token("contact", "u1")]
    assert values(found, "satisfaction") == [1.0]
    assert found.counts() == (1, 0, 0, 1)


def test_intercom_parts_give_the_hand_offs(tmp_path: Path) -> None:
    part = {"conversation_id": "c1", "created_at": 1741000000, "body": "<p>call me</p>", "assigned_to": None}
    user, admin, bot = ({"type": kind, "id": f"{kind}1"} for kind in ("user", "admin", "bot"))
    lines = json_lines(
        {**part, "id": "1", "part_type": "comment", "author": user},
        {**part, "id": "2", "part_type": "comment", "author": bot, "created_at": 1741000001},
        {**part, "id": "3", "part_type": "assignment", "author": admin, "created_at": 1741000060,
         "assigned_to": {"type": "team", "id": "814865"}},
        {**part, "id": "4", "part_type": "note", "author": admin, "created_at": 1741000061},
        {**part, "id": "5", "part_type": "away_mode_assignment", "author": admin, "created_at": 1741000120,
         "assigned_to": {"type": "admin", "id": "77"}},
        {**part, "id": "6", "part_type": "comment", "author": admin, "created_at": 1741000180},
        {**part, "id": "7", "part_type": "close", "author": admin, "created_at": 1741000181},
        {**part, "id": "8", "part_type": "open", "author": user, "created_at": 1741000240},
    )  # fmt: skip
    found = ingest(tmp_path, "intercom_parts", {"parts.jsonl": lines})
    assert found.happened() == [
        ("2025-03-03 11:06:40", "customer_replied"),
        ("2025-03-03 11:07:40", "conversation_assigned"),
        ("2025-03-03 11:08:40", "conversation_assigned"),
        ("2025-03-03 11:09:40", "agent_replied"),
        ("2025-03-03 11:10:40", "conversation_reopened"),
    ]
    assert values(found, "team") == [None, "814865", None, None, None]
    assert values(found, "id_contact") == [token("contact", "user1"), None, None, None, token("contact", "user1")]
    assert set(found.events["id_ticket"]) == {token("ticket", "c1")}
    assert found.counts() == (5, 0, 0, 3)


def test_intercom_parts_of_a_warehouse_need_one_line_more_and_names_of_teams_come_from_a_table(tmp_path: Path) -> None:
    table = rows(
        "id,conversation_id,part_type,created_at,author_id,author_type,assigned_to_id,assigned_to_type",
        "1,9,comment,2025-03-03 11:06:40,u1,user,,",
        "2,9,assignment,2025-03-03 11:07:40,5,admin,814865,team",
        "3,9,comment,2025-03-03 11:07:41,6,bot,,",
    )
    keys = """
time = { unit = "text" }
team = { expression = "coalesce(assigned_to.id, assigned_to_id)", lookup = { "814865" = "Returns" } }
"""
    found = ingest(tmp_path, "intercom_parts", {"parts.csv": table}, keys)
    assert found.happened() == [
        ("2025-03-03 11:06:40", "customer_replied"),
        ("2025-03-03 11:07:40", "conversation_assigned"),
    ]
    assert values(found, "team") == [None, "Returns"]
    assert values(found, "id_contact") == [token("contact", "u1"), None]
    assert found.counts() == (2, 0, 0, 1)


# ── CRM ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_hubspot_contacts_become_one_event_for_each_stage_they_entered(tmp_path: Path) -> None:
    contact = {
        "id": "151", "archived": False,
        "properties": {
            "createdate": "2025-01-10T09:15:30.234Z", "email": "Ada@Example.com", "phone": None,
            "hs_lifecyclestage_lead_date": "2025-01-11T00:00:00Z",
            "hs_lifecyclestage_customer_date": "2025-02-01T08:00:00Z",
            "hs_analytics_source": "PAID_SEARCH",
        },
    }  # fmt: skip
    page = {"results": [contact, {**contact, "id": "152", "archived": True}], "paging": None}
    found = ingest(tmp_path, "hubspot_contacts", {"1.json": json.dumps(page)})
    assert found.happened() == [
        ("2025-01-10 09:15:30", "contact_created"),
        ("2025-01-11 00:00:00", "contact_lead"),
        ("2025-02-01 08:00:00", "contact_customer"),
    ]
    assert found.events["timestamp"].iloc[0] == pd.Timestamp("2025-01-10 09:15:30.234")
    assert set(found.events["id_email"]) == {token("email", "ada@example.com")}
    assert set(found.events["id_contact"]) == {token("contact", "151")}
    assert found.counts() == (1, 0, 0, 1)


def hubspot_deal(number: str, archived: bool = False, **properties: Any) -> dict[str, Any]:
    linked = {
        "contacts": {"results": [{"id": "151", "type": "deal_to_contact"}, {"id": "9", "type": "deal_to_contact"}]}
    }
    given = {"createdate": "2025-01-10T09:00:00Z", "amount": "5000.00", "pipeline": "default"}
    return {"id": number, "archived": archived, "properties": {**given, **properties}, "associations": linked}


def test_hubspot_deals_become_one_event_for_each_stage_and_forecasts_are_not_events(tmp_path: Path) -> None:
    page = {
        "results": [
            hubspot_deal(
                "1", closedate="2025-03-31T00:00:00Z", hs_is_closed_won="true", hs_is_closed_lost="false",
                hs_v2_date_entered_contractsent="2025-02-01T10:00:00Z",
                hs_v2_date_entered_closedwon="2025-02-03T10:00:00Z",
            ),
            hubspot_deal("2", closedate="2025-06-30T00:00:00Z", hs_is_closed_won="false", hs_is_closed_lost="false"),
            hubspot_deal("3", closedate="2025-04-01T00:00:00Z", hs_is_closed_won="false", hs_is_closed_lost="true"),
            hubspot_deal("4", archived=True),
        ]
    }  # fmt: skip
    found = ingest(tmp_path, "hubspot_deals", {"1.json": json.dumps(page)})
    assert found.happened() == [
        *[("2025-01-10 09:00:00", "deal_created")] * 3,
        ("2025-02-01 10:00:00", "deal_contract_sent"),
        ("2025-02-03 10:00:00", "deal_won"),
        ("2025-04-01 00:00:00", "deal_lost"),
    ]
    valued = found.events[found.events["value"].notna()]
    assert sorted(valued["event"]) == ["deal_created", "deal_lost", "deal_won"]  # each deal's amount stands once
    assert found.events["value"].sum() == 15_000
    assert set(found.events["id_contact"]) == {token("contact", "151")}
    assert found.counts() == (3, 0, 0, 1)


def test_hubspot_milliseconds_of_the_older_api_need_one_line_more(tmp_path: Path) -> None:
    deal = hubspot_deal("1", createdate="1741000000500", hs_v2_date_entered_contractsent="1741000060000")
    found = ingest(tmp_path, "hubspot_deals", {"1.jsonl": json_lines(deal)}, 'time = { unit = "ms" }')
    assert found.happened() == [("2025-03-03 11:06:40", "deal_created"), ("2025-03-03 11:07:40", "deal_contract_sent")]


def test_hubspot_email_events_that_were_filtered_are_left_out(tmp_path: Path) -> None:
    event = {
        "id": "e1", "type": "OPEN", "created": 1741000000500, "recipient": "Ada@example.com", "filteredEvent": False,
        "emailCampaignId": 42,
    }  # fmt: skip
    page = {
        "hasMore": False,
        "events": [
            event,
            {**event, "id": "e2", "type": "CLICK", "created": 1741000001000},
            {**event, "id": "e3", "filteredEvent": True},
            {**event, "id": "e4", "obsoletedBy": {"id": "e1", "created": 1741000000500}},
            {**event, "id": "e5", "type": "DELIVERED"},
            event,
        ],
    }
    found = ingest(tmp_path, "hubspot_email_events", {"1.json": json.dumps(page)})
    assert found.happened() == [("2025-03-03 11:06:40", "email_open"), ("2025-03-03 11:06:41", "email_click")]
    assert found.events["timestamp"].iloc[0] == pd.Timestamp("2025-03-03 11:06:40.500")
    assert json.loads(found.events["properties"].iloc[0]) == {"campaign": "42"}
    assert set(found.events["id_email"]) == {token("email", "ada@example.com")}
    assert found.counts() == (2, 1, 0, 3)


def test_hubspot_email_events_of_a_warehouse(tmp_path: Path) -> None:
    table = rows(
        "id,type,created,recipient,filtered_event,email_campaign_id,obsoleted_by_id",
        "e1,OPEN,2025-03-03 11:06:40,ada@example.com,false,42,",
        "e2,OPEN,2025-03-03 11:06:41,ada@example.com,TRUE,42,",
        "e3,OPEN,2025-03-03 11:06:42,ada@example.com,false,42,e1",
    )
    found = ingest(tmp_path, "hubspot_email_events", {"events.csv": table}, 'time = { unit = "text" }')
    assert found.happened() == [("2025-03-03 11:06:40", "email_open")]
    assert found.counts() == (1, 0, 0, 2)


OPPORTUNITIES = rows(
    "Id,AccountId,ContactId,StageName,Amount,CloseDate,CreatedDate,IsClosed,IsWon,IsDeleted,Type",
    "006A,001A,003A,Closed Won,1200.5,2025-03-10,2025-03-10T14:00:00.000Z,true,true,false,New",
    "006B,001A,003B,Proposal,800,2025-12-24,2025-03-01T09:00:00.000+0000,false,false,false,New",
    "006C,001B,003C,Closed Lost,50,2025-04-01,2025-03-02T09:00:00.000Z,true,false,false,New",
    "006D,001B,003D,Closed Won,70,2025-04-01,2025-03-02T09:00:00.000Z,true,true,true,New",
)


def test_salesforce_closing_is_a_date_without_time_and_a_forecast_until_then(tmp_path: Path) -> None:
    found = ingest(tmp_path, "salesforce_opportunities", {"opportunity.csv": OPPORTUNITIES})
    assert found.happened() == [
        ("2025-03-01 09:00:00", "opportunity_created"),
        ("2025-03-02 09:00:00", "opportunity_created"),
        ("2025-03-10 14:00:00", "opportunity_created"),
        ("2025-03-10 23:59:00", "opportunity_won"),  # after what happened on that day
        ("2025-04-01 23:59:00", "opportunity_lost"),
    ]
    assert values(found, "value") == [800.0, None, None, 1200.5, 50.0]
    assert found.events["id_deal"].tolist()[-2:] == [token("deal", "006A"), token("deal", "006C")]
    assert found.events["id_contact"].tolist()[-2:] == [token("contact", "003A"), token("contact", "003C")]
    assert found.counts() == (3, 0, 0, 1)


def test_keys_of_a_preset_are_overridden_one_by_one(tmp_path: Path) -> None:
    keys = """
value_scale = 2
where_not = { Type = "Renewal" }
identifiers = { deal = "StageName" }
time = { zone = "Europe/Berlin", clock = "18:00" }
"""
    found = ingest(tmp_path, "salesforce_opportunities", {"opportunity.csv": OPPORTUNITIES}, keys)
    closed = [(at, name) for at, name in found.happened() if name != "opportunity_created"]
    assert closed == [("2025-03-10 17:00:00", "opportunity_won"), ("2025-04-01 16:00:00", "opportunity_lost")]
    assert found.events["value"].max() == 2401.0
    assert token("deal", "Closed Won") in set(found.events["id_deal"])
    assert token("contact", "003A") in set(found.events["id_contact"])  # what is not given stays
    assert found.files["left_out_n"].sum() == 1


def test_a_rule_of_a_preset_is_switched_off_by_an_empty_list(tmp_path: Path) -> None:
    keys = "where_not = { IsDeleted = [] }"
    found = ingest(tmp_path, "salesforce_opportunities", {"opportunity.csv": OPPORTUNITIES}, keys)
    assert found.counts() == (4, 0, 0, 0)


def test_salesforce_conversion_of_a_lead_is_an_event_and_ties_lead_to_contact(tmp_path: Path) -> None:
    table = rows(
        "Id,Email,Phone,Status,LeadSource,IsConverted,ConvertedDate,ConvertedContactId,ConvertedAccountId,"
        "ConvertedOpportunityId,CreatedDate,IsDeleted",
        "00QA,ada@example.com,+49301234567,Converted,Web,true,2025-03-05,003A,001A,006A,2025-03-01T09:00:00.000Z,false",
        "00QB,ben@example.com,,Open,Web,false,,,,,2025-03-02T09:00:00.000Z,false",
        "00QC,cyd@example.com,,Open,Web,false,,,,,2025-03-02T09:00:00.000Z,true",
    )
    found = ingest(tmp_path, "salesforce_leads", {"lead.csv": table})
    assert found.happened() == [
        ("2025-03-01 09:00:00", "lead_created"),
        ("2025-03-02 09:00:00", "lead_created"),
        ("2025-03-05 23:59:00", "lead_converted"),
    ]
    converted = found.events.iloc[-1]
    assert converted["id_lead"] == token("lead", "00QA")
    assert converted["id_contact"] == token("contact", "003A")
    assert converted["id_deal"] == token("deal", "006A")
    assert converted["id_email"] == token("email", "ada@example.com")
    assert found.counts() == (2, 0, 0, 1)


def test_salesforce_tasks_are_dates_at_noon_and_open_ones_have_not_happened(tmp_path: Path) -> None:
    table = rows(
        "Id,WhoId,WhatId,AccountId,Subject,ActivityDate,CompletedDateTime,TaskSubtype,CallType,IsClosed,IsDeleted",
        "00TA,003A,006A,001A,Call Ada,2025-03-03,,Call,Outbound,true,false",
        "00TB,00QB,,,E-mail,2025-03-03,2025-03-04T08:30:00.000Z,Email,,true,false",
        "00TC,003A,,,To do,2025-12-03,,Task,,false,false",
        "00TD,,500A,,Case,2025-03-03,,Task,,true,false",
    )
    found = ingest(tmp_path, "salesforce_tasks", {"task.csv": table})
    assert found.happened() == [("2025-03-03 12:00:00", "sales_call"), ("2025-03-04 08:30:00", "sales_email")]
    assert values(found, "channel") == ["call", "email"]
    assert values(found, "id_contact") == [token("contact", "003A"), None]
    assert values(found, "id_lead") == [None, token("lead", "00QB")]
    assert values(found, "id_deal") == [token("deal", "006A"), None]
    assert found.counts() == (2, 0, 1, 1)
    assert found.quarantine["reason"].tolist() == ["no identifier"]


# ── Surveys ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def qualtrics(zone: str, *lines: str) -> str:
    names = ("StartDate", "EndDate", "Status", "Finished", "RecordedDate", "ResponseId", "RecipientEmail", "Q1_NPS")
    dates = {"StartDate", "EndDate", "RecordedDate"}
    third = [{"ImportId": name} | ({"timeZone": zone} if name in dates else {}) for name in names]
    cells = ['"' + json.dumps(cell, separators=(",", ":")).replace('"', '""') + '"' for cell in third]
    return rows(",".join(names), '"Start, date","End\ndate",' + ",".join(names[2:]), ",".join(cells), *lines)


def test_qualtrics_zone_stands_in_the_third_header_row(tmp_path: Path) -> None:
    text = qualtrics(
        "America/Denver",
        "2025-07-01 07:58:00,2025-07-01 08:00:00,IP Address,True,2025-07-01 08:00:05,R_1,ada@example.com,9",
        "2025-01-01 07:58:00,2025-01-01 08:00:00,IP Address,True,2025-01-01 08:00:05,R_2,ben@example.com,0",
        "2025-01-01 07:58:00,2025-01-01 08:00:00,Survey Preview,True,2025-01-01 08:00:05,R_3,me@example.com,10",
        "2025-01-01 07:58:00,2025-01-01 08:00:00,Survey Test,True,2025-01-01 08:00:05,R_4,,10",
        "2025-01-01 07:58:00,2025-01-01 07:59:00,IP Address,False,2025-01-08 08:00:05,R_5,cyd@example.com,",
    )
    keys = 'event = { constant = "survey_nps" }\nsatisfaction = { column = "Q1_NPS", low = 0, high = 10 }'
    found = ingest(tmp_path, "qualtrics", {"nps.csv": text}, keys)
    assert found.happened() == [("2025-01-01 15:00:05", "survey_nps"), ("2025-07-01 14:00:05", "survey_nps")]
    assert values(found, "satisfaction") == [0.0, 0.9]
    assert found.events["id_email"].tolist()[0] == token("email", "ben@example.com")
    assert found.counts() == (2, 0, 0, 3)


def test_qualtrics_codes_are_read_like_labels_and_a_given_zone_wins(tmp_path: Path) -> None:
    text = qualtrics(
        "America/Denver",
        "2025-01-01 07:58:00,2025-01-01 08:00:00,0,1,2025-01-01 08:00:05,R_1,ada@example.com,9",
        "2025-01-01 07:58:00,2025-01-01 08:00:00,1,1,2025-01-01 08:00:05,R_2,ada@example.com,9",
        "2025-01-01 07:58:00,2025-01-01 08:00:00,0,0,2025-01-01 08:00:05,R_3,ada@example.com,9",
    )
    found = ingest(tmp_path, "qualtrics", {"nps.csv": text}, 'time = { zone = "Europe/Berlin" }')
    assert found.happened() == [("2025-01-01 07:00:05", "survey")]
    assert found.counts() == (1, 0, 0, 2)


def test_typeform_answers_are_mapped_by_the_ref_of_their_field(tmp_path: Path) -> None:
    nps = {"type": "number", "number": 8, "field": {"id": "x1", "type": "opinion_scale", "ref": "nps"}}
    why = {"field": {"id": "x2", "type": "long_text", "ref": "why"}, "type": "text", "text": "Mail ada@example.com"}
    item = {
        "response_id": "r1", "token": "r1", "landed_at": "2025-03-01T09:00:00Z", "submitted_at": "2025-03-01T09:05:00Z",
        "hidden": {"customer_id": "c-1"}, "calculated": {"score": 3}, "answers": [why, nps],
    }  # fmt: skip
    page = {
        "total_items": 4,
        "items": [
            item,
            {**item, "response_id": "r2", "submitted_at": "0001-01-01T00:00:00Z", "answers": None},
            {**item, "response_id": "r3", "submitted_at": None, "answers": []},
            {**item, "response_id": "r4", "submitted_at": "2025-03-02T09:05:00Z", "hidden": {}, "answers": [nps]},
            {**item, "response_id": "r5", "submitted_at": "2025-03-03T09:05:00Z", "answers": [why]},
        ],
    }
    keys = """
satisfaction = { column = "answers[field.ref=nps].number", low = 0, high = 10 }
comment = "answers[field.ref=why].text"
"""
    found = ingest(tmp_path, "typeform", {"1.json": json.dumps(page)}, keys)
    assert found.happened() == [("2025-03-01 09:05:00", "survey"), ("2025-03-03 09:05:00", "survey")]
    assert values(found, "satisfaction") == [0.8, None]
    assert values(found, "comment") == ["Mail <e-mail>"] * 2
    assert set(found.events["id_customer"]) == {token("customer", "c-1")}
    assert found.quarantine["reason"].tolist() == ["no identifier"]
    assert found.counts() == (2, 0, 1, 2)


# ── Billing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_stripe_subscriptions_end_when_they_end_and_amounts_are_minor_units(tmp_path: Path) -> None:
    table = rows(
        "id,customer_email,created,start_date,canceled_at,ended_at,status,plan_amount,currency,livemode",
        "sub_1,ada@example.com,1741000000,1741000000,1743000000,1744000000,canceled,1290,eur,true",
        "sub_2,ben@example.com,1741000000,1741000000,,,active,1290,eur,false",
        "sub_3,cyd@example.com,1741000000,1741000000,,1741082800,incomplete_expired,1290,eur,true",
    )
    found = ingest(tmp_path, "stripe_subscriptions", {"subscriptions.csv": table})
    assert found.happened() == [
        ("2025-03-03 11:06:40", "subscription_started"),
        ("2025-03-26 14:40:00", "subscription_cancel_requested"),
        ("2025-04-07 04:26:40", "subscription_ended"),
    ]
    assert values(found, "value") == [pytest.approx(12.9), None, None]
    assert set(found.events["id_email"]) == {token("email", "ada@example.com")}
    assert found.counts() == (1, 0, 0, 2)


def test_stripe_subscriptions_are_read_as_the_api_gives_them(tmp_path: Path) -> None:
    item = {"id": "si_1", "object": "subscription_item", "price": {"unit_amount": 990, "currency": "jpy"}}
    subscription = {
        "id": "sub_1", "object": "subscription", "livemode": True, "customer": "cus_1", "status": "active",
        "start_date": 1741000000, "canceled_at": None, "ended_at": None, "items": {"object": "list", "data": [item]},
    }  # fmt: skip
    page = {"object": "list", "data": [subscription, {**subscription, "id": "sub_2", "livemode": False}]}
    found = ingest(tmp_path, "stripe_subscriptions", {"1.json": json.dumps(page)}, "value_scale = 1")
    assert found.happened() == [("2025-03-03 11:06:40", "subscription_started")]
    assert values(found, "value") == [990.0]
    assert values(found, "id_customer") == [token("customer", "cus_1")]
    assert found.counts() == (1, 0, 0, 1)


def test_why_a_stripe_subscription_ended_is_kept_and_own_reasons_win(tmp_path: Path) -> None:
    details = {"reason": "cancellation_requested", "feedback": "too_expensive", "comment": None}
    subscription = {
        "id": "sub_1", "livemode": True, "customer": "cus_1", "status": "canceled", "plan": {"amount": 990},
        "start_date": 1741000000, "canceled_at": 1743000000, "ended_at": 1744000000, "cancellation_details": details,
    }  # fmt: skip
    moved = {**subscription, "id": "sub_2", "metadata": {"cancellation_reason": "moved"}}
    found = ingest(tmp_path, "stripe_subscriptions", {"1.json": json.dumps({"data": [subscription, moved]})})
    kept = [json.loads(text) for text in found.events.sort_values(["source_row", "event"])["properties"]]
    assert [one["cancellation_reason"] for one in kept[::3]] == ["cancellation_requested", "moved"]
    assert {one["cancellation_feedback"] for one in kept} == {"too_expensive"}


def test_a_column_says_why_a_stripe_subscription_ended(tmp_path: Path) -> None:
    table = rows(
        "id,customer_email,start_date,canceled_at,ended_at,status,plan_amount,cancellation_reason",
        "sub_1,ada@example.com,1741000000,1743000000,1744000000,canceled,1290,payment_failed",
    )
    found = ingest(tmp_path, "stripe_subscriptions", {"subscriptions.csv": table})
    assert {json.loads(text)["cancellation_reason"] for text in found.events["properties"]} == {"payment_failed"}


def test_records_of_a_preset_are_switched_off_for_a_bare_list(tmp_path: Path) -> None:
    subscription = {
        "id": "sub_1",
        "livemode": True,
        "customer": "cus_1",
        "start_date": 1741000000,
        "plan": {"amount": 990},
    }
    found = ingest(tmp_path, "stripe_subscriptions", {"1.json": json.dumps([subscription])}, 'records = ""')
    assert found.happened() == [("2025-03-03 11:06:40", "subscription_started")]
    assert values(found, "value") == [pytest.approx(9.9)]


def test_stripe_invoices_are_paid_when_their_status_says_so(tmp_path: Path) -> None:
    def invoice(
        number: str, status: str, paid: int, changes: dict[str, int | None], live: bool = True
    ) -> dict[str, Any]:
        return {
            "id": number, "livemode": live, "customer": "cus_1", "customer_email": "ada@example.com", "status": status,
            "created": 1740990000, "amount_due": 1290, "amount_paid": paid, "status_transitions": changes,
        }  # fmt: skip

    page = {
        "data": [
            invoice("in_1", "paid", 1290, {"finalized_at": 1741000000, "paid_at": 1741003600}),
            invoice("in_2", "uncollectible", 0, {"finalized_at": 1741000000, "marked_uncollectible_at": 1742000000}),
            invoice("in_3", "draft", 0, {"finalized_at": None}),
            invoice("in_4", "paid", 1290, {"finalized_at": 1741000000, "paid_at": 1741003600}, live=False),
        ]
    }
    found = ingest(tmp_path, "stripe_invoices", {"1.json": json.dumps(page)})
    assert found.happened() == [
        ("2025-03-03 11:06:40", "invoice_finalized"),
        ("2025-03-03 11:06:40", "invoice_finalized"),
        ("2025-03-03 12:06:40", "invoice_paid"),
        ("2025-03-15 00:53:20", "invoice_uncollectible"),
    ]
    paid = found.events[found.events["event"] == "invoice_paid"].iloc[0]
    assert paid["value"] == pytest.approx(12.9)
    assert found.events["value"].sum() == pytest.approx(12.9)
    assert paid["id_customer"] == token("customer", "cus_1")
    assert found.counts() == (2, 0, 0, 2)


def test_stripe_invoices_of_a_warehouse(tmp_path: Path) -> None:
    table = rows(
        "id,customer_id,status,created,amount_paid,livemode,status_transitions_finalized_at,status_transitions_paid_at",
        "in_1,cus_1,paid,2025-03-01 08:00:00,500,t,2025-03-01 09:00:00,2025-03-02 09:00:00",
        "in_2,cus_1,paid,2025-03-01 08:00:00,500,f,2025-03-01 09:00:00,2025-03-02 09:00:00",
    )
    found = ingest(tmp_path, "stripe_invoices", {"invoices.csv": table}, 'time = { unit = "text" }')
    assert found.happened() == [("2025-03-01 09:00:00", "invoice_finalized"), ("2025-03-02 09:00:00", "invoice_paid")]
    assert values(found, "value") == [None, 5.0]


# ── Process mining, and anything else ─────────────────────────────────────────────────────────────────────────────────

XES = """<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="1.0">
  <trace>
    <string key="concept:name" value="case 1"/>
    <event>
      <string key="concept:name" value="Check"/><date key="time:timestamp" value="2025-03-01T10:00:00.000+01:00"/>
      <string key="org:resource" value="R1"/><string key="lifecycle:transition" value="start"/>
    </event>
    <event>
      <string key="concept:name" value="Check"/><date key="time:timestamp" value="2025-03-01T10:30:00.000+01:00"/>
      <string key="org:resource" value="R1"/><string key="lifecycle:transition" value="complete"/>
    </event>
    <event>
      <string key="concept:name" value="Decide"/><date key="time:timestamp" value="2025-03-01T12:00:00.000+01:00"/>
      <string key="org:resource" value="R2"/><string key="org:group" value="Board"/>
    </event>
  </trace>
</log>
"""


def test_xes_activities_count_once_and_times_carry_their_offset(tmp_path: Path) -> None:
    found = ingest(tmp_path, "xes", {"log.xes": XES})
    assert found.happened() == [("2025-03-01 09:30:00", "Check"), ("2025-03-01 11:00:00", "Decide")]
    assert values(found, "team") == ["R1", "Board"]
    assert set(found.events["id_case"]) == {token("case", "case 1")}
    assert found.counts() == (2, 0, 0, 1)


def test_xes_written_as_csv_keeps_equal_events(tmp_path: Path) -> None:
    table = rows(
        "case:concept:name,concept:name,time:timestamp,org:resource",
        "1,Wait,2025-03-01T10:00:00+00:00,A",
        "1,Wait,2025-03-01T10:00:00+00:00,A",
    )
    found = ingest(tmp_path, "xes", {"log.csv": table})
    assert found.happened() == [("2025-03-01 10:00:00", "Wait")] * 2
    assert found.events["event_id"].is_unique


def test_generic_reads_the_names_that_most_people_give_and_a_value_that_is_given(tmp_path: Path) -> None:
    table = rows(
        "occurred_at,activity,user_id,email,amount,channel,order_id",
        "2025-03-01T10:00:00+02:00,buy,c-1,ada@example.com,10,web,o-1",
        "2025-03-01 10:00:00,look,,ada@example.com,,web,",
        "2025-03-02,look,,,,web,",
    )
    keys = 'value = "amount"\ntime = { zone = "Europe/Berlin" }'
    found = ingest(tmp_path, "generic", {"log.csv": table}, keys)
    assert found.happened() == [("2025-03-01 08:00:00", "buy"), ("2025-03-01 09:00:00", "look")]
    assert values(found, "value") == [10.0, None]
    assert values(found, "channel") == ["web", "web"]
    assert values(found, "id_customer") == [token("customer", "c-1"), None]
    assert values(found, "id_order") == [token("order", "o-1"), None]
    assert found.quarantine["reason"].tolist() == ["no identifier"]


def test_generic_keeps_one_of_two_rows_with_the_same_event_id(tmp_path: Path) -> None:
    lines = json_lines(
        {"timestamp": 1741000000, "event": "buy", "customer": "c-1", "event_id": "e1", "value": 1.5},
        {"timestamp": 1741000000, "event": "buy", "customer": "c-1", "event_id": "e1", "value": 1.5, "try": 2},
        {"timestamp": 1741000060, "event": "buy", "customer": "c-1", "event_id": "e2", "value": 2},
    )
    found = ingest(tmp_path, "generic", {"log.jsonl": lines}, 'time = { unit = "s" }')
    assert found.happened() == [("2025-03-03 11:06:40", "buy"), ("2025-03-03 11:07:40", "buy")]
    assert values(found, "value") == [1.5, 2.0]
    assert found.counts() == (2, 1, 0, 0)
