"""What was declared about an experiment before it was read, and what was changed after it had started."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from journeykit import present
from journeykit.config import Experiment, Metric, seconds
from journeykit.stats import not_enough

DECLARED = ("experiment", "name", "item", "declared", "started_at", "fingerprint")
CHANGES = ("experiment", "item", "declared_then", "declared_now", "since_at", "announced")
TIMING = (
    *("experiment", "name", "starts_at", "ends_at", "first_exposed_at", "last_exposed_at", "read_at"),
    *("horizon_days", "open_n", "n", "early", "state"),
)
RULES = "do not ship what harms a guardrail or worsens a primary metric, ship what improves one, else keep control"
WHOLE = "the whole test"
KINDS = {
    "conversion": "share of people with {event}",
    "count": "{event} per person",
    "value": "value of {event} per person",
    "satisfaction": "mean answer of {event}",
    "funnel": "share of people who go through {steps}",
    "ratio": "{event} per {per}",
    "time": "days until {event}",
}


def declared(experiment: Experiment, *, started_at: pd.Timestamp | None = None, currency: str = "") -> pd.DataFrame:
    """Return what is declared about an experiment as a table that can be read, and compared with that of another run.

    The rival, a link to a document elsewhere, cannot be held against the numbers. `fingerprint` is the same as long as
    nothing that bears on the result is changed: the title, the owner and the list of amendments do not count, nor do
    keys that a later version of this package adds.

    Args:
        experiment: the declared experiment.
        started_at: its first exposure, or None as long as there is none.
        currency: unit of money.

    Returns:
        One row per item: experiment, name (as in journey.toml), item, declared (text), started_at (UTC), fingerprint.

    >>> plan = Experiment(name="t", hypothesis="b sells", exposure="x", arms={"a": 0.5, "b": 0.5}, control="a",
    ...     metrics=[{"name": "orders", "event": "buy"}])
    >>> declared(plan)[["item", "declared"]].values.tolist()[-3:-1]
    [['orders', 'primary, more is better: share of people with buy within 14 days'], ['Decision', 'not declared: do not ship what harms a guardrail or worsens a primary metric, ship what improves one, else keep control']]
    """  # noqa: E501 (the result of a doctest)
    items = [*_plan(experiment), *_reading(experiment)]
    items += [(metric.name, _metric(metric, experiment, currency)) for metric in experiment.metrics]
    if experiment.decisions:
        items += [
            (f"Decision {i}", f"primary {row.primary}, guardrails {row.guardrails}: {row.then}")
            for i, row in enumerate(experiment.decisions, start=1)
        ]
    else:
        items.append(("Decision", f"not declared: {RULES}"))
    units = f"{present.count(experiment.yearly_units)} units a year" if experiment.yearly_units else "pace of the test"
    items.append(("Told for", units))
    items += [(f"Amendment of {row.on}", row.what) for row in experiment.amendments]
    table = pd.DataFrame(items, columns=["item", "declared"])
    table["experiment"], table["name"] = experiment.label, experiment.name
    table["started_at"] = pd.Series([started_at] * len(table), dtype="datetime64[ns]")
    table["fingerprint"] = fingerprint(experiment)
    return table[list(DECLARED)]


def fingerprint(experiment: Experiment) -> str:
    """Return a short text that differs as soon as anything that bears on the result is declared differently.

    >>> plan = {"name": "t", "hypothesis": "h", "exposure": "x", "arms": {"a": 1.0}, "control": "a",
    ...     "metrics": [{"name": "m", "event": "e"}]}
    >>> same = fingerprint(Experiment(**plan)) == fingerprint(Experiment(**plan, owner="Web", title="T"))
    >>> other = fingerprint(Experiment(**plan)) == fingerprint(Experiment(**plan, within="7d"))
    >>> same, other
    (True, False)
    """
    told = experiment.model_dump(mode="json", exclude={"title", "owner", "amendments"}, exclude_defaults=True)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def changes(now: pd.DataFrame, before: pd.DataFrame | Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return what is declared otherwise now than in the first run that read the experiment after its start.

    A test is held against the earliest run whose observation ended after its first exposure: what was changed before
    anybody was exposed is planning. A test that such a run did not have was declared after its start, and one that is
    missing now was taken away; both are shown. Amendments that were added are no change but its announcement.

    Args:
        now: `declared` of all experiments.
        before: the same table of earlier runs, the earliest first, each with the end of its observation (UTC) in
            `attrs["as_of"]` (see `Chapter.earlier`); a table without that counts as read after the start.

    Returns:
        One row per item that differs: experiment, item, declared_then, declared_now, since_at (the end of observation
        of the run that it is held against), announced ("yes" when an amendment is declared for the test, else "no").
    """
    runs = [before] if isinstance(before, pd.DataFrame) else list(before)
    runs = [run for run in runs if len(run) and {"name", "item", "declared", "fingerprint"} <= set(run.columns)]
    if not runs:
        return not_enough(CHANGES, "no earlier run has a declaration to compare with")
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys([*(n for run in runs for n in run["name"]), *now["name"]]):
        mine = now.loc[now["name"] == name]
        known = mine if len(mine) else next(run.loc[run["name"] == name] for run in runs if (run["name"] == name).any())
        start = pd.to_datetime(known["started_at"], errors="coerce").min() if "started_at" in known else pd.NaT
        if pd.isna(start):
            continue
        base = next((run for run in runs if _read_at(run) is None or pd.Timestamp(_read_at(run)) >= start), None)
        if base is None:
            continue
        then = base.loc[base["name"] == name]
        rows += _differences(then, mine, str(known["experiment"].iloc[0]), _read_at(base))
    if not rows:
        return not_enough(CHANGES, "nothing was declared otherwise since the first run that read it")
    return pd.DataFrame(rows)[list(CHANGES)]


