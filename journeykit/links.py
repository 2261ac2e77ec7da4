"""Which identifiers belong together though no event says so: by profiles, by likeness, and by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from journeykit import engine, linking, overrides
from journeykit.config import Source, Study
from journeykit.parts import Inputs, Part
from journeykit.sql import identifier, literal

DEFINITION = (
    "left_name VARCHAR, left_token VARCHAR, right_name VARCHAR, right_token VARCHAR, known_at TIMESTAMP, "
    "rule VARCHAR, confidence DOUBLE"
)
ORDER = "left_name, left_token, right_name, right_token, rule"


def stage(plan: Study, read: Sequence[Part], inputs: Inputs) -> None:
    """Make the temporary table `links` of what `staging.stage` has read.

    One row per pair of tokens and rule, the more trusted identifier on the left: left_name, left_token, right_name,
    right_token, known_at (when the first row said so; null: always known), rule, confidence, rows_n. A row of profiles
    joins its most trusted identifier with each other one ("profile") and two values of one ("merged in the source").

    Raises:
        JourneyError: the list of overrides is wrong, or `similar` cannot be worked out.
    """
    engine.run(f"CREATE OR REPLACE TEMP TABLE links_found ({DEFINITION})")
    _insert(overrides.read(plan, inputs.folder, inputs.secret, inputs.erased).assign(known_at=None, confidence=1.0))
    for source in plan.sources:
        if source.kind == "profiles":
            for select in _declared(source, plan):
                engine.run(f"INSERT INTO links_found BY NAME {select}")
            if source.similar:
                own = [part for part in read if part.source.name == source.name]
                _insert(linking.similar_profiles(source, plan, own, inputs))
    always = "CASE WHEN count(*) = count(known_at) THEN min(known_at) END"
    engine.run(
        f"CREATE OR REPLACE TEMP TABLE links AS SELECT left_name, left_token, right_name, right_token, "
        f"{always} AS known_at, rule, max(confidence) AS confidence, count(*) AS rows_n FROM links_found "
        f"GROUP BY {ORDER} ORDER BY {ORDER}"
    )


def select() -> str:
    """Return the query of the table `links`."""
    return f"SELECT * FROM links ORDER BY {ORDER}"


def tokens(source: Source, plan: Study) -> list[tuple[str, str]]:
    """Return the identifiers of a row of profiles by trust: each with the SQL of its token, of two the first filled."""
    return [
        (name, f"coalesce({identifier('id_' + name)}, {identifier('same_' + name)})")
        if name in source.same_as
        else (name, identifier("id_" + name))
        for name in plan.identity.identifiers
        if name in source.identifiers
    ]


def _declared(source: Source, plan: Study) -> list[str]:
    """The queries of the pairs that the rows of a source say."""
    rows = f"(SELECT * FROM kept WHERE source = {literal(source.name)})"
    listed = ", ".join(f"{{'name': {literal(name)}, 'token': {token}}}" for name, token in tokens(source, plan))
    star = f"SELECT timestamp, list_filter([{listed}], lambda one: one.token IS NOT NULL) AS ones FROM {rows}"
    queries = [
        "SELECT ones[1].name AS left_name, ones[1].token AS left_token, other.name AS right_name, "
        "other.token AS right_token, timestamp AS known_at, 'profile' AS rule, 1.0 AS confidence "
        f"FROM (SELECT timestamp, ones, unnest(ones[2:]) AS other FROM ({star}))"
    ]
    for name in source.same_as:
        one, two = identifier(f"id_{name}"), identifier(f"same_{name}")
        queries.append(
            f"SELECT {literal(name)} AS left_name, least({one}, {two}) AS left_token, {literal(name)} AS right_name, "
            f"greatest({one}, {two}) AS right_token, timestamp AS known_at, 'merged in the source' AS rule, "
            f"1.0 AS confidence FROM {rows} WHERE {one} <> {two}"
        )
    return queries


def _insert(found: pd.DataFrame) -> None:
    engine.insert(found[linking.LINKS].astype({"known_at": "datetime64[us]"}), "links_found")
