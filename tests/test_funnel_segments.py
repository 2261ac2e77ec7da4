"""Segments of funnels: credit by hand, sums, differences against published figures and packages, planted truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, fisher_exact
from statsmodels.stats.contingency_tables import StratifiedTable
from statsmodels.stats.proportion import confint_proportions_2indep

from journeykit import differences, engine, funnel_segments, funnels, stats
from journeykit.errors import JourneyError
from tests.conftest import make_log

STEPS = ["ad", "visit", "buy"]


def reach(text: str, **rules: object) -> funnels.Reached:
    return funnels.reach(make_log(text), by=["channel"], **{"steps": STEPS, **rules})


def outcomes(depth: np.ndarray, per: str = "person", person: object = None, **columns: object) -> funnels.Reached:
    """Units of a three-step funnel that reached a depth, with columns that have the same value at every step."""
    rows = pd.DataFrame({"unit": range(len(depth)), "attempt": 1, "depth": depth, "is_open": 0, "first_us": 0})
    rows = rows.assign(person_id=rows["unit"] if person is None else person)
    for k in (1, 2, 3):
        rows[f"at_{k}"] = pd.Series(np.full(len(depth), k), dtype="Int64").where(rows["depth"] >= k)
    for name, value in columns.items():
        rows = rows.assign(**{f"{name}_{k}": value for k in range(4)})
    rules = funnels.reach(make_log("u1: ad"), steps=STEPS, per=per).rules
    return funnels.Reached(engine.lazy(rows), rules, tuple(columns))


def sides(k: int, n: int, others_k: int, others_n: int) -> funnels.Reached:
    """Two segments of which so many convert."""
    depth = np.concatenate([np.full(m, d) for m, d in ((k, 3), (n - k, 1), (others_k, 3), (others_n - others_k, 1))])
    return outcomes(depth, seg=np.where(np.arange(n + others_n) < n, "a", "b"))


@pytest.mark.parametrize(
    ("credit", "expected"),
    [
        ("first", {"app": [2, 2, 1], "web": [1, 0, 0]}),
        ("last", {"web": [2, 1, 1], "tv": [1, 1, 0]}),
        ("all", {"(mixed)": [2, 2, 1], "web": [1, 0, 0]}),
    ],
)
def test_credit_by_hand(credit: funnel_segments.Credit, expected: dict[str, list[int]]) -> None:
    found = reach("u1: ad/app visit/app buy/web | u2: ad/app visit/tv | u3: ad/web")
    table = funnel_segments.by_segment(found, "channel", credit=credit)
    assert {name: part["n"].tolist() for name, part in table.groupby("segment")} == expected


def test_credit_at_a_step() -> None:
    found = reach("u1: ad/app visit/tv buy/web | u2: ad/app visit/tv | u3: ad/web visit/web buy/tv | u4: ad/web")
    table = funnel_segments.by_segment(found, "channel", credit="step", at="visit")
    assert table[["segment", "n"]].values.tolist() == [
        *[["tv", n] for n in (2, 2, 1)],
        *[["web", n] for n in (1, 1, 1)],
        *[["(not reached)", n] for n in (1, 0, 0)],
    ]
    nowhere = table[table["segment"] == "(not reached)"]
    assert nowhere[["share_of_start", "share_of_previous", "share_of_start_low"]].isna().all().all()
    assert table["share_of_previous"].tolist()[1:3] == [1, 0.5]


def test_first_is_the_first_entry_also_where_a_later_one_counts() -> None:
    """Somebody who fails, comes back by mail and converts, belongs to the channel that brought the first visit."""
    found = reach("u1: ad/app ad@9d/mail visit@9.1d buy@9.2d | u2: ad/app", within="1d")
    table = funnel_segments.by_segment(found, "channel")
    assert table[["segment", "n"]].values.tolist() == [["app", 2], ["app", 1], ["app", 1]]
    at_step = funnel_segments.by_segment(found, "channel", credit="step", at="ad")
    assert set(at_step["segment"]) == {"app", "mail"}


def test_a_missing_value_is_a_segment_and_small_ones_are_left_out() -> None:
    log = make_log("u1: ad/app | u2: ad/app | u3: ad/web | u4: ad/tv")
    log.loc[log["channel"] == "tv", "channel"] = None
    found = funnels.reach(log, steps=STEPS, by=["channel"])
    assert set(funnel_segments.by_segment(found, "channel")["segment"]) == {"app", "web", funnels.NO_VALUE}
    few = funnel_segments.by_segment(found, "channel", min_n=2)
    assert set(few["segment"]) == {"app"}
    assert few.attrs["left_out_n"] == 2


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["ad", "visit", "buy"]), st.sampled_from("abc")), min_size=1, max_size=7),
        min_size=1,
        max_size=8,
    )
)
def test_segments_add_up_to_the_funnel(people: list[list[tuple[str, str]]]) -> None:
    text = " | ".join("u: " + " ".join(f"{event}/{channel}" for event, channel in events) for events in people)
    found = reach(text, within="1d")
    every = funnels.count(found)
    for credit in funnel_segments.CREDITS:
        table = funnel_segments.by_segment(found, "channel", credit=credit, at="visit" if credit == "step" else "")
        if every["n"].iloc[0] == 0:
            assert table.empty
            continue
        assert table.groupby("step_number")["n"].sum().tolist() == every["n"].tolist()
        assert table.groupby("step_number")["lost_n"].sum().tolist() == every["lost_n"].tolist()


def test_compare_by_hand() -> None:
    """56 of 70 against 48 of 80: the example of Newcombe (1998), method 10."""
    table = funnel_segments.compare(sides(56, 70, 48, 80), "seg")
    assert table["segment"].tolist() == ["b", "a"]  # the larger one first
    row = table.iloc[1]
    assert row[["n", "converted_n", "others_n", "test"]].tolist() == [70, 56, 80, "chi-square"]
    points = row[["difference_points", "difference_points_low", "difference_points_high"]].tolist()
    assert points == pytest.approx([20, 5.24, 33.39], abs=0.01)
    assert (row["share_low"], row["share_high"]) == pytest.approx(stats.wilson(56, 70))
    p_value = chi2_contingency([[56, 14], [48, 32]], correction=False)[1]
    assert row["p_value"] == pytest.approx(p_value)
    assert table.attrs["joint_p_value"] == pytest.approx(p_value)  # of two segments both tests are the same
    assert row["p_adjusted"] == pytest.approx(2 * p_value)


def test_few_are_compared_exactly() -> None:
    row = funnel_segments.compare(sides(3, 10, 0, 12), "seg", min_n=1).iloc[1]
    assert row["test"] == "Fisher"
    assert row["p_value"] == pytest.approx(fisher_exact([[3, 7], [0, 12]])[1])
    nobody = funnel_segments.compare(sides(0, 40, 0, 50), "seg").iloc[0]
    assert nobody[["difference_points", "p_value", "p_adjusted", "test"]].tolist() == [0, 1, 1, "all alike"]
    assert nobody["difference_points_low"] < 0 < nobody["difference_points_high"]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1))
def test_newcombe_equals_statsmodels(n: int, others_n: int, share: float, others: float) -> None:
    k, others_k = round(share * n), round(others * others_n)
    expected = confint_proportions_2indep(k, n, others_k, others_n, method="newcomb", compare="diff")
    gap, low, high = differences.difference(k, n, others_k, others_n)
    assert (low, high) == pytest.approx(expected, abs=1e-9)
    assert -1 <= low <= gap <= high <= 1


def test_newcombe_covers() -> None:
    rng = np.random.default_rng(1)
    for n, others_n, share, others in ((40, 300, 0.05, 0.08), (30, 60, 0.5, 0.3), (25, 25, 0.9, 0.95)):
        hits = 0
        for k, others_k in zip(rng.binomial(n, share, 600), rng.binomial(others_n, others, 600), strict=True):
            _, low, high = differences.difference(k, n, others_k, others_n)
            hits += low <= share - others <= high
        assert 0.93 <= hits / 600 <= 0.995


def test_single_segments_are_compared_only_after_all_together() -> None:
    rng = np.random.default_rng(2)
    name = rng.choice(list("abcdef"), 3000)
    same = outcomes(np.where(rng.random(3000) < 0.3, 3, 1), seg=name)
    table = funnel_segments.compare(same, "seg")
    assert (table["p_adjusted"] >= table.attrs["joint_p_value"]).all()
    one_off = outcomes(np.where(rng.random(3000) < np.where(name == "c", 0.15, 0.3), 3, 1), seg=name)
    found = funnel_segments.compare(one_off, "seg")
    sure = found[found["p_adjusted"] < 0.05]
    assert sure["segment"].tolist() == ["c"]
    assert found.attrs["joint_p_value"] < 0.001


def test_equal_segments_are_seldom_called_different() -> None:
    rng, alarms = np.random.default_rng(3), 0
    for _ in range(200):
        n = rng.multinomial(400, [0.5, 0.3, 0.1, 0.07, 0.03])
        k = rng.binomial(n, 0.1)
        sums = pd.DataFrame({"n": n, "k": k, "kk": k, "kn": k, "nn": n, "clusters": n})
        single = [differences.two_shares(k[i], n[i], k.sum() - k[i], n.sum() - n[i])[0] for i in range(5)]
        alarms += max(differences.joint_p_value(sums), min(single) * 5) < 0.05
    assert alarms <= 20  # 5 % of 200 are 10; more than 20 has a probability below 1 %


def test_many_small_segments_are_tested_by_random_tables() -> None:
    n, k = np.full(40, 6), np.zeros(40, dtype=int)
    k[:3] = 1
    sums = pd.DataFrame({"n": n, "k": k, "kk": k, "kn": k, "nn": n, "clusters": n})
    assert differences.joint_p_value(sums) == differences.joint_p_value(sums)  # seeded
    # the three converters are in three segments, as in most random tables: nothing to see
    assert differences.joint_p_value(sums) > 0.3
    k[:3], k[0] = 0, 3  # all in one: 40·C(6,3) of C(240,3) tables are like this
    sums = sums.assign(k=k, kk=k, kn=k)
    assert differences.joint_p_value(sums) < 0.005


def test_open_units_are_in_no_comparison() -> None:
    found = sides(10, 60, 20, 60)
    rows = engine.fetch(found.table)
    rows.loc[rows["unit"] % 2 == 0, "is_open"] = 1
    table = funnel_segments.compare(funnels.Reached(engine.lazy(rows), found.rules, ("seg",)), "seg", min_n=1)
    assert table["n"].tolist() == [30, 30]
    assert table["converted_n"].tolist() == [5, 10]


def test_sessions_of_one_person_count_as_one_where_they_are_alike() -> None:
    rng = np.random.default_rng(5)
    depth, name = np.where(rng.random(200) < 0.3, 3, 1), rng.choice(["a", "b"], 200)
    people = funnel_segments.compare(outcomes(depth, seg=name), "seg")
    each = funnel_segments.compare(
        outcomes(np.repeat(depth, 5), per="session", person=np.repeat(range(200), 5), seg=np.repeat(name, 5)), "seg"
    )
    assert each["n"].tolist() == [5 * n for n in people["n"]]
    assert each["share"].tolist() == pytest.approx(people["share"].tolist())
    for name, near in (("share_low", 0.005), ("difference_points_low", 0.3), ("p_value", 0.01)):
        assert each[name].tolist() == pytest.approx(people[name].tolist(), abs=near)


def test_effective_numbers_give_the_interval_of_clusters() -> None:
    rng = np.random.default_rng(6)
    n = rng.integers(1, 9, 60)
    k = rng.binomial(n, rng.beta(1, 3, 60))
    sums = pd.Series({"n": n.sum(), "k": k.sum(), "kk": (k * k).sum(), "kn": (k * n).sum(), "nn": (n * n).sum()})
    sums["clusters"] = 60
    design = differences.design_effect(sums)
    assert design > 1
    expected = stats.clustered(*(int(sums[name]) for name in ("k", "n", "kk", "kn", "nn", "clusters")))
    assert stats.wilson(k.sum() / design, n.sum() / design) == pytest.approx(expected)


def test_a_mixed_difference_is_taken_apart() -> None:
    """Phones convert as well as laptops in each country, but there are more of them where all convert less."""
    rng = np.random.default_rng(7)
    country = rng.choice(["north", "south"], 8000)
    device = np.where(rng.random(8000) < np.where(country == "south", 0.8, 0.2), "phone", "laptop")
    depth = np.where(rng.random(8000) < np.where(country == "south", 0.2, 0.4), 3, 1)
    table = funnel_segments.compare(outcomes(depth, device=device, country=country), "device", adjust="country")
    row = table.set_index("segment").loc["phone"]
    assert row["difference_points"] < -8
    assert row["p_adjusted"] < 1e-6
    assert row["adjusted_points_low"] < 0 < row["adjusted_points_high"]
    assert row["p_of_adjusted"] > 0.05
    assert (row["strata_n"], row["compared_share"]) == (2, 1)


def test_one_stratum_changes_nothing() -> None:
    found = funnel_segments.compare(outcomes(np.tile([3, 1, 1], 60), seg=np.repeat(["a", "b"], 90), one="x"), "seg")
    table = funnel_segments.compare(
        outcomes(np.tile([3, 1, 1], 60), seg=np.repeat(["a", "b"], 90), one="x"), "seg", adjust="one"
    )
    assert table["adjusted_points"].tolist() == pytest.approx(found["difference_points"].tolist())


def test_strata_by_hand() -> None:
    """Two strata, weights 100·40/140 and 50·200/250, differences 0 and 0.05."""
    gap, low, high, _ = differences.stratified([10, 40], [100, 50], [4, 150], [40, 200])
    assert gap == pytest.approx((200 / 7 * 0 + 40 * 0.05) / (200 / 7 + 40))
    assert low < gap < high
    assert all(np.isnan(differences.stratified([1], [5], [0], [0])))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(1, 40)] * 4), min_size=1, max_size=5))
def test_the_test_within_strata_equals_statsmodels(cells: list[tuple[int, int, int, int]]) -> None:
    tables = [np.array([[a, b], [c, d]]) for a, b, c, d in cells]
    k, lost, others_k, others_lost = (np.array(column) for column in zip(*cells, strict=True))
    found = differences.stratified(k, k + lost, others_k, others_k + others_lost)
    expected = StratifiedTable(tables).test_null_odds(correction=False).pvalue
    assert found[3] == pytest.approx(expected, abs=1e-9)


def test_the_interval_within_strata_covers() -> None:
    rng = np.random.default_rng(8)
    for n, m, base, strata in ((40, 120, 0.1, 6), (4, 6, 0.4, 60)):  # few large strata, many small ones
        shares, hits = rng.uniform(base, base + 0.3, strata), 0
        for _ in range(500):
            k, others = rng.binomial(n, shares + 0.08), rng.binomial(m, shares)
            _, low, high, _ = differences.stratified(k, np.full(strata, n), others, np.full(strata, m))
            hits += low <= 0.08 <= high
        assert 0.925 <= hits / 500 <= 0.975


def test_the_step_at_which_a_segment_falls_behind() -> None:
    rng = np.random.default_rng(9)
    name = rng.choice(["a", "b", "c"], 6000)
    visits = rng.random(6000) < 0.7
    buys = visits & (rng.random(6000) < np.where(name == "b", 0.3, 0.5))
    found = outcomes(1 + visits.astype(int) + buys, seg=name)
    table = funnel_segments.compare_steps(found, "seg")
    assert table[["segment", "step"]].values.tolist() == [["b", "visit"], ["b", "buy"]]
    assert table["p_adjusted"].iloc[1] < 0.001
    assert table["gap_share"].sum() == pytest.approx(1)
    assert table["gap_share"].iloc[1] > 0.8
    row, mine = table.iloc[1], (name == "b") & visits
    assert (row["n"], row["share"]) == (mine.sum(), pytest.approx(buys[mine].mean()))
    assert row["others_share"] == pytest.approx(buys[visits & (name != "b")].mean())
    asked = funnel_segments.compare_steps(found, "seg", segment="a")
    assert set(asked["segment"]) == {"a"}


def test_optional_steps_are_no_link_of_the_chain() -> None:
    text = " | ".join(["u: ad/app call/app buy/app", "u: ad/app buy/app", "u: ad/web"] * 20)
    table = funnel_segments.compare_steps(reach(text, steps=["ad", "call?", "buy"]), "channel", min_n=5)
    assert table[["segment", "step", "n", "share", "others_share"]].values.tolist() == [["web", "buy", 20, 0, 1]]
    assert table["gap_share"].isna().all()


def test_an_open_funnel_is_compared_step_by_step() -> None:
    text = " | ".join(["u: ad/app visit/app buy/app", "u: visit/app buy/app", "u: buy/web", "u: ad/web"] * 20)
    found = reach(text, entry="open")
    table = funnel_segments.compare(found, "channel").set_index("segment")
    assert table[["n", "converted_n"]].values.tolist() == [[40, 40], [40, 20]]
    steps = funnel_segments.compare_steps(found, "channel", segment="app", min_n=1)
    assert steps[["step", "n", "share"]].values.tolist() == [["visit", 20, 1]]  # nobody of the others stands at visit


def test_conversion_from_a_step_on() -> None:
    text = " | ".join(["u: ad/app visit/tv buy", "u: ad/app visit/tv", "u: ad/web visit/web", "u: ad"] * 30)
    table = funnel_segments.compare(reach(text), "channel", credit="step", at="visit").set_index("segment")
    assert table[["n", "converted_n"]].values.tolist() == [[60, 30], [30, 0]]
    assert set(table.index) == {"tv", "web"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"column": "chanel"}, r"does not hold 'chanel'.*Did you mean 'channel'.*`by` of funnels.reach"),
        ({"credit": "frist"}, r"credit 'frist' is not known.*Did you mean 'first'"),
        ({"credit": "step"}, r"no step ''.*Allowed as `at`: ad, visit, buy"),
        ({"credit": "step", "at": "vist"}, r"no step 'vist'.*Did you mean 'visit'"),
    ],
)
def test_what_is_not_there_is_said(options: dict, said: str) -> None:
    options = {"column": "channel", **options}
    found = reach("u1: ad visit")
    for function in (funnel_segments.by_segment, funnel_segments.compare, funnel_segments.compare_steps):
        with pytest.raises(JourneyError, match=said):
            function(found, options["column"], **{k: v for k, v in options.items() if k != "column"})


def test_degenerate_input() -> None:
    nothing = funnels.reach(make_log("u1: ad").head(0), steps=STEPS, by=["channel"])
    no_funnel = funnels.reach(make_log("u1: ad"), steps=[], by=["channel"])
    one = reach("u1: ad visit")
    for function in (funnel_segments.compare, funnel_segments.compare_steps):
        assert "n = 0" in function(nothing, "channel").attrs["reason"]
        assert "no funnel" in function(no_funnel, "channel").attrs["reason"]
        assert "one segment, 'web'" in function(one, "channel").attrs["reason"]
    assert "n = 0" in funnel_segments.by_segment(nothing, "channel").attrs["reason"]
    assert "no funnel" in funnel_segments.by_segment(no_funnel, "channel").attrs["reason"]
    nulls = funnels.reach(make_log("u1: ad | u2: ad").assign(channel=None), steps=STEPS, by=["channel"])
    assert 'credit "step"' in funnel_segments.compare(nulls, "channel").attrs["reason"]
    few = reach("u1: ad/app | u2: ad/web")
    assert "at least 30 in and out" in funnel_segments.compare(few, "channel").attrs["reason"]
    assert "fewer than 30" in funnel_segments.compare_steps(few, "channel", segment="app").attrs["reason"]
