"""Faults of assignment: people in several arms, exposures before the assignment or before the start."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import engine
from journeykit.config import Experiment
from journeykit.experiments.trust import alike, graded
from journeykit.experiments.units import ROWS
from journeykit.stats import add_share, not_enough

SEVERAL, BEFORE_START = "seen in several arms", "exposed before the start"
BEFORE, WITHOUT, OTHER, NEVER = (
    *("exposed before the assignment", "exposed without an assignment", "exposed to another arm than assigned"),
    "assigned, never exposed",
)
LIMITS = {SEVERAL: (0.10, 0.60)}  # a share from which on there is a warning, and above which there is no verdict
FAULTS = (0.01, 0.10)  # the same for faults that should not happen at all
ASSIGNMENT = (
    *("experiment", "check", "arm", "people_n", "n", "people_share", "people_share_low", "people_share_high"),
    *("p_value", "verdict"),
)


def assignment_check(
    touches: Any, units: pd.DataFrame, exposure: pd.DataFrame, *, experiment: Experiment, as_of: pd.Timestamp
) -> pd.DataFrame:
    """Return how often people were assigned in a way that a fair test does not know.

    People in several arms: a warning from 10 %, failed above 60 % (no verdict is given then). Exposed before the start,
    before or without the assignment, or to another arm than assigned: a warning from 1 %, failed above 10 %. Assigned
    and never exposed is no fault as long as it is alike in all arms; chi-square, "warning" below p = 0.01, "broken"
    below 0.001: then the exposure event itself depends on the arm.

    Args:
        touches: person_id, time_us or timestamp (UTC), event, the identifier and arm columns; looked at only where an
            assignment event is declared.
        units: person_id, arm, exposed_at; see `units.units`.
        exposure: the table of `exposure_check`.
        experiment: the declared experiment.
        as_of: end of observation (UTC).

    Returns:
        One row per check (per arm for those never exposed): experiment, check, arm ("" for all), people_n (concerned),
        n (of), people_share with its Wilson interval, p_value (where arms are compared), verdict.
    """
    if exposure.empty:
        return not_enough(ASSIGNMENT, str(exposure.attrs.get("reason", f"{experiment.name}: nobody was exposed")))
    total = int(exposure["people_n"].sum())
    several = exposure.loc[exposure["status"] == SEVERAL, "people_n"].sum()
    if "several_arms_n" in exposure.columns:
        several = exposure["several_arms_n"].sum()
    rows = [_row(SEVERAL, int(several), total)]
    if experiment.starts and len(units):
        start = pd.to_datetime(experiment.starts, utc=True).tz_localize(None)
        rows.append(_row(BEFORE_START, int((units["exposed_at"] < start).sum()), len(units)))
    if experiment.assignment:
        rows += _against_assignment(_assigned(touches, experiment, as_of), units, experiment)
    table = add_share(pd.DataFrame(rows), "people", "people_n", "n").assign(experiment=experiment.label)
    table["verdict"] = [
        graded(p) if check == NEVER else _verdict(check, share)
        for check, share, p in zip(table["check"], table["people_share"], table["p_value"], strict=True)
    ]
    return table[list(ASSIGNMENT)]


def _assigned(touches: Any, experiment: Experiment, as_of: pd.Timestamp) -> pd.DataFrame:
    """One row per assigned person: person_id, assigned_at, assigned_arm (null where there were several)."""
    table = engine.lazy(touches)
    until = (pd.to_datetime(as_of, utc=True) - pd.Timestamp("1970-01-01", tz="UTC")) // pd.Timedelta("1us")
    given = table.filter(nw.col("event").is_in(experiment.assignment) & (nw.col("time_us") <= until))
    if experiment.identifier_column:
        given = given.filter(nw.col(experiment.identifier_column).cast(nw.String) == experiment.name)
    people = (
        given.select("person_id", "time_us", arm=nw.col(experiment.arm_column).cast(nw.String))
        .group_by("person_id")
        .agg(assigned_us=nw.col("time_us").min(), arm=nw.col("arm").min(), last_arm=nw.col("arm").max())
    )
    found = engine.fetch(people, limit=ROWS).sort_values("person_id", ignore_index=True)
    arm = found["arm"].where(found["arm"] == found["last_arm"])
    return pd.DataFrame(
        {
            "person_id": found["person_id"],
            "assigned_at": pd.to_datetime(found["assigned_us"].astype("int64"), unit="us"),
            "assigned_arm": arm,
        }
    )


def _against_assignment(assigned: pd.DataFrame, units: pd.DataFrame, experiment: Experiment) -> list[dict[str, Any]]:
    both = units[["person_id", "arm", "exposed_at"]].merge(assigned, on="person_id", how="left")
    known = both.loc[both["assigned_at"].notna()]
    other = known["assigned_arm"].notna() & (known["assigned_arm"] != known["arm"])
    rows = []
    if len(both):
        rows.append(_row(WITHOUT, len(both) - len(known), len(both)))
    if len(known):
        rows.append(_row(BEFORE, int((known["exposed_at"] < known["assigned_at"]).sum()), len(known)))
        rows.append(_row(OTHER, int(other.sum()), len(known)))
    missing = ~assigned["person_id"].isin(set(units["person_id"]))
    arms = [arm for arm in experiment.arms if (assigned["assigned_arm"] == arm).any()]
    sizes = pd.Series([int((assigned["assigned_arm"] == arm).sum()) for arm in arms], dtype="int64")
    lost = pd.Series([int(((assigned["assigned_arm"] == arm) & missing).sum()) for arm in arms], dtype="int64")
    p_value = alike(lost, sizes) if arms else 1.0
    return rows + [_row(NEVER, k, n, arm, p_value) for arm, k, n in zip(arms, lost, sizes, strict=True)]


def _row(check: str, people_n: int, n: int, arm: str = "", p_value: float = float("nan")) -> dict[str, Any]:
    return {"check": check, "arm": arm, "people_n": people_n, "n": n, "p_value": p_value}


def _verdict(check: str, share: float) -> str:
    warn, fail = LIMITS.get(check, FAULTS)
    return "failed" if share > fail else "warning" if share >= warn else "ok"
