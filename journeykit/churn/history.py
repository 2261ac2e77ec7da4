"""Prediction as it would have been made: learned from what was known, tested on what came after; and the list of now.

Everything that is learned for a test is stitched as of its day, because a later sign-in tells who an earlier event
belongs to, and a model of that day did not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import config, engine, identity, journeys
from journeykit.churn import contest, drift, models, scores, spells
from journeykit.churn.contest import Round
from journeykit.churn.origin import Known, known_at, outcome
from journeykit.stats import not_enough
from journeykit.study import OpenStudy

WORDS = ("note", "reason", "model", "origins")


@dataclass(frozen=True)
class Prediction:
    """The tables of the chapter's part on prediction; each is empty with its reason where there is too little."""

    comparison: pd.DataFrame  # contest.compare: the models on a later time
    bands: pd.DataFrame  # contest.bands of the chosen model: predicted against observed
    gain: pd.DataFrame  # contest.gain of the chosen model
    scores: pd.DataFrame  # scores.ranked: whom to call
    inputs: pd.DataFrame  # drift.inputs: the people scored, for a later run to compare with
    changes: pd.DataFrame  # drift.changes since the origin
    since: pd.DataFrame  # drift.since the origin


def predict(
    study: OpenStudy, plan: config.Churn, *, origins: int = 2, repeats: int = 300, min_n: int = 20, seed: int = 0
) -> Prediction:
    """Return the test of all models on a later time, the list of whom to call, and how far both have drifted.

    An origin is `[churn] ahead` before the end of observation, the next one as much earlier. At each, models learn from
    what was known then (`origin.known_at`, of events stitched as of then), and are tested on who was there. The list
    is made by the chosen model, learned from everything known now. Drift is since the latest origin; `drifted` compares
    with an earlier run in its place.

    Args:
        study: with the tables of 01 and 02 built.
        plan: `[churn]`, as `choice.choose` gives it.
        origins: how many, at most; an earlier one at which not all of the models can be learned is left out.
        repeats: resamples of the intervals of the test.
        min_n: smallest group that is shown.
        seed: of all that is drawn.

    Returns:
        The tables, which are kept in derived/, so that the same is not computed twice.
    """
    said = [study.fingerprint("touches"), study.parts_hash("02_stitch"), study.as_of(), plan.model_dump()]
    said += [origins, repeats, min_n, seed]
    fields = list(Prediction.__dataclass_fields__)
    names = [f"churn_{name}" for name in [*fields, "words"]]
    *tables, words = study.remember(names, said, lambda: _kept(_computed(study, plan, origins, repeats, min_n, seed)))
    for name, table in zip(fields, tables, strict=True):
        mine = words[words["table"] == name]
        table.attrs.update(dict(zip(mine["word"], mine["text"], strict=True)))
    return Prediction(*tables)