def timing(units: pd.DataFrame, *, experiment: Experiment, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return whether the experiment was over when it was read; before that, reading it is an early look.

    With a horizon the test is over when that has passed since `starts` (or the first exposure). Without one it counts
    as running as long as somebody's window is still open. Fixed intervals and p-values hold for one look at the end.

    Args:
        units: exposed_at, and mature.
        experiment: the declared experiment.
        as_of: end of observation (UTC).

    Returns:
        One row: experiment, name, starts_at, ends_at (start + horizon; empty without one), first_exposed_at,
        last_exposed_at, read_at, horizon_days, open_n (people whose window is still open), n (exposed), early, state
        ("over", "early look", "still running", "not started").
    """
    exposed = units["exposed_at"] if "exposed_at" in units.columns else pd.Series(dtype="datetime64[ns]")
    first, last = exposed.min(), exposed.max()
    start = pd.to_datetime(experiment.starts, utc=True).tz_localize(None) if experiment.starts else first
    read_at = pd.to_datetime(as_of, utc=True).tz_localize(None)
    horizon = seconds(experiment.horizon) / 86400 if experiment.horizon else float("nan")
    ends = start + pd.Timedelta(days=horizon) if experiment.horizon and not pd.isna(start) else pd.NaT
    open_n = int((~units["mature"].astype(bool)).sum()) if "mature" in units.columns else 0
    if units.empty:
        state = "not started"
    elif experiment.horizon:
        state = "early look" if not pd.isna(ends) and read_at < ends else "over"
    else:
        state = "still running" if open_n else "over"
    row = {
        "experiment": experiment.label,
        "name": experiment.name,
        "starts_at": start,
        "ends_at": ends,
        "first_exposed_at": first,
        "last_exposed_at": last,
        "read_at": read_at,
        "horizon_days": horizon,
        "open_n": open_n,
        "n": len(units),
        "early": state in ("early look", "still running"),
        "state": state,
    }
    return pd.DataFrame([row])[list(TIMING)]


def _plan(experiment: Experiment) -> list[tuple[str, str]]:
    """What is tested on whom."""
    arms = ", ".join(
        f"{arm} {present.share(part)}{' (control)' if arm == experiment.control else ''}"
        for arm, part in experiment.arms.items()
    )
    unit = f"person; arms are drawn by {experiment.cluster}" if experiment.cluster else "person"
    named = f"{experiment.identifier_column}, {experiment.arm_column}" if experiment.identifier_column else ""
    left = "are left out" if experiment.several_arms == "exclude" else "count for the first arm"
    return [
        ("Hypothesis", experiment.hypothesis),
        ("Unit", unit),
        ("Arms", arms),
        ("Exposure", f"first {experiment.exposure} ({named or experiment.arm_column})"),
        ("Assignment", ", ".join(experiment.assignment) or "not recorded"),
        ("Seen in several arms", left),
    ]


def _reading(experiment: Experiment) -> list[tuple[str, str]]:
    """When and how it is read."""
    bounds = {"obrien_fleming": "O'Brien and Fleming", "pocock": "Pocock"}[experiment.spending]
    stopping = {
        "fixed": "decided once, at the end",
        "always_valid": "may be read every day: anytime-valid intervals decide",
        "group_sequential": f"read at {experiment.looks} planned looks (bounds of {bounds})",
    }[experiment.stopping]
    correction = {"holm": "Holm", "fdr": "Benjamini–Hochberg", "preferential": ""}[experiment.correction]
    first = f"primary metrics take {present.share(experiment.primary_share, 0)} of the error, intervals widen too"
    least = experiment.minimum_effect
    return [
        ("Starts", experiment.starts or "first exposure"),
        ("Horizon", _long(experiment.horizon) if experiment.horizon else "not declared"),
        ("Planned people", present.count(experiment.planned_n) if experiment.planned_n else "not declared"),
        ("Window after exposure", _long(experiment.within)),
        ("Period before exposure", _long(experiment.before)),
        ("Minimum effect", f"{present.share(least)} relative" if least else "not declared"),
        ("Stopping rule", stopping),
        ("Correction", correction or first),
        ("Segments", ", ".join(experiment.by) or "none"),
        *([("Bayesian", "probability to be better is shown")] if experiment.bayesian else []),
    ]


def _metric(metric: Metric, experiment: Experiment, currency: str) -> str:
    what = KINDS[metric.kind].format(
        event=" or ".join(metric.event),
        per=" or ".join(metric.per),
        steps=" → ".join(step.label for step in metric.steps),
    )
    text = f"{metric.role}, {'more' if metric.better == 'up' else 'less'} is better: {what}"
    text += f" within {_long(metric.within or experiment.within)}"
    text += f", capped at {metric.cap:g}" if metric.cap is not None else ""
    text += f", its {100 * metric.quantile:g} % quantile" if metric.quantile is not None else ""
    if metric.role == "guardrail":
        text += f", margin {metric.margin:g}"
    if metric.worth:
        worth = f"worth {currency} {metric.worth:g}".replace("  ", " ")
        text += f", {metric.worth:g} of it is contribution" if metric.kind == "value" else f", {worth}"
    return text


def _long(duration: str) -> str:
    words = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}
    return f"{duration[:-1]} {words[duration[-1]]}{'' if duration[:-1] == '1' else 's'}"


def _differences(then: pd.DataFrame, now: pd.DataFrame, label: str, since: Any) -> list[dict[str, Any]]:
    noted = {True: "yes", False: "no"}[bool(now["item"].astype(str).str.startswith("Amendment").any())]
    common = {"experiment": label, "since_at": pd.NaT if since is None else pd.Timestamp(since), "announced": noted}
    if then.empty or now.empty:
        told = ("not declared", "declared") if then.empty else ("declared", "not declared")
        return [{**common, "item": WHOLE, "declared_then": told[0], "declared_now": told[1]}]
    if str(then["fingerprint"].iloc[0]) == str(now["fingerprint"].iloc[0]):
        return []
    old, new = (dict(zip(part["item"].astype(str), part["declared"].astype(str), strict=True)) for part in (then, now))
    items = [item for item in {**old, **new} if not item.startswith("Amendment") and old.get(item) != new.get(item)]
    if not items:
        return [{**common, "item": "another key", "declared_then": "as it was", "declared_now": "changed"}]
    none = "not declared"
    return [
        {**common, "item": item, "declared_then": old.get(item, none), "declared_now": new.get(item, none)}
        for item in items
    ]


def _read_at(run: pd.DataFrame) -> Any:
    return run.attrs.get("as_of")
