"""The simulator: same seed, same bytes; every row accounted for; what was planted can be found again."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from scipy.stats import chi2_contingency, chisquare

from journeykit import config
from journeykit.errors import JourneyError
from journeykit.simulate import simulate
from journeykit.simulate.truth import add, reached

STUDY = Path(__file__).parent.parent / "data" / "laptop_store"
DAY = 86_400_000_000


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    truth: dict[str, Any] = json.loads((STUDY / "truth" / "truth.json").read_text(encoding="utf-8"))
    return truth


def fingerprints(folder: Path) -> dict[str, str]:
    """Return the hash of each file of a folder by its relative name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def lines_of(path: Path) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        return [line for line in file.read().split("\n") if line]


def points(arms: dict[str, Any], metric: str) -> tuple[float, float]:
    """Return the difference of two arms in points and its z value."""
    control, treatment = arms["control"], arms["treatment"]
    a, b = control[f"{metric}_n"] / control["exposed_n"], treatment[f"{metric}_n"] / treatment["exposed_n"]
    error = np.sqrt(a * (1 - a) / control["exposed_n"] + b * (1 - b) / treatment["exposed_n"])
    return 100 * (b - a), float((b - a) / error)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first = simulate(tmp_path / "a", people=300, seed=3)
    second = simulate(tmp_path / "b", people=300, seed=3)
    assert first == second
    assert fingerprints(tmp_path / "a") == fingerprints(tmp_path / "b")
    assert (
        fingerprints(tmp_path / "a")["truth/truth.json"]
        != hashlib.sha256((STUDY / "truth" / "truth.json").read_bytes()).hexdigest()
    )


def test_chunks_append_and_keep_identifiers_apart(tmp_path: Path) -> None:
    truth = simulate(tmp_path, people=400, seed=3, chunk=200)
    assert truth["people_n"] == 400
    ids = pd.read_csv(tmp_path / "truth" / "identities.csv", dtype=str)
    unique = ids[ids["identifier"].isin(["customer", "email", "order", "phone"])]
    assert unique.groupby(["identifier", "value"])["person"].nunique().max() == 1
    assert set(ids["person"].astype(int)) == set(range(1, 401))
    orders = pd.read_csv(tmp_path / "raw" / "shop" / "shopify_orders.csv", on_bad_lines="skip", dtype=str)
    assert (orders["Name"] == "Name").sum() == 0  # the header is written once
    assert truth["files"]["store/visits.parquet"]["rows"] == len(pd.read_parquet(tmp_path / "raw/store/visits.parquet"))


def test_too_few_people_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match="At least 50"):
        simulate(tmp_path, people=10)


def test_bundled_files_are_what_the_default_seed_gives(tmp_path: Path) -> None:
    simulate(tmp_path)
    made, bundled = fingerprints(tmp_path), fingerprints(STUDY)
    # Compression differs between builds of zlib and Arrow; their content is compared below and by the row accounts.
    packed = (".gz", ".parquet")
    plain = [
        {n: h for n, h in files.items() if n.startswith(("raw/", "truth/")) and not n.endswith(packed)}
        for files in (made, bundled)
    ]
    assert plain[0] == plain[1]
    assert (tmp_path / "journey.toml").read_bytes() == (STUDY / "journey.toml").read_bytes()
    for path in sorted((STUDY / "raw").rglob("*.gz")):
        assert lines_of(path) == lines_of(tmp_path / "raw" / path.relative_to(STUDY / "raw"))
    name = "raw/store/visits.parquet"
    pd.testing.assert_frame_equal(pd.read_parquet(STUDY / name), pd.read_parquet(tmp_path / name))


def test_sizes(told: dict[str, Any]) -> None:
    for name, limit in (("raw", 6_000_000), ("truth", 2_000_000)):
        assert sum(path.stat().st_size for path in (STUDY / name).rglob("*") if path.is_file()) < limit
    assert 100_000 < sum(told["events_n"].values()) < 140_000


def test_every_row_is_accounted_for(told: dict[str, Any]) -> None:
    headers = {"surveys/qualtrics_nps.csv": 3, "surveys/qualtrics_csat.csv": 3}
    for name, account in told["files"].items():
        parts = account["kept"] + account["continued"] + account["left_out"] + account["duplicates"]
        assert account["rows"] == parts + sum(account["malformed"].values()), name
        path = STUDY / "raw" / name
        if name.endswith(".parquet"):
            assert account["rows"] == len(pd.read_parquet(path))
        else:
            header = headers.get(name, 1 if name.endswith(".csv") else 0)
            assert account["rows"] == len(lines_of(path)) - header, name
            if name.startswith("web/"):
                lines = lines_of(path)
                assert len(lines) - len(set(lines)) == account["duplicates"], name
                broken = sum(1 for line in lines if not line.endswith("}"))
                assert broken == account["malformed"].get("row is not a JSON object", 0), name
    assert told["files"]["store/visits.parquet"]["skipped_hour"] == 2
    assert told["files"]["store/visits.parquet"]["ambiguous_hour"] == 9
    assert told["files"]["app/segment_tracks.csv"]["late"] > 50


