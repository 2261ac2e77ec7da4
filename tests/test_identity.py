"""Stitching: who is who, on small logs that can be checked by eye and against a slow, independent version."""

from __future__ import annotations

from collections.abc import Iterable

import narwhals as nw
import numpy as np
import pandas as pd
import pytest

from journeykit import engine, identity
from journeykit.config import Identity
from tests import slow_identity

PLAN = Identity(identifiers=["customer", "email", "device"], devices=["device"])


def log_of(rows: Iterable[tuple[str, str | None, str | None, str | None]]) -> pd.DataFrame:
    """Rows of (time, customer, email, device)."""
    table = pd.DataFrame(list(rows), columns=["at", "id_customer", "id_email", "id_device"])
    table["timestamp"] = pd.Timestamp("2025-01-01") + pd.to_timedelta(table.pop("at"))
    n = np.arange(1, len(table) + 1)
    return table.assign(event_id=[f"e{i:03d}" for i in n], source="log", source_row=n, event="x")


def people_of(rows: pd.DataFrame, plan: Identity = PLAN) -> list[int]:
    stitched = identity.stitch(rows, plan)
    return engine.fetch(stitched.events.sort("source_row"))["person_id"].tolist()


def test_identifiers_on_one_event_are_one_person() -> None:
    rows = log_of(
        [("0h", None, None, "d1"), ("1h", "c1", None, "d1"), ("2h", "c1", "a@x", None), ("3h", None, "b@x", None)]
    )
    assert people_of(rows) == [1, 1, 1, 2]


def test_a_shared_device_joins_nobody_and_its_visits_go_to_the_nearest_sign_in() -> None:
    rows = log_of(
        [
            ("0m", None, None, "tablet"),  # before Ada signs in, same visit
            ("5m", "ada", None, "tablet"),
            ("10m", None, None, "tablet"),  # after Ada
            ("300m", None, None, "tablet"),  # a visit of nobody
            ("600m", "bob", None, "tablet"),
            ("605m", None, None, "tablet"),  # after Bob
            ("900m", "ada", None, "phone"),
        ]
    )
    assert people_of(rows) == [1, 1, 1, 2, 3, 3, 1]
    merged = people_of(rows, PLAN.model_copy(update={"policy": "graph"}))
    assert merged == [1] * 7  # the trap: the device makes one person of Ada and Bob


def test_without_links_each_device_is_a_person() -> None:
    rows = log_of([("0h", "c1", None, "d1"), ("1h", "c1", None, "d2"), ("2h", "c1", None, None)])
    assert people_of(rows, PLAN.model_copy(update={"policy": "none"})) == [1, 2, 3]


def test_one_person_with_two_kinds_of_sign_in_does_not_make_a_device_shared() -> None:
    rows = log_of(
        [("0h", "c1", None, "d1"), ("1h", None, "a@x", "d1"), ("2h", "c1", "a@x", None), ("3h", None, None, "d1")]
    )
    assert people_of(rows) == [1, 1, 1, 1]


def test_intervals_of_a_shared_device_do_not_overlap() -> None:
    rows = log_of([("0m", "ada", None, "t"), ("60m", "bob", None, "t"), ("120m", "ada", None, "t")])
    people = engine.fetch(identity.stitch(rows, PLAN).people)
    device = people[people["id_name"] == "device"].sort_values("valid_from")
    assert device["person_id"].tolist() == [1, 2, 1]
    assert (device["valid_from"].iloc[1:].to_numpy() > device["valid_to"].iloc[:-1].to_numpy()).all()


def test_a_device_named_before_the_person_is_shared_all_the_same() -> None:
    rows = log_of([("0h", "ada", None, "t"), ("1h", "bob", None, "t")])
    assert people_of(rows, Identity(identifiers=["device", "customer"], devices=["device"])) == [1, 2]


def test_two_devices_in_a_row_do_not_join_two_people() -> None:
    plan = Identity(identifiers=["customer", "cookie", "device"], devices=["cookie", "device"])
    rows = log_of([("0h", "ada", None, "d1"), ("1h", None, None, "d1"), ("2h", "bob", None, None)])
    rows["id_cookie"] = [None, "k1", "k1"]
    found = people_of(rows, plan)
    assert found[0] != found[2]


