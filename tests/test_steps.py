"""Steps as texts and tables, and the events that they are."""

from __future__ import annotations

import pandas as pd
import polars as pl
import pytest

from journeykit import config, engine, steps
from journeykit.errors import JourneyError
from tests.conftest import make_log


def flags(log: object, *written: object, on: str = "event") -> list[list[int]]:
    parsed = steps.parse(written, "funnel")  # type: ignore[arg-type]
    found = steps.marked(log, parsed, on, "is_", "funnel").sort("source_row")
    return engine.fetch(found.select(*[f"is_{k}" for k in range(1, len(parsed) + 1)])).values.tolist()


def test_a_text_says_alternatives_and_marks() -> None:
    found = steps.parse(["ad", "cart | quick_buy?", "page+", "page*"], "funnel")
    assert [(s.values, s.optional, s.repeat) for s in found] == [
        (["ad"], False, False),
        (["cart", "quick_buy"], True, False),
        (["page"], False, True),
        (["page"], True, True),
    ]
    assert [step.label for step in found] == ["ad", "cart | quick_buy", "page", "page"]


@pytest.mark.parametrize("text", ["", " | ", "?"])
def test_an_empty_step_is_an_error(text: str) -> None:
    with pytest.raises(JourneyError, match="no value"):
        steps.parse([text], "funnel")


def test_a_step_names_one_kind() -> None:
    with pytest.raises(ValueError, match="event and stage"):
        config.Step(event=["a"], stage=["b"])


def test_steps_of_several_kinds() -> None:
    log = make_log("u1: ad buy x").assign(stage=["Look", "Buy", None], touchpoint=["Ad", None, "X"])
    assert flags(log, config.Step(stage=["Buy"]), config.Step(touchpoint=["Ad", "X"]), "ad | x") == [
        [0, 1, 1],
        [1, 0, 0],
        [0, 1, 1],
    ]


def test_filters_hold_together() -> None:
    log = make_log("u1: buy/web buy/app buy/web buy/tv").assign(value=[10.0, 900.0, 600.0, None])
    web = config.Step(match=["buy"], where={"channel": ["web", "tv"]})
    dear = config.Step(match=["buy"], where={"channel": ["web", "app"], "value": [">= 600"]})
    between = config.Step(match=["buy"], where={"value": ["> 10", "< 900"]})
    other = config.Step(match=["buy"], where={"channel": ["!= web"]})
    assert flags(log, web, dear, between, other) == [[1, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 0], [1, 0, 0, 1]]


@pytest.mark.parametrize("kind", ["pandas", "polars", "polars lazy"])
def test_members_of_properties(kind: str) -> None:
    last = '{"seats": "many", "a.b": "it\'s"}'
    texts = ['{"plan": "pro", "seats": 12}', '{"plan": "free"}', None, "no JSON", last]
    log = make_log("u1: buy buy buy buy buy").assign(properties=texts)
    polars = pl.from_pandas(log)
    tables: dict[str, object] = {"pandas": log, "polars": polars, "polars lazy": polars.lazy()}
    pro = config.Step(match=["buy"], where={"properties.plan": ["pro", "team"]})
    many = config.Step(match=["buy"], where={"properties.seats": [">= 10"]})
    odd = config.Step(match=["buy"], where={"properties.a.b": ["it's"]})
    assert flags(tables[kind], pro, many, odd) == [[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_errors_say_what_to_do() -> None:
    log = make_log("u1: buy")
    with pytest.raises(JourneyError, match=r"chanel.*Did you mean 'channel'"):
        flags(log, config.Step(match=["buy"], where={"chanel": ["web"]}))
    with pytest.raises(JourneyError, match="'ten' is not a number"):
        flags(log, config.Step(match=["buy"], where={"value": ["> ten"]}))


def test_journey_toml_takes_both_forms() -> None:
    plan = config.Funnel(steps=["ad", {"event": "buy", "where": {"channel": "web"}, "within": "1d"}])  # type: ignore[list-item]
    assert plan.steps[1].where == {"channel": ["web"]}
    assert plan.steps[0].match == ["ad"]
    assert isinstance(pd.DataFrame(plan.model_dump()["steps"]), pd.DataFrame)
