"""Try a study's mapping on samples of its files, so that a mistake shows in seconds and not after a run."""

from __future__ import annotations

import fnmatch
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from journeykit import list_quality
from journeykit.adapters import format_of
from journeykit.config import Source, Study
from journeykit.discover import samples
from journeykit.discover.advice import advice_on
from journeykit.discover.trial import SECRET, Trial, attempt, events_of, some_of
from journeykit.errors import JourneyError, nearest
from journeykit.raw_files import LocalFile, RawFile, find_files
from journeykit.sql import literal
from journeykit.vocabulary import named_events

MANY = 0.05  # share of rows with one thing wrong that is said
RARE = 0.005  # share of filled rows below which an identifier is said to be mostly empty
EMPTY = ("no time", "no event", "no identifier")
SHOWN = 5  # names of events
MARKS = {";": '";"', "\t": '"\\t"', "|": '"|"'}


@dataclass
class Found:
    """What a check found: `problems` stop a run, `hints` deserve a look; each says where, what and what to do."""

    problems: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)  # names of events in the samples


_known: dict[tuple[object, ...], Found] = {}  # the last check, which a command asks for more than once


def problems(plan: Study, folder: Path) -> list[str]:
    """Return what is wrong with the sources of a study, all of it at once, judged by samples of up to three files each.

    Columns that are not there, a wrong unit, format, zone or delimiter, rules that leave nothing, rows that most of
    the time would be quarantined. Also what is wrong with the lists kept by hand: erasure, overrides and labels.
    """
    return [*examine(plan, folder).problems, *list_quality.problems(plan, folder, SECRET)]


def hints(plan: Study, folder: Path) -> list[str]:
    """Return what need not be wrong but deserves a look: empty identifiers, events without a touchpoint, and so on."""
    return [*examine(plan, folder).hints, *list_quality.empty(plan, folder)]


def examine(plan: Study, folder: Path) -> Found:
    """Try every source of a study on samples of its files; see `problems` and `hints`."""
    files, found = _find(plan, folder)
    marks = tuple((name, _mark(file)) for name, ones in files.items() for file in ones)
    key = (str(folder), plan.model_dump_json(), marks)
    if key in _known:
        return _known[key]
    with tempfile.TemporaryDirectory(prefix="journeykit-") as scratch:
        tried = try_files(plan, folder, files, Path(scratch))
        for source in plan.sources:
            _examine_source(source, tried.get(source.name, []), plan, found)
    if found.events:
        found.hints += [*_without_touchpoint(plan, found.events), *_never(plan, found)]
    _known.clear()
    _known[key] = found
    return found


def try_files(
    plan: Study, folder: Path, files: Mapping[str, Sequence[RawFile]], scratch: Path
) -> dict[str, list[tuple[RawFile, Trial | JourneyError]]]:
    """Try files of each source, several at a time: each as it was tried, or why it cannot be read."""
    wanted = [(source, file) for source in plan.sources for file in files.get(source.name, [])]

    def one(number: int) -> Trial | JourneyError:
        source, file = wanted[number]
        try:
            _require_format(source, file)
            return attempt(source, file, plan, folder, scratch / str(number))
        except JourneyError as error:
            return error

    tried: dict[str, list[tuple[RawFile, Trial | JourneyError]]] = {}
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # an engine's connection belongs to one thread
        for (source, file), result in zip(wanted, pool.map(one, range(len(wanted))), strict=True):
            tried.setdefault(source.name, []).append((file, result))
    return tried


def _find(plan: Study, folder: Path) -> tuple[dict[str, list[RawFile]], Found]:
    files: dict[str, list[RawFile]] = {}
    found = Found()
    for source in plan.sources:
        try:
            files[source.name] = some_of(find_files(source, folder))
        except JourneyError as error:
            found.problems.append(str(error))
    return files, found


def _mark(file: RawFile) -> str:
    if not isinstance(file, LocalFile):
        return file.name
    state = file.path.stat()
    return f"{file.path} {state.st_size} {state.st_mtime_ns}"


def _examine_source(
    source: Source, tried: Sequence[tuple[RawFile, Trial | JourneyError]], plan: Study, found: Found
) -> None:
    trials, said = [], set()
    for file, result in tried:
        wrong = [str(result)] if isinstance(result, JourneyError) else _missing(result)
        trials += [result] if isinstance(result, Trial) and not result.empty else []
        for line in wrong:
            bare = line.replace(file.name, "")
            if bare not in said:  # once, not for every file
                said.add(bare)
                found.problems.append(line)
    usable = [trial for trial in trials if not _one_column(trial)]
    if usable:
        _judge(source, usable, found)
        for trial in usable:
            found.events.update(event.name for event in events_of(trial, plan))