def test_configuration_loads_and_names_every_file() -> None:
    study = config.load(STUDY / "journey.toml")
    covered = {path for source in study.sources for path in STUDY.glob(source.path)}
    assert covered == {path for path in (STUDY / "raw").rglob("*") if path.is_file()}
    assert set(config.presets()) >= {"ga4", "segment", "shopify_orders", "zendesk_tickets", "qualtrics", "sendgrid"}
    assert {trial.name for trial in study.experiments} == set(
        json.loads((STUDY / "truth" / "truth.json").read_text(encoding="utf-8"))["experiments"]
    )


def test_shipping_cost_is_the_leak(told: dict[str, Any]) -> None:
    steps = list(told["funnel_buy"].values())
    rates = [after / before for before, after in itertools.pairwise(steps)]
    assert steps == sorted(steps, reverse=True)
    assert min(rates) == rates[2]
    assert 0.45 <= rates[2] <= 0.55
    prices = told["after_shipping_cost"]["by_shipping_price"]
    by_price = [prices[price]["checkout_n"] / prices[price]["shown_n"] for price in sorted(prices, key=float)]
    assert by_price == sorted(by_price, reverse=True)
    devices = {name: n["checkout_n"] / n["shown_n"] for name, n in told["after_shipping_cost"]["by_device"].items()}
    assert devices["mobile"] < devices["desktop"] - 0.08


def test_experiments_are_as_planted(told: dict[str, Any]) -> None:
    for name, trial in told["experiments"].items():
        split = [trial["arms"][arm]["exposed_n"] for arm in ("control", "treatment")]
        p = chisquare(split).pvalue
        assert p < 1e-3 if name == "chat_popup" else p > 0.01, name
        assert chisquare([trial["arms"][arm]["assigned_n"] for arm in ("control", "treatment")]).pvalue > 0.01
    arms = {name: trial["arms"] for name, trial in told["experiments"].items()}
    effect, z = points(arms["shipping_upfront"], "order_placed")
    true = told["experiments"]["shipping_upfront"]["true_effects"]["order_placed_points"]
    assert z > 3
    assert abs(effect - true) < 2 * abs(effect / z)
    assert min(arms["shipping_upfront"][arm]["exposed_n"] for arm in ("control", "treatment")) >= 1800
    assert abs(points(arms["new_badge"], "add_to_cart")[1]) < 1.96
    assert abs(points(arms["new_badge"], "order_placed")[1]) < 1.96
    assert points(arms["one_click_addons"], "accessory_ordered")[1] > 3
    assert points(arms["one_click_addons"], "ticket_opened")[1] > 3


def test_hazard_ratios_are_recovered(told: dict[str, Any]) -> None:
    plans = pd.read_csv(STUDY / "truth" / "care_plans.csv", parse_dates=["started_at", "ended_at"])
    assert len(plans) >= 1500
    assert plans["ended_at"].notna().sum() >= 400
    end = pd.Timestamp(told["as_of"])
    days = (plans["ended_at"].fillna(end) - plans["started_at"]) / pd.Timedelta(days=1) - 30
    ratios = told["planted"]["hazard_ratios"]
    table = plans[list(ratios)].assign(T=days, E=plans["ended_at"].notna())[days > 0].astype(float)
    found = CoxPHFitter().fit(table, "T", "E").confidence_intervals_
    for name, ratio in ratios.items():
        low, high = np.exp(found.loc[name])
        assert low < ratio < high, name


def test_reasons_of_cancellation_are_planted_alike_for_all(told: dict[str, Any]) -> None:
    plans = pd.read_csv(STUDY / "truth" / "care_plans.csv")
    assert (plans["reason"].notna() == plans["ended_at"].notna()).all()
    shares = told["planted"]["cancel_reason_shares"]
    counts = plans["reason"].value_counts()
    assert counts.to_dict() == told["care_plans_cancelled_by_reason_n"]
    assert chisquare(counts[list(shares)], counts.sum() * np.array(list(shares.values()))).pvalue > 0.01
    for name in told["planted"]["hazard_ratios"]:
        assert chi2_contingency(pd.crosstab(plans[name], plans["reason"])).pvalue > 0.01, name


