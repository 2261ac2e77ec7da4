"""The journey map: what happens at every touchpoint, who moves on to a later stage, and how people feel there.

Survey touches measure a journey and are no step of it: they are listed on the map, but nobody "reaches" a stage by
answering a survey. An answer speaks of the stage that the survey names (column `segment_about`), and where it names
none, of the touch before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from lifelines.utils import median_survival_times
from scipy import stats as _stats

from journeykit import engine, stats, sums
from journeykit.errors import require_columns

NEEDS = ("person_id", "position", "stage", "touchpoint", "satisfaction")
ABOUT = "segment_about"
DAY = 86_400_000_000  # microseconds
SATISFACTION = ["satisfaction", "satisfaction_low", "satisfaction_high", "answers_n"]
MAP = ["stage", "touchpoint", "touches_n", "people_n", "n", "reach_share", "reach_share_low", "reach_share_high"]
MAP += ["continued_people_n", "continued_share", "continued_share_low", "continued_share_high", *SATISFACTION]
FLOW = ["stage", "next", "people_n", "reached_people_n", "reached_share", "reached_share_low", "reached_share_high"]
FLOW += ["next_stage_people_n", "next_stage_share", "next_stage_share_low", "next_stage_share_high"]
FLOW += ["median_days", "median_days_low", "median_days_high", "movers_median_days", *SATISFACTION]
NO_STAGES = "no stages are declared in journey.toml"


def names(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated parameter.

    >>> names("Survey, Chat rating")
    ('Survey', 'Chat rating')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def touchpoint_map(
    touches: Any, *, stages: Sequence[str], min_n: int = 5, survey_touchpoints: Sequence[str] = ("Survey",)
) -> pd.DataFrame:
    """Count, for every touchpoint of every stage, its reach, who moves on to a later stage, and satisfaction.

    `reach_share` is over all people with any event. `continued_share` is over the people of the touchpoint: those with
    a touch in any later stage after their *first* touch here (strictly later in the total order; survey touches do
    not count as a stage reached). It is a share so far: people who came yesterday have had less time. Rivals: after
    the last touch here, only the very next stage, within a window. Satisfaction: see `satisfaction_by_stage`.

    Needs `person_id`, `position`, `stage`, `touchpoint`, `satisfaction` (0–1) and the columns of the total order.
    One row per stage × touchpoint in the order of the stages, then by people; fewer than `min_n` people: left out,
    fewer than `min_n` people with an answer: no satisfaction. Nothing continues from the last stage.
    """
    if not stages:
        return stats.not_enough(MAP, NO_STAGES)
    table = _marked(touches, stages, survey_touchpoints, None)
    staged = table.filter(~nw.col("rank").is_null())
    last = (
        staged.filter(~nw.col("is_survey"))
        .group_by("person_id")
        .agg(*[_where("rank", k, "position").max().alias(f"last_{k}") for k in range(len(stages))])
    )
    later = [
        nw.when(nw.col("rank") < k).then(nw.col(f"last_{k}").fill_null(-1)).otherwise(-1) for k in range(len(stages))
    ]
    cells = (
        staged.group_by("person_id", "rank", "touchpoint")
        .agg(touches_n=nw.len(), first=nw.col("position").min())
        .join(last, on="person_id", how="left")
        .with_columns(continued=nw.when(nw.max_horizontal(*later) > nw.col("first")).then(1).otherwise(0))
        .group_by("rank", "touchpoint")
        .agg(nw.col("touches_n").sum(), people_n=nw.len(), continued_people_n=nw.col("continued").sum())
    )
    counts = engine.fetch(cells)
    if counts.empty:
        return stats.not_enough(MAP, "not enough data (n = 0): no event belongs to a stage")
    everyone = int(engine.fetch(table.select(nw.col("person_id").n_unique().alias("n")))["n"].iloc[0])
    counts = counts.merge(_moments(table, ["rank", "touchpoint"], min_n), on=["rank", "touchpoint"], how="left")
    counts = counts[counts["people_n"] >= min_n].assign(n=everyone)
    if counts.empty:
        return stats.not_enough(MAP, f"not enough data: every touchpoint has fewer than {min_n} people")
    counts = stats.add_share(counts, "reach", "people_n", "n")
    counts = stats.add_share(counts, "continued", "continued_people_n", "people_n")
    ends = counts["rank"] == len(stages) - 1
    for name in [column for column in MAP if column.startswith("continued")]:
        counts[name] = counts[name].astype(float).mask(ends)
    counts = counts.sort_values(["rank", "people_n", "touchpoint"], ascending=[True, False, True])
    counts = counts.assign(stage=[stages[int(k)] for k in counts["rank"]])
    return counts.assign(answers_n=counts["answers_n"].fillna(0).astype(int))[MAP].reset_index(drop=True)


def satisfaction_by_stage(
    touches: Any, *, stages: Sequence[str], survey_touchpoints: Sequence[str] = ("Survey",), min_n: int = 1
) -> pd.DataFrame:
    """Average the answers (0–1) of each stage.

    An answer on a staged touch that is not a survey (a ticket rated good or bad) belongs to that touch. An answer on a
    survey touch, or on an event without a stage, belongs to the person's last staged touch before it that is not a
    survey; with none before it, it belongs to no stage. Rivals: the event that triggered the survey (better, where
    the export names it), or a stage of its own for surveys. The interval is Student's t over people (answers of one
    person are not independent; with one answer each it is the usual interval), cut to 0–1.

    One row per stage: `satisfaction` and its interval, `answers_n` answers, `answered_people_n` people who answered.
    """
    columns = ["stage", *SATISFACTION, "answered_people_n"]
    if not stages:
        return stats.not_enough(columns, NO_STAGES)
    marked = _marked(touches, stages, survey_touchpoints, None)
    found = _moments(marked.with_columns(about_rank=nw.col("asked_rank")), ["rank"], min_n)
    table = pd.DataFrame({"rank": range(len(stages)), "stage": list(stages)}).merge(found, on="rank", how="left")
    whole = {name: table[name].fillna(0).astype(int) for name in ("answers_n", "answered_people_n")}
    return table.assign(**whole)[columns]


def stage_flow(
    touches: Any,
    *,
    stages: Sequence[str],
    until: Any,
    min_n: int = 5,
    survey_touchpoints: Sequence[str] = ("Survey",),
) -> pd.DataFrame:
    """Say for each stage how many people entered it, how many moved on so far, and how long that takes.

    Moving on: the first touch in any later stage after the first touch in this one; from the last stage: any staged
    touch more than one day later (a return). `median_days` is the Kaplan–Meier median, in which people who have not
    moved by `until` are censored; it is null when less than half move. `movers_median_days` looks only at those who
    moved and is therefore too short. `next_stage_share` is the rival: a touch of exactly the next stage of the list
    after the first touch in this one (null for the last stage); it counts people who skip an optional stage, such as
    support, as lost.

    One row per stage with at least `min_n` people, in order.
    """
    if not stages:
        return stats.not_enough(FLOW, NO_STAGES)
    people = people_by_stage(touches, stages, survey_touchpoints, microseconds(until))
    rows = []
    for k, stage in enumerate(stages):
        days, moved = spell(people, k, microseconds(until))
        if len(days) < max(min_n, 1):
            continue
        fitted = KaplanMeierFitter().fit(days, moved)
        bounds = median_survival_times(fitted.confidence_interval_).to_numpy().ravel()
        median = [x if np.isfinite(x) else np.nan for x in (fitted.median_survival_time_, *bounds)]
        rows.append(
            {
                "stage": stage,
                "next": "a later stage" if k < len(stages) - 1 else "a return after a day",
                "people_n": len(days),
                "reached_people_n": int(moved.sum()),
                "median_days": median[0],
                "median_days_low": median[1],
                "median_days_high": median[2],
                "movers_median_days": float(np.median(days[moved])) if moved.any() else np.nan,
                "next_stage_people_n": int(people[f"following_{k}"].notna().sum()) if k < len(stages) - 1 else np.nan,
            }
        )
    if not rows:
        return stats.not_enough(FLOW, f"not enough data: every stage has fewer than {max(min_n, 1)} people")
    table = stats.add_share(pd.DataFrame(rows), "reached", "reached_people_n", "people_n")
    known = table["next_stage_people_n"].notna()
    following = stats.add_share(table[known], "next_stage", "next_stage_people_n", "people_n")
    table = table.join(following.filter(like="next_stage_share"))
    answers = satisfaction_by_stage(touches, stages=stages, survey_touchpoints=survey_touchpoints, min_n=min_n)
    return table.merge(answers, on="stage", how="left")[FLOW]


def microseconds(moment: Any) -> int:
    stamp = pd.Timestamp(moment)
    stamp = stamp.tz_convert(None) if stamp.tzinfo else stamp
    return int((stamp - pd.Timestamp("1970-01-01")) // pd.Timedelta(microseconds=1))


def _where(column: str, value: int, then: str) -> Any:
    return nw.when(nw.col(column) == value).then(nw.col(then))


def _marked(touches: Any, stages: Sequence[str], surveys: Sequence[str], end: int | None) -> Any:
    """Add `rank` (of the stage, null outside), `is_survey`, and what an answer speaks of.

    `about_rank` and `about_touchpoint` are the person's last staged touch; `asked_rank` is the stage that the survey
    itself names (column `segment_about`), and where it names none, the stage of the last staged touch.
    """
    table = engine.lazy(touches)
    columns = table.collect_schema().names()
    require_columns(columns, [*NEEDS, *engine.ORDER], "journey map")
    named = nw.col(ABOUT).cast(nw.String) if ABOUT in columns else nw.lit(None, dtype=nw.String)
    if end is not None:
        table = table.filter(nw.col("time_us") <= end)
    stage, touchpoint = nw.col("stage").cast(nw.String), nw.col("touchpoint").cast(nw.String).fill_null("(none)")
    table = table.select(
        *engine.ORDER, "person_id", "position", nw.col("satisfaction").cast(nw.Float64), touchpoint=touchpoint,
        rank=_rank(stage, stages), named_rank=_rank(named, stages), is_survey=touchpoint.is_in(list(surveys)),
    )  # fmt: skip
    spoken = nw.when(~nw.col("is_survey") & ~nw.col("rank").is_null())
    table = table.with_columns(
        about_rank=spoken.then(nw.col("rank")), about_touchpoint=spoken.then(nw.col("touchpoint"))
    )
    filled = [
        nw.col(name).fill_null(strategy="forward").over("person_id", order_by=list(engine.ORDER))
        for name in ("about_rank", "about_touchpoint")
    ]
    return table.with_columns(*filled).with_columns(
        asked_rank=nw.when(nw.col("is_survey"))
        .then(nw.coalesce(nw.col("named_rank"), nw.col("about_rank")))
        .otherwise(nw.col("about_rank"))
    )


def _rank(stage: Any, stages: Sequence[str]) -> Any:
    ranks = [nw.when(stage == name).then(k) for k, name in enumerate(stages)]
    return nw.coalesce(*ranks) if len(ranks) > 1 else ranks[0]


def people_by_stage(touches: Any, stages: Sequence[str], surveys: Sequence[str], end: int | None) -> pd.DataFrame:
    """Return what the score needs of each person who entered a stage or answered about one, up to `end` (microseconds).

    An answer counts whether or not the person was seen in the stage, as in `satisfaction_by_stage`.
    One row per person, sorted by `person_id`; for stage k: `entry_k` (µs, first touch), `next_k` (µs, first touch of
    a later stage after it; for the last stage the first staged touch more than a day later), `following_k` (µs, first
    touch of exactly the next stage after it; not for the last), `answers_k`, `sum_k` (number and sum of the answers
    that speak of the stage).
    """
    table = _marked(touches, stages, surveys, end)
    reached = ~nw.col("rank").is_null() & ~nw.col("is_survey")
    first = table.filter(reached).group_by("person_id").agg(
        *[_where("rank", k, "time_us").min().alias(f"entry_{k}") for k in range(len(stages))],
        *[_where("rank", k, "position").min().alias(f"entered_{k}") for k in range(len(stages))],
    )  # fmt: skip
    parts = [nw.col(f"entry_{k}").max().alias(f"entry_{k}") for k in range(len(stages))]
    for k in range(len(stages)):
        later = reached & (nw.col("rank") > k) & (nw.col("position") > nw.col(f"entered_{k}"))
        if k == len(stages) - 1:
            later = reached & (nw.col("time_us") > nw.col(f"entry_{k}") + DAY)
        else:
            following = later & (nw.col("rank") == k + 1)
            parts += [nw.when(following).then(nw.col("time_us")).min().alias(f"following_{k}")]
        answer = nw.when((nw.col("asked_rank") == k) & ~nw.col("satisfaction").is_null())
        parts += [
            nw.when(later).then(nw.col("time_us")).min().alias(f"next_{k}"),
            answer.then(1).otherwise(0).sum().alias(f"answers_{k}"),
            sums.whole(answer.then(nw.col("satisfaction")), sums.SHARE).sum().alias(f"sum_{k}"),
        ]
    found = table.join(first, on="person_id", how="left").group_by("person_id").agg(*parts)
    anything = [~nw.col(f"entry_{k}").is_null() | (nw.col(f"answers_{k}") > 0) for k in range(len(stages))]
    people = engine.fetch(found.filter(nw.any_horizontal(*anything, ignore_nulls=False)))
    numbers = {name: people[name].astype(float) for name in people.columns if name != "person_id"}
    numbers |= {f"sum_{k}": numbers[f"sum_{k}"] / sums.SHARE for k in range(len(stages))}
    return people.assign(**numbers).sort_values("person_id").reset_index(drop=True)


def spell(people: pd.DataFrame, k: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, for the people of stage k, the days until they moved on (or until `end`) and whether they moved."""
    inside = people[people[f"entry_{k}"].notna()]
    moved = inside[f"next_{k}"].notna().to_numpy()
    until = inside[f"next_{k}"].fillna(end)
    return ((until - inside[f"entry_{k}"]) / DAY).to_numpy(), moved


