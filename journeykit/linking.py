"""Profiles without a common identifier that are one person all the same: Fellegi-Sunter linkage by Splink.

Definition chosen: two profiles are one person when the probability of it, given how alike their columns are, reaches
the threshold. How often columns agree by chance is measured on random pairs, how often among the same people is learnt
by expectation maximisation, and so is how rare a match is: the matches that are expected among the pairs compared,
shared out over all pairs. Rivals: equal keys (many misspelt records are missed), and a fixed similarity (which says
nothing about how telling a column is). It is for people's records, never for cookies, which hold nothing to compare.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from journeykit import engine
from journeykit.adapters import readable
from journeykit.config import Source, Study
from journeykit.config_sources import Similar
from journeykit.errors import JourneyError
from journeykit.sources import Rows, bare, load, open_rows
from journeykit.sql import literal

if TYPE_CHECKING:
    from journeykit.parts import Inputs, Part

RULE = "similar profile"
SEED = 1  # of the random pairs that say how often columns agree by chance
PAIRS = 1_000_000  # of them
DIGITS = 6  # of a probability: what comes behind depends on the order of sums
START = 1e-4  # share of matches among all pairs, from which the search for it sets out
ROUNDS = 100  # of that search; it ends when the share moves by less than a thousandth
LINKS = ["left_name", "left_token", "right_name", "right_token", "known_at", "rule", "confidence"]


def similar_profiles(source: Source, plan: Study, read: Sequence[Part], inputs: Inputs) -> pd.DataFrame:
    """Return the profiles of a source that are one person by `similar`, as links between their identifiers.

    The columns that are compared are read from the raw files into memory and are never written. A profile stands for
    its most trusted identifier; those without any, and repeated rows, are left out. The result does not depend on the
    order of rows or files.

    Args:
        source: a source of profiles with `similar`.
        plan: the study.
        read: its parts, which `staging.stage` has read.
        inputs: what the parts were made from.

    Returns:
        One row per pair of identifiers: left_name, left_token, right_name, right_token, known_at (when both profiles
        were known), rule ("similar profile"), confidence (probability of a match, at least the threshold).

    Raises:
        JourneyError: Splink is not installed, or a file lacks a column.
    """
    assert source.similar
    _require_splink(source)
    records = _records(source, plan, read, inputs)
    pairs = match(records[list(source.similar.columns())], source.similar)
    trust = {name: place for place, name in enumerate(plan.identity.identifiers)}
    records = records.assign(trust=records["name"].map(trust).astype("int64"))
    one, two = (records.iloc[pairs[side]].reset_index(drop=True) for side in ("left", "right"))
    swapped = (one["trust"] > two["trust"]) | ((one["trust"] == two["trust"]) & (one["token"] > two["token"]))
    left, right = one.where(~swapped, two), two.where(~swapped, one)
    found = pd.DataFrame({"left_name": left["name"], "left_token": left["token"]})
    found = found.assign(right_name=right["name"], right_token=right["token"])
    found["known_at"] = pd.concat([left["known_at"], right["known_at"]], axis=1).max(axis=1)  # null: always
    found = found.assign(rule=RULE, confidence=pairs["probability"])
    other = (found["left_name"] != found["right_name"]) | (found["left_token"] != found["right_token"])
    return found.loc[other, LINKS].reset_index(drop=True)


def match(records: pd.DataFrame, plan: Similar) -> pd.DataFrame:
    """Return the pairs of records that are one person.

    Args:
        records: the columns of `plan`, as text; null where nothing is known.
        plan: how columns are compared, which pairs are, and the threshold.

    Returns:
        One row per pair, in order: left and right (numbers of rows from 0, left the smaller), probability.
    """
    columns = {column: f"c{number}" for number, column in enumerate(plan.columns())}  # a header may hold anything
    compared = {columns[name]: kind for name, kind in plan.compare.items() if records[name].notna().any()}
    if len(records) < 2 or not compared:
        return pd.DataFrame({"left": [], "right": [], "probability": []}).astype({"left": int, "right": int})
    # In an order of their own, so that neither that of files nor the key of the tokens decides which pairs are drawn.
    table = records[list(columns)].rename(columns=columns).apply(lambda column: column.map(_lower))
    table = table.assign(place=range(len(table))).sort_values(list(columns.values()), ignore_index=True)
    rules = [[columns[name] for name in rule] for rule in plan.block_on]
    kept = _scored(table.drop(columns="place").assign(number=range(len(table))), compared, rules, plan.threshold)
    place = table["place"].to_numpy()
    ends = np.sort(np.stack([place[kept[side].to_numpy(dtype="int64")] for side in ("number_l", "number_r")]), axis=0)
    found = pd.DataFrame({"left": ends[0], "right": ends[1], "probability": kept["probability"]})
    return found.sort_values(["left", "right"], ignore_index=True)


def _scored(
    table: pd.DataFrame, compared: Mapping[str, str], rules: Sequence[Sequence[str]], threshold: float
) -> pd.DataFrame:
    """Return the pairs of a table's rows whose probability reaches the threshold: number_l, number_r, probability."""
    from splink import DuckDBAPI, Linker, SettingsCreator, block_on

    settings = SettingsCreator(
        link_type="dedupe_only",
        unique_id_column_name="number",
        comparisons=[_comparison(column, kind) for column, kind in compared.items()],
        blocking_rules_to_generate_predictions=[block_on(*rule) for rule in rules],
        probability_two_random_records_match=START,
        retain_matching_columns=False,
    )
    types = [(name, pa.int64() if name == "number" else pa.string()) for name in table.columns]
    arrow = pa.Table.from_pandas(table, schema=pa.schema(types), preserve_index=False)
    api = DuckDBAPI(engine.connection().cursor())  # under the engine's limits of memory and threads
    linker = Linker(api.register(arrow), settings, log_level=logging.ERROR)
    linker.training.estimate_u_using_random_sampling(max_pairs=PAIRS, seed=SEED)
    for rule in rules:
        some = table.dropna(subset=list(rule)).duplicated(list(rule)).any()
        if some and not set(compared) <= set(rule):  # else there is no pair, or nothing to learn of it
            linker.training.estimate_parameters_using_expectation_maximisation(block_on(*rule))
    scored = linker.inference.predict().as_duckdbpyrelation()
    odds = _with_prior(scored, len(table))
    pairs = scored.project(f"number_l, number_r, round({odds}, {DIGITS}) AS probability")
    found: pd.DataFrame = pairs.filter(f"probability >= {threshold}").to_arrow_table().to_pandas()
    api.delete_tables_created_by_splink_from_db()
    return found


