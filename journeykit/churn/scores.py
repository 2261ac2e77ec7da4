"""Whom to call: everybody who is there, with the chance to leave, what is lost with them, why, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from journeykit import config, present
from journeykit.churn import margin, models
from journeykit.churn.covariates import label
from journeykit.churn.curves import Z95
from journeykit.churn.origin import WIDTH_DAYS, Known
from journeykit.stats import not_enough

DRAWS = 60  # resamples of the people learned from; the spread of their logits gives the interval
DRAWN = 50_000  # people in a resample; of more, so many are drawn and the spread is narrowed accordingly
MATTERS = 0.01  # a reason that moves the chance by less than a percentage point is none
REASONS = 3
SIMILAR = ("similar_n", "similar_left_share", "similar_left_share_low", "similar_left_share_high")
SCORE_COLUMNS = (
    *("id_name", "id_token", "scored_at", "ahead_days", "tenure_days"),
    *("leaves_share", "leaves_share_low", "leaves_share_high"),
    *("at_stake_value", "at_stake_value_low", "at_stake_value_high"),
    *("remaining_value", "remaining_value_low", "remaining_value_high", "reasons", *SIMILAR),
)
VALUES = tuple(name for name in SCORE_COLUMNS if "_value" in name)


def ranked(
    known: Known,
    plan: config.Churn,
    name: str,
    tokens: pd.DataFrame,
    bands: pd.DataFrame,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return everybody who is there, who would be missed most first.

    - `leaves_share`: probability to leave within `[churn] ahead` of `scored_at`, everything about the person held as it
      is then. Its interval is of the estimated probability (people learned from are drawn again, on the scale of
      log-odds), not of what one person will do, which is yes or no.
    - `remaining_value`: expected discounted contribution over `[churn.value] horizon` (`margin.present_value`); only
      with a `margin`. Beyond the tenures seen, leaving goes on as in the last months seen (see `models`).
    - `at_stake_value`: what is expected to be lost by leaving within `ahead`: the remaining value if the person were
      sure to stay so long, less the remaining value as it is. It is what keeping this person until then is worth, and
      the order of the list; without a margin the order is that of `leaves_share`. Rival: chance times remaining value,
      which counts the chance twice, because it has lowered the remaining value already.
    - `reasons`: the covariates that move the chance most, with the change in percentage points from what it would be at
      the covariate's typical value (the most frequent one, or the median). They describe the model, not causes.
    - `similar_*`: of n people of the later time with a similar predicted risk, the share that left (`contest.bands`).

    Args:
        known: of `origin.known_at`, now.
        plan: `[churn]`.
        name: of the model, as chosen by `contest.compare`; no list is made by the null.
        tokens: person_id, id_name and id_token of the most trusted identifier of each person.
        bands: of `contest.bands`, of that model.
        draws: resamples for the intervals.
        seed: of them.

    Returns:
        One row per person: SCORE_COLUMNS, without those of value where no margin is declared. `.attrs`: "model",
        "note". Empty with its reason when no model is better than one curve for everybody.
    """
    if name in ("", models.NULL):
        why = "no model was tested" if not name else "no model foretells better than one curve for everybody"
        return not_enough(SCORE_COLUMNS, f"there is no list of whom to call: {why}, so that nobody is scored singly")
    if known.there.empty:
        return not_enough(SCORE_COLUMNS, "not enough data (n = 0 people are there)")
    seen = models.training(known.rows, plan.covariates, width_days=WIDTH_DAYS)
    model, reason = models.fit(name, seen, seed=seed)
    if model is None:
        return not_enough(SCORE_COLUMNS, reason)
    people, ask = known.there, _Asked.of(plan)
    first = ask.about(model, people)
    spread = _spread(seen, name, model, people, ask, draws, seed)
    table = people[["person_id", "tenure_days"]].assign(scored_at=known.at, ahead_days=plan.ahead_days)
    for what, value in first.items():
        low, high = (_moved(what, value, side * Z95 * spread[what]) for side in (-1, 1))
        table = table.assign(**{what: value, f"{what}_low": low, f"{what}_high": high})
    table["reasons"] = reasons(model, people, plan.covariates, plan.ahead_days)
    table = pd.concat([table, similar(first["leaves_share"], bands)], axis=1)
    table = table.merge(tokens[["person_id", "id_name", "id_token"]], on="person_id", how="inner")
    by = "at_stake_value" if "at_stake_value" in table else "leaves_share"
    order = table.assign(_by=table[by].round(9), _risk=table["leaves_share"].round(9))
    order = order.sort_values(["_by", "_risk", "person_id"], ascending=[False, False, True])
    result = order[[column for column in SCORE_COLUMNS if column in table]].reset_index(drop=True)
    notes = [*seen.notes, _beyond(seen, people, plan)]
    result.attrs.update(model=name, note=" ".join(note for note in notes if note))
    return result


