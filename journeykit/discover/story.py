"""Guess the story of a study from the events of its samples: stages, conversion, a funnel, who leaves."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from journeykit.discover import words
from journeykit.discover.trial import Event

MOST_EVENTS = 60  # names that are put on touchpoints
MANY_NAMES = 40  # from here on, numbers in names become *
FEW_PEOPLE = 20  # with more than one event; with fewer, order says nothing
STEPS = 3  # of a funnel before its last one


@dataclass
class Story:
    """What the events seem to tell; `why` says what each part rests on."""

    stages: dict[str, list[str]] = field(default_factory=dict)  # stage = patterns of events
    conversion: str = ""
    conversion_sure: bool = False
    funnel: list[str] = field(default_factory=list)
    marketing: bool = False  # there are marketing channels
    start: list[str] = field(default_factory=list)
    end: list[str] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)


def tell(events: Sequence[Event]) -> Story:
    """Return the story of the events of a study's samples."""
    story = Story()
    if not events:
        return story
    counts = Counter(event.name for event in events)
    people = _people(events)
    position, persons = _positions(events, people)
    story.marketing = any(event.marketing_channel for event in events)
    _convert(story, events, counts, position)
    _stages(story, counts, position, len(persons))
    _funnel(story, counts, persons)
    story.start = sorted(name for name in counts if words.place(words.split(name), words.listed("story", "start")) >= 0)
    leaving = frozenset(words.listed("story", "end"))
    story.end = sorted(
        name
        for name in counts
        if leaving & set(words.split(name)) and not {"request", "requested"} & set(words.split(name))
    )
    if not (story.start and story.end):
        story.start, story.end = [], []
    return story


def _people(events: Sequence[Event]) -> list[str]:
    """Return who did each event: whoever shares an identifier is one person, as far as samples can tell."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(one: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(one, one) != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    for event in events:
        for other in event.who[1:]:
            first, second = sorted((root(event.who[0]), root(other)))
            parent[second] = first
    return ["/".join(root(event.who[0])) if event.who else "" for event in events]


def _positions(events: Sequence[Event], people: Sequence[str]) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Return where in a journey each event first occurs (0 first, 1 last, median), and what each person did in turn.

    Only people with several events count.
    """
    firsts: dict[str, dict[str, tuple[float, int]]] = defaultdict(dict)
    for number, (event, person) in enumerate(zip(events, people, strict=True)):
        if person:  # events of one time stand as their source lists them
            seen, at = firsts[person], (event.seconds, number)
            seen[event.name] = min(at, seen.get(event.name, at))
    turns = {person: sorted(seen, key=lambda one: seen[one]) for person, seen in firsts.items() if len(seen) > 1}
    return _median_places(turns.values()), turns


def _median_places(turns: Iterable[Sequence[str]]) -> dict[str, float]:
    places: dict[str, list[float]] = defaultdict(list)
    for names in turns:
        for place, name in enumerate(names):
            places[name].append(place / (len(names) - 1))
    return {name: median(found) for name, found in places.items()}


def _convert(story: Story, events: Sequence[Event], counts: Counter[str], position: dict[str, float]) -> None:
    """Guess what a journey is for: by its name, by the value it carries, or as what comes last."""
    good = words.listed("story", "conversion")
    bad = frozenset(words.listed("story", "not_conversion"))
    named = [
        (place, -n, name)
        for name, n in counts.items()
        if (place := _named_so(name, good)) >= 0 and not bad & set(words.split(name))
    ]
    if named:
        story.conversion, story.conversion_sure = min(named)[2], True
        story.why["conversion"] = "by its name"
        return
    valued = Counter(event.name for event in events if event.value)
    if valued:
        story.conversion = valued.most_common(1)[0][0]
        story.why["conversion"] = "most amounts stand on it"
        return
    often = [name for name, n in counts.items() if n > 0.01 * sum(counts.values()) and name in position]
    if often:
        story.conversion = max(often, key=lambda name: (position[name], name))
        story.why["conversion"] = "of the frequent events it mostly comes last; no name speaks of a conversion"


def _named_so(name: str, good: Sequence[str]) -> int:
    """The place of an event among the names of conversions: the whole name, or its end where that says enough."""
    split = words.split(name)
    place = words.place(split, good)
    whole = place >= 0 and "_".join(split) == good[place]
    return place if whole or (place >= 0 and ("_" in good[place] or "purchase" in good[place])) else -1