def same_people(found: Iterable[object], wanted: Iterable[object]) -> bool:
    """Whether two labellings put the same rows together."""
    pairs = set(zip(found, wanted, strict=True))
    return len({f for f, _ in pairs}) == len(pairs) == len({w for _, w in pairs})


def wild_log(seed: int) -> pd.DataFrame:
    """A log with two kinds of device, shared ones, ties in time and text that is hard to handle."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 50))
    few = int(rng.integers(2, 9))

    def tokens(letter: str, share: float) -> list[str | None]:
        return [f"{letter}{rng.integers(few)}" if rng.random() < share else None for _ in range(n)]

    table = log_of((f"{rng.integers(0, 600)}m", None, None, None) for _ in range(n))
    table["id_customer"], table["id_email"] = tokens("c'", 0.3), tokens("é💥", 0.3)
    table["id_phone"] = tokens("#", 0.2)
    table["id_device"], table["id_cookie"] = tokens("d", 0.6), tokens("k", 0.3)
    return table[table.filter(regex="^id_").notna().any(axis=1)].reset_index(drop=True)


WILD = Identity(identifiers=["customer", "email", "phone", "cookie", "device"], devices=["cookie", "device"])
CAPS = {"customer": "1", "email": "2 per 1d", "phone": "3"}


def worlds(n: int) -> list[pd.DataFrame]:
    """Many small logs that share no identifier, to be stitched as one log: no world may change another."""
    made = []
    for seed in range(n):
        rows = wild_log(seed)
        for name in WILD.identifiers:
            rows[f"id_{name}"] = [f"{seed}{token}" if isinstance(token, str) else None for token in rows[f"id_{name}"]]
        rows["source_row"] += 1000 * seed
        made.append(rows.assign(event_id=[f"w{seed:03d}{event}" for event in rows["event_id"]]))
    return made


def stitched(logs: list[pd.DataFrame], plan: Identity, declared: pd.DataFrame | None = None) -> pd.Series:
    found = engine.fetch(identity.stitch(pd.concat(logs, ignore_index=True), plan, declared).events)
    return found.set_index("event_id")["person_id"]


@pytest.mark.parametrize("policy", [*identity.POLICIES, "capped"])
def test_every_policy_equals_the_slow_version(policy: str) -> None:
    plan = WILD.model_copy(update={"caps": CAPS} if policy == "capped" else {"policy": policy})
    logs = worlds(80)
    found = stitched(logs, plan)
    for rows in logs:
        assert same_people(found[rows["event_id"]], slow_identity.people(rows, plan))


@pytest.mark.parametrize("policy", [*identity.POLICIES, "capped"])
def test_declared_links_and_splits_equal_the_slow_version(policy: str) -> None:
    logs = worlds(80)
    plan = WILD.model_copy(update={"caps": CAPS} if policy == "capped" else {"policy": policy})
    declared = [said_beside(rows, seed) for seed, rows in enumerate(logs)]
    found = stitched(logs, plan, pd.concat(declared, ignore_index=True))
    for rows, said in zip(logs, declared, strict=True):
        assert same_people(found[rows["event_id"]], slow_identity.people(rows, plan, said))


def said_beside(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Profiles, merges and splits between identifiers of a log, drawn by chance."""
    rng = np.random.default_rng(seed)
    names = ["customer", "email", "phone", "device"]
    links = []
    rules = ["profile"] * 4 + ["merged in the source", "merged by hand", "split by hand", "split by hand"]
    for rule in rules:
        left, right = rng.choice(names, 2)
        right = left if rule == "merged in the source" else right
        ends = [rows[f"id_{name}"].dropna() for name in (left, right)]
        if all(len(end) for end in ends):
            tokens = [str(rng.choice(end)) for end in ends]
            if (left, tokens[0]) != (right, tokens[1]):
                links.append((left, tokens[0], right, tokens[1], rule))
    declared = pd.DataFrame(links, columns=["left_name", "left_token", "right_name", "right_token", "rule"])
    return declared.assign(known_at=pd.NaT)


@pytest.mark.parametrize("policy", identity.POLICIES)
def test_shuffled_rows_and_a_stranger_change_nothing(policy: str) -> None:
    plan = WILD.model_copy(update={"policy": policy, "caps": CAPS})
    logs = worlds(30)
    before = stitched(logs, plan)
    rows = pd.concat(logs, ignore_index=True)
    pd.testing.assert_series_equal(
        stitched([rows.sample(frac=1, random_state=1)], plan).sort_index(), before.sort_index()
    )
    stranger = rows.head(1).assign(event_id="stranger", source_row=10**6, timestamp=pd.Timestamp("2024-01-01"))
    stranger = stranger.assign(
        **{f"id_{name}": "stranger" if name == "customer" else None for name in WILD.identifiers}
    )
    after = stitched([rows, stranger], plan).drop("stranger").reindex(before.index)
    assert (after == before + 1).all()  # the same people, each one place further back


