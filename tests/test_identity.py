"""Stitching: who is who, on small logs that can be checked by eye and against a slow, independent version."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest

from journeykit import engine, identity
from journeykit.config import Identity

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
    people = identity.stitch(rows, PLAN).people
    device = people[people["id_name"] == "device"].sort_values("valid_from")
    assert device["person_id"].tolist() == [1, 2, 1]
    assert (device["valid_from"].iloc[1:].to_numpy() > device["valid_to"].iloc[:-1].to_numpy()).all()


def random_log(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(rng.integers(1, 60)):
        ids = [
            f"c{rng.integers(8)}" if rng.random() < 0.4 else None,
            f"m{rng.integers(8)}" if rng.random() < 0.3 else None,
            f"d{rng.integers(10)}" if rng.random() < 0.7 else None,
        ]
        if any(ids):
            rows.append((f"{rng.integers(0, 4000)}m", *ids))
    return log_of(rows or [("0h", "c1", None, None)])


def slow_components(rows: pd.DataFrame) -> list[int]:
    """Union by repeated merging of sets: slow, short, independent."""
    groups: list[set[str]] = []
    keys = [
        {f"{c}:{v}" for c, v in row.items() if isinstance(v, str)}
        for row in rows.filter(like="id_").drop(columns="event_id", errors="ignore").to_dict("records")
    ]
    for key in keys:
        touched = [group for group in groups if group & key]
        groups = [group for group in groups if not group & key] + [key.union(*touched)]
    owner = [next(i for i, group in enumerate(groups) if group & key) for key in keys]
    first: dict[int, tuple[pd.Timestamp, str]] = {}
    for who, at, event in zip(owner, rows["timestamp"], rows["event_id"], strict=True):
        first[who] = min(first.get(who, (at, event)), (at, event))
    least: dict[int, str] = {}
    for who, event in zip(owner, rows["event_id"], strict=True):
        least[who] = min(least.get(who, event), event)
    order = sorted(first, key=lambda who: (first[who][0], least[who]))
    return [order.index(who) + 1 for who in owner]


@pytest.mark.parametrize("seed", range(25))
def test_components_equal_the_slow_version(seed: int) -> None:
    rows = random_log(seed)
    assert people_of(rows, PLAN.model_copy(update={"policy": "graph"})) == slow_components(rows)


@pytest.mark.parametrize("seed", range(10))
def test_shuffled_rows_and_a_stranger_change_nothing(seed: int) -> None:
    rows = random_log(seed)
    before = people_of(rows)
    shuffled = rows.sample(frac=1, random_state=seed)
    assert people_of(shuffled) == before
    stranger = log_of([("9999h", "stranger", None, None)]).assign(event_id="e999", source_row=10_000)
    assert people_of(pd.concat([rows, stranger], ignore_index=True))[:-1] == before


def test_every_event_has_one_person() -> None:
    for seed in range(10):
        rows = random_log(seed)
        found = engine.fetch(identity.stitch(rows, PLAN).events)
        assert len(found) == len(rows)
        assert found["person_id"].notna().all()


def test_a_device_named_before_the_person_is_shared_all_the_same() -> None:
    rows = log_of([("0h", "ada", None, "t"), ("1h", "bob", None, "t")])
    assert people_of(rows, Identity(identifiers=["device", "customer"], devices=["device"])) == [1, 2]


def test_two_devices_in_a_row_do_not_join_two_people() -> None:
    plan = Identity(identifiers=["customer", "cookie", "device"], devices=["cookie", "device"])
    rows = log_of([("0h", "ada", None, "d1"), ("1h", None, None, "d1"), ("2h", "bob", None, None)])
    rows["id_cookie"] = [None, "k1", "k1"]
    found = people_of(rows, plan)
    assert found[0] != found[2]
