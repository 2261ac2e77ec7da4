"""Units of experiments: every kind of metric, whose time is over, several arms, and what is known from before."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from journeykit import engine
from journeykit.config import Experiment
from journeykit.errors import JourneyError
from journeykit.experiments import measures
from journeykit.experiments.units import exposure_check, ready_for, units
from tests.conftest import START, make_log

AS_OF = START + pd.Timedelta("100d")


def declare(*metrics: dict[str, object], **changes: object) -> Experiment:
    plan: dict[str, object] = {
        "name": "test",
        "hypothesis": "b sells more",
        "exposure": "seen",
        "arms": {"a": 0.5, "b": 0.5},
        "control": "a",
        "within": "7d",
        "before": "28d",
        "metrics": list(metrics) or [{"name": "buys", "event": "buy"}],
    }
    return Experiment.model_validate({**plan, **changes})


def exposed(text: str) -> pd.DataFrame:
    """A log in which `seen_a` is an exposure to arm a of the experiment."""
    table = make_log(text)
    seen = table["event"].str.startswith("seen")
    arm = table["event"].str.removeprefix("seen_").where(seen)
    return table.assign(
        segment_experiment=np.where(seen, "test", None),
        segment_variant=arm.where(arm != "", None),
        event=table["event"].where(~seen, "seen"),
    )


def test_a_funnel_needs_its_steps_in_order_after_the_exposure_and_inside_the_window() -> None:
    touches = exposed(
        "u1: seen_a@1h cart@2h buy@3h"
        "| u2: seen_a@1h buy@2h cart@3h"  # the wrong way round
        "| u3: cart@1h seen_b@2h buy@3h"  # the first step came before the exposure
        "| u4: seen_b@0h cart@6d buy@8d"  # the last step is too late
        "| u5: seen_b@0h cart@0h buy@1h"  # the first step at the same instant is not after
        "| u6: seen_a@0h cart@1h cancel@2h buy@3h"  # what must not lie between
        "| u7: cart@1h buy@2h seen_a@3h"
    )
    plan = declare({"name": "way", "kind": "funnel", "steps": ["cart", {"match": "buy", "without": "cancel"}]})
    found = units(touches, experiment=plan, as_of=AS_OF).set_index("person_id")
    assert found["way"].to_dict() == {1: 1, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0, 7: 0}
    assert found["way__before"].to_dict() == {1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0, 7: 1}


def test_a_ratio_has_its_numerator_and_denominator_and_the_same_from_before() -> None:
    touches = exposed("u1: buy@1h ; visit@2h seen_a@3h buy@4h visit@5h ; buy@2d buy@50h ; visit@20d | u2: seen_b@1h")
    metrics = (
        {"name": "per_visit", "event": "buy", "kind": "ratio", "per": "session"},
        {"name": "per_view", "event": "buy", "kind": "ratio", "per": ["visit", "view"]},
    )
    found = units(touches, experiment=declare(*metrics), as_of=AS_OF).set_index("person_id")
    # The visit of the exposure goes on, so it counts: with the next one two; the last one is too late.
    assert found.loc[1, ["per_visit", "per_visit__per"]].tolist() == [3, 2]
    assert found.loc[1, ["per_visit__before", "per_visit__per_before"]].tolist() == [1, 2]
    assert found.loc[1, ["per_view", "per_view__per", "per_view__before", "per_view__per_before"]].tolist() == [
        3,
        1,
        1,
        1,
    ]
    assert found.loc[2, ["per_visit", "per_visit__per"]].tolist() == [0, 0]


def test_time_is_censored_at_the_window_and_at_the_end_of_observation() -> None:
    touches = exposed(
        "u1: seen_a@1d buy@3d buy@4d"  # the first event counts
        "| u2: seen_b@1d buy@9d"  # too late: censored at the window
        "| u3: seen_a@98d"  # censored at the end of observation
        "| u4: seen_b@98d buy@99d"
        "| u5: buy@1d seen_a@1d"  # at the same instant is not after
        "| u6: seen_a@99d buy@101d"  # after the end of observation nothing is known
    )
    plan = declare({"name": "wait", "event": "buy", "kind": "time"})
    found = units(touches, experiment=plan, as_of=AS_OF).set_index("person_id")
    assert found["wait"].to_dict() == {1: 2, 2: 7, 3: 2, 4: 1, 5: 7, 6: 1}
    assert found["wait__event"].to_dict() == {1: 1, 2: 0, 3: 0, 4: 1, 5: 0, 6: 0}
    assert len(ready_for(found, plan.metrics[0])) == 6
    assert "wait__before" not in found


def test_a_cap_holds_for_the_unit_and_for_what_it_did_before() -> None:
    touches = exposed("u1: buy@1h seen_a@2h buy@3h buy@4h | u2: seen_b@1h buy@2h")
    touches.loc[touches["event"] == "buy", "value"] = [500.0, 60.0, 70.0, 30.0]
    metrics = (
        {"name": "revenue", "event": "buy", "kind": "value", "cap": 100},
        {"name": "n", "event": "buy", "kind": "count", "cap": 1},
    )
    found = units(touches, experiment=declare(*metrics), as_of=AS_OF)
    assert found["revenue"].tolist() == [100, 30]
    assert found["revenue__before"].tolist() == [100, 0]
    assert found["n"].tolist() == [1, 1]


def test_a_metric_with_its_own_window_is_known_when_that_is_over() -> None:
    touches = exposed("u1: seen_a@1d buy@3d | u2: seen_b@95d buy@96d | u3: seen_a@99d buy@99d")
    metrics = ({"name": "soon", "event": "buy", "within": "1d"}, {"name": "buys", "event": "buy"})
    plan = declare(*metrics)
    found = units(touches, experiment=plan, as_of=AS_OF).set_index("person_id")
    assert found["mature"].tolist() == [True, False, False]
    assert found["soon__mature"].tolist() == [True, True, True]
    assert found["soon"].tolist() == [0, 1, 0]
    assert "buys__mature" not in found
    assert found["buys"].isna().tolist() == [False, True, True]
    assert ready_for(found, plan.metrics[0]).index.tolist() == [1, 2, 3]
    assert ready_for(found, plan.metrics[1]).index.tolist() == [1]


def test_a_window_longer_than_the_experiments_is_waited_for() -> None:
    touches = exposed("u1: seen_a@1d buy@20d | u2: seen_b@80d buy@81d")
    found = units(touches, experiment=declare({"name": "late", "event": "buy", "within": "30d"}), as_of=AS_OF)
    assert found["mature"].tolist() == [True, True]
    assert found["late"].iloc[0] == 1
    assert math.isnan(found["late"].iloc[1])


def test_people_in_several_arms_are_excluded_or_belong_to_the_first() -> None:
    touches = exposed(
        "u1: seen_b@1d buy@36h seen_a@2d"
        "| u2: seen_a@1d"
        "| u3: seen_a@1d seen_b@1d"  # nobody knows which was first
        "| u4: seen_c@1d seen_a@2d"  # the first one is not declared
        "| u5: seen_@1d seen_a@2d seen_@3d"  # an exposure without an arm is no other arm
    )
    alone = units(touches, experiment=declare(), as_of=AS_OF)
    assert alone["person_id"].tolist() == [2, 5]
    assert "several_arms" not in alone
    plan = declare(several_arms="first")
    first = units(touches, experiment=plan, as_of=AS_OF).set_index("person_id")
    assert first["arm"].to_dict() == {1: "b", 2: "a", 5: "a"}
    assert first["several_arms"].to_dict() == {1: True, 2: False, 5: False}
    assert first.loc[1, "exposed_at"] == START + pd.Timedelta("1d")
    assert first.loc[1, "buys"] == 1
    counts = exposure_check(touches, experiment=plan, as_of=AS_OF).set_index("status")
    assert counts["people_n"].to_dict() == {"compared": 3, "seen in several arms": 1, "arm not declared": 1}
    assert counts["several_arms_n"].to_dict() == {"compared": 1, "seen in several arms": 1, "arm not declared": 1}
    counts = exposure_check(touches, experiment=declare(), as_of=AS_OF).set_index("status")
    assert counts["people_n"].to_dict() == {"compared": 2, "seen in several arms": 3}


def test_columns_by_and_cluster_are_those_at_the_exposure() -> None:
    touches = exposed("u1: visit@1h/app seen_a@2h/web buy@3h/app | u2: seen_b@1h/store | u3: seen_b@1h/web")
    touches["shop"] = [7, 7, 8, 9, None]
    touches["segment_device"] = [None, "phone", "desk", None, "desk"]
    plan = declare(by=["channel", "segment_device"], cluster="shop")
    found = units(touches, experiment=plan, as_of=AS_OF)
    assert found["channel"].tolist() == ["web", "store", "web"]
    assert found["segment_device"].tolist() == ["phone", "unknown", "desk"]
    assert found["cluster"].isna().tolist() == [False, False, True]
    assert found["cluster"].iloc[0] != found["cluster"].iloc[1]


def test_what_was_before_is_measured_by_the_same_rule() -> None:
    touches = exposed("u1: rate@1h rate@2h buy@3h buy@30d seen_a@31d | u2: seen_b@31d")
    touches.loc[touches["event"] == "rate", "satisfaction"] = [0.5, 1.0]
    touches.loc[touches["event"] == "buy", "value"] = [10.0, 20.0]
    metrics = (
        {"name": "buys", "event": "buy"},
        {"name": "n", "event": "buy", "kind": "count"},
        {"name": "revenue", "event": "buy", "kind": "value"},
        {"name": "mood", "event": "rate", "kind": "satisfaction"},
    )
    found = units(touches, experiment=declare(*metrics, before="60d"), as_of=AS_OF).set_index("person_id")
    assert found.loc[1, ["buys__before", "n__before", "revenue__before", "mood__before"]].tolist() == [1, 2, 30, 0.75]
    assert found.loc[2, ["buys__before", "n__before", "revenue__before"]].tolist() == [0, 0, 0]
    assert math.isnan(found.loc[2, "mood__before"])


def test_every_metric_makes_the_columns_that_it_says() -> None:
    metrics = (
        {"name": "r", "event": "buy", "kind": "ratio", "per": "session", "within": "1d"},
        {"name": "t", "event": "buy", "kind": "time", "within": "1d"},
        {"name": "f", "kind": "funnel", "steps": ["visit", "buy"]},
        {"name": "q", "event": "buy", "kind": "count", "quantile": 0.9},
    )
    plan = declare(*metrics)
    found = units(exposed("u1: seen_a buy"), experiment=plan, as_of=AS_OF)
    expected = [name for metric in plan.metrics for name in measures.columns_of(metric, plan)]
    assert sorted(found.columns) == sorted(["person_id", "arm", "exposed_at", "mature", "touches_before", *expected])
    assert {str(kind) for kind in found[expected].drop(columns="r__mature").dtypes} == {"float64"}


def slow(touches: pd.DataFrame, as_of: pd.Timestamp) -> dict[int, tuple[float, ...]]:
    """The metrics of the test below for each person, by hand."""
    found = {}
    day = pd.Timedelta("1d")
    for person, mine in touches.groupby("person_id"):
        seen = mine.loc[mine["event"] == "seen"].sort_values("timestamp")
        if not len(seen):
            continue
        at, arms = seen["timestamp"].iloc[0], set(seen["segment_variant"])
        if len(set(seen.loc[seen["timestamp"] == at, "segment_variant"])) > 1:
            continue
        inside = mine.loc[(mine["timestamp"] > at) & (mine["timestamp"] <= at + 7 * day)]
        sales, steps = inside.loc[inside["event"] == "buy"], inside.loc[inside["event"].isin(["visit", "buy"])]
        order = steps.sort_values("position")["event"].tolist()
        way = "visit" in order and "buy" in order[order.index("visit") + 1 :]
        until = min(7 * day, as_of - at)
        first = sales["timestamp"].min() - at
        known = at + 7 * day <= as_of
        found[int(str(person))] = (
            float(len(arms) > 1),
            *((min(len(sales), 2.0), float(inside["session_id"].nunique()), float(way)) if known else (math.nan,) * 3),
            min(first, until) / day if not pd.isna(first) else until / day,
            float(not pd.isna(first) and first <= until),
        )
    return found


def test_all_kinds_agree_with_a_slow_version_on_random_logs() -> None:
    rng = np.random.default_rng(3)
    metrics = (
        {"name": "n", "event": "buy", "kind": "count", "cap": 2},
        {"name": "r", "event": "buy", "kind": "ratio", "per": "session"},
        {"name": "f", "kind": "funnel", "steps": ["visit", "buy"]},
        {"name": "t", "event": "buy", "kind": "time"},
    )
    plan = declare(*metrics, several_arms="first")
    rows = []
    for person in range(150):
        for number in range(rng.integers(1, 14)):
            event = rng.choice(["seen", "buy", "visit", "visit"])
            at = START + pd.Timedelta(hours=int(rng.integers(0, 30 * 24)))
            arm = rng.choice(["a", "b"], p=[0.8, 0.2]) if event == "seen" else None
            rows.append((person, at, event, arm, f"e{number}"))
    touches = pd.DataFrame(rows, columns=["person_id", "timestamp", "event", "segment_variant", "event_id"])
    touches = touches.sort_values(["person_id", "timestamp", "event_id"], ignore_index=True)
    touches["position"] = touches.groupby("person_id").cumcount() + 1
    touches["session_id"] = touches["person_id"] * 100 + rng.integers(0, 5, len(touches))
    touches["segment_experiment"] = touches["segment_variant"].notna().map({True: "test", False: None})
    as_of = START + pd.Timedelta("28d")
    touches = touches.loc[touches["timestamp"] <= as_of]
    expected = slow(touches, as_of)
    found = units(touches.sample(frac=1, random_state=1), experiment=plan, as_of=as_of).set_index("person_id")
    assert len(found) > 60
    assert found["mature"].nunique() == 2
    columns = ["several_arms", "n", "r__per", "f", "t", "t__event"]
    got = {person: tuple(map(float, row)) for person, row in zip(found.index, found[columns].to_numpy(), strict=True)}
    assert got.keys() == expected.keys()
    for person, row in expected.items():
        assert got[person] == pytest.approx(row, nan_ok=True), person


def test_pandas_and_the_engine_give_the_same() -> None:
    touches = exposed("u1: visit@1h seen_a@2h buy@3h | u2: seen_b@1h visit@2h buy@3h | u3: seen_b@2h")
    plan = declare({"name": "f", "kind": "funnel", "steps": ["visit", "buy"]}, {"name": "b", "event": "buy"})
    one = units(touches, experiment=plan, as_of=AS_OF)
    other = units(engine.lazy(touches), experiment=plan, as_of=AS_OF)
    pd.testing.assert_frame_equal(one, other)


def test_nobody_is_exposed() -> None:
    plan = declare(
        {"name": "f", "kind": "funnel", "steps": ["visit", "buy"]},
        {"name": "r", "event": "buy", "kind": "ratio", "per": "session"},
        {"name": "t", "event": "buy", "kind": "time"},
        {"name": "s", "event": "rate", "kind": "satisfaction"},
        cluster="channel",
        by=["touchpoint"],
        several_arms="first",
    )
    for touches in (exposed("u1: visit buy"), exposed("u1: seen_a").head(0)):
        assert units(touches, experiment=plan, as_of=AS_OF).empty


def test_names_that_would_be_two_columns_are_refused() -> None:
    touches = exposed("u1: seen_a buy")
    double = declare({"name": "buys", "event": "buy"}, {"name": "buys__before", "event": "buy"})
    with pytest.raises(JourneyError, match="'buys__before' is taken"):
        units(touches, experiment=double, as_of=AS_OF)
    with pytest.raises(JourneyError, match="'channel' is taken"):
        units(touches, experiment=declare({"name": "channel", "event": "buy"}, by=["channel"]), as_of=AS_OF)
    with pytest.raises(JourneyError, match=r"by: 'arm' is named twice"):
        units(touches.assign(arm=1), experiment=declare(by=["arm"]), as_of=AS_OF)
    with pytest.raises(JourneyError, match="shop"):
        units(touches, experiment=declare(cluster="shop"), as_of=AS_OF)
