"""Sessions, journeys and neighbours: logs that can be checked by eye, and a slow version that reads event by event."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeykit import engine
from journeykit.config import Journeys, Sessions, seconds
from journeykit.errors import JourneyError
from journeykit.ordering import order_touches

Log = Callable[..., pd.DataFrame]
MADE = ["session_id", "journey_id", "position", "previous_event", "next_event", "seconds_since_previous"]
QUOTE = Journeys(start="quote", conversion="buy", gap="30d")


def touches(frame: pd.DataFrame, *, first: int = 1, **plan: Any) -> pd.DataFrame:
    """Sort a log and order it; each value of `plan` may be left out."""
    plan = {"sessions": Sessions(), "journeys": Journeys(), "timezone": "UTC", **plan}
    return order_touches(arrow(frame), first, **plan).to_pandas()


def arrow(frame: pd.DataFrame) -> pa.Table:
    frame = frame.drop(columns=MADE, errors="ignore")
    if "time_us" not in frame:
        frame = frame.assign(time_us=frame["timestamp"].astype("datetime64[us]").astype("int64"))
    return pa.Table.from_pandas(frame.sort_values(["person_id", *engine.ORDER]), preserve_index=False)


def sessions(frame: pd.DataFrame, timezone: str = "UTC", **keys: Any) -> list[int]:
    return touches(frame, sessions=Sessions(**keys), timezone=timezone)["session_id"].tolist()


def journeys(frame: pd.DataFrame, plan: Journeys) -> list[int | None]:
    found = touches(frame, journeys=plan)["journey_id"]
    return [None if pd.isna(number) else int(number) for number in found]


# ── Sessions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_ends_after_more_than_the_gap(log: Log) -> None:
    assert sessions(log("u1: a@0m b@30m c@61m | u2: a@0m"), gap="30m") == [1, 1, 3, 4]


def test_one_microsecond_more_than_the_gap(log: Log) -> None:
    frame = log("u1: a@0m b@30m")
    frame["timestamp"] = frame["timestamp"].astype("datetime64[us]")
    frame.loc[1, "timestamp"] += pd.Timedelta("1us")
    assert sessions(frame, gap="30m") == [1, 2]


def test_the_sources_own_sessions_may_interleave(log: Log) -> None:
    frame = log("u1: a b c d | u2: a").assign(id_visit=["s1", "s2", "s1", None, "s1"])
    assert sessions(frame, identifier="visit") == [1, 2, 1, 4, 5]


def test_events_without_the_sources_session_follow_the_gap_among_themselves(log: Log) -> None:
    frame = log("u1: a@0m b@5m c@40m d@300m").assign(id_visit=pd.Series([None, "s1", None, ""], dtype=object))
    assert sessions(frame, identifier="visit", gap="30m") == [1, 2, 3, 4]
    assert sessions(frame, identifier="visit", gap="40m") == [1, 2, 1, 4]


def test_midnight_cuts_where_the_study_lives(log: Log) -> None:
    frame = log("u1: a@22h50m b@23h10m c@23h50m d@24h10m")  # 23:00 UTC is midnight in Berlin, in winter
    assert sessions(frame, gap="1h") == [1, 1, 1, 1]
    assert sessions(frame, gap="1h", cut_at_midnight=True) == [1, 1, 1, 4]
    assert sessions(frame, "Europe/Berlin", gap="1h", cut_at_midnight=True) == [1, 2, 2, 2]


def test_midnight_around_the_change_of_clocks(log: Log) -> None:
    cut = {"gap": "1h", "cut_at_midnight": True}
    spring = log("u1: a@87d22h50m b@87d23h10m ; c@88d0h50m d@88d1h10m ; e@88d21h50m f@88d22h10m")  # 29 and 30 March
    assert sessions(spring, "Europe/Berlin", **cut) == [1, 2, 3, 3, 5, 6]
    autumn = log(
        "u1: a@297d21h50m b@297d22h10m ; c@298d0h30m d@298d1h10m ; e@298d22h30m f@298d23h10m"
    )  # 25, 26 October
    assert sessions(autumn, "Europe/Berlin", **cut) == [1, 2, 3, 3, 5, 6]


def test_a_new_campaign_cuts(log: Log) -> None:
    channels = ["ads", None, "ads", "email", None, "", "email"]
    frame = log("u1: a b c d e f g").assign(marketing_channel=channels)
    assert sessions(frame) == [1] * 7
    assert sessions(frame, cut_at_campaign=True) == [1, 1, 1, 4, 4, 4, 4]


def test_a_campaign_cuts_a_session_that_nothing_brought(log: Log) -> None:
    frame = log("u1: a b c@90m d@91m | u2: a b").assign(marketing_channel=[None, "ads", None, "ads", "ads", "ads"])
    assert sessions(frame, cut_at_campaign=True) == [1, 2, 3, 4, 5, 5]


# ── Journeys ────────────────────────────────────────────────────────────────────────────────────────────────────────

PLAN = Journeys(conversion="buy", gap="30d", restart_stages=["ad", "visit"])


def test_what_follows_a_conversion_belongs_to_it_until_a_restart(log: Log) -> None:
    assert journeys(log("u1: ad visit buy survey@3d ad@5d visit@6d buy@7d"), PLAN) == [1, 1, 1, 1, 5, 5, 5]


def test_silence_starts_a_journey_and_the_restart_after_it_does_not_start_another(log: Log) -> None:
    assert journeys(log("u1: ad buy survey@60d visit@61d"), PLAN) == [1, 1, 3, 3]
    assert journeys(log("u1: ad@0d visit@30d"), PLAN) == [1, 1]  # not more than the gap


def test_visits_before_a_conversion_do_not_restart(log: Log) -> None:
    assert journeys(log("u1: ad visit ad@2d visit@3d buy@4d | u2: visit"), PLAN) == [1, 1, 1, 1, 1, 6]


def test_without_restart_stages_the_next_event_starts(log: Log) -> None:
    assert journeys(log("u1: ad buy survey@1d | u2: buy buy"), Journeys(conversion="buy")) == [1, 1, 3, 4, 5]


def test_a_conversion_of_a_restart_stage_is_a_journey_by_itself(log: Log) -> None:
    plan = Journeys(conversion="buy", restart_stages=["buy"])
    assert journeys(log("u1: ad buy help buy help buy"), plan) == [1, 1, 1, 4, 4, 6]


def test_a_start_event_takes_along_what_led_to_it(log: Log) -> None:
    assert journeys(log("u1: ad quote call buy help ad quote quote buy"), QUOTE) == [1, 1, 1, 1, 1, 1, 7, 7, 7]


def test_the_narrow_journey_goes_from_its_start_to_its_conversion(log: Log) -> None:
    narrow = QUOTE.model_copy(update={"scope": "narrow"})
    found = journeys(log("u1: ad quote call buy help ad quote quote buy | u2: ad quote help"), narrow)
    assert found == [None, 2, 2, 2, None, None, 7, 7, 7, None, 11, 11]


def test_without_a_start_event_there_is_no_journey(log: Log) -> None:
    frame = log("u1: ad buy help | u2: ad@0d quote@40d help@80d")  # u1 bought without a quote; u2 fell silent twice
    assert journeys(frame, QUOTE) == [None, None, None, None, 5, None]
    assert journeys(frame, QUOTE.model_copy(update={"scope": "narrow"})) == [None, None, None, None, 5, None]


def test_a_conversion_before_the_start_is_none_of_the_journey(log: Log) -> None:
    assert journeys(log("u1: ad buy ad quote buy"), QUOTE) == [None, None, None, 4, 4]


def test_a_start_event_may_be_the_conversion(log: Log) -> None:
    plan = Journeys(start="buy", conversion="buy")
    assert journeys(log("u1: ad buy help buy"), plan) == [1, 1, 1, 4]
    assert journeys(log("u1: ad buy help buy"), plan.model_copy(update={"scope": "narrow"})) == [None, 2, None, 4]


def test_restart_stages_and_start_events_both_open_the_next_stretch(log: Log) -> None:
    plan = QUOTE.model_copy(update={"restart_stages": ["ad"]})
    assert journeys(log("u1: quote buy help ad quote buy quote"), plan) == [1, 1, 1, 4, 4, 4, 7]
    assert journeys(log("u1: quote buy help ad"), plan) == [1, 1, 1, None]


def test_narrow_without_a_start_begins_with_the_first_touch(log: Log) -> None:
    plan = PLAN.model_copy(update={"scope": "narrow"})
    assert journeys(log("u1: ad buy help visit buy buy"), plan) == [1, 1, None, 4, 4, None]


def test_a_window_moves_no_touch(log: Log) -> None:
    frame = log("u1: quote buy@9d help@10d quote@11d")
    assert journeys(frame, QUOTE.model_copy(update={"window": "7d"})) == journeys(frame, QUOTE) == [1, 1, 1, 4]


# ── Neighbours, and the table as such ───────────────────────────────────────────────────────────────────────────────


def test_order_and_its_neighbours(log: Log) -> None:
    found = touches(log("u1: a b@1h c@2h | u2: z").sample(frac=1, random_state=1))
    assert found["position"].tolist() == [1, 2, 3, 1]
    assert found["previous_event"].tolist() == [None, "a", "b", None]
    assert found["next_event"].tolist() == ["b", "c", None, None]
    assert found["seconds_since_previous"].tolist()[1:3] == [3600 - 60, 3600]
    assert found["seconds_since_previous"].isna().tolist() == [True, False, False, True]


def test_ties_follow_the_source_and_its_rows(log: Log) -> None:
    frame = log("u1: a@1h b@1h c@1h").assign(source=["web", "web", "app"], source_row=[9, 3, 7])
    found = touches(frame)
    assert found["event"].tolist() == ["c", "b", "a"]
    assert found["seconds_since_previous"].tolist()[1:] == [0, 0]


def test_a_single_touch(log: Log) -> None:
    found = touches(log("u1: a"), first=41)
    assert found[["session_id", "journey_id", "position"]].values.tolist() == [[41, 41, 1]]
    assert found[["previous_event", "next_event", "seconds_since_previous"]].isna().all(axis=None)


@pytest.mark.parametrize("scope", ["wide", "narrow"])
def test_no_touches_have_the_same_columns(log: Log, scope: str) -> None:
    plan = {
        "sessions": Sessions(identifier="visit", cut_at_midnight=True, cut_at_campaign=True),
        "journeys": QUOTE.model_copy(update={"scope": scope}),
        "timezone": "Europe/Berlin",
    }
    rows = arrow(log("u1: a quote").assign(id_visit="s"))
    empty, full = (order_touches(table, **plan) for table in (rows.slice(0, 0), rows))
    assert not len(empty)
    assert empty.schema == full.schema
    assert "time_us" not in full.column_names
    assert full.column_names[-6:] == MADE
    types = ["int64", "int64", "int64", "string", "string", "double"]
    assert [str(full.schema.field(name).type) for name in MADE] == types


def test_what_is_not_sorted_is_refused(log: Log) -> None:
    rows = arrow(log("u1: a b | u2: c"))
    for order in ([1, 0, 2], [2, 0, 1]):
        with pytest.raises(JourneyError, match="not in order"):
            order_touches(rows.take(order), sessions=Sessions(), journeys=Journeys())


def test_a_missing_column_is_named(log: Log) -> None:
    with pytest.raises(JourneyError, match="'id_visit' is missing"):
        order_touches(arrow(log("u1: a")), sessions=Sessions(identifier="visit"), journeys=Journeys())


# ── A slow version: one event after the other ───────────────────────────────────────────────────────────────────────


class Visit:
    """A session being read: one touch after another."""

    def __init__(self, plan: Sessions, timezone: str) -> None:
        self.plan, self.zone = plan, ZoneInfo(timezone)
        self.number, self.channel, self.before = 0, "", None

    def read(self, row: dict[str, Any], number: int) -> int:
        now = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=row["time_us"])
        channel = row["marketing_channel"] or ""
        ends = self.before is None or now - self.before > timedelta(seconds=seconds(self.plan.gap))
        if not ends and self.plan.cut_at_midnight:
            ends = now.astimezone(self.zone).date() != self.before.astimezone(self.zone).date()
        if not ends and self.plan.cut_at_campaign:
            ends = channel not in ("", self.channel)
        if ends:
            self.number, self.channel = number, ""
        self.channel = channel or self.channel
        self.before = now
        return self.number


def slow_sessions(rows: list[dict[str, Any]], first: int, plan: Sessions, timezone: str) -> list[int]:
    column = f"id_{plan.identifier}"
    visit, known, found = Visit(plan, timezone), {}, []
    for number, row in enumerate(rows, start=first):
        if plan.identifier and row[column]:
            found.append(known.setdefault(row[column], number))
        else:
            found.append(visit.read(row, number))
    return found


def slow_journeys(rows: list[dict[str, Any]], first: int, plan: Journeys) -> list[int | None]:
    stretches: list[list[int]] = []
    converted = False
    for index, row in enumerate(rows):
        quiet = index == 0 or row["time_us"] - rows[index - 1]["time_us"] > seconds(plan.gap) * 1_000_000
        restarts = row["event"] in plan.start or row["stage"] in plan.restart_stages
        restarts = restarts or not (plan.start or plan.restart_stages)
        if quiet or (converted and restarts):
            stretches.append([])
            converted = False
        stretches[-1].append(index)
        converted = converted or row["event"] in plan.conversion
    found: list[int | None] = [None] * len(rows)
    for stretch in stretches:
        starts = [index for index in stretch if not plan.start or rows[index]["event"] in plan.start]
        if not starts:
            continue
        members = stretch
        if plan.scope == "narrow":
            after = stretch[stretch.index(starts[0]) :]
            wins = [place for place, index in enumerate(after) if rows[index]["event"] in plan.conversion]
            members = after[: wins[0] + 1] if wins else after
        for index in members:
            found[index] = first + members[0]
    return found


def slow(table: pa.Table, first: int, *, sessions: Sessions, journeys: Journeys, timezone: str) -> dict[str, list[Any]]:
    rows = table.to_pylist()
    made: dict[str, list[Any]] = {name: [] for name in MADE}
    for person in sorted({row["person_id"] for row in rows}):
        mine = [row for row in rows if row["person_id"] == person]
        made["session_id"] += slow_sessions(mine, first, sessions, timezone)
        made["journey_id"] += slow_journeys(mine, first, journeys)
        made["position"] += range(1, len(mine) + 1)
        made["previous_event"] += [None, *[row["event"] for row in mine[:-1]]]
        made["next_event"] += [*[row["event"] for row in mine[1:]], None]
        times = [row["time_us"] for row in mine]
        made["seconds_since_previous"] += [None, *[(b - a) / 1e6 for a, b in pairwise(times)]]
        first += len(mine)
    return made


QUARTER = 15 * 60 * 1_000_000
SPRING = int(datetime(2025, 3, 29, 20, tzinfo=UTC).timestamp()) * 1_000_000  # the night in which clocks change
EVENTS = ["ad", "quote", "buy", "🛒", "", None]
STAGES = ["Look", "Buy", None]
events = st.fixed_dictionaries(
    {
        "person_id": st.integers(1, 2),
        "time_us": st.one_of(st.integers(0, 20), st.sampled_from([0, 5, 9, 14, 130])).map(
            lambda n: SPRING + n * QUARTER
        ),
        "source": st.sampled_from(["web", "🏪", ""]),
        "source_row": st.integers(1, 5),
        "event": st.sampled_from(EVENTS),
        "stage": st.sampled_from(STAGES),
        "marketing_channel": st.sampled_from(["email", "📧", "", None]),
        "id_visit": st.sampled_from(["s1", "s🌍", "", None]),
    }
)
logs = st.lists(events, max_size=30)
some = st.lists(st.sampled_from(["ad", "quote", "buy", "🛒", ""]), max_size=2, unique=True)
plans = st.fixed_dictionaries(
    {
        "sessions": st.builds(
            Sessions,
            gap=st.sampled_from(["15m", "30m", "2h"]),
            identifier=st.sampled_from(["", "visit"]),
            cut_at_midnight=st.booleans(),
            cut_at_campaign=st.booleans(),
        ),
        "journeys": st.builds(
            Journeys,
            start=some,
            conversion=some,
            gap=st.sampled_from(["30m", "2h", "6h"]),
            restart_stages=st.lists(st.sampled_from(["Look", "Buy"]), max_size=2, unique=True),
            scope=st.sampled_from(["wide", "narrow"]),
        ),
        "timezone": st.sampled_from(["UTC", "Europe/Berlin", "Atlantic/Azores"]),
    }
)
SCHEMA = pa.schema(
    [("person_id", pa.int64()), ("time_us", pa.int64()), ("source", pa.string()), ("source_row", pa.int64())]
    + [(name, pa.string()) for name in ("event", "stage", "marketing_channel", "id_visit", "event_id")]
)


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    """Sort events by person and the total order; the order they are drawn in names them."""
    named = [{**row, "event_id": f"e{number:03}"} for number, row in enumerate(rows)]
    named.sort(key=lambda row: (row["person_id"], row["time_us"], row["source"], row["source_row"], row["event_id"]))
    return pa.Table.from_pylist(named, SCHEMA)


@settings(max_examples=300, deadline=None)
@given(logs, plans, st.integers(1, 1000))
def test_it_is_what_reading_event_by_event_finds(rows: list[dict[str, Any]], plan: dict[str, Any], first: int) -> None:
    table = table_of(rows)
    found = order_touches(table, first, **plan)
    assert found.select(MADE).to_pydict() == slow(table, first, **plan)
    assert found.drop_columns(MADE).equals(table.drop_columns(["time_us"]))


@settings(max_examples=60, deadline=None)
@given(logs, plans)
def test_chunks_of_whole_people_make_the_same(rows: list[dict[str, Any]], plan: dict[str, Any]) -> None:
    table = table_of(rows)
    people = table["person_id"].to_numpy()
    cuts = [0, *(np.flatnonzero(people[1:] != people[:-1]) + 1), len(table)]
    parts = [order_touches(table.slice(begin, end - begin), begin + 1, **plan) for begin, end in pairwise(cuts)]
    assert pa.concat_tables(parts).equals(order_touches(table, 1, **plan))


def labels(table: pa.Table, plan: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return what each event gets, with sessions and journeys named by their first event."""
    found = order_touches(table, 1, **plan).to_pylist()
    names = [row["event_id"] for row in found]
    return {
        row["event_id"]: (
            names[row["session_id"] - 1],
            row["journey_id"] and names[row["journey_id"] - 1],
            *(row[name] for name in MADE[2:]),
        )
        for row in found
    }