def reasons(
    model: models.Model, people: pd.DataFrame, covariates: Sequence[config.Covariate], ahead_days: float
) -> list[str]:
    """Return, for each person, what moves the chance to leave most away from what it would be at a typical value."""
    now = 1 - model.survival(people, [ahead_days])[:, 0]
    gaps, words = [], []
    for covariate in covariates:
        values = people[covariate.name]
        typical = _typical(values, covariate)
        gaps.append(now - (1 - model.survival(people.assign(**{covariate.name: typical}), [ahead_days])[:, 0]))
        words.append([f"{label(covariate)}: {_word(value, covariate)}" for value in values])
    if not gaps:
        return [""] * len(people)
    moved = np.column_stack(gaps)
    order = np.argsort(-np.abs(np.round(moved, 9)), axis=1, kind="stable")[:, :REASONS]
    said = []
    for row, best in enumerate(order):
        parts = [f"{words[k][row]} ({_points(moved[row, k])})" for k in best if abs(moved[row, k]) >= MATTERS]
        said.append("; ".join(parts) or "nothing stands out")
    return said


def similar(leaves: np.ndarray, bands: pd.DataFrame) -> pd.DataFrame:
    """Return what became of people of the later time in the band of risk that each chance falls into.

    Between two bands the border is half-way; below the first and above the last, the nearest counts.

    >>> bands = pd.DataFrame({"from_share": [0.0, 0.5], "to_share": [0.1, 0.9], "n": [40, 30]})
    >>> bands = bands.assign(observed_share=[0.1, 0.6], observed_share_low=[0.0, 0.4], observed_share_high=[0.2, 0.8])
    >>> similar(np.array([0.2, 0.95]), bands)["similar_n"].tolist()
    [40, 30]
    """
    if bands.empty:
        return pd.DataFrame(np.nan, index=range(len(leaves)), columns=list(SIMILAR))
    borders = (bands["to_share"].to_numpy(float)[:-1] + bands["from_share"].to_numpy(float)[1:]) / 2
    mine = bands.iloc[np.searchsorted(borders, leaves, side="left")].reset_index(drop=True)
    sides = ("observed_share", "observed_share_low", "observed_share_high")
    return mine[["n", *sides]].set_axis(list(SIMILAR), axis=1)


@dataclass(frozen=True)
class _Asked:
    """What a model is asked about each person: how likely to leave, and what is lost by it."""

    ahead_days: float
    days: np.ndarray  # the grid of value, with the horizon `ahead` among them; only that without a margin
    per_day: float
    discount: float

    @classmethod
    def of(cls, plan: config.Churn) -> _Asked:
        ahead, value = plan.ahead_days, plan.value
        if value.margin <= 0:
            return cls(ahead, np.array([ahead]), 0.0, 0.0)
        last = margin.horizon_days(value)
        days = np.unique([0.0, *np.linspace(0, last, 1 + int(np.ceil(last / margin.STEP))), min(ahead, last)])
        return cls(ahead, np.union1d(days, [ahead]), margin.per_day(value), value.discount)

    def about(self, model: models.Model, people: pd.DataFrame) -> dict[str, np.ndarray]:
        still = model.survival(people, self.days.tolist())
        here = int(np.searchsorted(self.days, self.ahead_days))
        said = {"leaves_share": 1 - still[:, here]}
        if self.per_day:
            # Sure to stay until then, and as likely to leave afterwards as is expected.
            sure = np.where(self.days <= self.ahead_days, 1.0, still / np.maximum(still[:, [here]], 1e-12))
            worth = [
                margin.present_value(shares, self.days, per_day=self.per_day, discount=self.discount)
                for shares in (still, sure)
            ]
            said |= {"at_stake_value": np.maximum(worth[1] - worth[0], 0.0), "remaining_value": worth[0]}
        return said


