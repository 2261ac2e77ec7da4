"""Changes without a test: series against hand counts, effects against planted ones, reasons instead of errors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from journeykit import engine
from journeykit.changes import around, before_after, counterfactual, differences, effects, placebo, series
from journeykit.config_changes import Change, Series
from journeykit.errors import JourneyError
from journeykit.plots import changes as plots
from journeykit.plots import theme
from journeykit.readings import changes as readings
from tests.conftest import make_log

ROOT = Path(__file__).resolve().parent.parent
COUNT = Series(name="orders", event="buy")
NO = pd.DataFrame(make_log("u1: x")).iloc[:0]
STEP = pd.Timestamp("2025-06-02")


def moment(at: str = "2025-06-02", **more: str) -> around.Moment:
    return around.Moment(at=pd.Timestamp(at), **more)


def days(values: np.ndarray, per: np.ndarray | None = None, last: str = "2025-07-13") -> pd.DataFrame:
    """A series by day that ends on `last`; with `per`, values are the numerator of a share."""
    at = pd.date_range(end=last, periods=len(values))
    table = pd.DataFrame({"day": at, "top": values.astype(float), "per": np.nan if per is None else per.astype(float)})
    table["n"] = table["top"] if per is None else table["per"]
    table["value"] = table["top"] if per is None else table["top"] / table["per"].where(table["per"] > 0)
    return table.assign(is_complete=True)


def noisy(n: int, seed: int = 0, level: float = 100) -> np.ndarray:
    week = np.array([5, 6, 7, 6, 5, -14, -15.0])
    return level + week[np.arange(n) % 7] * level / 100 + np.random.default_rng(seed).normal(0, 4 * level / 100, n)


# ── series ──


def test_every_kind_of_series_is_counted_as_by_hand() -> None:
    log = make_log("u1: visit@1d buy@25h buy@26h visit@49h | u2: visit@30h buy@50h/app | u3: visit@5d")
    log.loc[log["event"] == "buy", "value"] = [0.1, 0.2, 5.0]
    log.loc[log["event"] == "visit", "satisfaction"] = [1.0, np.nan, 0.5, np.nan]
    until = pd.Timestamp("2025-01-06 12:00")

    def values(**keys: object) -> list[float | None]:
        found = series.daily(log, Series(name="x", **keys), until=until)["value"]
        return [None if math.isnan(value) else round(value, 6) for value in found]

    assert values(event="buy") == [2, 1, 0, 0, 0], "from its first day to the end of observation, empty days are 0"
    assert values(event="buy", kind="people") == [1, 1, 0, 0, 0]
    assert values(event="buy", kind="value") == [0.3, 5, 0, 0, 0], "exact sums"
    assert values(event="buy", per="visit", kind="share") == [1, 1, None, None, 0]
    assert values(event="visit", kind="satisfaction") == [0.75, None, None, None, None]
    assert values(event="buy", where={"channel": "app"}) == [1, 0, 0, 0]
    assert values() == [4, 2, 0, 0, 1], "no event named: all of them"
    complete = series.daily(log, Series(name="x"), until=until)["is_complete"].tolist()
    assert complete == [False, True, True, True, False], "neither the day of the first touch nor the last day is whole"


def test_days_begin_where_the_zone_says_and_nothing_after_the_end_counts() -> None:
    log = make_log("u1: a@1h a@23h a@50h")
    found = series.daily(log, Series(name="x"), timezone="Europe/Berlin", until=pd.Timestamp("2025-01-02 23:00"))
    assert found["day"].astype(str).tolist() == ["2025-01-01", "2025-01-02", "2025-01-03"]
    assert found["top"].tolist() == [1, 1, 0]
    assert found["is_complete"].tolist() == [False, True, False]
    with pytest.raises(JourneyError, match="'Mars' is not a time zone"):
        series.daily(log, Series(name="x"), timezone="Mars", until=pd.Timestamp("2025-02-01"))


def test_an_unknown_value_adds_nothing_and_is_counted() -> None:
    log = make_log("u1: buy@1d buy@25h")
    log["value"] = [None, 3.0]
    found = series.daily(log, Series(name="x", kind="value"), until=pd.Timestamp("2025-01-05"))
    assert (found["top"].iloc[0], found.attrs["unknown_n"]) == (3.0, 1)


@pytest.mark.parametrize("log", [NO, make_log("u1: visit")], ids=["no row", "not its event"])
def test_a_series_without_events_says_so(log: pd.DataFrame) -> None:
    found = series.daily(log, COUNT, until=pd.Timestamp("2025-01-05"))
    assert found.empty
    assert "event" in found.attrs["reason"]
    told = around.around(found, COUNT, moment=moment())
    assert counterfactual.counterfactual(told, COUNT).effect.attrs["reason"] == found.attrs["reason"]
    assert before_after.before_after(told, COUNT).attrs["reason"]
    assert placebo.placebo(told, COUNT).attrs["reason"]


def test_weeks_hold_whole_weeks_only_and_one_begins_at_the_change() -> None:
    table = days(np.ones(23))
    found = series.blocks(table, COUNT, origin=pd.Timestamp("2025-07-02"))
    assert found["at"].astype(str).tolist() == ["2025-06-25", "2025-07-02"]
    assert found["value"].tolist() == [1, 1], "per day"
    assert found["top"].tolist() == [7, 7]


# ── around a change ──


def test_the_day_of_the_change_is_on_neither_side_unless_it_came_at_midnight() -> None:
    table = days(noisy(150))
    at_noon = around.around(table, COUNT, moment=moment("2025-06-02T12:00"))
    assert STEP not in set(at_noon["at"])
    at_midnight = around.around(table, COUNT, moment=moment())
    assert at_midnight.loc[at_midnight["is_after"], "at"].iloc[0] == STEP
    settled = around.around(table, COUNT, moment=moment(settle="3d"))
    assert settled.loc[settled["is_after"], "at"].iloc[0] == STEP + pd.Timedelta(days=3)
    assert settled.loc[~settled["is_after"], "at"].iloc[-1] == STEP - pd.Timedelta(days=1)


def test_few_events_a_day_are_put_together_in_weeks() -> None:
    few = around.around(days(np.random.default_rng(0).poisson(4, 200)), COUNT, moment=moment())
    many = around.around(days(np.random.default_rng(0).poisson(40, 200)), COUNT, moment=moment())
    assert (few.attrs["width"], many.attrs["width"]) == (7, 1)
    assert few["value"].mean() == pytest.approx(4, rel=0.1), "weeks are told per day too"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (days(noisy(42)), "too little before the change"),  # all of it after
        (days(noisy(49)), "too little before the change (7 complete days"),
        (days(noisy(200), last="2025-06-01"), "too early (0 complete days since the change"),
        (days(noisy(200), last="2025-06-05"), "too early (4 complete days since the change"),
        (days(np.full(200, 50.0)), "never varied before"),
        (days(np.zeros(200)), "too few events"),
        (days(noisy(7)), "too little before"),
        (days(np.random.default_rng(0).poisson(0.5, 200)), "too few events a week"),
    ],
)
def test_what_cannot_be_told_ends_with_a_sentence(table: pd.DataFrame, says: str) -> None:
    found = around.around(table, COUNT, moment=moment())
    assert found.empty
    assert says in found.attrs["reason"]
    assert counterfactual.counterfactual(found, COUNT).path.attrs["reason"] == found.attrs["reason"]


def test_a_gap_a_missing_control_and_a_constant_control_do_no_harm() -> None:
    values = noisy(200)
    values[60:75] = 0
    gap = counterfactual.counterfactual(around.around(days(values), COUNT, moment=moment()), COUNT).effect
    assert np.isfinite(gap[["effect", "effect_low", "effect_high"]].to_numpy(dtype=float)).all()
    per = np.full(200, 60.0)
    per[50:60] = 0
    share = Series(name="s", kind="share", event="a", per="b")
    top = np.random.default_rng(1).binomial(per.astype(int), 0.4)
    holed = counterfactual.counterfactual(around.around(days(top, per), share, moment=moment()), share).effect.iloc[0]
    assert holed["effect_low"] < 0 < holed["effect_high"]
    for beside, says in ((days(np.full(200, 3.0)), "never varied"), (days(noisy(20)), "no value on many days")):
        found = around.around(days(noisy(200)), COUNT, moment=moment(), control=beside, control_series=COUNT)
        assert found["control"].isna().all()
        assert says in found.attrs["note"]


# ── effects ──


def test_a_planted_step_is_found_and_a_control_sharpens_it() -> None:
    drift = np.cumsum(np.random.default_rng(4).normal(0, 1.5, 200))
    values = noisy(200, 1) + drift
    values[-42:] += 20
    beside = noisy(200, 2) + drift
    alone = around.around(days(values), COUNT, moment=moment())
    both = around.around(days(values), COUNT, moment=moment(), control=days(beside), control_series=COUNT)
    plain, sharp = (counterfactual.counterfactual(table, COUNT).effect.iloc[0] for table in (alone, both))
    assert sharp["effect_low"] < 20 < sharp["effect_high"]
    assert sharp["effect_low"] > 0
    assert sharp["effect_high"] - sharp["effect_low"] < plain["effect_high"] - plain["effect_low"]
    assert sharp["total"] == pytest.approx(42 * sharp["effect"])
    assert sharp["relative_share"] == pytest.approx(sharp["effect"] / sharp["expected"])
    assert sharp["p_value"] < 0.05


def test_the_estimate_is_near_that_of_the_likeliest_model() -> None:
    """An independent way: maximum likelihood of the same model and its forecast."""
    values = noisy(158, 5)
    table = around.around(days(values), COUNT, moment=moment())
    found = counterfactual.counterfactual(table, COUNT).effect.iloc[0]
    y = table["value"].to_numpy()
    split = int((~table["is_after"]).sum())
    fit = sm.tsa.UnobservedComponents(y[:split], level="llevel", seasonal=7, stochastic_seasonal=False).fit(disp=0)
    expected = fit.forecast(len(y) - split).mean()
    assert found["expected"] == pytest.approx(expected, abs=0.25 * (found["effect_high"] - found["effect_low"]))


def test_it_repeats_and_leaves_its_input_alone() -> None:
    table = around.around(days(noisy(200)), COUNT, moment=moment())
    before = table.copy()
    first, second = (counterfactual.counterfactual(table, COUNT) for _ in range(2))
    pd.testing.assert_frame_equal(first.effect, second.effect)
    pd.testing.assert_frame_equal(first.path, second.path)
    pd.testing.assert_frame_equal(table, before)
    assert (
        first.path.loc[first.path["is_after"], "expected_low"] < first.path.loc[first.path["is_after"], "expected"]
    ).all()


def test_shares_are_weighed_by_their_denominators_and_stay_between_0_and_1() -> None:
    share = Series(name="s", kind="share", event="a", per="b")
    rng = np.random.default_rng(0)
    per = rng.integers(40, 400, 200)
    top = rng.binomial(per, np.where(np.arange(200) >= 158, 0.99, 0.97))
    table = around.around(days(top, per), share, moment=moment())
    found = counterfactual.counterfactual(table, share)
    row = found.effect.iloc[0]
    assert row["observed"] == pytest.approx(top[158:].sum() / per[158:].sum())
    assert found.path["expected_high"].max() <= 1.0 + 1e-9
    assert row["expected"] <= 1
    assert math.isnan(row["total"])


def test_before_after_is_newcombe_for_shares_and_welch_for_the_rest() -> None:
    share = Series(name="s", kind="share", event="a", per="b")
    rng = np.random.default_rng(0)
    per = np.full(200, 50)
    table = around.around(days(rng.binomial(per, 0.5), per), share, moment=moment())
    row = before_after.before_after(table, share).iloc[0]
    sides = table.groupby("is_after")[["top", "per"]].sum()
    assert row["effect"] == pytest.approx(
        sides["top"][True] / sides["per"][True] - sides["top"][False] / sides["per"][False]
    )
    counts = before_after.before_after(around.around(days(noisy(200)), COUNT, moment=moment()), COUNT).iloc[0]
    assert counts["effect_low"] < counts["effect"] < counts["effect_high"]


# ── placebo ──


def test_a_step_stands_out_among_placebo_dates_and_nothing_does_not() -> None:
    values = noisy(260, 4)
    quiet = placebo.placebo(around.around(days(values), COUNT, moment=moment()), COUNT)
    values[-42:] += 25
    loud = placebo.placebo(around.around(days(values), COUNT, moment=moment()), COUNT)
    n = loud.attrs["dates_n"]
    assert n >= 20
    assert loud.attrs["placebo_share"] == pytest.approx(1 / (n + 1)), "none as large"
    assert quiet.attrs["placebo_share"] > 0.1
    fakes = loud.loc[~loud["is_real"].astype(bool)]
    assert (fakes["at"] + pd.Timedelta(days=28) <= STEP).all(), "no placebo sees the real change"
    assert set(fakes["at"].dt.weekday) == {STEP.weekday()}


def test_the_plain_comparison_cries_wolf_where_a_series_drifts() -> None:
    drift = np.cumsum(np.random.default_rng(1).normal(0, 2.0, 260))
    found = placebo.placebo(around.around(days(noisy(260, 2, 200) + drift), COUNT, moment=moment()), COUNT)
    assert found.attrs["plain_wolf_share"] > 2 * found.attrs["wolf_share"]
    assert found.attrs["plain_wolf_share"] > 0.4


def test_too_few_placebo_dates_say_how_many_days_it_takes() -> None:
    found = placebo.placebo(around.around(days(noisy(120)), COUNT, moment=moment()), COUNT)
    assert found.empty
    assert "placebo dates fit into the time before" in found.attrs["reason"]


# ── difference in differences ──


def grouped(lift: float, groups: int, seed: int = 0, drift: float = 0.0) -> pd.DataFrame:
    """Touches of shops (half of them treated) over 20 weeks before and 6 after, all under one common season."""
    rng = np.random.default_rng(seed)
    at = pd.date_range("2025-01-06", periods=26 * 7)
    season = np.exp(0.4 * np.sin(np.arange(len(at)) / 25))
    rows = []
    for group in range(groups):
        treated = group < groups // 2
        size = rng.uniform(4, 12) * np.exp(drift * treated * np.arange(len(at)) / 7)
        counts = rng.poisson(size * season * (1 + lift * treated * (np.arange(len(at)) >= 140)))
        for day, n in zip(at, counts, strict=True):
            rows += [(day + pd.Timedelta(minutes=int(m)), "buy", f"shop{group}", group) for m in range(n)]
    return pd.DataFrame(rows, columns=["timestamp", "event", "shop", "person_id"])


def change(groups: int) -> Change:
    return Change(
        name="c", at="2025-05-26", metric=COUNT, groups="shop", treated=[f"shop{i}" for i in range(groups // 2)]
    )


@pytest.mark.parametrize(("groups", "lift"), [(2, 0.6), (20, 0.25)])
def test_differences_take_out_the_season_and_find_the_lift(groups: int, lift: float) -> None:
    until = pd.Timestamp("2025-07-07")
    found = differences.differences(grouped(lift, groups), change(groups), until=until)
    row = found.effect.iloc[0]
    assert row["relative_share_low"] < lift < row["relative_share_high"]
    assert row["relative_share_low"] > 0
    assert found.effect.attrs["few_units"] == (groups == 2)
    assert ("Blocks are weeks" in row["note"]) == (groups == 2)
    assert "No drift" in row["note"]
    assert row["effect"] == pytest.approx(row["observed"] - row["expected"])
    null = differences.differences(grouped(0, groups, 2), change(groups), until=until).effect.iloc[0]
    assert null["relative_share_low"] < 0 < null["relative_share_high"]


def test_sides_that_drifted_apart_before_are_named() -> None:
    found = differences.differences(grouped(0, 4, drift=0.04), change(4), until=pd.Timestamp("2025-07-07"))
    assert "drifting apart before the change" in found.effect["note"].iloc[0]


def test_differences_of_nobody_and_of_too_few_weeks_have_a_reason() -> None:
    log = grouped(0, 2)
    nobody = change(2).model_copy(update={"treated": ["elsewhere"]})
    assert (
        "of the treated (elsewhere)"
        in differences.differences(log, nobody, until=pd.Timestamp("2025-07-07")).effect.attrs["reason"]
    )
    early = differences.differences(log, change(2), until=pd.Timestamp("2025-05-30"))
    assert "0 after the change" in early.effect.attrs["reason"]
    assert differences.differences(log.iloc[:0], change(2), until=pd.Timestamp("2025-07-07")).trends.attrs["reason"]


# ── all together, on the bundled study ──

ONLINE = {"channel": ["web", "app"]}
CHECKOUT = Change(
    name="checkout_v2",
    title="Checkout v2",
    at="2025-09-14T22:00:00Z",
    metric=Series(name="completed", kind="share", event="order_placed", per="checkout_start", where=ONLINE),
    control=Series(name="in_cart", kind="share", event="add_to_cart", per="product_view"),
)
CARTS = Change(
    name="carts",
    at=CHECKOUT.at,
    metric=Series(name="carts", event="add_to_cart"),
    control=Series(name="v", event="product_view"),
)


@pytest.fixture(scope="module")
def found() -> effects.Results:
    path = ROOT / "data" / "laptop_store" / "derived" / "touches.parquet"
    if not path.exists():
        pytest.skip("the bundled study is not built")
    touches = engine.read_parquet(path)
    as_of = pd.Timestamp("2026-01-01")
    return effects.effects(touches, changes=[CHECKOUT, CARTS], timezone="Europe/Berlin", as_of=as_of, currency="EUR")


def test_the_planted_release_is_found_and_a_season_is_not_taken_for_an_effect(found: effects.Results) -> None:
    table = found.effects.set_index(["change", "method"])
    release = table.loc[("Checkout v2", "counterfactual")]
    planted = (525 + 156) / (657 + 220) - (751 + 295) / (1099 + 438)  # truth.json, release.checkouts
    assert release["effect_low"] < planted < release["effect_high"]
    assert release["effect_low"] > 0
    season = table.loc[("carts", "counterfactual")]
    assert season["effect_low"] < 0 < season["effect_high"], "the release comes after the cart"
    plain = table.loc[("carts", "before/after")]
    assert plain["effect_low"] > 0, "the plain comparison takes the season for an effect"


def test_pictures_sentences_and_findings_of_the_bundled_study(found: effects.Results) -> None:
    for ax in (plots.counterfactual(found.paths), plots.placebo(found.placebo), plots.methods(found.effects)):
        assert len(theme.svg(ax)) < 150_000
    text = readings.effects(found.effects)
    assert "quasi-experimental" in text
    assert "takes for an effect what the time before explains" in text
    assert "nan" not in text + readings.placebo(found.placebo) + readings.left_out(found.left_out)
    made = readings.findings(found.effects, found.placebo)
    assert [finding.evidence for finding in made] == ["quasi-experimental"] * 2
    assert made[0].value == pytest.approx(100 * found.effects["effect"].iloc[0])


def test_no_change_and_changes_that_tell_nothing_have_a_reason() -> None:
    until = pd.Timestamp("2025-02-01")
    assert effects.effects(NO, changes=[], as_of=until).effects.attrs["reason"] == effects.NO_CHANGE
    told = effects.effects(make_log("u1: buy@3d"), changes=[CHECKOUT], as_of=until)
    assert told.effects.empty
    assert list(told.left_out["method"]) == ["counterfactual", "placebo dates", "before/after"]
    assert readings.effects(told.effects) == ""
    assert readings.left_out(told.left_out).startswith("Checkout v2: ")
    assert readings.findings(told.effects, told.placebo) == []
