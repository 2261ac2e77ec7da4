"""Put the guesses about the files of one shape together: by a preset, or column by column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from journeykit.discover import recognise, what, when, who, words
from journeykit.discover.columns import Column, profile
from journeykit.discover.guesses import Guess, SourceGuess, percent
from journeykit.discover.samples import Sample

NOISE = frozenset(words.listed("source", "noise"))
ENDING = re.compile(r"(\.(csv|tsv|txt|jsonl|ndjson|json|parquet|pq|xes|xlsx|xlsm|xls|gz|zip|bz2|zst))+$", re.IGNORECASE)


def describe(name: str, samples: Sequence[Sample], today: datetime, zone: str = "") -> SourceGuess:
    """Return what can be guessed about the files of one shape, given samples of some of them.

    `zone` is the zone of times that carry none; "" takes UTC and asks to check it.
    """
    guess = SourceGuess(name, list(samples), notes=[note for sample in samples[:1] for note in sample.notes])
    columns = profile(_joined(samples), today)
    _format(guess)
    match = recognise.recognise(guess.sample)
    if match:
        guess.preset = match.preset
        guess.put(Guess("preset", match.preset, match.why, "sure" if match.score > 1 else "likely"))
        _with_preset(guess, match, columns)
    else:
        _without_preset(guess, columns, zone)
    _optional(guess)
    return guess


def _joined(samples: Sequence[Sample]) -> Sample:
    """Return one sample of all: files of one shape are judged together."""
    names = dict.fromkeys(name for sample in samples for name in sample.columns)
    rows = [row for sample in samples for row in sample.rows]
    return Sample(samples[0].path, samples[0].format, tuple(names), rows)


def _format(guess: SourceGuess) -> None:
    """Say how the files are written, where that is not what is taken without saying."""
    sample, dialect = guess.sample, guess.sample.dialect
    by_ending = {"jsonl": (".jsonl", ".ndjson"), "json": (".json",), "parquet": (".parquet", ".pq"), "xes": (".xes",)}
    ending = sample.path.name.lower().removesuffix(".gz")
    usual = next((form for form, ends in by_ending.items() if ending.endswith(ends)), "csv")
    if ending.endswith((".xlsx", ".xlsm", ".xls")):
        usual = "excel"
    if sample.format != usual:
        guess.put(Guess("format", sample.format, "by what the file begins with; its ending does not say so", "sure"))
    if sample.encoding not in ("utf-8", "utf-16"):
        why = "the file is no UTF-8"
        guess.put(Guess("encoding", sample.encoding, why, "check" if sample.encoding == "cp1252" else "sure"))
    elif sample.encoding == "utf-16":
        guess.put(Guess("encoding", "utf-16", "the file begins with a mark of this encoding", "sure"))
    if sample.format == "csv":
        if dialect.delimiter != ",":
            guess.put(
                Guess("delimiter", dialect.delimiter, f"it makes {len(sample.columns)} columns in nearly every row")
            )
        if dialect.quote != '"':
            guess.put(Guess("quote", dialect.quote, "most fields stand in them"))
        if dialect.header_rows != 1:
            guess.put(Guess("header_rows", dialect.header_rows, "rows above the data"))
        if dialect.columns:
            guess.put(Guess("columns", list(dialect.columns), "names, because the file's first row has none", "check"))
    if sample.records:
        guess.put(Guess("records", sample.records, "the list of records inside the document", "sure"))


def _with_preset(guess: SourceGuess, match: recognise.Match, columns: dict[str, Column]) -> None:
    source = recognise.preset_sources()[match.preset]
    used = set(recognise.columns_of(source))
    said = recognise.given(match.preset)
    for key in ("format", "delimiter", "header_rows", "records"):
        if said.get(key) == guess.get(key):
            guess.drop(key)
    if said.get("format") and said["format"] != guess.sample.format:
        guess.put(Guess("format", guess.sample.format, f"the preset takes {said['format']} without saying", "sure"))
    if said.get("header_rows", 1) != guess.sample.dialect.header_rows and guess.sample.format == "csv":
        guess.put(Guess("header_rows", guess.sample.dialect.header_rows, "the preset takes another number", "sure"))
    if said.get("records") and not guess.sample.records and guess.sample.format == "json":
        guess.put(Guess("records", "", "the document is a bare list", "sure"))
    _mend_time(guess, said, columns)
    kinds = {
        name
        for name, one in source.identifiers.items()
        if any(recognise.there(column, guess.sample) for column in one.columns())
    }
    for one in who.identifiers(columns, used):
        if one.key.removeprefix("identifiers.") not in kinds:
            guess.put(one)
            used.add(one.value)
    if guess.get("preset") in ("qualtrics", "typeform") or what.satisfaction(columns, used):
        _answers(guess, columns, used, bool(source.satisfaction), bool(source.comment))
    if not source.marketing_channel and source.kind == "events" and (found := what.marketing_channel(columns, used)):
        guess.put(found)
        used.add(found.value)
    for one in what.segments(columns, used)[:3]:
        if one.key.removeprefix("segments.") not in source.segments:
            guess.put(one)
    if source.event.constant and source.event.constant == "survey":
        guess.put(Guess("event", {"constant": f"survey_{_bare(guess.name)}"}, "each survey needs its own name"))


def _bare(name: str) -> str:
    """Return a source's name without the words that every such file has.

    >>> _bare("qualtrics_nps"), _bare("qualtrics")
    ('nps', 'qualtrics')
    """
    kept = [word for word in name.split("_") if word not in NOISE | set(words.listed("source", "survey"))]
    return "_".join(kept) or name


def _mend_time(guess: SourceGuess, said: dict[str, Any], columns: dict[str, Column]) -> None:
    """Where the file writes its times in another way than the preset says, say how."""
    time = said.get("time", {})
    name = time.get("column")
    column = columns.get(name) if isinstance(name, str) else None
    moment = column.moment if column else None
    if not column or not moment:
        return
    value: dict[str, str] = {}
    if moment.unit != time.get("unit", "text"):
        value["unit"] = moment.unit
    if moment.format != time.get("format", "") and not (time.get("format") and _fits(column, time["format"])):
        value["format"] = moment.format
    if time.get("zone") == "header" and not guess.sample.header_zone:
        value["zone"] = "UTC"
    if value:
        guess.put(
            Guess("time", value, f"{moment.why}; the preset expects another way", "likely" if moment.sure else "check")
        )


def _fits(column: Column, form: str) -> bool:
    fitting = 0
    for value in column.values[:100]:
        try:
            datetime.strptime(value, form)
            fitting += 1
        except ValueError:
            continue
    return fitting > 0.9 * len(column.values[:100])


def _without_preset(guess: SourceGuess, columns: dict[str, Column], zone: str) -> None:
    sample = guess.sample
    taken = {name for name, column in columns.items() if column.moment and column.moment.unit == "text"}
    event = what.event(columns, taken)
    answer = what.satisfaction(columns, taken)
    times = when.choose(columns, bool(event), bool(answer))
    taken |= {column.name for column in times.stages} | set(times.left)
    for column in (times.main, times.received):
        taken |= {column.name} if column else set()
    found = when.time_guess(times, sample.header_zone, zone)
    guess.notes += [f"{name}: not used, {why}" for name, why in times.left.items()]
    if not found:
        guess.missing.append("time: no column holds times. Name it: time = { column = … }")
    else:
        guess.put(found)
    if (arrival := when.received_guess(times)) is not None:
        guess.put(arrival)
    if event:
        taken.add(event.value)
    named = who.identifiers(columns, taken)
    if not named and found and (costs := what.spend(columns, taken)):
        if times.main and times.main.moment:
            guess.put(Guess("time", found.value, times.main.moment.why, "sure"))  # a day needs no zone
        for one in costs:
            guess.put(one)
        return
    row = who.row_id(columns, taken)
    if row and row.value not in {one.value for one in named}:
        guess.put(row)
        taken.add(row.value)
    for one in named or who.fallback(columns, taken):
        guess.put(one)
        taken.add(one.value)
    if not guess.starting("identifiers."):
        guess.missing.append("identifiers: no column says who it was. Name one: identifiers = { customer = … }")
    _answers(guess, columns, taken)
    for found_one in (what.marketing_channel(columns, taken), what.sequence(columns, taken)):
        if found_one:
            guess.put(found_one)
            taken.add(found_one.value)
    place = what.channel(columns, taken, sample.path)
    guess.put(place)
    taken |= {place.value} if isinstance(place.value, str) else set()
    for one in what.value(columns, taken):
        guess.put(one)
        taken |= {one.value} if isinstance(one.value, str) else set()
    for one in [*what.segments(columns, taken), *what.left_out_rows(columns)]:
        guess.put(one)
    _event(guess, event, times)
    _repeats(guess, times)


def _answers(
    guess: SourceGuess, columns: dict[str, Column], taken: set[str], scored: bool = False, said: bool = False
) -> None:
    if not scored and (answer := what.satisfaction(columns, taken)):
        guess.put(answer)
        taken.add(answer.value["column"])
    if not said and (text := what.comment(columns, taken)):
        guess.put(text)
        taken.add(text.value)


def _repeats(guess: SourceGuess, times: when.When) -> None:
    """Equal rows of a table that has neither an id nor a time of day may be two events of one day."""
    moment = times.main.moment if times.main else None
    if moment and moment.dates_only and not guess.get("event_id") and not times.stages:
        why = "without an id and a time of day, equal rows may be two events of one day"
        guess.put(Guess("duplicates", "keep", why, "check"))


def _event(guess: SourceGuess, event: Guess | None, times: when.When) -> None:
    """Say what happened: by a column, by each of several times, or the same in every row."""
    if event:
        guess.put(event)
        return
    entity = next((name for name in ("order", "ticket") if name in guess.starting("identifiers.")), "")
    entity = entity or singular(guess.name)
    if len(times.stages) > 1:
        emits: list[dict[str, Any]] = [
            {"event": when.event_of(column, entity), "time": column.name} for column in times.stages
        ]
        if guess.get("satisfaction") or guess.get("comment"):
            emits[-1]["measures"] = True
        shown = ", ".join(column.name for column in times.stages)
        why = f"no column names an event, and {len(emits)} columns hold times of one row ({shown})"
        guess.put(Guess("emits", emits, why, "likely"))
        return
    bought = guess.get("value") and not guess.get("satisfaction")
    name = "purchase" if bought else entity
    why = "no column names an event" + (", and the rows hold amounts" if bought else "; by the name of the file")
    guess.put(Guess("event", {"constant": name}, why, "check"))


def singular(name: str) -> str:
    """Return what one row of a table of this name is called.

    >>> singular("showroom_visits"), singular("order_deliveries"), singular("olist_orders_dataset")
    ('showroom_visit', 'order_delivery', 'olist_order')
    """
    kept = [word for word in name.split("_") if word not in NOISE and not word.isdigit()] or [name]
    last = kept[-1]
    if last.endswith("ies"):
        last = f"{last[:-3]}y"
    elif last.endswith("s") and not last.endswith(("ss", "us", "is")):
        last = last[:-1]
    return "_".join([*kept[:-1], last])


def _optional(guess: SourceGuess) -> None:
    """Name the mapped columns that a file may lack; any other column that is not there is an error."""
    lacking: dict[str, None] = {}
    said: list[str] = []
    if guess.preset:
        source = recognise.preset_sources()[guess.preset]
        said = list(source.optional)
        wanted = list(recognise.columns_of(source))
    else:
        wanted = [name for other in guess.samples for name in other.columns]
    for sample in guess.samples:
        if sample.format in ("csv", "excel", "parquet"):
            lacking |= {name: None for name in wanted if not recognise.there(name, sample) and name not in said}
    if not guess.preset:
        used = " ".join(str(one.value) for one in guess.guesses)
        lacking = {name: None for name in lacking if name in used}
    if lacking:
        share = percent(len(lacking) / max(1, len(wanted)))
        why = f"{len(lacking)} mapped columns ({share}) are not in every file; they are empty there"
        guess.put(Guess("optional", [*said, *lacking], why, "likely"))


def source_name(path: Path) -> str:
    """Return a name for the source of a file: its own without numbers and endings, or its folder's.

    >>> source_name(Path("raw/web/ga4_202501.jsonl.gz")), source_name(Path("x/2025-01-01.csv"))
    ('ga4', 'x')
    """
    stem = ENDING.sub("", path.name)
    kept = [word for word in words.split(stem) if not re.fullmatch(r"\d+|[0-9a-f]{8,}|part|c000", word)]
    if not any(len(word) > 1 for word in kept):
        return words.slug(path.parent.name or "events")
    return words.slug("_".join(kept))
