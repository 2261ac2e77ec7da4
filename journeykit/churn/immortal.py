"""Why "ever had it" lies: one covariate counted over the whole time, by the landmark, and as it happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import config, engine
from journeykit.churn import cox
from journeykit.churn.covariates import in_microseconds, label
from journeykit.churn.periods import DAY_US
from journeykit.churn.varying import over_time
from journeykit.errors import JourneyError, nearest, require_columns
from journeykit.stats import not_enough

IMMORTAL_COLUMNS = (
    "covariate",
    "label",
    "way",
    "words",
    *cox.RATIO,
    "n",
    "people_with_n",
    "events_n",
    "immortal_share",
)
EVER, LANDMARK, SO_FAR = "ever", "landmark", "so far"
PEOPLE = 20_000_000


def three_ways(
    touches: Any,
    spells: pd.DataFrame,
    covariates: Sequence[config.Covariate],
    *,
    landmark: str = "30d",
    name: str = "",
    minimum_events: int = 10,
) -> pd.DataFrame:
    """Return the hazard ratio of one covariate, counted in three ways; the first is wrong.

    - "ever": whoever had one of its events by the end of their time, as if they had had it from the start. Who had it
      on day 100 cannot have left before: these 100 days are *immortal*, and make the covariate look protective even
      where it does nothing.
    - "landmark": whoever had it by the landmark, among those still there then; time counts from the landmark.
    - "so far": without it up to its first event, with it from then on; the same people and days as "ever".

    Only the covariate's own events count (not `without`, not `last`), and no other covariate: the three differ in
    nothing but the counting. The last two may differ from each other, because they answer for different people. The
    covariate is `name`, or that of kind "any" or "count" with most immortal days; it is not chosen by its ratios.

    Needs `person_id`, `event` and `timestamp` in touches, and the table of `spells.of`.

    Three rows (a way without enough people has none): covariate, label, way, words, hazard_ratio (+low, high),
    p_value, n, people_with_n, events_n, immortal_share (of the days counted as with it, those that came before it).
    Suissa (2008); Anderson, Cain & Gelber (1983).

    Raises:
        JourneyError: no covariate of kind "any" or "count" is called so.
    """
    counted = [covariate for covariate in covariates if covariate.kind in ("any", "count")]
    if name and name not in [covariate.name for covariate in counted]:
        allowed = [covariate.name for covariate in counted]
        raise JourneyError(
            f"immortal: no covariate of kind any or count is called {name!r}.{nearest(name, allowed)} "
            f"There are: {', '.join(allowed) or 'none'}."
        )
    if not counted:
        return not_enough(IMMORTAL_COLUMNS, "no covariate counts events (kind any or count)")
    if spells.empty:
        return not_enough(IMMORTAL_COLUMNS, str(spells.attrs.get("reason", "not enough data (n = 0)")))
    people = _first_days(touches, spells, counted)
    if not name:
        name = counted[int(np.argmax([_immortal(people, c.name).sum() for c in counted]))].name
    covariate = next(c for c in counted if c.name == name)
    first = people[name].fillna(np.inf)
    by = config.seconds(landmark) / 86400
    ways = {
        EVER: ("whoever ever had it, over the whole time", _whole(people, np.isfinite(first))),
        LANDMARK: (f"whoever had it by day {by:g}, among those still there", _after(people, first <= by, by)),
        SO_FAR: ("without it until it happens, with it from then on", _split(people, first)),
    }
    words_of = " or ".join(event.replace("_", " ") for event in covariate.events)
    called = words_of if covariate.without or covariate.last else label(covariate)
    plain = config.Covariate(name="having", kind="any", events=covariate.events, label=called)
    days_with = (people["duration_days"] - people["entered_days"])[np.isfinite(first)].sum()
    before = {EVER: float(_immortal(people, name).sum() / days_with) if days_with else 0.0}
    rows, reasons = [], []
    for way, (words, data) in ways.items():
        found = over_time(data, [plain], minimum_events_per_parameter=minimum_events)
        if found.empty:
            reasons.append(f"No ratio of “{words}”: {found.attrs['reason']}")
            continue
        line = found.iloc[0]
        facts = [line[column] for column in (*cox.RATIO, "n", "people_with_n", "events_n")]
        rows.append((name, called, way, words, *facts, before.get(way, 0.0)))
    if not rows:
        return not_enough(IMMORTAL_COLUMNS, " ".join(reasons))
    result = pd.DataFrame(rows, columns=list(IMMORTAL_COLUMNS))
    result.attrs["note"] = " ".join(reasons)
    return result


def _first_days(touches: Any, spells: pd.DataFrame, covariates: Sequence[config.Covariate]) -> pd.DataFrame:
    """Return spells with the tenure at the first event of each covariate within them, NaN without one."""
    t = engine.lazy(touches)
    require_columns(t.collect_schema().names(), ["person_id", "event", "time_us"], "immortal")
    wanted = sorted({event for covariate in covariates for event in covariate.events})
    names = {covariate.name: f"_first_{n}" for n, covariate in enumerate(covariates)}
    firsts = [
        nw.when(nw.col("event").is_in(c.events)).then(nw.col("time_us")).min().alias(names[c.name]) for c in covariates
    ]
    of_people = t.filter(nw.col("event").is_in(wanted)).group_by("person_id").agg(*firsts)
    found = engine.fetch(of_people, limit=PEOPLE).sort_values("person_id")
    entered = spells["entered_days"].astype(float) if "entered_days" in spells else 0.0
    people = spells[["person_id", "started_at", "duration_days", "ended"]].assign(entered_days=entered)
    people = people.merge(found, on="person_id", how="left", validate="one_to_one").sort_values("person_id")
    began = in_microseconds(people["started_at"])
    for name, column in names.items():
        days = (people[column].astype(float) - began) / DAY_US
        people[name] = days.where(days <= people["duration_days"])
    return people[people["duration_days"] > people["entered_days"]].drop(columns=list(names.values()))


def _immortal(people: pd.DataFrame, name: str) -> Any:
    """Return how many days each person was there before the first event, of those who had one."""
    return (people[name] - people["entered_days"]).clip(lower=0).fillna(0.0)


def _whole(people: pd.DataFrame, having: Any) -> pd.DataFrame:
    rows = people[["person_id", "ended"]].assign(from_days=people["entered_days"], to_days=people["duration_days"])
    return rows.assign(having=np.asarray(having, dtype=float))


def _after(people: pd.DataFrame, having: Any, days: float) -> pd.DataFrame:
    rows = _whole(people, having)
    rows = rows.assign(from_days=(rows["from_days"] - days).clip(lower=0), to_days=rows["to_days"] - days)
    return rows[rows["to_days"] > rows["from_days"]]


def _split(people: pd.DataFrame, first: pd.Series) -> pd.DataFrame:
    """Return the time before and after the first event; an event at the very end of a spell has no time after it."""
    rows = _whole(people, 0.0)
    turn = first.clip(upper=rows["to_days"])
    before = rows.assign(to_days=turn, ended=rows["ended"].where(turn == rows["to_days"], 0))
    after = rows.assign(from_days=np.maximum(rows["from_days"], turn), having=1.0)
    both = pd.concat([before, after], ignore_index=True)
    return both[both["to_days"] > both["from_days"]]