def _moments(table: Any, keys: list[str], min_n: int) -> pd.DataFrame:
    """Average the answers by what they speak of; each person is one cluster, which sums of squares are enough for."""
    about = [f"about_{key}" for key in keys]
    answers = table.filter(~nw.col("satisfaction").is_null() & ~nw.col("about_rank").is_null())
    answers = answers.with_columns(_whole=sums.whole(nw.col("satisfaction"), sums.SHARE))
    person = answers.group_by("person_id", *about).agg(s=nw.col("_whole").sum(), c=nw.len())
    # Few people differ in both numbers, and added up in their order the sums do not depend on the engine.
    alike = engine.fetch(person.group_by(*about, "s", "c").agg(people=nw.len()), limit=20_000_000)
    alike = alike.rename(columns=dict(zip(about, keys, strict=True))).sort_values([*keys, "s", "c"])
    s, c, n = alike["s"].astype(float) / sums.SHARE, alike["c"].astype(float), alike["people"]
    parts = alike[keys].assign(s=s * n, c=c * n, ss=s * s * n, sc=s * c * n, cc=c * c * n, answered_people_n=n)
    found = parts.groupby(keys, as_index=False, dropna=False).sum()
    rows = [_clustered(*row) for row in found[["s", "c", "ss", "sc", "cc", "answered_people_n"]].to_numpy(dtype=float)]
    values = pd.DataFrame(rows, columns=SATISFACTION[:3], index=found.index, dtype=float)
    values.loc[found["answered_people_n"] < min_n] = np.nan
    return found[[*keys, "answered_people_n"]].assign(answers_n=found["c"].astype(int)).join(values)


def _clustered(s: float, c: float, ss: float, sc: float, cc: float, people: float) -> tuple[float, float, float]:
    """Return the mean answer and Student's t interval over people (ratio estimate, linearised)."""
    mean = s / c
    if people < 2:
        return mean, float("nan"), float("nan")
    squares = max(ss - 2 * mean * sc + mean**2 * cc, 0.0)
    if squares < 1e-12:  # all answers equal: the t interval would be empty; Wilson's is wide enough for any 0–1 scale
        return mean, *stats.wilson(mean * people, people)
    half = float(_stats.t.ppf(0.975, people - 1)) * float(np.sqrt(people / (people - 1) * squares)) / c
    return mean, max(mean - half, 0.0), min(mean + half, 1.0)
