"""Planned against actual: by hand, against the slow aligner on random logs, and on a real log of a help desk."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from journeykit import config, deviations, engine, plan_sequences, plan_ways, plans
from journeykit.errors import JourneyError
from tests import slow_alignment as slow
from tests.conftest import make_log

REAL = Path(__file__).parents[2] / "shared" / "data" / "helpdesk_tickets"
PLAN = ["ad", "visit | call", "help?", "buy"]
NUMBERS = ["on_plan_n", "so_far_n", "stopped_early_n", "skipped_n", "out_of_order_n", "repeated_n", "extra_n"]


def outcomes(*names: str, **columns: object) -> pd.DataFrame:
    return pd.DataFrame({"journey_id": range(1, len(names) + 1), "outcome": list(names), **columns})


def random_log(seed: int, people: int = 14, values: str = "abcdx") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for person in range(people):
        hours = np.sort(rng.integers(0, 6, rng.integers(1, 8)))  # several events an hour: ties
        parts.append(f"u{person}: " + " ".join(f"{rng.choice(list(values))}@{hour}h" for hour in hours))
    return make_log(" | ".join(parts))


def traces(log: pd.DataFrame) -> list[str]:
    log = log.sort_values(["timestamp", "source", "source_row", "event_id"])
    return ["".join(part["event"]) for _, part in log.groupby("journey_id")]


def share(log: object, steps: list[object], **options: object) -> pd.Series:
    return plans.plan_share(plans.judge(log, steps=steps, on="event", **options)).iloc[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("u1: ad visit buy", "on_plan so_far"),
        ("u1: ad x call buy x", "on_plan so_far"),  # values outside the plan do not matter
        ("u1: ad visit help buy", "on_plan so_far"),
        ("u1: ad call visit buy", "repeated"),  # alternatives are one step
        ("u1: ad visit", "so_far stopped_early"),
        ("u1: ad visit help", "so_far stopped_early"),
        ("u1: ad buy", "skipped"),
        ("u1: visit buy", "skipped"),
        ("u1: visit", "skipped stopped_early"),
        ("u1: ad buy visit", "out_of_order"),
        ("u1: ad help visit buy", "out_of_order"),  # optional, but not there
        ("u1: ad visit buy visit", "repeated"),
        ("u1: visit visit ad", "repeated out_of_order stopped_early"),
    ],
)
def test_deviations_by_hand(text: str, there: str) -> None:
    row = share(make_log(text), PLAN)
    assert {name for name in NUMBERS if row[name]} == {f"{name}_n" for name in there.split()}
    assert row[NUMBERS].isin([0, 1]).all()
    assert row["no_step_n"] == 0


def test_a_journey_without_a_planned_step_is_counted_apart() -> None:
    row = share(make_log("u1: x | u2: ad visit buy | u3: ad"), PLAN)
    assert (row["n"], row["no_step_n"], row["on_plan_n"], row["stopped_early_n"]) == (3, 1, 1, 1)
    assert row["deviations_mean"] == 0
    assert row["fitness_median"] == pytest.approx((1 + 0.5) / 2)
    assert row["on_plan_share"] == pytest.approx(1 / 3)


def test_open_journeys_are_judged_as_far_as_they_went() -> None:
    log = make_log("u1: ad visit buy | u2: ad visit | u3: ad visit | u4: visit ad | u5: ad | u6: x")
    journeys = outcomes("converted", "abandoned", "open", "open", "open", "open")
    found = plans.judge(log, steps=["ad", "visit", "buy"], on="event", journeys=journeys)
    table = plans.plan_share(found).set_index("group")
    assert table["n"].to_dict() == {"all finished": 2, "converted": 1, "not converted": 1, "open": 4}
    assert table["on_plan_n"].to_dict() == {"all finished": 1, "converted": 1, "not converted": 0, "open": 2}
    assert table["so_far_n"].to_dict() == {"all finished": 2, "converted": 1, "not converted": 1, "open": 2}
    assert table["stopped_early_n"].to_dict() == {"all finished": 1, "converted": 0, "not converted": 1, "open": 0}
    assert table.loc["open", ["out_of_order_n", "no_step_n", "fitness_median"]].tolist() == [1, 1, 1]
    assert plans.plan_share(found, min_n=2)["group"].tolist() == ["all finished", "open"]


def test_a_journey_may_deviate_in_several_ways() -> None:
    log = make_log("u1: ad ad call call buy | u2: buy | u3: ad visit buy | u4: ad visit ad buy")
    row = share(log, PLAN)
    assert (row["repeated_n"], row["skipped_n"]) == (2, 1)
    assert (row["one_deviation_n"], row["two_deviations_n"], row["more_deviations_n"]) == (1, 2, 0)
    assert (row["deviations_mean"], row["deviations_mean_low"]) == (1.25, 0)
    assert row["deviations_mean_high"] == pytest.approx(1.25 + 3.182446 * np.std([2, 2, 0, 1], ddof=1) / 2)


def test_others_may_be_extra_and_allowed() -> None:
    log = make_log("u1: ad x visit x buy | u2: ad visit y buy | u3: ad visit buy")
    assert share(log, PLAN)["on_plan_n"] == 3
    strict = share(log, PLAN, others="extra")
    assert (strict["on_plan_n"], strict["extra_n"], strict["two_deviations_n"]) == (1, 2, 1)
    assert strict["fitness_median"] == pytest.approx(1 - 1 / (4 + 3))
    assert share(log, PLAN, others="extra", allowed=["x"])["on_plan_n"] == 2
    again = make_log("u1: ad visit ad buy ad")
    assert share(again, PLAN)["repeated_n"] == 1
    assert share(again, PLAN, allowed=["ad"])["on_plan_n"] == 1
    assert share(make_log("u1: visit ad buy"), PLAN, allowed=["ad"])["out_of_order_n"] == 1


def test_null_is_no_value() -> None:
    log = make_log("u1: ad x buy").assign(touchpoint=["ad", None, "buy"])
    found = plans.judge(log, steps=["ad", "buy"], on="touchpoint", others="extra")
    assert plans.plan_share(found)["on_plan_n"].tolist() == [1]


def test_steps_with_filters_and_of_several_kinds() -> None:
    log = make_log("u1: ad buy/app buy/web | u2: ad buy/app").assign(stage="Look")
    web = config.Step(match=["buy"], where={"channel": ["web"]})
    assert share(log, ["ad", web])["on_plan_n"] == 1  # the other purchase is none of the plan's events
    both = ["ad", config.Step(match=["buy"], where={"channel": ["app"]}), web]
    row = share(log, both)
    assert (row["on_plan_n"], row["stopped_early_n"]) == (1, 1)
    look = config.Step(stage=["Look"], repeat=True)
    assert share(log, [look, web])["so_far_n"] == 2  # an event may be two steps
    assert share(log, [look, web])["on_plan_n"] == 1


def test_a_value_in_two_steps() -> None:
    row = share(make_log("u1: mail visit mail buy | u2: mail visit buy | u3: mail"), ["mail", "visit", "mail", "buy"])
    assert (row["on_plan_n"], row["skipped_n"], row["stopped_early_n"], row["so_far_n"]) == (1, 1, 1, 2)
    found = plans.judge(make_log("u1: mail visit buy"), steps=["mail", "visit", "mail", "buy"], on="event")
    assert found.labels == {1: "mail (step 1)", 2: "visit", 3: "mail (step 3)", 4: "buy"}


def test_late_steps_are_deviations() -> None:
    log = make_log("u1: ad@0d visit@1d buy@2d | u2: ad@0d visit@3d buy@4d | u3: ad@0d visit@3d | u4: ad@0d")
    steps = ["ad", config.Step(match=["visit"], within="1d"), "buy"]
    row = share(log, steps)
    assert (row["on_plan_n"], row["late_n"], row["so_far_n"], row["stopped_early_n"]) == (1, 2, 2, 2)
    assert share(log, ["ad", "visit", "buy"], within="3d")["late_n"] == 1  # the whole plan took longer


def test_long_journeys_are_capped_and_counted() -> None:
    many = make_log(f"u1: {' '.join(['ad'] * 50 + ['buy'])} | u2: ad buy")
    found = plans.judge(many, steps=["ad", "buy"], on="event")
    table = plans.plan_share(found)
    assert (found.capped_n, table.attrs["capped_n"], table["deviations_mean"].tolist()) == (1, 1, [3.5])
    for again in ({"steps": ["ad+", "buy"]}, {"steps": ["ad", "buy"], "allowed": ["ad"]}):
        calm = plans.judge(many, on="event", **again)  # type: ignore[arg-type]
        assert calm.capped_n == 0  # what is left out changes nothing
        assert plans.plan_share(calm)["on_plan_n"].tolist() == [2]
    turns = " ".join(["ad", "buy"] * 60)
    found = plans.judge(make_log(f"u1: {turns}"), steps=["ad", "buy"], on="event")
    assert found.groups["code"].str.len().tolist() == [100]
    assert found.capped_n == 1


def test_where_too_many_sequences_are_left_they_are_capped_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    log = make_log("u1: ad ad ad ad buy | u2: ad ad buy | u3: ad ad ad buy | u4: ad buy")
    assert plans.judge(log, steps=["ad", "buy"], on="event").capped_n == 0
    monkeypatch.setattr(plan_sequences, "MOST", 3)
    found = plans.judge(log, steps=["ad", "buy"], on="event")
    assert sorted(set(found.groups["code"].str.len())) == [2, 3, 4]
    assert found.capped_n == 1
    monkeypatch.setattr(plan_sequences, "MOST", 0)
    with pytest.raises(JourneyError, match="more than 0 different sequences"):
        plans.judge(log, steps=["ad+", "buy"], on="event")


@pytest.mark.parametrize("others", ["ignore", "extra"])
@pytest.mark.parametrize("seed", range(5))
def test_against_the_slow_aligner(seed: int, others: str) -> None:
    log = random_log(seed)
    steps = [["a", "b | c", "d"], ["a+", "b?", "c*", "a"], ["b", "c?"]][seed % 3]
    plan = [slow.SlowStep(frozenset(s.strip("?+*").split(" | ")), s[-1] in "?*", s[-1] in "+*") for s in steps]
    known = [value for step in plan for value in step.values]
    paths = [[v for v in path if others == "extra" or v in known] for path in traces(log)]
    started = [path for path in paths if path]
    row = share(log.sample(frac=1, random_state=seed), steps, others=others)  # type: ignore[arg-type]
    assert row["n"] == len(paths)
    assert row["no_step_n"] == sum(not any(v in known for v in path) for path in paths)
    assert row["on_plan_n"] == sum(slow.cost(path, plan) == 0 for path in started)
    assert row["extra_n"] == sum(any(v not in known for v in path) for path in paths)
    assert row["so_far_n"] == sum(slow.open_cost(path, plan) == 0 for path in started)
    assert row["fitness_median"] == pytest.approx(np.median([slow.fitness(path, plan) for path in started]))
    journeys = outcomes(*["open"] * len(paths))
    found = plans.judge(log, steps=steps, on="event", others=others, journeys=journeys)
    shortest = sum(not step.optional for step in plan)
    fits = [1 - slow.open_cost(path, plan) / (len(path) + shortest) for path in started]
    assert plans.plan_share(found)["fitness_median"].tolist() == [pytest.approx(np.median(fits))]


def test_ways_off_the_plan_by_hand() -> None:
    log = make_log("u1: ad buy ; ad buy | u2: ad x buy | u3: ad visit ad ad buy | u4: ad visit buy | u5: buy ad visit")
    journeys = outcomes("converted", "abandoned", "abandoned", "converted", "open", "open")
    found = plans.judge(log, steps=["ad", "visit", "buy"], on="event", journeys=journeys)
    table = plan_ways.off_plan(found)
    assert table[["way", "n", "people_n", "finished_n"]].values.tolist() == [
        ["✓ ad → ○ visit → ✓ buy", 3, 2, 3],
        ["⇄ buy → ✓ ad → ✓ visit", 1, 1, 0],
        ["✓ ad → ✓ visit → ↺ ad → ✓ buy", 1, 1, 1],
    ]
    assert table["converted_n"].fillna(-1).tolist() == [1, -1, 1]  # of none finished, nothing is told
    assert table["share"].tolist() == pytest.approx([3 / 6, 1 / 6, 1 / 6])
    few = plan_ways.off_plan(found, min_n=2)
    assert few["way"].tolist() == ["✓ ad → ○ visit → ✓ buy", plan_ways.REST]
    assert few["n"].tolist() == [3, 2]
    strict = plans.judge(log, steps=["ad", "visit", "buy"], on="event", others="extra")
    assert "✓ ad → + x → ○ visit → ✓ buy" in plan_ways.off_plan(strict)["way"].tolist()
    assert "converted_n" not in plan_ways.off_plan(strict)
    kept = plans.judge(make_log("u1: ad visit"), steps=["ad", "visit", "buy"], on="event")
    assert "no journey" in plan_ways.off_plan(kept).attrs["reason"]


def test_many_values_outside_the_plan_share_a_letter() -> None:
    names = " ".join(f"v{k}" for k in range(60))
    found = plans.judge(
        make_log(f"u1: a {names} b | u2: a v3 v3 v4 v3 b"), steps=["a", "b"], on="event", others="extra"
    )
    assert len(found.letters.extras) == plan_sequences.NAMED + 1
    assert plan_sequences.REST in found.letters.extras.values()
    counted = deviations.count(found)
    assert len(counted) == 60
    assert counted.loc[counted["step"] == "v3", "journeys_n"].tolist() == [2]
    assert found.groups["outside_n"].tolist() == [4, 60]
    assert "✓ a → + v3 → + v4 → + v3 → ✓ b" in plan_ways.off_plan(found)["way"].tolist()


TABLES: dict[str, Callable[[plans.Judged], pd.DataFrame]] = {
    "plan_share": plans.plan_share,
    "off_plan": plan_ways.off_plan,
    "deviations": deviations.count,
}


def all_tables(touches: object, journeys: object, **options: object) -> dict[str, pd.DataFrame]:
    steps = ["a+", "b", config.Step(match=["c"], within="1h"), "d"]
    found = plans.judge(
        touches, steps=steps, on="event", within="4h", journeys=journeys, conversion=["d"], **options  # type: ignore[arg-type]
    )  # fmt: skip
    return {name: function(found) for name, function in TABLES.items()}


@pytest.mark.parametrize("others", ["ignore", "extra"])
def test_engines_agree_and_order_of_rows_does_not_matter(others: str) -> None:
    log = random_log(9, people=40).drop(columns=["marketing_channel", "team"])
    journeys = outcomes(*["converted", "abandoned", "open", "abandoned"] * 10, value=np.arange(40) * 10.3)
    expected = all_tables(log, journeys, others=others)
    assert all(len(table) for table in expected.values())
    relation = engine.connection().from_df(log)
    shuffled = log.sample(frac=1, random_state=1)
    for frame in (pl.from_pandas(log), pl.from_pandas(log).lazy(), relation, engine.lazy(log), shuffled):
        for name, table in all_tables(frame, journeys.sample(frac=1, random_state=2), others=others).items():
            pd.testing.assert_frame_equal(table, expected[name], check_dtype=False)
    found = all_tables(log, pl.from_pandas(journeys), others=others)
    for name, table in found.items():
        pd.testing.assert_frame_equal(table, expected[name], check_dtype=False)
    unplaced = all_tables(log.drop(columns="position"), journeys, others=others)
    for name, table in unplaced.items():
        pd.testing.assert_frame_equal(table, expected[name], check_dtype=False)


def test_degenerate_input() -> None:
    empty = make_log("u1: ad").head(0)
    one = make_log("u1: ad")
    for others in ("ignore", "extra"):
        for log in (empty, one.assign(event=None), make_log("u1: x")):
            found = plans.judge(log, steps=["a", "b"], on="event", others=others)
            if others == "extra" and len(log) and log["event"].notna().all():
                assert deviations.count(found)["kind"].tolist() == ["extra"]  # nothing planned, but all of it judged
                assert plan_ways.off_plan(found)["way"].tolist() == ["+ x → stops before a"]
                continue
            assert "n = 0" in deviations.count(found).attrs["reason"]
            assert "no journey" in plan_ways.off_plan(found).attrs["reason"]
    assert "n = 0" in plans.plan_share(plans.judge(empty, steps=["a", "b"])).attrs["reason"]
    assert "n = 0" in plans.plan_share(plans.judge(empty, steps=["a", "b"], journeys=outcomes())).attrs["reason"]
    assert "no group of 5" in plans.plan_share(plans.judge(one, steps=["a", "b"]), min_n=5).attrs["reason"]
    nothing = plans.judge(one, steps=[])
    for function in TABLES.values():
        assert "no plan" in function(nothing).attrs["reason"]
    on_plan = plans.judge(make_log("u1: ad buy"), steps=["ad", "buy"])
    assert "no journey that is over deviates" in deviations.count(on_plan).attrs["reason"]
    nobody = plans.judge(
        make_log("u1: ad buy"), steps=["ad", "buy"], journeys=outcomes("abandoned"), conversion=["buy"]
    )
    assert plans.plan_share(nobody)["group"].tolist() == ["all finished", "not converted"]
    unknown = plans.judge(make_log("u1: ad buy"), steps=["ad", "buy"], journeys=outcomes("gone"))
    assert "n = 0" in plans.plan_share(unknown).attrs["reason"]
    no_journey = plans.judge(make_log("u1: ad buy").assign(journey_id=None), steps=["ad", "buy"])
    assert "n = 0" in plans.plan_share(no_journey).attrs["reason"]


def test_errors_say_what_to_do() -> None:
    log = make_log("u1: ad")
    with pytest.raises(JourneyError, match="Did you mean 'extra'"):
        plans.judge(log, steps=["ad", "buy"], others="extras")
    with pytest.raises(JourneyError, match="column 'stages' is missing"):
        plans.judge(log, steps=["ad", "buy"], on="stages")
    with pytest.raises(JourneyError, match="no value"):
        plans.judge(log, steps=["ad", " | "])
    with pytest.raises(JourneyError, match="61 steps, at most 60"):
        plans.judge(log, steps=[f"s{k}" for k in range(61)])
    with pytest.raises(JourneyError, match="first step, 'ad', has within"):
        plans.judge(log, steps=[config.Step(match=["ad"], within="1d"), "buy"])
    with pytest.raises(JourneyError, match="column 'outcome' is missing"):
        plans.judge(log, steps=["ad", "buy"], journeys=pd.DataFrame({"journey_id": [1]}))
    overlapping = [config.Step(match=[f"v{k}", *(f"v{j}" for j in range(k))]) for k in range(59)]
    many = make_log("u1: " + " ".join(f"v{k}" for k in range(59)))
    assert plans.plan_share(plans.judge(many, steps=overlapping, on="event"))["n"].tolist() == [1]


def test_journey_toml_says_what_plans_cannot_have() -> None:
    with pytest.raises(ValueError, match=r"step 2 \(b\) has directly, which is for funnels"):
        config.Plan(steps=["a", {"match": "b", "directly": True}])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"step 1 \(a\) has within"):
        config.Plan(steps=[{"match": "a", "within": "1d"}, "b"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="ignore"):
        config.Plan(steps=["a", "b"], others="both")  # type: ignore[arg-type, list-item]


def test_choose_and_rules() -> None:
    plan = config.Plan(steps=["A", "B"], others="extra", allowed=["C"])  # type: ignore[list-item]
    study = config.Study.model_construct(plans={"buy": plan})
    assert plans.choose(study) == plan
    assert plans.choose(study, "buy") == plan
    with pytest.raises(JourneyError, match="Did you mean 'buy'"):
        plans.choose(study, "buyy")
    none = plans.choose(config.Study.model_construct(plans={}))
    assert none.steps == []
    assert "no plan" in plans.plan_share(plans.judge(make_log("u1: A"), **plans.rules(none))).attrs["reason"]
    found = plans.judge(make_log("u1: A C B D"), **plans.rules(plan) | {"on": "event"})
    assert plans.plan_share(found)["extra_n"].tolist() == [1]


# ── A real log: tickets of a help desk ───────────────────────────────────────────────────────────────────────────────

TICKET = ["Assign seriousness", "Take in charge ticket", "Resolve ticket", "Closed"]


@pytest.fixture(scope="module")
def tickets() -> pd.DataFrame:
    if not REAL.exists():
        pytest.skip("the shared data is not here")
    with gzip.open(REAL / "helpdesk.csv.gz", "rt") as file:
        raw = pd.read_csv(file)
    case = pd.factorize(raw["case:concept:name"])[0] + 1
    return pd.DataFrame(
        {
            "event_id": [f"{k:06d}" for k in range(len(raw))],
            "timestamp": pd.to_datetime(raw["time:timestamp"], format="ISO8601", utc=True).dt.tz_localize(None),
            "source": "helpdesk",
            "source_row": range(len(raw)),
            "event": raw["concept:name"],
            "person_id": case,
            "journey_id": case,
        }
    )


def test_tickets_on_the_plan_are_those_of_the_most_frequent_variant(tickets: pd.DataFrame) -> None:
    figures = json.loads((REAL / "expected.json").read_text())["figures"]
    top = figures["top5_variants"]["value"]
    strict = plans.judge(tickets, steps=TICKET, on="event", others="extra")
    row = plans.plan_share(strict).iloc[0]
    assert (row["n"], row["on_plan_n"]) == (figures["cases"]["value"], top[" > ".join(TICKET)])
    found = deviations.count(strict).set_index(["kind", "step"])
    assert found.loc[("extra", "Wait"), "journeys_n"] == figures["cases_with_wait"]["value"]
    ways = plan_ways.off_plan(strict, top=3).set_index("way")["n"]
    in_charge = "✓ Assign seriousness → ✓ Take in charge ticket → + Wait → "
    assert ways[f"{in_charge}✓ Resolve ticket → ✓ Closed"] >= top[" > ".join([*TICKET[:2], "Wait", *TICKET[2:]])]


def test_tickets_are_aligned_as_by_hand(tickets: pd.DataFrame) -> None:
    """Every number of each kind, from the definition: a slow pass over the 226 variants."""
    loose = plans.judge(tickets, steps=TICKET, on="event")
    row = plans.plan_share(loose).iloc[0]
    paths = Counter(
        tuple(part) for _, part in tickets.sort_values(["timestamp", "source_row"]).groupby("journey_id")["event"]
    )
    plan = [slow.SlowStep(frozenset([step])) for step in TICKET]
    planned = {path: tuple(v for v in path if v in TICKET) for path in paths}
    exact = sum(n for path, n in paths.items() if planned[path] == tuple(TICKET))
    assert row["on_plan_n"] == exact
    assert row["so_far_n"] == sum(
        n for path, n in paths.items() if planned[path] and planned[path] == tuple(TICKET)[: len(planned[path])]
    )
    missing = sum(n for path, n in paths.items() if any(v not in path for v in TICKET))
    assert row["skipped_n"] + row["stopped_early_n"] + row["no_step_n"] >= missing
    lengths = np.repeat(
        [slow.fitness(planned[path], plan) for path in paths if planned[path]],
        [n for path, n in paths.items() if planned[path]],
    )
    assert row["fitness_median"] == pytest.approx(np.median(lengths))