def _require_format(source: Source, file: RawFile) -> None:
    """Raise JourneyError when a file is plainly written in another format than the source says."""
    if not isinstance(file, LocalFile) or file.path.stat().st_size == 0:
        return
    says = format_of(source, file.name.removesuffix(".gz"))
    try:
        is_ = samples.kind(file.path)
    except JourneyError:
        return  # reading it says what is wrong
    if is_ == says or (is_ == "csv" and says in ("jsonl", "json")) or {is_, says} == {"json", "jsonl"}:
        return
    raise JourneyError(
        f"sources.{source.name}.format: {file.name} begins like {is_}, and it is to be read as {says}. "
        f'Set format = "{is_}".'
    )


def _one_column(trial: Trial) -> str:
    """The delimiter that a file seems to have, where the one that is set makes a single column of it."""
    if len(trial.columns) != 1:
        return ""
    return next((mark for mark in MARKS if mark in trial.columns[0] and mark != trial.source.delimiter), "")


def _missing(trial: Trial) -> list[str]:
    source, name = trial.source, trial.file.name
    mark = _one_column(trial)
    if mark and trial.missing:
        return [
            f"sources.{source.name}.delimiter: {name} has one column when split at {source.delimiter!r}. "
            f"The file seems to be separated by {mark!r}: set delimiter = {mark!r}."
        ]
    shown = ", ".join(trial.columns[:30]) + (" …" if len(trial.columns) > 30 else "")
    lines = []
    for column in trial.missing:
        same = [name for name in trial.columns if name.lower() == column.lower()]
        hint = nearest(column, same or trial.columns) or (f" Did you mean {same[0]!r}?" if same else "")
        lines.append(
            f"sources.{source.name}: column {column!r} is not in {name}.{hint} "
            + (f"The file has: {shown}. " if not hint else "")
            + "Mend the name, or add it to optional if some files lack it."
        )
    return lines


def _judge(source: Source, trials: Sequence[Trial], found: Found) -> None:
    """Say what is wrong with many rows of a source."""
    counts: Counter[tuple[str, str]] = Counter()
    for trial in trials:
        for fate, reason, n in trial.rows("coalesce(fate, ''), coalesce(reason, ''), count(*)", "GROUP BY ALL"):
            counts[str(fate), str(reason)] += int(str(n))
    rows_n = sum(n for (fate, _), n in counts.items() if fate != "blank")
    meant = {reason: n for (fate, reason), n in counts.items() if fate == ""}
    silent = sum(n for (fate, _), n in counts.items() if fate == "silent")
    broken = sum(trial.broken_n for trial in trials)
    total = sum(meant.values()) + silent
    if not rows_n:
        if broken:
            found.problems.append(
                f"{_where(source, trials)}: all {broken} rows that were read are broken. Look at delimiter and quote."
            )
        return
    if not total:
        found.problems.append(_all_left_out(source, trials, rows_n))
        return
    sound = meant.get("", 0)
    if not sound and silent == total:
        times = ", ".join(column for emit in source.emits for column in emit.time.columns())
        found.problems.append(
            f"sources.{source.name}.emits: no time is filled in the first {total} rows of {_file(trials)} ({times}). "
            "Mend the columns, or when."
        )
        return
    wrong = sorted(((n, reason) for reason, n in meant.items() if reason), reverse=True)
    for n, reason in wrong:
        if (sound and n < MANY * total) or (reason in EMPTY and any(trial.missing for trial in trials)):
            continue  # too few to tell of, or because of a column that is missing
        advice = advice_on(source, trials, reason)
        if not sound and n == wrong[0][0]:
            start = f"none of the first {total} rows of {_file(trials)} could be used; most often: {reason}"
            found.problems.append(f"sources.{source.name}: {start}.{advice}")
        elif n >= MANY * total:
            line = f"sources.{source.name}: {n} of {total} rows that were tried would be quarantined: {reason}.{advice}"
            # Where half of the rows are lost the mapping is wrong, and not the rows.
            (found.problems if n > total / 2 else found.hints).append(line)
    if broken > MANY * (total + broken):
        found.hints.append(
            f"{_where(source, trials)}: {broken} of {total + broken} rows are broken. Look at delimiter and quote."
        )
    found.hints += _identifiers(source, trials, total)


def _where(source: Source, trials: Sequence[Trial]) -> str:
    return f"sources.{source.name}: {_file(trials)}"