def _spread(
    seen: models.Training, name: str, model: models.Model, people: pd.DataFrame, ask: _Asked, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """The standard error of each answer, on its own scale, over resamples of the people learned from."""
    rng = np.random.default_rng(seed)
    drawn = min(seen.people_n, DRAWN)
    total: dict[str, np.ndarray] = {}
    squares: dict[str, np.ndarray] = {}
    made = 0
    for draw in range(draws):
        weights = rng.multinomial(drawn, np.full(seen.people_n, 1 / seen.people_n)).astype(float)
        drawn_model = models.again(name, model, seen, weights, seed=seed + draw + 1)
        if drawn_model is None:
            continue
        made += 1
        for what, value in ask.about(drawn_model, people).items():
            scaled = _scaled(what, value)
            total[what] = total.get(what, np.zeros(len(people))) + scaled
            squares[what] = squares.get(what, np.zeros(len(people))) + scaled**2
    if made < 2:
        return {what: np.full(len(people), np.nan) for what in ("leaves_share", "at_stake_value", "remaining_value")}
    narrower = np.sqrt(drawn / seen.people_n)
    return {
        what: narrower * np.sqrt(np.maximum(squares[what] - total[what] ** 2 / made, 0.0) / (made - 1))
        for what in total
    }


def _scaled(what: str, value: np.ndarray) -> np.ndarray:
    """Chances on the scale of log-odds, money on that of logarithms: intervals stay where such numbers can be."""
    if what == "leaves_share":
        share = np.clip(value, 1e-9, 1 - 1e-9)
        return np.asarray(np.log(share) - np.log1p(-share))
    return np.log(np.maximum(value, 1e-9))


def _moved(what: str, value: np.ndarray, by: np.ndarray) -> np.ndarray:
    moved = _scaled(what, value) + by
    return np.asarray(1 / (1 + np.exp(-moved)) if what == "leaves_share" else np.exp(moved))


def _typical(values: pd.Series[Any], covariate: config.Covariate) -> Any:
    if covariate.kind in ("count", "poor", "detours", "satisfaction"):
        return values.astype(float).median()
    counts = values.value_counts()  # of equally frequent ones the first of the alphabet
    most = sorted(counts.index, key=lambda value: (-counts[value], str(value)))
    return most[0] if most else None


def _word(value: Any, covariate: config.Covariate) -> str:
    if covariate.kind == "satisfaction":
        return "no answer" if present.missing(value) else present.share(value, 0)
    if covariate.kind == "category":
        return "unknown" if present.missing(value) else str(value)
    return ("yes" if value > 0 else "no") if covariate.kind == "any" else f"{value:g}"


def _points(change: float) -> str:
    return f"{'+' if change > 0 else '−'}{abs(100 * change):.0f} points"


def _beyond(seen: models.Training, people: pd.DataFrame, plan: config.Churn) -> str:
    """Say for how many people the answer reaches beyond the tenures that enough people were seen at."""
    far = int((people["tenure_days"] + plan.ahead_days > seen.last_days).sum())
    if not far:
        return ""
    return (
        f"Fewer than {models.MIN_AT_RISK} people were seen beyond day {seen.last_days:.0f} of tenure. For the "
        f"{present.count(far)} people who come to it within {plan.ahead_days:g} days, leaving is taken to go on as in "
        "the last months before it."
    )
