"""Which model foretells best who leaves, on people of a later time: the simplest within noise of the best is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from journeykit import config
from journeykit.churn import calibration, metrics, models
from journeykit.churn.origin import WIDTH_DAYS, Known
from journeykit.stats import not_enough

MOST = 20_000  # people to test on; of more, so many are drawn
STEPS = 10  # moments up to the horizon that the integrated score is made of
COMPARE_COLUMNS = (
    *("model", "chosen", "n", "left_n", "train_people_n", "train_left_n", "horizon_days"),
    *("integrated_brier", "brier", "skill_share", "skill_share_low", "skill_share_high"),
    *("skill_at_end_share", "skill_at_end_share_low", "skill_at_end_share_high"),
    *("behind_best_share", "behind_best_share_low", "behind_best_share_high"),
    *("uno_c", "uno_c_low", "uno_c_high", "auc", "auc_low", "auc_high"),
    *("expected_to_observed", "expected_to_observed_low", "expected_to_observed_high"),
    *("calibration_slope", "calibration_slope_low", "calibration_slope_high", "remark"),
)
GAIN_COLUMNS = ("called_share", "called_n", "reached_share", "reached_share_low", "reached_share_high", "left_n")


@dataclass(frozen=True)
class Round:
    """One test: what models that knew only the past said of those there, and what became of these."""

    origin_at: pd.Timestamp
    people: pd.DataFrame  # of `origin.outcome`
    days: np.ndarray  # from the origin, the last one is the horizon
    still_there: dict[str, np.ndarray]  # of each model that could be learned, a row a person, a column a day
    why_not: dict[str, str]  # of each other model
    train_people_n: int
    train_left_n: int
    notes: tuple[str, ...] = ()


def play(
    then: Known, people: pd.DataFrame, covariates: Sequence[config.Covariate], *, ahead_days: float, seed: int = 0
) -> Round:
    """Learn all models from what was known at an origin, and let them foretell who of those there then leaves.

    Args:
        then: of `origin.known_at`.
        people: of `origin.outcome`.
        covariates: as declared.
        ahead_days: how far ahead; cut to what was observed after the origin.
        seed: of draws.
    """
    if len(people) > MOST:
        people = people.sample(MOST, random_state=seed).sort_values("person_id", ignore_index=True)
    horizon = min(float(ahead_days), float(people.attrs.get("at_most_days", ahead_days)))
    days = horizon * np.arange(1, STEPS + 1) / STEPS
    learned = models.training(then.rows, covariates, width_days=WIDTH_DAYS)
    said, why = {}, {}
    for name in models.NAMES:
        model, reason = models.fit(name, learned, seed=seed)
        if model is None:
            why[name] = reason
        elif len(people):
            said[name] = model.survival(people, days.tolist())
    return Round(then.at, people, days, said, why, learned.people_n, learned.ends_n, learned.notes)


def compare(rounds: Sequence[Round], *, repeats: int = 300, seed: int = 0) -> pd.DataFrame:
    """Return how well each model foretold, against one Kaplan–Meier curve for everybody, and which one is chosen.

    Everything is measured on people there at an origin, with the outcome after it, weighted for censoring. Several
    origins are one test of all of their people. Intervals: bootstrap over people (percentile), with the models held
    fixed; differences are paired, of the same people.

    The choice: of all models, the one with the lowest integrated Brier score is the best; the simplest model (in the
    order of `models.NAMES`) whose difference from it has a 95 % interval that includes 0 is chosen. So a model must
    earn its complexity, and when the curve for everybody is chosen, nobody should be scored one by one. Rival: the best
    score, which prefers the most flexible model half of the time when all are equal.

    Args:
        rounds: of `play`.
        repeats: resamples.
        seed: of the bootstrap.

    Returns:
        One row per model, the simplest first: model, chosen ("yes" or ""), n (people tested on), left_n (of them left
        within horizon_days), train_people_n and train_left_n (most recent origin), horizon_days, integrated_brier and
        brier (at the horizon), skill_share (1 − integrated Brier / the null's; 0 = no better), skill_at_end_share (the
        same of the Brier score at the horizon), behind_best_share (integrated Brier less the best model's, as a share
        of the null's; paired), uno_c, auc (at the horizon), expected_to_observed (leavers), calibration_slope, each
        with its interval, and remark: why a model could not be learned. `.attrs`: "origins" (days, as text), "note".
    """
    usable = [each for each in rounds if len(each.people) and models.NULL in each.still_there]
    reason = _why_not(rounds, usable)
    if reason:
        return not_enough(COMPARE_COLUMNS, reason)
    names = [name for name in models.NAMES if all(name in each.still_there for each in usable)]
    duration, ended, weights = _people(usable, repeats, seed)
    days, n = usable[0].days, len(duration)
    at = float(days[-1])
    said = {name: np.vstack([each.still_there[name] for each in usable]) for name in names}
    whole = {
        name: metrics.means(metrics.integrated_terms(duration, ended, said[name], days), weights) for name in names
    }
    end = {name: metrics.means(metrics.brier_terms(duration, ended, said[name][:, -1], at), weights) for name in names}
    best = min(names, key=lambda name: (whole[name][0], models.NAMES.index(name)))
    scale = whole[models.NULL][0]
    behind = {name: metrics.with_interval((whole[name] - whole[best]) / scale) for name in names}
    chosen = next(name for name in names if name == best or behind[name][1] <= 0)
    left_n = int(((ended == 1) & (duration <= at)).sum())
    facts = (n, left_n, usable[0].train_people_n, usable[0].train_left_n, at)
    rows = []
    for name in models.NAMES:
        if name not in names:
            why = next(each.why_not[name] for each in usable if name in each.why_not)
            rows.append((name, "", *facts, *[np.nan] * (len(COMPARE_COLUMNS) - 8), why))
            continue
        leaves = 1 - said[name][:, -1]
        rows.append(
            (
                *(name, "yes" if name == chosen else "", *facts, float(whole[name][0]), float(end[name][0])),
                *metrics.with_interval(1 - whole[name] / whole[models.NULL]),
                *metrics.with_interval(1 - end[name] / end[models.NULL]),
                *behind[name],
                *metrics.with_interval(metrics.uno(duration, ended, leaves, at, weights)),
                *metrics.with_interval(metrics.auc(duration, ended, leaves, at, weights)),
                *metrics.with_interval(calibration.expected_to_observed(duration, ended, leaves, at, weights)),
                *metrics.with_interval(calibration.slope(duration, ended, leaves, at, weights)),
                "",
            )
        )
    result = pd.DataFrame(rows, columns=list(COMPARE_COLUMNS))
    notes = [*usable[0].notes, *(str(each.people.attrs.get("note", "")) for each in usable)]
    result.attrs["note"] = " ".join(dict.fromkeys(note for note in notes if note))
    result.attrs["origins"] = " and ".join(sorted(f"{each.origin_at:%Y-%m-%d}" for each in usable))
    return result


def chosen(table: pd.DataFrame) -> str:
    """Return the model that `compare` chose, or "" when nothing could be compared."""
    return str(table.loc[table["chosen"] == "yes", "model"].iloc[0]) if len(table) else ""


def bands(rounds: Sequence[Round], name: str, *, min_n: int = 20) -> pd.DataFrame:
    """Return what a model predicted for people of a later time against what happened; see `calibration.bands`."""
    usable = [each for each in rounds if len(each.people) and name in each.still_there]
    if not usable:
        return not_enough(calibration.BAND_COLUMNS, _why_not(rounds, usable) or "no model could be tested")
    duration, ended, _ = _people(usable, 0, 0)
    leaves = np.concatenate([1 - each.still_there[name][:, -1] for each in usable])
    return calibration.bands(duration, ended, leaves, float(usable[0].days[-1]), min_n=min_n)


def gain(rounds: Sequence[Round], name: str, *, repeats: int = 300, seed: int = 0, min_n: int = 20) -> pd.DataFrame:
    """Return which share of those who left was among the people with the highest predicted risk.

    The cumulative gain curve of people of a later time: call the 10 % at the top, reach so many of those who leave. At
    equal risks the order is left open, and each is reached in proportion; calling at random reaches as many per cent as
    it calls. Intervals: bootstrap over people.

    Returns:
        One row per step of 5 %: called_share, called_n, reached_share (+low, high), left_n (all who left; weighted for
        censoring where somebody was not observed to the end). Steps of fewer than `min_n` people are left out.
    """
    usable = [each for each in rounds if len(each.people) and name in each.still_there]
    if not usable:
        return not_enough(GAIN_COLUMNS, _why_not(rounds, usable) or "no model could be tested")
    duration, ended, weights = _people(usable, repeats, seed)
    leaves = np.concatenate([1 - each.still_there[name][:, -1] for each in usable])
    left = metrics.left_terms(duration, ended, float(usable[0].days[-1]))
    if not left.any():
        return not_enough(GAIN_COLUMNS, "not enough data (nobody of those tested on left)")
    order = np.argsort(-leaves, kind="stable")
    starts = np.flatnonzero(np.diff(-leaves[order], prepend=-np.inf))
    called = np.add.reduceat(weights[:, order], starts, axis=1).cumsum(axis=1)
    reached = np.add.reduceat((weights * left)[:, order], starts, axis=1).cumsum(axis=1)
    steps = np.arange(1, 20) / 20
    curves = np.array(
        [
            np.interp(steps, np.append(0, c / c[-1]), np.append(0, r / max(r[-1], metrics.LEAST)))
            for c, r in zip(called, reached, strict=True)
        ]
    )
    rows = [
        (step, round(step * len(leaves)), *metrics.with_interval(curves[:, k]), round(float(left.sum())))
        for k, step in enumerate(steps)
        if step * len(leaves) >= min_n
    ]
    if not rows:
        return not_enough(GAIN_COLUMNS, f"not enough data (n = {len(leaves)}, at least {min_n} are needed)")
    return pd.DataFrame(rows, columns=list(GAIN_COLUMNS))


def _people(rounds: Sequence[Round], repeats: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Days after the origin, who left, and resamples: a person of two origins is drawn with both."""
    people = pd.concat([each.people for each in rounds], ignore_index=True)
    who = "now_id" if "now_id" in people else "person_id"
    code, names = pd.factorize(people[who])
    drawn = np.vstack([np.ones((1, len(names))), metrics.resamples(len(names), repeats, seed)])
    return people["after_days"].to_numpy(float), people["ended"].to_numpy(int), drawn[:, code]


def _why_not(rounds: Sequence[Round], usable: Sequence[Round]) -> str:
    """Why nothing can be compared, or ""."""
    if not usable:
        reasons = [str(each.people.attrs.get("reason", "")) for each in rounds if each.people.empty]
        reasons += [each.why_not.get(models.NULL, "") for each in rounds]
        said = next((reason for reason in reasons if reason), "not enough data (n = 0)")
        when = f" before {rounds[0].origin_at:%Y-%m-%d}" if rounds else ""
        return f"no model can be tested on what was known{when}: {said}"
    n = sum(len(each.people) for each in usable)
    if n < models.MIN_AT_RISK:
        return f"not enough data to test a prediction (n = {n}, at least {models.MIN_AT_RISK} are needed)"
    at = float(usable[0].days[-1])
    left = sum(int(((p["ended"] == 1) & (p["after_days"] <= at)).sum()) for p in (each.people for each in usable))
    if left < models.MIN_ENDS:
        many = f"{left} {'person' if left == 1 else 'people'} left"
        return (
            f"not enough data to test a prediction ({many} after {usable[0].origin_at:%Y-%m-%d}, at least "
            f"{models.MIN_ENDS} are needed)"
        )
    return ""