@settings(max_examples=60, deadline=None)
@given(logs, logs, plans)
def test_other_people_change_nothing(
    rows: list[dict[str, Any]], others: list[dict[str, Any]], plan: dict[str, Any]
) -> None:
    for number, row in enumerate(rows):
        row["person_id"] *= 2
        row["source_row"] = number
    for row in others:
        row["person_id"] = row["person_id"] * 2 - 1
    alone, among = labels(table_of(rows), plan), labels(table_of([*rows, *others]), plan)
    assert {name: among[name] for name in alone} == alone


@settings(max_examples=60, deadline=None)
@given(st.lists(events, min_size=1, max_size=30), plans, st.integers(0, 29))
def test_later_events_change_no_earlier_session_or_journey(
    rows: list[dict[str, Any]], plan: dict[str, Any], kept: int
) -> None:
    """Only with start events and a wide scope does a journey wait for what comes: what led to the start is in it."""
    for row in rows:
        row["person_id"] = 1
    table = table_of(rows)
    earlier, whole = (labels(part, plan) for part in (table.slice(0, kept), table))
    shown = 1 if plan["journeys"].start and plan["journeys"].scope == "wide" else 2
    assert {name: whole[name][:shown] for name in earlier} == {name: row[:shown] for name, row in earlier.items()}


def test_shuffled_rows_are_written_the_same(log: Log, tmp_path: Path) -> None:
    frame = log("u1: ad quote@1h buy@1h help@3h | u2: 🛒 buy@1d | u3: quote").drop(columns=MADE)
    frame["source_row"] = [4, 2, 2, 1, 1, 2, 1]
    work = partial(order_touches, sessions=Sessions(), journeys=QUOTE, timezone="UTC")
    found = []
    for seed in range(3):
        path = tmp_path / f"{seed}.parquet"
        shuffled = frame.sample(frac=1, random_state=seed)
        engine.write_in_order(shuffled, path, {}, by="person_id", order=engine.ORDER, work=work)
        found.append(engine.fetch(engine.read_parquet(path)))
    for other in found[1:]:
        pd.testing.assert_frame_equal(found[0], other)
    assert found[0]["position"].tolist() == [1, 2, 3, 4, 1, 2, 1]