def _stages(story: Story, counts: Counter[str], position: dict[str, float], people_n: int) -> None:
    names = [name for name, _ in counts.most_common(MOST_EVENTS)]
    families = words.families("stages")
    family = {
        name: next((stage for stage, own in families.items() if own & set(words.split(name))), "") for name in counts
    }
    known = Counter({stage: sum(counts[name] for name in counts if family[name] == stage) for stage in families})
    share = sum(known.values()) / sum(counts.values())
    used = [stage for stage, n in known.items() if n]
    placed = [name for name in names if name in position]
    if share < 0.5 or (len(used) == 1 and len(placed) > 3 and people_n >= FEW_PEOPLE):
        _thirds(story, names, position, people_n)
        return
    order = list(reversed(families))  # as a journey mostly goes
    if people_n >= FEW_PEOPLE:
        mean = {
            stage: _mean([(position[name], counts[name]) for name in placed if family[name] == stage]) for stage in used
        }
        order = sorted(used, key=lambda stage: (mean[stage] if mean[stage] is not None else 0.5, order.index(stage)))
        story.why["stages"] = (
            f"by words of their names; in the order in which {people_n:,} people of the samples meet them"
        )
    else:
        story.why["stages"] = "by words of their names, in the order in which a journey mostly goes"
    for stage in [*order, ""]:
        inside = [name for name in names if family[name] == stage]
        if inside:
            story.stages[stage or "Other"] = _patterns(inside)


def _mean(weighted: Sequence[tuple[float, int]]) -> float:
    total = sum(n for _, n in weighted)
    return sum(value * n for value, n in weighted) / total if total else 0.5


def _thirds(story: Story, names: Sequence[str], position: dict[str, float], people_n: int) -> None:
    """No names that are known: cut the journey in three by where its events mostly stand."""
    if people_n < FEW_PEOPLE or len(names) < 4:
        story.stages["Journey"] = _patterns(names)
        story.why["stages"] = "the names of the events say nothing about stages; give them yours"
        return
    for stage, low, high in (("Beginning", -1.0, 1 / 3), ("Middle", 1 / 3, 2 / 3), ("End", 2 / 3, 1.0)):
        inside = [name for name in names if low < position.get(name, 0.5) <= high]
        if inside:
            story.stages[stage] = _patterns(inside)
    story.why["stages"] = f"by where the events first stand in the journeys of {people_n:,} people; rename the stages"


def _patterns(names: Iterable[str]) -> list[str]:
    """Return names as the patterns of touchpoints; where there are many, names that differ in numbers are one."""
    listed = list(names)
    if len(listed) > MANY_NAMES:
        listed = [re.sub(r"\d+", "*", name) for name in listed]
    return list(dict.fromkeys(name.replace("[", "[[]") for name in listed))


def label(pattern: str) -> str:
    """Return the name of a touchpoint for an event.

    >>> label("order_placed"), label("/p/*")
    ('Order placed', '/p/*')
    """
    text = re.sub(r"[_\s]+", " ", pattern.replace("[[]", "[")).strip()
    return text[:1].upper() + text[1:]


def _funnel(story: Story, counts: Counter[str], persons: dict[str, list[str]]) -> None:
    """Take the steps that most people take before the conversion, in their usual order; without them, go by names."""
    goal = story.conversion
    if not goal:
        return
    reached = [seen for seen in persons.values() if goal in seen and len(seen) > 1]
    position = _median_places(reached)  # of those who did it: who left early says nothing about the order
    often: list[str] = []
    if len(reached) >= FEW_PEOPLE:
        with_goal = Counter(name for seen in reached for name in seen if name != goal)
        often = [name for name, n in with_goal.most_common() if n >= 0.2 * len(reached)]
    before = [name for name in often if position[name] < position[goal]][:STEPS]
    after = [name for name in often if position[name] > position[goal]][:STEPS]
    named = _steps_by_name(goal, counts)
    if not before and len(named) > 1:
        story.funnel = [*named, goal]
        story.why["funnel"] = "the most frequent event of each stage before it"
    elif before or after:
        story.funnel = sorted([*(before or after), goal], key=lambda name: position[name])
        side = "before" if before else "after"
        story.why["funnel"] = f"what most of {len(reached)} people do {side} it, in their usual order"
    elif named:
        story.funnel = [*named, goal]
        story.why["funnel"] = "the most frequent event before it, by its name"


def _steps_by_name(goal: str, counts: Counter[str]) -> list[str]:
    families = words.families("stages")
    steps = []
    for own in (families["Discover"], families["Consider"], frozenset(words.listed("story", "checkout"))):
        inside = [
            (n, name)
            for name, n in counts.items()
            if name != goal and own & set(words.split(name)) and not _later_family(name, own)
        ]
        if inside:
            steps.append(max(inside)[1])
    return steps


def _later_family(name: str, family: frozenset[str]) -> bool:
    """Whether another family, which is looked at before, has the event."""
    split = set(words.split(name))
    for own in words.families("stages").values():
        if family <= own:
            return False
        if own & split:
            return True
    return False