def _file(trials: Sequence[Trial]) -> str:
    more = f" and {len(trials) - 1} more" if len(trials) > 1 else ""
    return f"{trials[0].file.name}{more}"


def _all_left_out(source: Source, trials: Sequence[Trial], rows_n: int) -> str:
    rules = [("where", column, values) for column, values in source.where.items()]
    rules += [("where_not", column, values) for column, values in source.where_not.items()]
    sample = _look(trials[0])
    said = []
    for key, column, values in rules:
        there = Counter(sample.values(column) if sample else [])
        private = any(column in one.columns() for one in source.identifiers.values())
        few = len(there) <= 20 and not private
        shown = ", ".join(repr(value) for value, _ in there.most_common(4)) if few and there else ""
        if key == "where" and not any(_is_one_of(value, values) for value in there):
            said.append(f"{key} ({column} = {values}; {f'it holds {shown}' if shown else 'it holds none of them'})")
        elif key == "where_not" and there and all(_is_one_of(value, values) for value in there):
            said.append(f"{key} ({column} = {values})")
    # Where no rule does it alone, all together do.
    rule = " and ".join(said or [f"{key} ({column} = {values})" for key, column, values in rules])
    return (
        f"sources.{source.name}: no row of {_file(trials)} is left ({rows_n:,} tried), because of {rule}. "
        "Mend the values there, or drop the rule."
    )


def _is_one_of(value: str, allowed: Iterable[str]) -> bool:
    return any(
        fnmatch.fnmatchcase(value.lower(), one.lower().replace("[", "[[]").replace("?", "[?]")) for one in allowed
    )


def _look(trial: Trial) -> samples.Sample | None:
    file = trial.cut.file
    try:
        return samples.look(file.path) if isinstance(file, LocalFile) else None
    except JourneyError:
        return None


def _identifiers(source: Source, trials: Sequence[Trial], total: int) -> Iterator[str]:
    """Say which identifiers of a source are empty or mark nobody in nearly all rows."""
    for name, one in source.identifiers.items():
        if set(one.columns()) <= {column for column in source.optional if _absent(column, trials)}:
            continue
        usable = blocked = 0
        for trial in trials:
            here = f"len(list_filter(blocked, lambda p: p.id_name = {literal(name)})) > 0"
            select = f'count("id_{name}"), count(*) FILTER (coalesce({here}, false))'
            filled, marks_nobody = trial.rows(select, "WHERE fate IS NULL")[0]
            usable, blocked = usable + int(str(filled)), blocked + int(str(marks_nobody))
        columns = ", ".join(one.columns())
        if blocked > max(usable, MANY * total):
            yield (
                f"sources.{source.name}.identifiers.{name}: {blocked} of {total} values in {columns} are blocked and "
                "mark nobody. Mend identity.blocked or blocked_patterns, or map another column."
            )
        elif usable < RARE * total:
            yield (
                f"sources.{source.name}.identifiers.{name}: {columns} is filled in {usable} of {total} rows that were "
                "tried. Map another column if that is not right."
            )


def _absent(column: str, trials: Sequence[Trial]) -> bool:
    return all(trial.columns and column not in trial.columns for trial in trials)


def _without_touchpoint(plan: Study, events: Counter[str]) -> Iterator[str]:
    if not plan.stages:
        return
    patterns = [one for stage in plan.stages for named in stage.touchpoints.values() for one in named]
    unmapped = Counter(
        {
            name: n
            for name, n in events.items()
            if not any(fnmatch.fnmatchcase(name, p.replace("[", "[[]")) for p in patterns)
        }
    )
    if not unmapped:
        return
    n, total = sum(unmapped.values()), sum(events.values())
    share = n / total
    part = f"{100 * share:.0f} % of the" if share >= 0.01 else f"{n:,} of {total:,}"
    names = ", ".join(repr(name) for name, _ in unmapped.most_common(SHOWN))
    more = f" and {len(unmapped) - SHOWN} more" if len(unmapped) > SHOWN else ""
    limit = plan.stops.max_unmapped_share
    stop = f" stops.max_unmapped_share is {limit:g}: the run would stop." if limit is not None and share > limit else ""
    yield (
        f"stages: {part} events that were tried are on no touchpoint ({names}{more}).{stop} "
        "Add them to [[stages]] if they belong to the journey."
    )


def _never(plan: Study, found: Found) -> Iterator[str]:
    """Say which events journey.toml names that occur in no sample."""
    for where, event in dict.fromkeys(named_events(plan)):
        if event not in found.events:
            hint = nearest(event, found.events)
            yield f"{where}: no event {event!r} in the samples.{hint} Mend the name, unless it is rare."
