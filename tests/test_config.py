"""journey.toml: all problems at once, each with its place, what was found, what is allowed and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from journeykit import config
from journeykit.errors import JourneyError

GOOD: dict[str, Any] = {
    "study": {"title": "Small"},
    "sources": [
        {"name": "web", "path": "raw/*.csv", "time": {"column": "at"}, "event": "e", "identifiers": {"user": "u"}}
    ],
    "identity": {"identifiers": ["user"]},
}


def problems(**changes: Any) -> str:
    with pytest.raises(JourneyError) as caught:
        config.parse({**GOOD, **changes})
    return str(caught.value)


def test_the_smallest_study_is_accepted_with_its_defaults() -> None:
    plan = config.parse(GOOD)
    assert (plan.sessions.gap, plan.identity.policy, plan.privacy.minimum_cell) == ("30m", "graph_strict", 5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"funels": {}}, "funels: unknown key. Did you mean 'funnels'?"),
        ({"study": {}}, "study.title: missing"),
        ({"study": {"title": "x", "timezone": "Europe/Berlinn"}}, "Did you mean 'Europe/Berlin'?"),
        ({"sessions": {"gap": 30}}, "sessions.gap: 30 has no unit"),
        ({"sessions": {"gap": "half an hour"}}, "is not a duration"),
        ({"identity": {"identifiers": ["users"]}}, "'user' is not declared in identity.identifiers"),
        ({"identity": {"identifiers": ["user"], "devices": ["phone"]}}, "device 'phone' is not in identifiers"),
        ({"identity": {"identifiers": ["user"], "policy": "strict"}}, "'device_split', 'graph' or 'graph_strict'"),
        ({"funnels": {"buy": {"steps": ["a"]}}}, "funnels.buy.steps"),
        ({"journeys": {"restart_stages": ["Shop"]}}, "'Shop' is not a stage"),
        ({"sources": [{**GOOD["sources"][0], "preset": "ga5"}]}, "sources.web.preset: 'ga5' is not a preset"),
        ({"sources": GOOD["sources"] * 2}, "two sources are called 'web'"),
        ({"identity": {"identifiers": ["user", "user"]}}, "identifiers holds 'user' more than once; name each"),
        ({"identity": {"identifiers": ["user"], "devices": ["user"] * 2}}, "devices holds 'user' more than once"),
        ({"identity": {"identifiers": ["user"], "phones": ["user"] * 2}}, "phones holds 'user' more than once"),
        ({"identity": {"identifiers": ["user"], "caps": {"usr": "1"}}}, "(user). Did you mean 'user'?"),
        ({"identity": {"identifiers": ["user"], "caps": {"user": "x"}}}, "Write '1' for one ever, or '5 per 365d'."),
        ({"identity": {"identifiers": ["user"], "blocked_patterns": ["("]}}, "'(' is not a regular expression"),
    ],
)
def test_a_problem_names_its_place_and_the_remedy(changes: dict[str, Any], said: str) -> None:
    assert said in problems(**changes)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"time": "t"}, "sources.web.time: found 't'. It is a table: write time = { column = \"t\" }."),
        ({"received": "t"}, 'write received = { column = "t" }.'),
        ({"satisfaction": "s"}, 'write satisfaction = { column = "s", low = …, high = … }.'),
        ({"similar": "x"}, "write similar = { compare = …, block_on = … }."),
        ({"stops": "x"}, "write stops = { max_quarantine_share = … }."),
        ({"identifiers": "u"}, 'write identifiers = { NAME = "u" }. Identifier = field.'),
        ({"where": "x"}, "write where = { NAME = … }. Column = allowed values"),
        ({"emits": "x"}, "It is a list of tables: write emits = [{ event = …, time = … }]."),
        ({"emits": ["x"]}, "It is a list of tables: write emits = [{ event = …, time = … }]."),
        ({"optional": "x"}, 'It is a list: write optional = ["x"].'),
        ({"event": 3}, 'It is the name of a column, or a table: write event = "…".'),
    ],
)
def test_a_text_where_a_table_belongs_says_how_to_write_it(keys: dict[str, Any], said: str) -> None:
    text = problems(sources=[{**GOOD["sources"][0], **keys}])
    assert said in text
    assert "valid" not in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"privacy": "x"}, "write [privacy] on a line of its own and its keys below it (minimum_cell, erase)."),
        ({"sources": {"name": "x"}}, "sources: found a table. It is a list of tables: write [[sources]] on a line"),
        ({"stages": ["x"]}, "Each of stages is a table: write [[stages]] on a line"),
        ({"plans": "x"}, "It is a table of tables: write [plans.NAME] on a line"),
        (
            {"plans": {"a": "x"}},
            "write [plans.a] on a line of its own and its keys below it (steps, on, within, others, allowed).",
        ),
        ({"chapters": {"03_map": 1}}, "write [chapters.03_map] on a line of its own"),
    ],
)
def test_a_text_where_a_part_belongs_says_how_to_write_it(changes: dict[str, Any], said: str) -> None:
    assert said in problems(**changes)


def test_no_sentence_ends_twice() -> None:
    text = problems(sessions={"gap": "x"}, identity={"identifiers": ["user"], "caps": {"user": "x"}})
    assert ".." not in text


def test_all_problems_come_at_once() -> None:
    text = problems(study={"titel": "x"}, sessions={"gap": 1}, funnels={"Buy": {"steps": ["a", "b"]}})
    assert text.startswith("journey.toml: 4 problems.")


def test_an_experiment_whose_split_does_not_sum_to_one() -> None:
    test = {
        "name": "t",
        "hypothesis": "h",
        "exposure": "seen",
        "arms": {"a": 0.5, "b": 0.6},
        "control": "a",
        "metrics": [{"name": "m", "event": "buy"}],
    }
    assert "the planned split sums to 1.1, not to 1" in problems(experiments=[test])


def test_every_preset_can_be_used_by_one_line() -> None:
    for name in config.presets():
        plan = config.parse(
            {
                **GOOD,
                "identity": {"identifiers": ["customer", "email", "order", "phone", "device"]},
                "sources": [{"name": "x", "path": "raw/*", "preset": name}],
            }
        )
        assert plan.sources[0].time.column


def test_a_preset_can_be_overridden_key_by_key(tmp_path: Path) -> None:
    below, above = {"time": {"column": "a", "unit": "s"}, "event": "e"}, {"time": {"zone": "Asia/Tokyo"}, "event": "f"}
    assert config._merge(below, above) == {"time": {"column": "a", "unit": "s", "zone": "Asia/Tokyo"}, "event": "f"}


def test_files_that_are_no_study(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match="not found"):
        config.load(tmp_path / "journey.toml")
    (tmp_path / "journey.toml").write_text("[study\n")
    with pytest.raises(JourneyError, match="not valid TOML"):
        config.load(tmp_path / "journey.toml")
