"""Recognise a vendor's export by the columns that its preset maps."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from journeykit import config
from journeykit.config import Source
from journeykit.discover import words
from journeykit.discover.samples import Sample

ENOUGH = 0.6  # weighted share of a preset's columns that must be there
ANYBODYS = ("generic",)  # presets of no vendor: what they would read is guessed column by column
FEWEST = 3  # columns that must be there
COMMON = frozenset(words.listed("preset", "common"))
ABSENT = 0.2  # weight of an optional column that is not there
COMMON_WEIGHT = 0.3  # such a column says little about who wrote the file


@dataclass(frozen=True)
class Match:
    """A preset that fits a file: how well, which of its columns the file lacks, and why it is thought to fit."""

    preset: str
    score: float
    missing: tuple[str, ...]
    why: str


@cache
def preset_sources() -> dict[str, Source]:
    """Return each preset as the source that it describes."""
    found = {}
    for name, path in config.presets().items():
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        found[name] = Source.model_validate({**raw, "name": "x", "path": "x"})
    return found


def mapped(source: Source) -> dict[str, tuple[str, ...]]:
    """Return the columns that each key of a source names.

    >>> mapped(preset_sources()["sendgrid"])["time"]
    ('timestamp',)
    """
    found: dict[str, tuple[str, ...]] = {"time": source.time.column.columns()}
    if source.received:
        found["received"] = source.received.column.columns()
    for emit in source.emits:
        found[f"emits.{emit.event}"] = (*emit.time.columns(), *emit.when)
    for key in ("event", "event_id", "channel", "marketing_channel", "team", "value", "comment", "spend"):
        found[key] = getattr(source, key).columns()
    for table in ("identifiers", "segments", "properties"):
        found |= {f"{table}.{name}": one.columns() for name, one in getattr(source, table).items()}
    found["where"] = (*source.where, *source.where_not)
    found["natural_key"] = tuple(source.natural_key)
    found["sequence"] = (source.sequence,) if source.sequence else ()
    found["once_per"] = (source.once_per,) if source.once_per else ()
    found["satisfaction"] = source.satisfaction.column.columns() if source.satisfaction else ()
    return {key: names for key, names in found.items() if names}


def columns_of(source: Source) -> tuple[str, ...]:
    """Return every column that a source names, once."""
    return tuple(dict.fromkeys(name for names in mapped(source).values() for name in names))


def there(column: str, sample: Sample) -> bool:
    """Whether a file has a column; a path inside nested data that other rows may have counts as there."""
    return _is_there(column, sample) or _may_be_there(column, sample)


def _is_there(column: str, sample: Sample) -> bool:
    return column in sample.columns or _bare(column) in _names(sample)


def _may_be_there(column: str, sample: Sample) -> bool:
    parent = _bare(column).rpartition("[")[0] or _bare(column).rpartition(".")[0]
    return bool(parent) and any(one.startswith((f"{parent}.", f"{parent}[")) for one in _names(sample))


def _names(sample: Sample) -> frozenset[str]:
    return _bare_names(sample.columns)


@lru_cache(maxsize=64)
def _bare_names(columns: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(_bare, columns))


def _bare(column: str) -> str:
    """A path without saying which of its members are texts of JSON.

    >>> _bare("json(properties).plan")
    'properties.plan'
    """
    return re.sub(r"json\(([^()]*)\)", r"\1", column)


def recognise(sample: Sample) -> Match | None:
    """Return the preset whose columns a file has, or None."""
    named = {name: source for name, source in preset_sources().items() if name not in ANYBODYS}
    matches = [match for name, source in named.items() if (match := _match(name, source, sample))]
    return max(matches, key=lambda match: (match.score, match.preset)) if matches else None


@cache
def _weights() -> Mapping[str, float]:
    uses = Counter(column for source in preset_sources().values() for column in columns_of(source))
    return {column: (COMMON_WEIGHT if column.lower() in COMMON else 1.0) / n**0.5 for column, n in uses.items()}


def _match(name: str, source: Source, sample: Sample) -> Match | None:
    named = columns_of(source)
    if not named or not _has_time(source, sample):
        return None
    exact = [column for column in named if _is_there(column, sample)]
    have = wanted = 0.0
    for alternatives in _alternatives(source):
        weight = max(_weights()[column] for column in alternatives)
        optional = all(one in source.optional for one in alternatives)
        if any(_is_there(column, sample) for column in alternatives):
            have += weight
            wanted += weight
        elif any(_may_be_there(column, sample) for column in alternatives):
            have += weight * ABSENT
            wanted += weight * 2 * ABSENT
        else:
            wanted += weight * (ABSENT if optional else 1)
    telling = [column for column in exact if column.lower() not in COMMON]
    share = have / wanted if wanted else 0.0
    if share < ENOUGH or len(exact) < min(FEWEST, len(named)) or len(telling) < 2:
        return None
    missing = tuple(column for column in named if not _is_there(column, sample))
    why = f"{len(exact)} of the {len(named)} columns that it may have are there, such as {', '.join(telling[:3])}"
    # What the evidence weighs counts too: of two presets that fit wholly, the one with more to fit is meant.
    as_written = 0.1 * sum(column in sample.columns for column in exact) / len(exact)
    named_so = 0.1 if name.split("_")[0] in "/".join(sample.path.parts[-3:]).lower() else 0
    return Match(name, share + min(have, 30) / 40 + named_so + as_written - len(missing) / 1000, missing, why)


def _alternatives(source: Source) -> list[tuple[str, ...]]:
    """Return the columns of a source; those of one expression, which mostly takes the first that is there, together."""
    found: dict[tuple[str, ...], None] = {}
    for key, columns in mapped(source).items():
        together = key not in ("where", "natural_key") and len(columns) > 1 and not key.startswith("emits")
        for group in [columns] if together else [(column,) for column in columns]:
            found[group] = None
    return list(found)


def _has_time(source: Source, sample: Sample) -> bool:
    times = [emit.time.columns() for emit in source.emits] or [source.time.column.columns()]
    return any(any(there(column, sample) for column in columns) for columns in times)


def given(preset: str) -> dict[str, Any]:
    """Return what a preset says, as it stands in its file."""
    return tomllib.loads(config.presets()[preset].read_text(encoding="utf-8"))