def backwards(token: str | None) -> str | None:
    return token[::-1] if isinstance(token, str) else None


def test_numbers_do_not_depend_on_the_key_of_the_tokens() -> None:
    logs = worlds(30)
    before = stitched(logs, WILD)
    other = [
        rows.assign(**{f"id_{name}": rows[f"id_{name}"].map(backwards) for name in WILD.identifiers}) for rows in logs
    ]
    pd.testing.assert_series_equal(stitched(other, WILD).sort_index(), before.sort_index())


@pytest.mark.parametrize("policy", identity.POLICIES)
def test_each_event_has_one_person_and_intervals_do_not_overlap(policy: str) -> None:
    rows = pd.concat(worlds(40), ignore_index=True)
    made = identity.stitch(rows, WILD.model_copy(update={"policy": policy, "caps": CAPS}))
    events = engine.fetch(made.events)
    assert sorted(events["event_id"]) == sorted(rows["event_id"])
    assert events["person_id"].notna().all()
    assert set(events["person_id"]) == set(range(1, events["person_id"].max() + 1))
    people = engine.fetch(made.people).sort_values(["id_name", "id_token", "valid_from", "valid_to"])
    before = people.groupby(["id_name", "id_token"])["valid_to"].shift(1)
    assert (before.isna() | (people["valid_from"] >= before)).all()
    assert set(people["person_id"]) <= set(events["person_id"])


def test_a_link_that_is_not_known_yet_joins_nobody() -> None:
    rows = log_of(
        [("0h", None, None, "d1"), ("1h", "ada", None, "d2"), ("30h", "ada", None, "d1"), ("31h", None, None, "d1")]
    )
    day = pd.Timestamp("2025-01-02")
    known = engine.fetch(identity.stitch(rows, PLAN, as_of=day).events.sort("source_row"))["person_id"].tolist()
    assert known[0] != known[1]
    assert people_of(rows) == [1, 1, 1, 1]
    early = rows[rows["timestamp"] <= day]
    assert known[:2] == people_of(early)


def test_what_happens_later_changes_nothing_as_of_a_day() -> None:
    rows = pd.concat(worlds(40), ignore_index=True)
    day = pd.Timestamp("2025-01-01 05:00")
    for policy in identity.POLICIES:
        plan = WILD.model_copy(update={"policy": policy})
        found = engine.fetch(identity.stitch(rows, plan, as_of=day).events).set_index("event_id")["person_id"]
        alone = stitched([rows[rows["timestamp"] <= day]], plan)
        assert same_people(found[alone.index], alone), policy


def test_a_customer_with_too_many_addresses_keeps_the_first() -> None:
    rows = log_of([(f"{i}h", "staff", f"{letter}@x", None) for i, letter in enumerate("abcd")])
    rows = pd.concat([rows, log_of([("9h", None, f"{letter}@x", None) for letter in "abcd"])], ignore_index=True)
    rows = rows.assign(event_id=[f"e{i}" for i in range(8)], source_row=range(8))
    plan = PLAN.model_copy(update={"caps": {"email": "2 per 365d"}})
    assert people_of(rows, plan) == [1, 1, 1, 1, 1, 1, 2, 3]
    assert people_of(rows) == [1] * 8
    shared = engine.fetch(identity.stitch(rows, plan).shared)
    assert sorted(shared["node"]) == ["1:c@x", "1:d@x"]
    assert set(shared["reason"]) == {"over its cap"}


