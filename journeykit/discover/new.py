"""Make a study out of files: look, guess, write journey.toml, and try it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import available_timezones

from journeykit import check, config
from journeykit.config import Study
from journeykit.discover import words
from journeykit.discover.describe import describe
from journeykit.discover.groups import Group, find, group
from journeykit.discover.guesses import Guess, SourceGuess
from journeykit.discover.place import copy, others, place
from journeykit.discover.story import Story, tell
from journeykit.discover.together import look_up, tables_aside, unify
from journeykit.discover.trial import Event, Trial, events_of, some_of
from journeykit.discover.written import journey_toml
from journeykit.errors import JourneyError, nearest
from journeykit.raw_files import find_files

EARLIEST = 2005  # year before which study.earliest must be set


@dataclass
class Made:
    """A study that was made: its folder, what was guessed, which tables gave no events, and what is still wrong."""

    folder: Path
    sources: list[SourceGuess]
    aside: list[SourceGuess]
    story: Story
    skipped: list[str]
    problems: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


def make(
    folder: Path, files: Sequence[str], zone: str = "", refer: bool = False, today: datetime | None = None
) -> Made:
    """Make a study in `folder` out of `files` (paths, folders, wildcards), or out of what lies in its raw/.

    `zone` is the zone of times that carry none; `refer` leaves the files where they are. Nothing is written when it
    fails.

    Raises:
        JourneyError: the folder is there already, or no file can be read.
    """
    folder = Path(os.path.abspath(folder))
    if zone and zone not in available_timezones():
        raise JourneyError(f"--zone: {zone!r} is not a time zone.{nearest(zone, available_timezones())}")
    _refuse_existing(folder, bool(files))
    found = find(list(files) or [str(folder / "raw")])
    groups, skipped = group(found)
    if not groups:
        raise JourneyError("no file can be read.\n" + "\n".join(f"  · {line}" for line in skipped))
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        made = _guess(folder, part, groups, zone, refer, today or datetime.now(UTC))
        made.skipped = skipped
        _move(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _try(made)
    return made


def _refuse_existing(folder: Path, given: bool) -> None:
    if not re.fullmatch(r"[\w][\w.-]*", folder.name):
        raise JourneyError(f"{folder.name!r} is no name for a study. Use letters, digits, _ and -.")
    inside = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not given and inside != {"raw"}:
        raise JourneyError(
            "--from is missing. Give the files: --from a.csv b.csv, or put them into "
            f"{folder.name}/raw/ with nothing else in {folder.name}/."
        )
    if given and (inside or (folder.exists() and not folder.is_dir())):
        raise JourneyError(
            f"{folder.name}/ is there already, and nothing in it is overwritten. "
            "Choose another name, or move the folder away first."
        )


def _guess(folder: Path, part: Path, groups: Sequence[Group], zone: str, refer: bool, today: datetime) -> Made:
    guesses, placed = [], {}
    for one in groups:
        guess = describe(one.name, one.samples, today, zone)
        placed[one.name] = place(one, folder, refer)
        guess.path = placed[one.name].path
        number = len(one.files)
        guess.notes.insert(0, f"{number} file{'s' if number > 1 else ''}, {placed[one.name].done}")
        if beside := others(one, guess.path):
            guess.notes.insert(1, f"please check: the path also matches {', '.join(beside[:3])}")
        guesses.append(guess)
    sources, aside = tables_aside(guesses)
    unify(sources)
    useless = look_up(sources, aside)
    if not sources:  # journey.toml then says what is missing
        sources, useless = aside, []
    for guess in guesses:
        if guess not in useless:
            copy(placed[guess.name], part)
    aside = useless
    title = words.split(folder.name)
    heading = " ".join(title).capitalize() or folder.name
    about = _about(sources, zone, today)
    story = _story(part, journey_toml(heading, sources, aside, Story(), about))
    text = journey_toml(heading, sources, aside, story, about)
    (part / "journey.toml").write_text(text, encoding="utf-8")
    return Made(folder, sources, aside, story, [])


def _about(sources: Sequence[SourceGuess], zone: str, today: datetime) -> list[Guess]:
    """Guess `[study]`: zone, currency, the first time that is right."""
    found = []
    zones = Counter(sample.header_zone for guess in sources for sample in guess.samples if sample.header_zone)
    if zone or zones:
        name = zone or zones.most_common(1)[0][0]
        found.append(Guess("timezone", name, "as given" if zone else "it stands in a header row", "sure"))
    money: Counter[str] = Counter()
    for guess in sources:
        for sample in guess.samples:
            for column in sample.columns:
                if "currency" in words.split(column):
                    money.update(
                        value.upper() for value in sample.values(column) if re.fullmatch(r"[A-Za-z]{3}", value)
                    )
    if money:
        found.append(Guess("currency", money.most_common(1)[0][0], "a column of currencies holds it", "sure"))
    elif any(guess.get("value") or guess.get("spend") for guess in sources):
        found.append(Guess("currency", "EUR", "no column says which", "check"))
    first = min((year for guess in sources if (year := _first_year(guess, today))), default=EARLIEST)
    if first < EARLIEST:
        why = "the times begin then; what is older is quarantined"
        found.append(Guess("earliest", f"{first}-01-01", why, "check"))
    return found


def _first_year(guess: SourceGuess, today: datetime) -> int | None:
    """The year in which the times of a source begin, leaving out the one or other that stands alone."""
    from journeykit.discover.moments import recognise

    time = guess.get("time")
    column = time.get("column") if isinstance(time, dict) else None
    values = [value for sample in guess.samples for value in sample.values(column)] if column else []
    moment = recognise(values, today)
    times = sorted(one for one in moment.times if one) if moment else []
    return times[len(times) // 100].year if times else None


def _story(part: Path, draft: str) -> Story:
    """Read the samples by the mapping that was guessed, and tell what they seem to tell."""
    try:
        plan = config.parse(tomllib.loads(draft))
    except JourneyError:
        return Story()  # trying the study says what is missing
    return tell(_events(plan, part))


def _events(plan: Study, folder: Path) -> list[Event]:
    files = {}
    for source in plan.sources:
        try:
            files[source.name] = some_of(find_files(source, folder))
        except JourneyError:
            continue
    with tempfile.TemporaryDirectory(prefix="journeykit-") as scratch:
        tried = check.try_files(plan, folder, files, Path(scratch))
        return [
            event
            for results in tried.values()
            for _, result in results
            if isinstance(result, Trial) and not result.empty
            for event in events_of(result, plan)
        ]


def _move(part: Path, folder: Path) -> None:
    part.chmod(0o755)
    if folder.exists():  # with raw/ only, or empty
        os.replace(part / "journey.toml", folder / "journey.toml")
    else:
        os.replace(part, folder)


def _try(made: Made) -> None:
    try:
        plan = config.load(made.folder / "journey.toml")
    except JourneyError as error:
        missing = [f"sources.{guess.name}: {line}" for guess in made.sources for line in guess.missing]
        made.problems = missing or [str(error)]
        return
    found = check.examine(plan, made.folder)
    made.problems, made.hints = found.problems, found.hints