def drifted(
    study: OpenStudy, plan: config.Churn, prediction: Prediction, before: drift.Before | None, *, min_n: int = 20
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `drift.changes` and `drift.since` against an earlier run, whose people are found again by their tokens.

    Args:
        study: with the tables of 01 and 02 built.
        plan: `[churn]`.
        prediction: of `predict`, now.
        before: of `drift.before`; without an earlier run, drift is since the latest origin.
        min_n: smallest group that is shown.
    """
    if before is None:
        return prediction.changes, prediction.since
    with engine.scratch():
        touches = study.table("touches")
        known = known_at(touches, plan, as_of=study.as_of())
        now = drift.inputs(known.there, plan.covariates, like=before.inputs, min_n=min_n)
        changes = drift.changes(before.inputs, now, min_n=min_n)
        if before.scores.empty:
            return changes, not_enough(drift.SINCE_COLUMNS, "the earlier run scored nobody")
        at = pd.Timestamp(before.scores["scored_at"].iloc[0])
        found = spells.of(touches, plan, as_of=study.as_of())
        until = pd.Timestamp(found.attrs.get("until", study.as_of()))
        people = _by_token(study.table("people"), before.scores)
    scored = before.scores.merge(people, on=["id_name", "id_token"]).merge(found, on="person_id")
    scored = scored.sort_values(["person_id", "id_token"]).drop_duplicates("person_id")
    after = (pd.to_datetime(scored["started_at"]) - at) / pd.Timedelta(days=1) + scored["duration_days"]
    scored = scored.assign(after_days=after)[(scored["ended"] == 0) | (after > 0)]
    elapsed = (until - at) / pd.Timedelta(days=1)
    ahead = float(before.scores["ahead_days"].iloc[0])
    return changes, drift.since(scored, since_at=at, ahead_days=ahead, elapsed_days=elapsed, min_n=min_n)


def as_it_was(study: OpenStudy, plan: config.Churn, day: pd.Timestamp) -> Known:
    """Return what was known on a day: of events until then, stitched as of then."""
    until = nw.col("time_us") <= int(day.value // 1000)
    # Hidden in derived/, which the machines of a cluster share.
    with engine.scratch(), TemporaryDirectory(prefix=".origin-", dir=study.derived) as folder:
        events = study.table("events").filter(until)
        stitched = identity.stitch(events, study.config.identity, study.table("links"), as_of=day).events
        path = Path(folder) / "touches.parquet"
        journeys.write_touches(stitched, study.config, path)
        return known_at(engine.read_parquet(path), plan, as_of=day)


def _computed(
    study: OpenStudy, plan: config.Churn, origins: int, repeats: int, min_n: int, seed: int
) -> dict[str, pd.DataFrame]:
    as_of, ahead = study.as_of(), pd.Timedelta(days=plan.ahead_days)
    with engine.scratch():
        touches = study.table("touches")
        if engine.is_empty(touches):
            return _nothing("no event was read")
        now = known_at(touches, plan, as_of=as_of)
        then, rounds = _rounds(study, plan, [as_of - ahead * (k + 1) for k in range(max(1, origins))], touches, seed)
        tokens = _tokens(study.table("people"), study.config.identity.identifiers, now.there)
    comparison = contest.compare(rounds, repeats=repeats, seed=seed)
    name = contest.chosen(comparison)
    bands = contest.bands(rounds, name or models.NULL, min_n=min_n)
    inputs = drift.inputs(then.there, plan.covariates, min_n=min_n)
    like = drift.inputs(now.there, plan.covariates, like=inputs, min_n=min_n) if len(inputs) else inputs
    return {
        "comparison": comparison,
        "bands": bands,
        "gain": contest.gain(rounds, name or models.NULL, repeats=repeats, seed=seed, min_n=min_n),
        "scores": scores.ranked(now, plan, name, tokens, bands, seed=seed),
        "inputs": drift.inputs(now.there, plan.covariates, min_n=min_n),
        "changes": drift.changes(inputs, like, min_n=min_n),
        "since": _since(rounds[0], name or models.NULL, min_n),
    }


def _rounds(
    study: OpenStudy, plan: config.Churn, days: Sequence[pd.Timestamp], touches: Any, seed: int
) -> tuple[Known, list[Round]]:
    """Play each origin; earlier ones only count where they can learn the models that the latest one can."""
    first: Known | None = None
    rounds: list[Round] = []
    for day in days:
        then = as_it_was(study, plan, day)
        people = outcome(then, touches, plan, as_of=study.as_of())
        played = contest.play(then, people, plan.covariates, ahead_days=plan.ahead_days, seed=seed)
        if first is None:
            first = then
        elif set(rounds[0].still_there) - set(played.still_there) or people.empty:
            break
        rounds.append(played)
    assert first is not None  # there is at least one day
    return first, rounds


def _since(played: Round, name: str, min_n: int) -> pd.DataFrame:
    if name not in played.still_there:
        reason = str(played.people.attrs.get("reason", "")) or played.why_not.get(name, "no model could be learned")
        return not_enough(drift.SINCE_COLUMNS, reason)
    days = float(played.days[-1])
    scored = played.people.assign(leaves_share=1 - played.still_there[name][:, -1])
    return drift.since(scored, since_at=played.origin_at, ahead_days=days, elapsed_days=days, min_n=min_n)


def _tokens(people: nw.LazyFrame[Any], identifiers: Sequence[str], there: pd.DataFrame) -> pd.DataFrame:
    """One token of each person: of the most trusted identifier, the smallest of several."""
    wanted = engine.beside(there[["person_id"]], people)
    found = people.join(wanted, on="person_id", how="inner").group_by("person_id", "id_name")
    table = engine.fetch(found.agg(id_token=nw.col("id_token").min()), limit=20_000_000)
    rank = {name: number for number, name in enumerate(identifiers)}
    table = table.assign(_rank=table["id_name"].map(rank)).sort_values(["person_id", "_rank"])
    return table.drop_duplicates("person_id")[["person_id", "id_name", "id_token"]].reset_index(drop=True)


def _by_token(people: nw.LazyFrame[Any], scored: pd.DataFrame) -> pd.DataFrame:
    """The person of now that each token belongs to."""
    wanted = engine.beside(scored[["id_name", "id_token"]].drop_duplicates(), people)
    found = people.join(wanted, on=["id_name", "id_token"], how="inner").group_by("id_name", "id_token")
    return engine.fetch(found.agg(person_id=nw.col("person_id").min()), limit=20_000_000)


def _kept(tables: dict[str, pd.DataFrame]) -> list[pd.DataFrame]:
    """The tables, and what is said about them, which a file does not hold."""
    said = [
        (name, word, str(table.attrs[word]))
        for name, table in tables.items()
        for word in WORDS
        if table.attrs.get(word)
    ]
    words = pd.DataFrame(said or [("", "", "")], columns=["table", "word", "text"])
    return [*tables.values(), words]


def _nothing(reason: str) -> dict[str, pd.DataFrame]:
    columns = {
        "comparison": contest.COMPARE_COLUMNS, "bands": contest.calibration.BAND_COLUMNS, "gain": contest.GAIN_COLUMNS,
        "scores": scores.SCORE_COLUMNS, "inputs": drift.INPUT_COLUMNS, "changes": drift.CHANGE_COLUMNS,
        "since": drift.SINCE_COLUMNS,
    }  # fmt: skip
    return {name: not_enough(of, reason) for name, of in columns.items()}
