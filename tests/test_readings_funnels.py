"""Readings, findings and charts of funnels: the numbers in the sentences are those of the tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from journeykit import funnel_segments, funnel_spells, funnel_times, funnel_trend, funnels, present
from journeykit.config import Step
from journeykit.plots import funnel_times as time_plots
from journeykit.plots import funnels as plots
from journeykit.plots import theme
from journeykit.readings import funnel_segments as segment_readings
from journeykit.readings import funnel_times as time_readings
from journeykit.readings import funnels as readings
from tests.conftest import make_log

STEPS = ["ad", "visit | call", "buy"]
UNTIL = pd.Timestamp("2025-03-01")


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    people = ["ad/app visit/app x", "ad/web x", "ad/web visit/web buy/web", "ad/web call/web y"]
    return make_log(" | ".join(f"u: {text}" for text in people * 20))


@pytest.fixture(scope="module")
def reached(log: pd.DataFrame) -> funnels.Reached:
    return funnels.reach(log, steps=STEPS, within="7d", by=["channel"], until=UNTIL)


@pytest.fixture(scope="module")
def shop() -> funnels.Reached:
    """Two months, two kinds of device in two countries; phones fall behind at the order, and late ones are open."""
    rng, people = np.random.default_rng(5), []
    for _ in range(900):
        channel = rng.choice(["phone", "laptop"])
        at = rng.uniform(0, 60)
        text = f"u: ad@{at:.3f}d/{channel}"
        if rng.random() < 0.8:
            at += rng.exponential(1)
            text += f" visit@{at:.3f}d/{channel}"
            if rng.random() < (0.25 if channel == "phone" else 0.5):
                text += f" buy@{at + rng.exponential(2):.3f}d/{channel}"
        people.append(text)
    log = make_log(" | ".join(people))
    log = log.assign(team=np.where(log["person_id"] % 3 == 0, "north", "south"))
    rules = {"steps": ["ad", "visit", "buy"], "within": "7d", "until": pd.Timestamp("2025-03-02")}
    return funnels.reach(log, by=["channel", "team"], **rules)


def test_the_leak_is_the_largest_share_not_the_largest_number(reached: funnels.Reached) -> None:
    table = funnels.count(reached)
    found = readings.leak(table)
    assert found is not None
    assert (found["start"], found["end"], found["step_number"], found["n"]) == ("visit | call", "buy", 3, 60)
    assert found["value"] == pytest.approx(2 / 3)
    assert found["low"] < found["value"] < found["high"]
    assert readings.leak_step(table) == "visit | call"
    assert readings.leak_value(table) == "visit"
    text = readings.funnel(table, "person", "7d")
    assert "Of 80 people with ad, 25.0 % (" in text
    assert "from visit | call to buy: 66.7 % (" in text
    assert "of 60 people" in text
    assert "within 7 days" in text
    assert "more people came in so late" not in text


def test_an_optional_step_is_no_leak() -> None:
    log = make_log(" | ".join(["u: ad buy"] * 36 + ["u: ad call buy"] * 2 + ["u: ad"] * 2))
    table = funnels.funnel(log, steps=["ad", "call?", "buy"])
    found = readings.leak(table)
    assert found is not None
    assert (found["start"], found["end"], found["value"]) == ("ad", "buy", pytest.approx(0.05))


def test_few_are_not_called_a_leak() -> None:
    table = funnels.funnel(make_log("u1: ad"), steps=STEPS)
    assert readings.leak(table) is None
    assert readings.leak_step(table) == ""
    assert readings.leak_value(table) == ""
    assert "Nobody" in readings.funnel(funnels.funnel(make_log("u1: z"), steps=STEPS))


def test_those_whose_time_is_not_over_are_told_of(shop: funnels.Reached) -> None:
    table = funnels.count(shop)
    waiting = int(table["open_n"].iloc[0])
    assert waiting > 0
    assert f"{waiting} more people came in so late" in readings.funnel(table)
    late = funnels.funnel(make_log("u1: ad"), steps=["ad", "buy"], within="9d", until=pd.Timestamp("2025-01-03"))
    assert readings.funnel(late) == "All 1 people with ad still have time to go on; nothing can be said."


def test_other_kinds_of_funnel_are_named_as_they_are(log: pd.DataFrame) -> None:
    opened = readings.funnel(funnels.funnel(log, steps=STEPS, entry="open"))
    assert "Of 80 people who took any of the 3 steps, 25.0 % (" in opened
    assert "reached buy, wherever they came in" in opened
    free = readings.funnel(funnels.funnel(log, steps=STEPS, order="any"), "session")
    assert "sessions that took any of the 3 steps" in free
    assert "took all of them" in free


def test_times_in_words(shop: funnels.Reached) -> None:
    table = funnel_times.times(shop)
    text = time_readings.times(table, "person", "7d")
    whole = table.iloc[-1]
    median = present.seconds(86_400 * whole["median_days"])
    assert f"Half of the {whole['converted_n']} people who went through took {median} or less (95 % interval" in text
    assert f"an estimated {present.share(whole['gone_on_share'])} (" in text
    assert "half of all is not reached" in text
    assert "The slowest step is from visit to buy" in text
    assert "There is no window" not in text
    assert "There is no window" in time_readings.times(table)
    reachable = table.assign(half_days=3.0, half_days_low=2.5, half_days_high=np.nan)
    assert "after an estimated 3.0 days (95 % interval from 2.5 days, without an upper end)" in time_readings.times(
        reachable
    )


def test_curves_in_words(shop: funnels.Reached) -> None:
    table = funnel_times.conversion_curve(shop)
    last = table.iloc[-1]
    assert f"an estimated {present.share(last['converted_share'])} (" in time_readings.curve(table)
    assert "after the first entry" in time_readings.curve(table)
    step = time_readings.curve(funnel_times.conversion_curve(shop, part="buy"))
    assert "after the step before it" in step
    assert "have gone on to buy" in step
    segments = time_readings.curve(funnel_times.conversion_curve(shop, by="channel"))
    assert segments.index("“laptop”") < segments.index("“phone”")
    nobody = funnel_times.conversion_curve(
        funnels.reach(make_log(" | ".join(["u: ad"] * 40)), steps=STEPS, until=UNTIL)
    )
    assert time_readings.curve(nobody).startswith("None of 40 people had converted")


def test_speeds_are_compared_in_words(shop: funnels.Reached) -> None:
    table = funnel_times.compare_curves(shop, by="channel")
    assert "go on at different speeds (p < 0.001" in time_readings.compare_curves(table)
    table.attrs["joint_p_value"] = 0.4
    assert "do not differ in speed more than chance makes likely (p = 0.400" in time_readings.compare_curves(table)
    table.attrs["joint_p_value"] = 0.04
    assert "none stands out" in time_readings.compare_curves(table.assign(p_adjusted=0.06))


def test_segments_in_words(shop: funnels.Reached) -> None:
    text = segment_readings.segments(funnel_segments.by_segment(shop, "channel"))
    assert text.startswith("“laptop” converts best, with ")
    table = funnel_segments.compare(shop, "channel", adjust="team")
    phone = table.set_index("segment").loc["phone"]
    text = segment_readings.differences(table, adjust="team")
    assert text.count("“phone”") == 1
    assert "“laptop”" not in text  # the mirror of the other
    assert f"“phone” converts {present.number(-phone['difference_points'])} percentage points less" in text
    assert f"Among people with the same team it is {present.number(-phone['adjusted_points'])}" in text
    table.attrs["joint_p_value"] = 0.2
    assert "single ones are not compared then" in segment_readings.differences(table)
    steps = funnel_segments.compare_steps(shop, "channel")
    behind = segment_readings.behind(steps)
    assert behind.startswith("“phone” falls behind most at buy: of ")
    assert "makes all of its gap" in behind
    assert "That makes 62 % of its gap" in segment_readings.behind(steps.assign(gap_share=[0.38, 0.62]))
    assert "may be chance" in segment_readings.behind(steps.assign(p_adjusted=0.2))
    ahead = funnel_segments.compare_steps(shop, "channel", segment="laptop").iloc[1:]
    assert segment_readings.behind(ahead) == "“laptop” falls behind at no step."


def test_a_trend_in_words(shop: funnels.Reached) -> None:
    table = funnel_trend.trend(shop)
    assert table.attrs["period"] == "week"
    text = time_readings.trend(table)
    assert "Everybody is given 7.0 days after the first entry" in text
    assert "can only rise" in text
    table.attrs.update(change_p_value=0.01)
    said = time_readings.trend(table)
    assert "more than chance makes likely (p = 0.010)" in said
    mature = table[table["is_mature"]]
    early, later = mature.iloc[: len(mature) - len(mature) // 2], mature.iloc[len(mature) - len(mature) // 2 :]
    for part in (early, later):
        assert f"{present.share(part['converted_n'].sum() / part['n'].sum())} (" in said
        assert f"({part['period'].iloc[0]} to {part['period'].iloc[-1]})" in said
    table.attrs.update(change_p_value=0.5, differ_p_value=0.01)
    assert "without a steady rise or fall" in time_readings.trend(table)
    table.attrs.update(change_p_value=0.5, differ_p_value=0.5)
    assert "within chance" in time_readings.trend(table)
    assert "Too few weeks are over" in time_readings.trend(table.head(2))


def test_findings(shop: funnels.Reached) -> None:
    steps, times = funnels.count(shop), funnel_times.times(shop)
    compared = funnel_segments.compare(shop, "channel", adjust="team")
    behind, trend = funnel_segments.compare_steps(shop, "channel"), funnel_trend.trend(shop)
    trend.attrs["change_p_value"] = 0.01
    trend.loc[0, ["n", "converted_n"]] = [400, 380]
    options = {"behind": behind, "trend": trend, "owner": "Checkout team", "within": "7d"}
    found = {item.id: item for item in readings.findings(steps, times, compared, **options)}
    assert set(found) == {"funnel_leak", "funnel_conversion", "funnel_time", "funnel_segments", "funnel_trend"}
    leak = found["funnel_leak"]
    assert leak.headline
    assert leak.label
    assert leak.action
    assert leak.owner == "Checkout team"
    assert (leak.value, leak.n) == (pytest.approx(1 - steps["share_of_previous"].iloc[2]), steps["n"].iloc[1])
    assert "whose time is not over are left out" in leak.caveat
    time = found["funnel_time"]
    assert (time.value, time.n, time.unit) == (times["median_days"].iloc[-1], times["converted_n"].iloc[-1], "days")
    gap, phone = found["funnel_segments"], compared.set_index("segment").loc["phone"]
    assert gap.value == pytest.approx(phone["difference_points"])
    assert (gap.low or 0) < (gap.value or 0) < (gap.high or 0) < 0
    assert gap.evidence == "associated"
    assert "before buy" in gap.action
    assert "Adjusted for a different mix it is" in gap.caveat
    assert "Conversion has fallen, from " in found["funnel_trend"].statement
    assert all(item.low is not None and item.high is not None and item.n for item in found.values())


def test_what_is_not_sure_is_no_finding(shop: funnels.Reached) -> None:
    compared = funnel_segments.compare(shop, "team")
    assert not (compared["p_adjusted"] < 0.05).any()
    found = {item.id for item in readings.findings(funnels.count(shop), None, compared, trend=funnel_trend.trend(shop))}
    assert found == {"funnel_leak", "funnel_conversion"}


def test_sessions_of_one_person_are_a_caveat(log: pd.DataFrame) -> None:
    table = funnels.funnel(log, steps=STEPS, per="session")
    found = readings.findings(table, per="session")
    assert all("Sessions of one person are alike" in item.caveat for item in found)
    assert "of the sessions that reach" in found[0].statement


def test_known_people_are_quoted() -> None:
    columns = ["segment", "step_number", "step", "n", "share_of_start", "share_of_start_low", "share_of_start_high"]
    rows = [["all people", 1, "ad", 100, 1, 1, 1], ["all people", 2, "buy", 20, 0.2, 0.13, 0.29]]
    rows += [["verified identity", 1, "ad", 50, 1, 1, 1], ["verified identity", 2, "buy", 20, 0.4, 0.28, 0.54]]
    table = pd.DataFrame(rows, columns=columns)
    assert (
        "Of 50 people with a verified identity, 40.0 % (28.0–54.0 %) reach buy; of all 100, 20.0 %"
        in readings.known(table)
    )
    steps = funnels.funnel(make_log(" | ".join(["u: ad buy", "u: ad"] * 20)), steps=["ad", "buy"])
    caveats = {item.id: item.caveat for item in readings.findings(steps, by_identity=table)}
    assert "of 50 people with a verified identity it is 40.0 %" in caveats["funnel_conversion"]


def test_nothing_to_say_about_empty_tables() -> None:
    empty = funnels.reach(make_log("u1: ad").head(0), steps=STEPS, by=["channel"])
    for table, say in (
        (funnels.funnel(make_log("u1: ad"), steps=[]), readings.funnel),
        (funnel_times.times(empty), time_readings.times),
        (funnel_times.conversion_curve(empty), time_readings.curve),
        (funnel_times.compare_curves(empty, by="channel"), time_readings.compare_curves),
        (funnel_trend.trend(empty), time_readings.trend),
        (funnel_segments.by_segment(empty, "channel"), segment_readings.segments),
        (funnel_segments.compare(empty, "channel"), segment_readings.differences),
        (funnel_segments.compare_steps(empty, "channel"), segment_readings.behind),
    ):
        assert say(table) == ""
    nothing = [funnel_times.times(empty), funnel_segments.compare(empty, "channel")]
    trend, behind = funnel_trend.trend(empty), funnel_segments.compare_steps(empty, "channel")
    assert readings.findings(funnels.count(empty), *nothing, trend=trend, behind=behind) == []


LONG = "A step with a name that is much longer than anybody would give to it, so that it has to be broken"


@pytest.fixture(scope="module")
def long() -> funnels.Reached:
    steps = [Step(event=[f"s{k}"], name=f"{k} {LONG}", optional=k in (3, 4)) for k in range(12)]
    texts = [" ".join(f"s{j}@{j}h/{LONG.replace(' ', '_')}_{k % 3}" for j in range(k % 13)) for k in range(1, 90)]
    return funnels.reach(make_log(" | ".join(f"u: {text}" for text in texts if text)), steps=steps, by=["channel"])


def texts(ax: Axes) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in [*ax.get_yticklabels(), *ax.texts]]


def charts(found: funnels.Reached) -> list[tuple[pd.DataFrame, Callable[[pd.DataFrame], Axes]]]:
    return [
        (funnels.count(found), plots.funnel),
        (funnel_segments.by_segment(found, "channel"), plots.segments),
        (funnel_segments.compare(found, "channel", min_n=1), plots.differences),
        (funnel_times.times(found, min_n=1), time_plots.times),
        (funnel_times.conversion_curve(found, min_n=1), time_plots.curves),
        (funnel_times.conversion_curve(found, by="channel", min_n=1), time_plots.curves),
        (funnel_trend.trend(found), time_plots.trend),
    ]


def test_charts_take_the_tables(
    shop: funnels.Reached, long: funnels.Reached, reached: funnels.Reached, log: pd.DataFrame
) -> None:
    for found in (shop, long, reached):
        for table, draw in charts(found):
            before = table.copy()
            assert theme.svg(draw(table)).startswith("<?xml")
            pd.testing.assert_frame_equal(table, before)
    tiny = funnels.reach(make_log("u1: ad buy | u2: ad/app"), steps=["ad", "buy"], by=["channel"])
    for table, draw in charts(tiny):
        assert isinstance(draw(table), Axes)
    nobody = funnels.reach(make_log("u1: z"), steps=["q", "z"])
    assert isinstance(plots.funnel(funnels.count(nobody)), Axes)
    for rules in ({"entry": "open"}, {"order": "any"}):
        ax = plots.funnel(funnels.funnel(log, steps=STEPS, **rules))
        assert "took any step" in ax.get_xlabel()
    assert isinstance(plots.differences(funnel_segments.compare(shop, "channel", adjust="team")), Axes)


def test_no_label_is_cut(long: funnels.Reached) -> None:
    said = texts(plots.funnel(funnels.count(long)))
    assert f"11 {LONG}" in said
    assert f"3 {LONG} (optional)" in said
    whole = funnel_times.times(long, min_n=1)
    assert f"Whole funnel: 0 {LONG} → 11 {LONG}" in texts(time_plots.times(whole))
    segments = {text.replace(" ", "") for text in texts(plots.segments(funnel_segments.by_segment(long, "channel")))}
    assert LONG.replace(" ", "_") + "_0" in segments


def test_the_chart_of_a_funnel_names_its_largest_leak_and_who_waits(shop: funnels.Reached) -> None:
    table = funnels.count(shop)
    ax = plots.funnel(table)
    loud = [text for text in ax.texts if text.get_weight() == "bold" and "lost" in text.get_text()]
    lost = 1 - table["share_of_previous"].iloc[2]
    assert [text.get_text() for text in loud] == [
        f"−{present.share(lost)} of the step before: {table['lost_n'].iloc[2]} lost, the largest leak"
    ]
    assert any(text.endswith(f"{table['open_n'].iloc[0]} open") for text in texts(ax))
    assert "their time is not over yet" in ax.get_xlabel()


def test_a_point_that_still_waits_is_hollow(shop: funnels.Reached) -> None:
    table = funnel_trend.trend(shop)
    ax = time_plots.trend(table)
    faces = [line.get_markerfacecolor() for line in ax.lines if line.get_marker() == "o"]
    assert faces == [theme.MAIN, "white"]
    hollow = [line for line in ax.lines if line.get_marker() == "o"][1]
    assert len(hollow.get_xdata()) == int((~table["is_mature"]).sum())


def test_the_whole_funnel_is_the_last_part() -> None:
    rules = funnels.reach(make_log("u1: ad"), steps=STEPS).rules
    assert funnel_spells.parts(rules)[-1].name == funnel_spells.WHOLE
