"""Names in journey.toml's questions: unknown steps are errors, misspelt events too, events yet to come are listed."""

from __future__ import annotations

from typing import Any

import pytest

from journeykit import config, vocabulary
from journeykit.errors import JourneyError

STUDY: dict[str, Any] = {
    "study": {"title": "Small"},
    "sources": [{"name": "web", "path": "x", "time": {"column": "at"}, "event": "e", "identifiers": {"user": "u"}}],
    "identity": {"identifiers": ["user"]},
    "stages": [{"name": "Look", "touchpoints": {"Page": "page_*"}}, {"name": "Buy", "touchpoints": {"Order": "order"}}],
}


def test_a_step_that_no_stage_declares_is_a_problem() -> None:
    funnels = {"buy": {"steps": ["Page", "Oder | Page"], "on": "touchpoint"}}
    with pytest.raises(JourneyError, match=r"funnels\.buy\.steps: 'Oder' is not a touchpoint\. Did you mean 'Order'\?"):
        config.parse({**STUDY, "funnels": funnels})


def test_plans_name_stages_and_optional_steps() -> None:
    plan = config.parse({**STUDY, "plans": {"buy": {"steps": ["Look?", "Buy"], "on": "stage"}}})
    assert vocabulary.unknown_steps(plan) == []


def test_a_misspelt_event_is_an_error_and_one_yet_to_come_is_listed() -> None:
    plan = config.parse({**STUDY, "journeys": {"conversion": "order_placed"}})
    with pytest.raises(JourneyError, match="Did you mean 'order_place'"):
        vocabulary.never(plan, ["order_place", "page_view"])
    listed = vocabulary.never(plan, ["page_view"])
    assert listed.to_dict("records") == [{"named_in": "journeys.conversion", "event": "order_placed"}]
    assert vocabulary.never(plan, ["order_placed"]).attrs["reason"].startswith("every event")


def test_the_start_of_journeys_is_looked_for_too() -> None:
    plan = config.parse({**STUDY, "journeys": {"start": ["quote"]}})
    assert vocabulary.never(plan, ["page_view"]).to_dict("records") == [
        {"named_in": "journeys.start", "event": "quote"}
    ]


def test_what_may_lie_between_steps_is_checked_too() -> None:
    steps = ["Page", {"match": "Order", "without": "Chat"}]
    said = {
        "funnels": {"buy": {"on": "touchpoint", "steps": steps, "exclude": "Hlp"}},
        "plans": {"buy": {"steps": ["Look", "Buy"], "allowed": "By"}},
    }
    with pytest.raises(JourneyError) as caught:
        config.parse({**STUDY, **said})
    assert "funnels.buy.steps: 'Chat' is not a touchpoint" in str(caught.value)
    assert "funnels.buy.exclude: 'Hlp' is not a touchpoint" in str(caught.value)
    assert "plans.buy.allowed: 'By' is not a stage. Did you mean 'Buy'?" in str(caught.value)


def test_the_events_of_churn_are_looked_for_too() -> None:
    churn = {"kind": "inactivity", "start": "joined", "activity": ["order", "visit"], "value": {"orders": "sold"}}
    plan = config.parse({**STUDY, "churn": churn})
    listed = vocabulary.never(plan, ["order"]).to_dict("records")
    assert [(row["named_in"], row["event"]) for row in listed] == [
        ("churn.start", "joined"),
        ("churn.activity", "visit"),
        ("churn.value.orders", "sold"),
    ]
