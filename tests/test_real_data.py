"""Data that were not made here: each study is described by a journey.toml only and meets its reference figures.

The data sets lie beside the repository while it is developed; their licences do not let them be copied into it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import narwhals as nw
import pandas as pd
import pyarrow as pa
import pytest
from statsmodels.stats.proportion import proportions_ztest

from journeykit import (
    engine,
    events,
    flows,
    funnels,
    journeys,
    ordering,
    path_anchors,
    paths,
    patterns,
    study,
)
from journeykit.churn import curves, spells
from journeykit.config import Journeys, Sessions
from journeykit.stats import wilson

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("JOURNEYKIT_SHARED_DATA", ROOT.parent / "shared" / "data"))
RAW = {"ecom_clickstream": "ecom_clickstream", "sparkify_log": "sparkify_log/log_data"}

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"the public data sets are not there ({DATA.name}/)")


def describe(name: str, folder: Path) -> Path:
    """Lay out a study: the committed journey.toml beside a link to the raw files."""
    folder = folder / name
    folder.mkdir()
    (folder / "raw").symlink_to(DATA / RAW[name])
    (folder / "journey.toml").write_text((ROOT / "tests" / "studies" / f"{name}.toml").read_text())
    return folder


def expected(name: str) -> dict[str, Any]:
    figures = json.loads((DATA / name / "expected.json").read_text())["figures"]
    return {key: figure["value"] for key, figure in figures.items()}


class Built:
    def __init__(self, name: str, folder: Path) -> None:
        self.study = study.open_study(str(describe(name, folder)))
        self.expected = expected(name)
        events.ingest(self.study)
        journeys.build(self.study)
        self.touches = self.study.table("touches")
        self.frame = engine.fetch(self.touches)


@pytest.fixture(scope="module")
def ecom(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built("ecom_clickstream", tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="module")
def sparkify(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built("sparkify_log", tmp_path_factory.mktemp("real"))


def counts(table: pd.DataFrame) -> dict[str, int]:
    return dict(zip(table["step"], table["n"].astype(int), strict=True))


def test_ecom_rows_people_and_sessions(ecom: Built) -> None:
    assert len(ecom.frame) == ecom.expected["events"]
    assert ecom.frame["person_id"].nunique() == ecom.expected["users"]
    assert ecom.frame["session_id"].nunique() == ecom.expected["sessions"]
    assert ecom.frame["event"].value_counts().to_dict() == ecom.expected["events_by_event"]
    by_channel = ecom.frame.groupby("marketing_channel")["session_id"].nunique().to_dict()
    assert by_channel == ecom.expected["sessions_by_channel"]
    repeats = ecom.frame["event_id"].str.contains("-").sum()
    assert repeats == ecom.expected["exact_duplicate_rows"]


@pytest.mark.parametrize(
    ("per", "figure"), [("session", "funnel_ordered_sessions"), ("person", "funnel_ordered_users")]
)
def test_ecom_funnels(ecom: Built, per: str, figure: str) -> None:
    steps = ecom.study.config.funnels["buy"].steps
    assert counts(funnels.funnel(ecom.touches, steps=steps, per=per)) == ecom.expected[figure]


def test_ecom_open_funnel(ecom: Built) -> None:
    steps = ecom.study.config.funnels["buy"].steps
    found = counts(funnels.funnel(ecom.touches, steps=steps, per="session", entry="open"))
    assert found == ecom.expected["funnel_open_sessions"]


@pytest.mark.parametrize("platform", ["desktop", "mobile", "tablet"])
def test_ecom_funnel_of_a_platform(ecom: Built, platform: str) -> None:
    steps = ecom.study.config.funnels["buy"].steps
    part = ecom.touches.filter(nw.col("segment_platform") == platform)
    found = counts(funnels.funnel(part, steps=steps, per="session"))
    assert found == ecom.expected[f"funnel_ordered_sessions_platform_{platform}"]


def pairs(table: pd.DataFrame) -> dict[str, int]:
    return {f"{row['from']} -> {row['to']}": int(row["n"]) for row in table.to_dict("records")}


def test_ecom_transitions(ecom: Built) -> None:
    found = pairs(paths.transitions(ecom.touches, on="event", within="session"))
    assert sum(found.values()) == ecom.expected["transitions_total"]
    assert len(found) == ecom.expected["transitions_distinct"]
    assert {pair: found[pair] for pair in ecom.expected["transitions_in_session_top25"]} == ecom.expected[
        "transitions_in_session_top25"
    ]


def found_in(touches: Any, prefixes: list[str], **options: str) -> list[int]:
    """Return in how many units each pattern is found."""
    table = patterns.share(touches, prefixes, **options)
    return table["matched_n"].astype(int).tolist()


@pytest.mark.parametrize(
    ("within", "figure"), [("session", "funnel_ordered_sessions"), ("person", "funnel_ordered_users")]
)
def test_ecom_patterns_find_those_who_took_the_funnel(ecom: Built, within: str, figure: str) -> None:
    steps = list(ecom.expected[figure])
    asked = [" -> .* -> ".join(steps[:k]) for k in range(1, len(steps) + 1)]
    assert found_in(ecom.touches, asked, within=within) == list(ecom.expected[figure].values())


def test_ecom_sessions_without_a_purchase(ecom: Built) -> None:
    bought = ecom.expected["funnel_open_sessions"]["purchase"]
    without = ["purchase", "start -> [^purchase]* -> exit"]
    assert found_in(ecom.touches, without) == [bought, ecom.expected["sessions"] - bought]


def test_ecom_flow_and_anchors_sum_to_all_sessions(ecom: Built) -> None:
    flow = flows.flow(ecom.touches, steps=6, top=5)
    assert flow.groupby("position")["n"].sum().tolist() == [ecom.expected["sessions"]] * 5
    around = path_anchors.around(ecom.touches, "add_to_cart", before=2, after=2)
    assert around.groupby("position")["n"].sum().tolist() == [ecom.expected["sessions"]] * 5
    at = around[around["position"] == 0].set_index("value")["n"]
    assert at["add_to_cart"] == ecom.expected["funnel_open_sessions"]["add_to_cart"]


def test_ecom_time_to_the_first_purchase(ecom: Built) -> None:
    reference = ecom.expected["km_first_purchase"]
    until = ecom.frame["timestamp"].max()
    stays = spells.spells(ecom.touches, start=[], end=["purchase"], as_of=until)
    assert len(stays) == reference["users"]
    assert stays["ended"].sum() == reference["events"]
    days = [float(day) for day in reference["survival_at_days"]]
    curve = curves.survival_curve(stays, times=days)
    assert curve["survival_share"].tolist() == pytest.approx(list(reference["survival_at_days"].values()), rel=1e-6)
    median = curves.median_table(stays)["median_days"].iloc[0]
    assert median == pytest.approx(reference["median_days"], abs=1e-3)


def test_ecom_payment_incident_is_seen(ecom: Built) -> None:
    reference = ecom.expected["payment_incident"]
    paid = ecom.frame[ecom.frame["event"] == "payment_details"].groupby("session_id")["timestamp"].min()
    bought = set(ecom.frame.loc[ecom.frame["event"] == "purchase", "session_id"])
    inside = paid.between(pd.Timestamp("2024-05-19"), pd.Timestamp("2024-06-08"), inclusive="left")
    during = [sum(session in bought for session in paid.index[inside]), int(inside.sum())]
    besides = [sum(session in bought for session in paid.index[~inside]), int((~inside).sum())]
    assert during == [reference["inside"]["purchased"], reference["inside"]["sessions"]]
    assert besides == [reference["outside"]["purchased"], reference["outside"]["sessions"]]
    assert wilson(*during)[1] < wilson(*besides)[0]


def test_sparkify_rows_and_times(sparkify: Built) -> None:
    files = engine.fetch(sparkify.study.table("files"))
    assert len(files) == sparkify.expected["files"]
    assert files["kept_n"].sum() == sparkify.expected["events"]
    assert sparkify.frame["event"].value_counts().to_dict() == sparkify.expected["events_by_page"]
    first, last = (pd.Timestamp(sparkify.expected[f"{end}_event_utc"]).tz_localize(None) for end in ("first", "last"))
    assert (sparkify.frame["timestamp"].min(), sparkify.frame["timestamp"].max()) == (first, last)


def test_sparkify_anonymous_events_become_known(sparkify: Built) -> None:
    frame = sparkify.frame
    known = set(frame.loc[frame["id_user"].notna(), "person_id"])
    assert len(known) == sparkify.expected["identified_users"]
    anonymous = frame[frame["id_user"].isna()]
    assert len(anonymous) == sparkify.expected["anonymous_events"]
    stitched = anonymous["person_id"].isin(known)
    assert stitched.sum() == sparkify.expected["anonymous_events_stitched_by_session"]
    assert (~stitched).sum() == sparkify.expected["anonymous_events_left"]
    assert anonymous.loc[~stitched, "session_id"].nunique() == sparkify.expected["sessions_never_identified"]


def test_sparkify_sessions(sparkify: Built) -> None:
    frame = sparkify.frame
    assert frame["session_id"].nunique() == sparkify.expected["sessions"]
    known = frame[frame["person_id"].isin(frame.loc[frame["id_user"].notna(), "person_id"])]
    rows = pa.Table.from_pandas(known[list(ordering.NEEDS)], preserve_index=False)  # stored in order
    by_gap = ordering.order_touches(rows, sessions=Sessions(gap="30m"), journeys=Journeys())
    assert len(by_gap["session_id"].unique()) == sparkify.expected["sessions_by_30min_inactivity"]
    spans = frame.groupby("session_id")["timestamp"].agg(lambda at: (at.max() - at.min()).total_seconds())
    assert spans.median() == sparkify.expected["session_duration_seconds_median"]


def test_sparkify_transitions_and_funnel(sparkify: Built) -> None:
    found = pairs(paths.transitions(sparkify.touches, on="event", within="session"))
    assert sum(found.values()) == sparkify.expected["page_transitions_total"]
    assert len(found) == sparkify.expected["page_transitions_distinct"]
    top = sparkify.expected["page_transitions_in_session_top25"]
    assert {pair: found[pair] for pair in top} == top
    steps = sparkify.study.config.funnels["upgrade"].steps
    known = sparkify.frame.loc[sparkify.frame["id_user"].notna(), "person_id"].unique()
    users = sparkify.frame[sparkify.frame["person_id"].isin(known)]
    found = counts(funnels.funnel(users, steps=steps))
    assert found == sparkify.expected["funnel_ordered_users_Home_Upgrade_SubmitUpgrade"]
    found = counts(funnels.funnel(users, steps=steps, entry="open"))
    assert found == sparkify.expected["funnel_open_users_Home_Upgrade_SubmitUpgrade"]


def test_sparkify_patterns_find_those_who_took_the_funnel(sparkify: Built) -> None:
    reference = sparkify.expected["funnel_ordered_users_Home_Upgrade_SubmitUpgrade"]
    known = sparkify.frame.loc[sparkify.frame["id_user"].notna(), "person_id"].unique()
    users = sparkify.frame[sparkify.frame["person_id"].isin(known)]
    asked = [" -> .* -> ".join(list(reference)[:k]) for k in range(1, len(reference) + 1)]
    assert found_in(users, asked, within="person") == list(reference.values())


@pytest.mark.parametrize("name", list(RAW))
def test_all_nine_chapters_run_or_say_why_not(name: str, tmp_path: Path) -> None:
    folder = describe(name, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "journeykit", "run", str(folder), "--reports", str(tmp_path / "reports")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((tmp_path / "reports" / name / "latest" / "run.json").read_text())
    status = {chapter["name"]: chapter["status"] for chapter in run["chapters"]}
    skipped = {chapter for chapter, what in status.items() if what == "skipped"}
    assert len(status) == 9
    assert {"07_churn", "08_experiment"} <= skipped
    assert set(status.values()) == {"passed", "skipped"}
    assert all(chapter["reason"] for chapter in run["chapters"] if chapter["status"] == "skipped")
    assert "07_churn" in (tmp_path / "reports" / name / "latest" / "index.html").read_text()


def test_ecom_sessions_that_hold_each_step_in_any_order(ecom: Built) -> None:
    held = ecom.frame.groupby("event")["session_id"].nunique()
    assert {step: held[step] for step in ecom.expected["funnel_open_sessions"]} == ecom.expected["funnel_open_sessions"]


def test_ecom_sessions_with_a_purchase_by_channel(ecom: Built) -> None:
    bought = ecom.frame["event"].eq("purchase").groupby(ecom.frame["session_id"]).transform("any")
    for channel, reference in ecom.expected["purchase_sessions_by_channel"].items():
        here = ecom.frame["marketing_channel"] == channel
        found = (ecom.frame.loc[here, "session_id"].nunique(), ecom.frame.loc[here & bought, "session_id"].nunique())
        assert found == (reference["sessions"], reference["with_purchase"])


def test_ecom_payment_incident_by_the_two_proportion_test(ecom: Built) -> None:
    inside, outside = (ecom.expected["payment_incident"][where] for where in ("inside", "outside"))
    counts_, sizes = [[part[key] for part in (inside, outside)] for key in ("purchased", "sessions")]
    z, p = proportions_ztest(counts_, sizes)
    reference = ecom.expected["payment_incident_ztest"]
    assert z == pytest.approx(reference["z"], rel=1e-6)
    assert p == pytest.approx(reference["p_two_sided"], rel=1e-6)


def test_sparkify_people_by_level_and_by_step(sparkify: Built) -> None:
    users = sparkify.frame[sparkify.frame["id_user"].notna()]
    levels = users.groupby("id_user")["segment_level"].nunique().value_counts()
    assert {str(n): int(people) for n, people in levels.items()} == sparkify.expected["users_by_number_of_levels"]
    known = sparkify.frame[sparkify.frame["person_id"].isin(users["person_id"])]
    held = known.groupby("event")["person_id"].nunique()
    reference = sparkify.expected["funnel_open_users_Home_Upgrade_SubmitUpgrade"]
    assert {step: held[step] for step in reference} == reference
