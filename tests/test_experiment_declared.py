"""The declaration of an experiment as a table, what was changed after its start, and looks before its end."""

from __future__ import annotations

import numpy as np
import pandas as pd

from journeykit import stats
from journeykit.config import Experiment
from journeykit.experiments import declared
from journeykit.readings import experiment_trust as readings
from tests.conftest import START
from tests.test_experiments import declare

GUARD = {"name": "calls", "event": "call", "role": "guardrail", "better": "down", "margin": 0.02}


def table(plan: Experiment, as_of: str = "", started: pd.Timestamp | None = START) -> pd.DataFrame:
    found = declared.declared(plan, started_at=started, currency="EUR")
    if as_of:
        found.attrs["as_of"] = pd.Timestamp(as_of)
    return found


def test_everything_declared_can_be_read() -> None:
    plan = declare(
        {"name": "orders", "event": ["buy", "rebuy"], "kind": "value", "cap": 500, "worth": 0.3},
        {"name": "rate", "event": "buy", "kind": "ratio", "per": "session", "role": "secondary", "within": "1d"},
        {"name": "paid", "kind": "funnel", "steps": ["cart", "buy"], "role": "secondary"},
        GUARD,
        horizon="4w",
        stopping="group_sequential",
        correction="preferential",
        several_arms="first",
        decisions=[{"primary": "better", "guardrails": "held", "then": "ship"}],
        amendments=[{"on": "2025-02-01", "what": "b was slow until today"}],
    )
    found = dict(table(plan)[["item", "declared"]].itertuples(index=False))
    assert found["Hypothesis"] == "b sells more"
    assert found["Arms"] == "a 50.0 % (control), b 50.0 %"
    assert found["Horizon"] == "4 weeks"
    assert found["Stopping rule"] == "read at 5 planned looks (bounds of O'Brien and Fleming)"
    assert found["Correction"] == "primary metrics take 80 % of the error, intervals widen too"
    assert found["Seen in several arms"] == "count for the first arm"
    assert found["orders"] == (
        "primary, more is better: value of buy or rebuy per person within 7 days, capped at 500, 0.3 of it is "
        "contribution"
    )
    assert found["rate"] == "secondary, more is better: buy per session within 1 day"
    assert found["paid"] == "secondary, more is better: share of people who go through cart → buy within 7 days"
    assert found["calls"] == "guardrail, less is better: share of people with call within 7 days, margin 0.02"
    assert found["Decision 1"] == "primary better, guardrails held: ship"
    assert found["Amendment of 2025-02-01"] == "b was slow until today"


def test_what_was_changed_after_the_start_is_found() -> None:
    first = declare({"name": "buys", "event": "buy"}, GUARD)
    looser = declare({"name": "buys", "event": "buy"}, {**GUARD, "margin": 0.05}, within="14d")
    runs = [table(first, "2025-02-01"), table(looser, "2025-03-01")]
    found = declared.changes(table(looser), runs)
    assert found["item"].tolist() == ["Window after exposure", "buys", "calls"]
    assert found["since_at"].eq(pd.Timestamp("2025-02-01")).all()
    assert found["announced"].tolist() == ["no"] * 3
    row = found.set_index("item").loc["calls"]
    assert row["declared_then"].endswith("margin 0.02")
    assert row["declared_now"].endswith("margin 0.05")
    assert "No amendment says why." in readings.changes(found)


def test_a_new_title_owner_or_amendment_is_no_change_and_an_amendment_announces_one() -> None:
    first = declare()
    noted = [{"on": "2025-02-02", "what": "longer window, because delivery takes ten days"}]
    renamed = declare(title="Better name", owner="Web", amendments=noted)
    assert "nothing was declared otherwise" in stats.reason_of(
        declared.changes(table(renamed), table(first, "2025-02-01"))
    )
    announced = declared.changes(table(declare(within="14d", amendments=noted)), table(first, "2025-02-01"))
    assert set(announced["announced"]) == {"yes"}
    assert "No amendment" not in readings.changes(announced)


def test_changes_before_the_first_exposure_are_planning() -> None:
    first, later = declare(), declare(within="14d")
    planned = [table(first, "2024-12-01", None), table(later, "2025-02-01")]
    assert declared.changes(table(later), planned).empty
    assert declared.changes(table(later, started=None), table(first, "2024-12-01", None)).empty  # nobody exposed yet


def test_a_test_that_appears_or_disappears_after_its_start_is_shown() -> None:
    one, two = declare(name="one"), declare(name="two")
    both = pd.concat([table(one), table(two)], ignore_index=True)
    hidden = declared.changes(table(one), _read(both, "2025-02-01"))
    assert hidden[["experiment", "item", "declared_now"]].values.tolist() == [["two", "the whole test", "not declared"]]
    assert "two: it is no longer declared." in readings.changes(hidden)
    late = declared.changes(both, _read(table(one), "2025-02-01"))
    assert late[["experiment", "declared_then"]].values.tolist() == [["two", "not declared"]]
    assert "it was declared after its start" in readings.changes(late)


def test_a_declaration_survives_being_written_as_csv(tmp_path) -> None:  # type: ignore[no-untyped-def]
    plan = declare(GUARD, {"name": "buys", "event": "buy"})
    table(plan).to_csv(tmp_path / "declared.csv", index=False)
    read = _read(pd.read_csv(tmp_path / "declared.csv"), "2025-02-01")
    assert declared.changes(table(plan), [read]).empty
    assert len(declared.changes(table(declare(GUARD, {"name": "buys", "event": "buy"}, before="14d")), [read])) == 1


def test_no_earlier_run_is_said() -> None:
    assert "no earlier run" in stats.reason_of(declared.changes(table(declare()), []))
    assert "no earlier run" in stats.reason_of(declared.changes(table(declare()), pd.DataFrame({"other": [1]})))


def _read(found: pd.DataFrame, as_of: str) -> pd.DataFrame:
    found.attrs["as_of"] = pd.Timestamp(as_of)
    return found


def exposed_at(*days: int, open_n: int = 0) -> pd.DataFrame:
    mature = np.arange(len(days)) >= open_n
    return pd.DataFrame({"arm": "a", "exposed_at": [START + pd.Timedelta(days=d) for d in days], "mature": mature})


def test_a_test_is_early_before_its_horizon_and_while_windows_are_open() -> None:
    plan = declare(horizon="30d", starts="2025-01-01")
    states = [
        declared.timing(exposed_at(0, 9), experiment=plan, as_of=START + pd.Timedelta(days=day)).iloc[0]
        for day in (29, 30)
    ]
    assert [(row["state"], row["early"]) for row in states] == [("early look", True), ("over", False)]
    assert states[0]["ends_at"] == pd.Timestamp("2025-01-31")
    running = declared.timing(exposed_at(0, 9, open_n=1), experiment=declare(), as_of=START).iloc[0]
    assert (running["state"], running["open_n"]) == ("still running", 1)
    nobody = declared.timing(exposed_at(), experiment=plan, as_of=START).iloc[0]
    assert (nobody["state"], nobody["early"]) == ("not started", False)


def test_the_reading_names_what_is_not_declared_and_what_is_read_early() -> None:
    plan = declare(horizon="30d")
    looked = declared.timing(exposed_at(0), experiment=plan, as_of=START + pd.Timedelta("3d"))
    text = readings.declared(table(plan), looked)
    assert "No decision table is declared for test." in text
    assert "No effect worth acting on is declared for test." in text
    assert "test is read on 2025-01-04, before its horizon ends on 2025-01-31." in text
