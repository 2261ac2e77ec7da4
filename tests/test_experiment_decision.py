"""What is decided: the declared table, guardrails, early looks, money, and what the page says of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from journeykit import engine, stats, study
from journeykit.config import Experiment
from journeykit.experiments import assignment, guardrails, money, results
from journeykit.experiments import decision as decision_
from journeykit.readings import experiment_decision as readings
from journeykit.readings import experiment_effects as effects
from journeykit.readings import experiment_trust as trust
from tests.conftest import ROOT, START
from tests.test_experiments import AS_OF, declare, exposed

SPLIT = pd.DataFrame({"arm": ["a", "b"], "planned_share": 0.5, "n": 500, "share": 0.5, "p_value": 1.0, "verdict": "ok"})
CALLS = {"name": "calls", "event": "call", "role": "guardrail", "better": "down", "margin": 0.02}
TABLE = [
    {"guardrails": "harmed", "then": "do not ship"},
    {"primary": "better", "guardrails": "held", "then": "ship"},
    {"primary": "better", "then": "ship to half"},
    {"primary": "unclear", "guardrails": "held", "then": "keep control"},
]


def effect(metric: str, low: float, high: float, **changes: Any) -> dict[str, Any]:
    """A row of `effects` whose interval is given."""
    row = {
        "experiment": "test",
        "metric": metric,
        "role": "primary",
        "arm": "b",
        "better": "up",
        "unit": "share",
        "effect": (low + high) / 2,
        "effect_low": low,
        "effect_high": high,
        "margin": math.nan,
        "caution": "",
        "p_value": 0.001 if low * high > 0 else 0.4,
        "p_adjusted": 0.002 if low * high > 0 else 0.5,
        "n_control": 500,
        "n_treatment": 500,
    }
    return {**row, **changes}


def harm(low: float, high: float, **changes: Any) -> dict[str, Any]:
    return effect("calls", low, high, **{"role": "guardrail", "better": "down", "margin": 0.02, **changes})


def decide(*rows: dict[str, Any], plan: Experiment | None = None, **more: Any) -> pd.Series:
    chosen = plan or declare({"name": "buys", "event": "buy"}, CALLS)
    return decision_.verdict(SPLIT, pd.DataFrame(rows), chosen, **more).iloc[0]


# The declared table


@pytest.mark.parametrize(
    ("rows", "decision", "rule"),
    [
        ((effect("buys", 0.01, 0.05), harm(-0.01, 0.01)), "ship", "row 2"),
        ((effect("buys", 0.01, 0.05), harm(-0.01, 0.03)), "ship to half", "row 3"),
        ((effect("buys", 0.01, 0.05), harm(0.03, 0.06)), "do not ship", "row 1"),
        ((effect("buys", -0.01, 0.05), harm(-0.01, 0.01)), "keep control", "row 4"),
        ((effect("buys", -0.05, -0.01), harm(-0.01, 0.01)), "do not ship", "default rules"),  # no row fits
        ((effect("buys", -0.01, 0.05), harm(-0.01, 0.03)), "no difference shown", "default rules"),
    ],
)
def test_the_first_row_of_the_declared_table_that_fits_decides(
    rows: tuple[dict[str, Any], ...], decision: str, rule: str
) -> None:
    found = decide(*rows, plan=declare({"name": "buys", "event": "buy"}, CALLS, decisions=TABLE))
    assert (found["decision"], found["rule"]) == (decision, rule)
    assert ("No row of the declared decision table fits" in found["sentence"]) == (rule == "default rules")
    assert ("nan" in found["sentence"]) is False


def test_one_primary_metric_that_is_worse_outweighs_one_that_is_better() -> None:
    plan = declare({"name": "buys", "event": "buy"}, {"name": "views", "event": "view"})
    found = decide(effect("buys", 0.01, 0.05), effect("views", -0.05, -0.01), plan=plan)
    assert (found["decision"], found["metric"], found["primary"]) == ("do not ship", "views", "worse")


def test_without_guardrails_they_held() -> None:
    plan = declare(decisions=[{"primary": "better", "guardrails": "held", "then": "ship"}])
    assert decide(effect("buys", 0.01, 0.05), plan=plan)["decision"] == "ship"


def test_of_several_arms_an_own_word_for_shipping_wins_over_harm() -> None:
    plan = declare(arms={"a": 0.4, "b": 0.3, "c": 0.3}, decisions=[{"primary": "better", "then": "roll out"}])
    rows = [effect("buys", -0.05, -0.01), effect("buys", 0.01, 0.05, arm="c")]
    assert decide(*rows, plan=plan)[["decision", "arm"]].tolist() == ["roll out", "c"]


# The interval that decides


def test_the_interval_of_the_stopping_rule_decides() -> None:
    sure = effect("buys", 0.01, 0.05, decides_low=-0.01, decides_high=0.07, decides_p_value=0.2)
    wide = {"sequential_low": -0.01, "sequential_high": 0.07, "sequential_p_value": 0.2}
    plan = declare(stopping="always_valid")
    found = decide({**sure, **wide}, plan=plan)
    assert found["decision"] == "no difference shown"
    assert (found["effect_low"], found["effect_high"], found["p_value"]) == (-0.01, 0.07, 0.2)
    assert "interval −1.0 to +7.0; p = 0.200" in found["sentence"]


def test_a_sequential_test_before_its_first_look_goes_on() -> None:
    none = {"sequential_low": 0.0, "sequential_high": 0.1, "sequential_p_value": 0.1}
    row = effect("buys", 0.01, 0.05, decides_low=math.nan, decides_high=math.nan, decides_p_value=1.0, **none)
    found = decide(row, plan=declare(stopping="group_sequential"))
    assert found["decision"] == "let it run"
    assert "No planned look has been reached yet" in found["sentence"]
    assert "–" not in found["sentence"]


def early(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame(
        [{"early": True, "ends_at": pd.Timestamp("2025-03-01"), "read_at": START, "open_n": 9, **changes}]
    )


def looked(low: float, high: float, **changes: Any) -> dict[str, Any]:
    """An effect whose anytime-valid interval is given; the fixed one is half as wide."""
    middle, half = (low + high) / 2, (high - low) / 4
    sides = {"sequential_low": low, "sequential_high": high, "sequential_p_value": 0.01 if low * high > 0 else 0.3}
    fixed = {"decides_low": middle - half, "decides_high": middle + half, "decides_p_value": 0.001}
    return effect("buys", middle - half, middle + half, **sides, **fixed, **changes)


def test_a_fixed_test_that_is_read_early_says_so_and_ships_nothing() -> None:
    plan = declare()
    found = decide(looked(0.01, 0.09), plan=plan, timing=early())
    assert (found["decision"], found["reason"], bool(found["early"])) == ("let it run", "early", True)
    assert "early look: read on 2025-01-01, and the declared horizon ends on 2025-03-01." in found["sentence"]
    assert "anytime-valid 95 % interval +1.0 to +9.0, the one that counts until then" in found["sentence"]
    assert (found["effect_low"], found["effect_high"]) == (0.01, 0.09)
    assert decide(looked(0.01, 0.09), plan=plan)["decision"] == "ship"  # when it is over
    running = decide(looked(-0.01, 0.09), plan=plan, timing=early(ends_at=pd.NaT))
    assert "the windows of 9 people are still open on 2025-01-01, and no horizon is declared" in running["sentence"]


def test_harm_beyond_doubt_stops_a_test_early() -> None:
    found = decide(looked(-0.09, -0.01), plan=declare(), timing=early())
    assert found["decision"] == "do not ship"
    assert "The anytime-valid interval counts, and it shows harm already." in found["sentence"]
    unsure = decide(looked(-0.09, 0.01), plan=declare(), timing=early())  # the fixed interval is below 0
    assert unsure["decision"] == "let it run"


def test_an_early_look_without_a_sequential_interval_decides_nothing() -> None:
    found = decide(effect("buys", 0.01, 0.05), plan=declare(), timing=early())
    assert found["decision"] == "let it run"
    assert "the fixed one does not hold before the end" in found["sentence"]


def test_an_always_valid_test_may_be_decided_early() -> None:
    plan = declare(stopping="always_valid")
    row = {**looked(0.01, 0.09), "decides_low": 0.01, "decides_high": 0.09}
    found = decide(row, plan=plan, timing=early())
    assert found["decision"] == "ship"
    assert "The intervals given hold at every look." in found["sentence"]
    open_ = {**looked(-0.01, 0.09), "decides_low": -0.01, "decides_high": 0.09}
    assert decide(open_, plan=plan, timing=early())["decision"] == "let it run"


# Faults


def fault(check: str, share: float, verdict: str, arm: str = "") -> pd.DataFrame:
    row = {"check": check, "arm": arm, "people_share": share, "n": 100, "p_value": 0.0001, "verdict": verdict}
    return pd.DataFrame([row])


def test_failed_assignments_give_no_verdict() -> None:
    good = effect("buys", 0.01, 0.05)
    mixed = decide(good, plan=declare(), assignment=fault(assignment.SEVERAL, 0.7, "failed"))
    assert mixed["decision"] == "no verdict"
    assert (
        "70.0 % of 100 people were seen in several arms, so the arms are not groups drawn by lot" in mixed["sentence"]
    )
    never = decide(good, plan=declare(), assignment=fault(assignment.NEVER, 0.3, "broken", "b"))
    assert "assigned to b were never exposed, and the arms differ in that (p < 0.001)" in never["sentence"]
    for check, verdict in ((assignment.SEVERAL, "warning"), (assignment.BEFORE_START, "failed")):
        assert decide(good, plan=declare(), assignment=fault(check, 0.3, verdict))["decision"] == "ship"


# Guardrails and money


def test_guardrails_are_green_yellow_red_or_grey() -> None:
    plan = declare({"name": "buys", "event": "buy"}, CALLS)
    for row, colour in (
        (harm(-0.01, 0.01), "green"),
        (harm(-0.01, 0.03), "yellow"),
        (harm(0.005, 0.015), "green"),  # worse, but surely by less than the margin
        (harm(0.03, 0.05), "red"),
        (harm(0.03, 0.05, caution="not compared: answer rates differ"), "grey"),
        (harm(-0.01, 0.01, decides_low=-0.03, decides_high=0.03), "yellow"),
    ):
        found = guardrails.guardrails(pd.DataFrame([effect("buys", 0.01, 0.05), row]), experiment=plan)
        assert found["colour"].tolist() == [colour]
    assert "not excluded to be harmed: calls in test" in readings.guardrails(found)
    assert "no guardrail is declared" in stats.reason_of(
        guardrails.guardrails(pd.DataFrame([effect("buys", 0, 1)]), experiment=declare())
    )


def test_money_follows_the_interval_that_decides() -> None:
    plan = declare({"name": "buys", "event": "buy", "worth": 60}, yearly_units=10_000)
    rows = pd.DataFrame([effect("buys", 0.01, 0.03, decides_low=0.0, decides_high=0.04)])
    row = money.money(rows, pd.DataFrame(), experiment=plan).iloc[0]
    assert [row[f"yearly_money{side}"] for side in ("", "_low", "_high")] == pytest.approx([12_000, 0, 24_000])
    assert row["units_from"] == "declared"
    found = decide(*rows.to_dict("records"), plan=plan, money=pd.DataFrame([row]), currency="EUR")
    assert "That is +EUR 12,000 a year (95 % interval +EUR 0 to +EUR 24,000) for 10,000 people" in found["sentence"]


def test_money_of_less_is_better_and_of_the_pace_and_of_a_ratio() -> None:
    at = START + pd.to_timedelta(np.linspace(0, 10, 1000), unit="D")
    units = pd.DataFrame({"arm": "a", "exposed_at": at, "mature": True, "rate": 1.0, "rate__per": 4.0})
    cost = declare({"name": "calls", "event": "call", "better": "down", "worth": 5})
    row = money.money(pd.DataFrame([effect("calls", 0.01, 0.03, better="down")]), units, experiment=cost).iloc[0]
    assert row["yearly_money"] == pytest.approx(-5 * 0.02 * 100 * 365.25)  # a hundred a day, each worse off
    assert row["yearly_money_low"] < row["yearly_money"] < row["yearly_money_high"] < 0
    ratio = declare({"name": "rate", "event": "buy", "kind": "ratio", "per": "session", "worth": 10})
    row = money.money(pd.DataFrame([effect("rate", 0.01, 0.03)]), units, experiment=ratio).iloc[0]
    assert row["yearly_money"] == pytest.approx(10 * 0.02 * 4 * 100 * 365.25)
    nothing = money.money(pd.DataFrame([effect("buys", 0, 1)]), units, experiment=declare())
    assert "no metric has a worth" in stats.reason_of(nothing)


# Findings


def test_each_experiment_has_one_finding_and_own_words_become_the_action() -> None:
    plan = declare(decisions=[{"primary": "any", "then": "ask the board"}])
    found = decide(effect("buys", 0.01, 0.05), plan=plan)
    finding = readings.findings(pd.DataFrame([found]), SPLIT.assign(experiment="test"))[0]
    assert finding.action == "Do as declared: ask the board (b)."
    assert (finding.evidence, finding.value) == ("experimental", pytest.approx(3.0))
    assert readings.verdict(pd.DataFrame([found])) == "Of 1 test – ask the board: test."


def test_an_early_finding_says_so_and_changes_have_findings() -> None:
    found = decide(looked(0.01, 0.09), plan=declare(), timing=early())
    changed = pd.DataFrame(
        [
            {
                "experiment": "test",
                "item": "Window",
                "declared_then": "7 days",
                "declared_now": "14 days",
                "announced": "no",
            }
        ]
    )
    first, second = readings.findings(pd.DataFrame([found]), SPLIT.assign(experiment="test"), changes=changed)
    assert first.caveat.startswith("An early look")
    assert not first.headline
    assert "Window was “7 days” and is now “14 days”" in second.statement


# Hostile input

READINGS: dict[str, Callable[[results.Results], str]] = {
    "declared": lambda r: trust.declared(r.declared, r.timing),
    "exposure": lambda r: trust.exposure(r.exposure),
    "split": lambda r: trust.split(r.split),
    "split_days": lambda r: trust.split_days(r.split_days),
    "split_segments": lambda r: trust.split_segments(r.split_segments),
    "assignment": lambda r: trust.assignment(r.assignment),
    "balance": lambda r: trust.balance(r.balance),
    "telemetry": lambda r: trust.telemetry(r.telemetry),
    "response": lambda r: trust.response(r.response),
    "overlap": lambda r: trust.overlap(r.overlap, r.interactions),
    "effects": lambda r: effects.effects(r.effects),
    "looks": lambda r: effects.looks(r.effects),
    "looked_daily": lambda r: effects.looked_daily(r.looks),
    "bayes": lambda r: effects.bayes(r.bayes),
    "segments": lambda r: effects.segments(r.segments_joint, r.segments),
    "novelty": lambda r: effects.novelty(r.trends),
    "power": lambda r: effects.power(r.power, r.split),
    "guardrails": lambda r: readings.guardrails(r.guardrails),
    "money": lambda r: readings.money(r.money, "EUR"),
    "verdict": lambda r: readings.verdict(r.verdict),
    "findings": lambda r: str([f.statement for f in readings.findings(r.verdict, r.split, results=r)]),
}


def log_of(*people: str) -> pd.DataFrame:
    return exposed(" | ".join(f"u{number}: {part}" for number, part in enumerate(people, start=1)))


@pytest.mark.parametrize(
    "log",
    [
        log_of("visit"),  # nobody exposed
        log_of("seen_a buy"),  # one unit
        log_of(*["seen_a@1d buy"] * 80),  # an arm without a unit
        log_of(*["seen_a@1d buy", "seen_b@1d buy"] * 40),  # no variance at all
        log_of(*["seen_a@1d visit", "seen_b@1d visit"] * 40),  # nobody buys
        log_of(*["seen_a@1d visit", "seen_b@1d buy"] * 40),  # a control mean of zero
        log_of(*["seen_a@1d seen_b@2d"] * 40),  # everybody in both arms
        log_of(*["seen_a@99d buy", "seen_b@99d"] * 40),  # no window is over
    ],
    ids=["nobody", "one", "one arm", "no variance", "no event", "control zero", "mixed", "open"],
)
def test_hostile_logs_end_in_sentences(log: pd.DataFrame) -> None:
    metrics = (
        {"name": "buys", "event": "buy", "worth": 10},
        {"name": "spend", "event": "buy", "kind": "value", "role": "secondary"},
        {"name": "rate", "event": "buy", "kind": "ratio", "per": "session", "role": "secondary"},
        {"name": "wait", "event": "buy", "kind": "time", "role": "secondary", "better": "down"},
        {**CALLS, "event": "visit"},
    )
    plan = declare(*metrics, by=["channel"], minimum_effect=0.1, horizon="20d", assignment="given", bayesian=True)
    log = log.assign(value=log["event"].eq("buy").map({True: 5.0, False: None}).astype(float))
    found = results.all_experiments(log, experiments=[plan], as_of=AS_OF, currency="EUR")
    for name, table in found._asdict().items():
        assert len(table) or stats.reason_of(table), name
    for name, said in READINGS.items():
        text = said(found)
        assert "nan" not in text.lower().replace("finance", ""), name
        assert "inf" not in text.lower(), name
    assert len(found.verdict) == 1
    assert "nan" not in found.verdict["sentence"].iloc[0]


def test_no_experiment_has_reasons_everywhere() -> None:
    found = results.all_experiments(log_of("visit"), experiments=[], as_of=AS_OF)
    for name, table in found._asdict().items():
        assert "no experiment is declared" in stats.reason_of(table), name
    for name, said in READINGS.items():
        assert said(found) in ("", "[]"), name


def test_the_page_has_columns_for_every_table() -> None:
    touches = log_of(
        *["visit@0d visit seen_a@1d buy visit", "visit@0d seen_b@1d visit buy", "seen_a@1d", "seen_b@1d"] * 40
    )
    plan = declare({"name": "buys", "event": "buy", "worth": 1}, CALLS, by=["channel"])
    found = results.all_experiments(touches, experiments=[plan], as_of=AS_OF, currency="EUR")
    for name in ("declared", "timing", "balance", "telemetry", "effects", "guardrails", "power", "money", "verdict"):
        table = getattr(found, name)
        assert len(table), name
        assert set(readings.shown(table)) <= set(table.columns), name


# The bundled study


def test_the_bundled_tests_are_called_rightly(laptop_store: Any) -> None:
    del laptop_store  # made, where it was not there
    opened = study.open_study("laptop_store")
    touches = engine.read_parquet(ROOT / "data" / "laptop_store" / "derived" / "touches.parquet")
    plans = [
        Experiment.model_validate({**plan.model_dump(), "by": ["segment_device"]}) for plan in opened.config.experiments
    ]
    found = results.all_experiments(touches, experiments=plans, as_of=opened.as_of(), currency="EUR")
    titles = {plan.name: plan.label for plan in plans}
    decided = found.verdict.set_index("experiment")["decision"]
    assert decided[titles["shipping_upfront"]] == "ship"
    assert decided[titles["new_badge"]] == "no difference shown"
    assert decided[titles["chat_popup"]] == "no verdict"
    assert decided[titles["one_click_addons"]] == "do not ship"
    lost = found.split_segments.iloc[found.split_segments["p_adjusted"].argmin()]
    assert (lost["experiment"], lost["value"]) == (titles["chat_popup"], "mobile")  # as planted
    assert titles["chat_popup"] not in {*found.effects["experiment"], *found.interactions["experiment"]}
    colours = found.guardrails.set_index(["experiment", "metric"])["colour"]
    assert colours[titles["one_click_addons"], "tickets"] == "red"
    assert colours[titles["shipping_upfront"], "tickets"] == "green"
    trends = found.trends.set_index("experiment")["verdict"]
    assert trends[titles["one_click_addons"]] == "fades"  # the click is on the page of the order
    assert set(found.balance["verdict"]) == {"alike"}
    findings = readings.findings(found.verdict, found.split, results=found)
    assert len({finding.id for finding in findings}) == len(findings)
    assert any("with device mobile about" in finding.action for finding in findings)