def test_release_raises_completion_on_top_of_a_weekly_cycle(told: dict[str, Any]) -> None:
    rate = {name: n["order_n"] / n["checkout_n"] for name, n in told["release"]["checkouts"].items()}
    assert rate["after_weekday"] - rate["before_weekday"] > 0.04
    assert rate["before_weekend"] < rate["before_weekday"]
    assert rate["after_weekend"] < rate["after_weekday"]


def test_email_is_a_confounder_without_effect(told: dict[str, Any]) -> None:
    groups = told["email"]

    def rate(*names: str) -> float:
        return sum(groups[name]["buyers_n"] for name in names) / sum(groups[name]["people_n"] for name in names)

    raw = rate("engaged_readers", "others_readers") - rate("engaged_non_readers", "others_non_readers")
    within = [rate(f"{who}_readers") - rate(f"{who}_non_readers") for who in ("engaged", "others")]
    assert raw > 0.02
    assert np.mean(within) < raw / 2


def test_the_unhappy_answer_more(told: dict[str, Any]) -> None:
    for stage, found in told["satisfaction"].items():
        assert found["answered_mean"] < found["true_mean"] - 0.03, stage


def test_identities_name_the_planted_troubles() -> None:
    ids = pd.read_csv(STUDY / "truth" / "identities.csv", dtype={"value": str})
    owners = ids.groupby(["identifier", "value"])["person"].nunique()
    devices = owners.loc["device"]
    assert devices["kiosk-berlin-1"] >= 24
    assert (devices == 2).sum() >= 20
    assert owners.drop("device", level=0).max() == 1
    assert ids.loc[ids["identifier"] == "email", "value"].str.contains("exmaple").sum() == 12
    assert ids.loc[ids["identifier"] == "email", "value"].str.endswith(("example.com", "example.org")).mean() > 0.99
    assert ids.loc[ids["identifier"] == "device"].groupby("person").size().between(1, 6).all()
    shared = pd.read_csv(STUDY / "truth" / "devices_shared.csv")
    assert shared.drop_duplicates(["device", "person"]).groupby("device").size().min() > 1
    assert set(shared["device"]) <= set(ids.loc[ids["identifier"] == "device", "value"])


def test_no_two_web_events_of_a_person_at_the_same_instant() -> None:
    ids = pd.read_csv(STUDY / "truth" / "identities.csv", dtype={"value": str})
    owner = ids[ids["identifier"] == "device"].drop_duplicates("value", keep=False).set_index("value")["person"]
    seen: set[str] = set()
    for path in sorted((STUDY / "raw" / "web").glob("*.gz")):
        seen.update(lines_of(path))
    rows = [json.loads(line) for line in seen if line.endswith("}")]
    rows = [row for row in rows if row["event_name"] and row["event_timestamp"].isdigit()]
    rows = [row for row in rows if row["user_pseudo_id"] in owner]
    keys = [(owner[row["user_pseudo_id"]], row["event_timestamp"]) for row in rows]
    assert len(keys) == len(set(keys)) > 60_000


def test_orders_follow_the_season_and_the_week() -> None:
    orders = pd.read_csv(STUDY / "raw" / "shop" / "shopify_orders.csv", on_bad_lines="skip", dtype=str)
    days = orders.loc[orders["Tags"] == "laptop", "Created at"].str[:10]
    at = pd.to_datetime(days, errors="coerce", format="%Y-%m-%d")
    months = at[at < "2026"].dt.month.value_counts()
    assert months.idxmax() in (11, 12)
    assert months.min() > 40


def test_reached_on_hand_made_people() -> None:
    steps = ("a", "b", "c")
    rows = [
        (1, 0, "a"), (1, 1, "b"), (1, 2, "c"),  # all in order
        (2, 0, "a"), (2, 1, "c"), (2, 2, "b"),  # c before b
        (3, 0, "a"), (3, 8, "b"), (3, 9, "a"), (3, 10, "b"), (3, 16, "c"),  # the second start is in time, the first not
        (4, 0, "b"), (4, 1, "c"),  # no start
        (5, 0, "a"), (5, 11, "b"),  # too late
    ]  # fmt: skip
    events = pd.DataFrame(rows, columns=["row", "at", "event"])
    assert reached(events, steps, within=10).tolist() == [4, 3, 2]
    assert reached(events.iloc[:0], steps, within=10).tolist() == [0, 0, 0]


def test_add() -> None:
    assert add({}, {"a": 1, "b": {"c": 2.0}}) == {"a": 1, "b": {"c": 2.0}}