def test_an_address_of_two_customers_joins_them_only_without_a_cap() -> None:
    rows = log_of([("0h", "ada", "desk@x", None), ("9h", "bob", "desk@x", None), ("18h", None, "desk@x", None)])
    assert people_of(rows) == [1, 1, 1]
    assert people_of(rows, PLAN.model_copy(update={"caps": {"customer": "1"}})) == [1, 2, 3]
    merged = pd.DataFrame([("customer", "ada", "customer", "bob", "merged in the source")])
    merged.columns = pd.Index(["left_name", "left_token", "right_name", "right_token", "rule"])
    plan = PLAN.model_copy(update={"caps": {"customer": "1"}})
    made = identity.stitch(rows, plan, merged.assign(known_at=pd.NaT))
    assert engine.fetch(made.events.sort("source_row"))["person_id"].tolist() == [1, 1, 1]  # two accounts, one person
    assert set(engine.fetch(made.people.filter(nw.col("id_name") == "customer"))["rule"]) == {"merged in the source"}


def test_sign_ins_of_a_shared_device_go_to_the_nearest_or_to_the_last() -> None:
    rows = log_of(
        [("0m", "ada", None, "t"), ("18m", None, None, "t"), ("20m", "bob", None, "t"), ("200m", None, None, "t")]
    )
    assert people_of(rows, PLAN.model_copy(update={"policy": "device_split"})) == [1, 2, 2, 3]
    assert people_of(rows, PLAN.model_copy(update={"policy": "last_login"})) == [1, 1, 2, 2]


def by_hand(*rows: tuple[str, str, str, str, str]) -> pd.DataFrame:
    """Links of (left_name, left_token, right_name, right_token, rule)."""
    columns = ["left_name", "left_token", "right_name", "right_token", "rule"]
    return pd.DataFrame(rows, columns=columns).assign(known_at=pd.NaT)


def people_with(rows: pd.DataFrame, declared: pd.DataFrame, **changed: object) -> list[int]:
    made = identity.stitch(rows, PLAN.model_copy(update=changed), declared)
    return engine.fetch(made.events.sort("source_row"))["person_id"].tolist()


def test_a_split_by_hand_wins_over_a_merge_of_the_source() -> None:
    rows = log_of([("0h", "old", None, None), ("1h", "new", None, None)])
    merged = ("customer", "new", "customer", "old", "merged in the source")
    assert people_with(rows, by_hand(merged)) == [1, 1]
    assert people_with(rows, by_hand(merged, ("customer", "new", "customer", "old", "split by hand"))) == [1, 2]


def test_a_merge_by_hand_wins_over_a_cap() -> None:
    rows = log_of([("0h", "ada", "m@x", None), ("1h", "bob", None, None), ("2h", None, "m@x", None)])
    given = by_hand(("customer", "bob", "email", "m@x", "merged by hand"))
    assert people_with(rows, given, caps={"customer": "1"}) == [1, 2, 2]


def test_a_device_that_was_given_by_hand_is_not_shared() -> None:
    rows = log_of([("0h", "ada", None, "t"), ("9h", "bob", None, "t"), ("18h", None, None, "t")])
    given = by_hand(("customer", "bob", "device", "t", "merged by hand"))
    for policy in ("last_login", "device_split", "graph_strict"):
        assert people_with(rows, given, policy=policy) == [1, 2, 2]


def test_a_device_that_was_split_from_somebody_is_never_theirs_in_time() -> None:
    rows = log_of([("0m", "ada", None, "t"), ("5m", None, None, "t"), ("300m", None, None, "t")])
    apart = by_hand(("customer", "ada", "device", "t", "split by hand"))
    assert people_with(rows, apart) == [1, 2, 3]
    assert people_with(rows, apart.head(0)) == [1, 1, 1]


def test_periods_of_a_cap_are_counted_alike_for_one_and_for_several_people() -> None:
    rows = log_of(
        [
            *[(f"{24 * day}h", "ada", f"{day}@x", None) for day in (0, 9, 11, 12)],
            *[("300h", name, None, None) for name in ("ada", "bob")],
        ]
    ).assign(id_phone=[None] * 4 + ["p", "p"])
    plan = Identity(identifiers=["customer", "email", "phone"], caps={"email": "2 per 10d"})
    assert people_of(rows, plan) == [1] * 6  # two addresses in each ten days are allowed, so the phone joins Bob


def test_a_profile_without_a_time_does_not_start_the_period_in_1970() -> None:
    rows = log_of(
        [("0h", "ada", None, None), *[(f"{i}h", None, f"{letter}@x", None) for i, letter in enumerate("abc")]]
    )
    said = by_hand(*[("customer", "ada", "email", f"{letter}@x", "profile") for letter in "abc"])
    assert people_with(rows, said, caps={"email": "2 per 1d"}) == [1, 1, 1, 2]