def _with_prior(scored: Any, n: int) -> str:
    """Return the SQL of the probability of a match, by the share of matches among all pairs that it itself amounts to.

    Pairs that were not compared count as no match, so that the share is rather too small than too large.
    """
    weight = f"(match_weight - {math.log2(START / (1 - START))!r})"
    share = START
    for _ in range(ROUNDS):
        odds = f"(1 / (1 + pow(2, -({weight} + {math.log2(share / (1 - share))!r}))))"
        expected = scored.aggregate(f"coalesce(sum({odds}), 0)").fetchall()[0][0]
        before, share = share, min(max(expected / (n * (n - 1) / 2), 1e-9), 0.5)
        if abs(share - before) < before / 1000:
            break
    return odds


def _lower(text: Any) -> str | None:
    return text.lower() if isinstance(text, str) else None


def _comparison(column: str, kind: str) -> Any:
    import splink.comparison_library as library

    if kind == "date":
        return library.DateOfBirthComparison(column, input_is_string=True)
    kinds = {
        "name": library.NameComparison,
        "email": library.EmailComparison,
        "postcode": library.PostcodeComparison,
        "text": library.LevenshteinAtThresholds,
        "exact": library.ExactMatch,
    }
    return kinds[kind](column)


def _require_splink(source: Source) -> None:
    try:
        import splink  # noqa: F401
    except ImportError:
        raise JourneyError(
            f"sources.{source.name}.similar: needs Splink, which is not installed. Install the extra: "
            ".venv/bin/python -m pip install -e .[link], or remove similar."
        ) from None


def _records(source: Source, plan: Study, read: Sequence[Part], inputs: Inputs) -> pd.DataFrame:
    """Return the distinct profiles: name and token of the most trusted identifier, known_at, and the raw columns."""
    from journeykit.links import tokens

    assert source.similar
    own = tokens(source, plan)
    token = f"coalesce({', '.join(sql for _, sql in own)})"
    name = f"CASE {' '.join(f'WHEN {sql} IS NOT NULL THEN {literal(name)}' for name, sql in own)} END"
    frame = engine.query(
        f"SELECT p.path, p.file, k.line, {name} AS name, {token} AS token, k.timestamp AS known_at "
        f"FROM kept k JOIN part_files p USING (part) WHERE k.source = {literal(source.name)} AND {token} IS NOT NULL"
    )
    profiles: pd.DataFrame = frame.collect("pyarrow").to_pandas()
    columns = list(source.similar.columns())
    pieces = []
    for part in read:
        mine = profiles[(profiles["file"] == part.file.name) & (profiles["path"] == str(part.path))]
        if len(mine):
            cells = _cells(source, part, columns, inputs)
            cells = cells.iloc[mine["line"].to_numpy(dtype="int64") - 1]  # a part holds the rows in the file's order
            pieces.append(pd.concat([mine.reset_index(drop=True), cells.reset_index(drop=True)], axis=1))
    if not pieces:
        return pd.DataFrame(columns=["name", "token", "known_at", *columns])
    found = pd.concat(pieces, ignore_index=True).sort_values("known_at", na_position="first", kind="stable")
    # Of a profile that an export repeats day by day the earliest counts: the others say nothing about how rare it is.
    found = found.drop_duplicates(["name", "token", *columns])
    return found.sort_values(["name", "token", *columns], ignore_index=True)


def _cells(source: Source, part: Part, columns: Sequence[str], inputs: Inputs) -> pd.DataFrame:
    """Return columns of a raw file as text, in the order of its rows; nothing of it is left behind."""
    where = f"sources.{source.name}: {part.file.name}"
    found: list[pd.DataFrame] = []

    def work(rows: Rows) -> int:
        texts = {f"c{number}": rows.text(column, where) for number, column in enumerate(columns)}
        taken = ", ".join(f"{text} AS {name}" for name, text in texts.items())
        tidy = ", ".join(f"{bare(name)} AS {name}" for name in texts)
        query = f"SELECT {tidy} FROM (SELECT {taken} FROM ({rows.parsed()}) r)"
        found[:] = [engine.query(query).collect("pyarrow").to_pandas()]
        return len(found[0])

    with TemporaryDirectory(prefix="journeykit-") as name:
        made = inputs.results.get(source.name) or readable(source, part.file, Path(name))
        load(made, open_rows(source, made), work, list, Path(name), where)
    return found[0].set_axis(list(columns), axis=1)
