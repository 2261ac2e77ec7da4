"""Order, sessions and journeys on logs that can be checked by eye."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from journeykit import engine, journeys
from journeykit.config import Journeys

Log = Callable[..., pd.DataFrame]
PLAN = Journeys(conversion="buy", gap="30d", restart_stages=["ad", "visit"])


def column(table: object, name: str) -> list[object]:
    return engine.fetch(engine.lazy(table).sort("person_id", *engine.ORDER))[name].tolist()


def test_a_session_ends_after_more_than_the_gap(log: Log) -> None:
    touches = log("u1: a@0m b@30m c@61m | u2: a@0m").drop(columns="session_id")
    assert column(journeys.add_sessions(touches, gap="30m"), "session_id") == [1, 1, 2, 3]


def test_sessions_of_the_source_may_interleave(log: Log) -> None:
    touches = log("u1: a b c d").drop(columns="session_id").assign(id_session=["s1", "s2", "s1", None])
    assert column(journeys.add_sessions(touches, identifier="id_session"), "session_id") == [1, 2, 1, 3]


def journey_ids(log: Log, text: str, plan: Journeys = PLAN) -> list[object]:
    touches = log(text).drop(columns="journey_id")
    return column(journeys.add_journeys(touches, plan=plan), "journey_id")


def test_what_follows_a_conversion_belongs_to_it_until_a_restart(log: Log) -> None:
    assert journey_ids(log, "u1: ad visit buy survey@3d ad@5d visit@6d buy@7d") == [1, 1, 1, 1, 2, 2, 2]


def test_silence_starts_a_journey_and_the_restart_after_it_does_not_start_another(log: Log) -> None:
    assert journey_ids(log, "u1: ad buy survey@60d visit@61d") == [1, 1, 2, 2]


def test_visits_before_a_conversion_do_not_restart(log: Log) -> None:
    assert journey_ids(log, "u1: ad visit ad@2d visit@3d buy@4d | u2: visit") == [1, 1, 1, 1, 1, 2]


def test_without_restart_stages_the_next_event_starts(log: Log) -> None:
    assert journey_ids(log, "u1: ad buy survey@1d", Journeys(conversion="buy")) == [1, 1, 2]


def test_order_and_its_neighbours(log: Log) -> None:
    touches = log("u1: a b@1h c@2h | u2: z").drop(columns=["position", "previous_event", "next_event"])
    found = engine.fetch(journeys.add_order(touches.sample(frac=1, random_state=1)).sort("person_id", *engine.ORDER))
    assert found["position"].tolist() == [1, 2, 3, 1]
    assert found["previous_event"].tolist() == [None, "a", "b", None]
    assert found["next_event"].tolist() == ["b", "c", None, None]
    assert found["seconds_since_previous"].tolist()[1:3] == [3600 - 60, 3600]


def test_outcomes(log: Log) -> None:
    touches = log("u1: ad buy@3d/store | u2: ad@0d | u3: ad@100d | u4: ad@0d buy@50d")
    touches["value"] = [None, 9.0, None, None, None, 1.0]
    plan = PLAN.model_copy(update={"window": "10d"})
    found = engine.fetch(journeys.journeys(touches, plan=plan, as_of=pd.Timestamp("2025-04-20"))).sort_values(
        "journey_id"
    )
    assert found["outcome"].tolist() == ["converted", "abandoned", "open", "abandoned"]
    first = found.iloc[0]
    assert (first["touches_n"], first["channels_n"], first["entry_channel"], first["value"]) == (2, 2, "web", 9.0)


def test_no_events_at_all(log: Log) -> None:
    empty = log("u1: a").head(0)
    assert engine.fetch(journeys.add_sessions(empty.drop(columns="session_id"))).empty
    assert engine.fetch(journeys.journeys(empty, plan=PLAN, as_of=pd.Timestamp("2025-01-01"))).empty


def test_a_journey_past_its_window_is_over(log: Log) -> None:
    plan = PLAN.model_copy(update={"window": "7d"})
    found = engine.fetch(journeys.journeys(log("u1: ad"), plan=plan, as_of=pd.Timestamp("2025-01-15")))
    assert found["outcome"].tolist() == ["abandoned"]


def test_no_channel_is_no_channel(log: Log) -> None:
    touches = log("u1: a b c").assign(channel=[None, "web", None])
    found = engine.fetch(journeys.journeys(touches, plan=PLAN, as_of=pd.Timestamp("2025-01-15")))
    assert found["channels_n"].tolist() == [1]


def test_events_without_the_sources_session_follow_the_gap(log: Log) -> None:
    touches = (
        log("u1: a@0m b@5m c@300m").drop(columns="session_id").assign(id_session=pd.Series([None] * 3, dtype=object))
    )
    assert column(journeys.add_sessions(touches, identifier="id_session"), "session_id") == [1, 1, 2]
