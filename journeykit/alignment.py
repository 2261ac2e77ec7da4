"""What was planned beside what happened: the fewest events to add and steps to miss that turn one into the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from journeykit import steps as _steps
from journeykit.config_steps import Step
from journeykit.errors import JourneyError

SKIPPED, OUT_OF_ORDER, REPEATED, EXTRA = "skipped", "out of order", "repeated", "extra"
BATCH = 20_000  # traces at a time: the costs of all their places lie in memory
_UNIT = 1 << 20  # of cost; what is left below it counts the deviations before the end, which decide among equal costs
_NEVER = np.int64(1) << 60

Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """A plan as an automaton: its states are the steps, and a letter stands for all events that can be the same steps.

    Attributes:
        required: of each step, whether it has to come.
        repeat: of each step, whether it may come several times in a row.
        letters: the steps (numbered from 1) that the events of a letter can be.
        free: letters that cost nothing where they are no step.
    """

    required: tuple[bool, ...]
    repeat: tuple[bool, ...]
    letters: Mapping[str, tuple[int, ...]]
    free: frozenset[str] = frozenset()

    @property
    def shortest(self) -> int:
        """The number of events of the shortest journey on plan."""
        return sum(self.required)

    def until(self, step: int) -> Plan:
        """Return the plan of the steps before a step; letters of later steps are in it no more.

        >>> Plan((True, True), (False, False), {"a": (1,), "b": (2,), "c": (1, 2)}).until(2).letters
        {'a': (1,), 'c': (1,)}
        """
        found = {letter: tuple(k for k in can if k < step) for letter, can in self.letters.items()}
        return Plan(
            self.required[: step - 1],
            self.repeat[: step - 1],
            {letter: can for letter, can in found.items() if can},
            self.free,
        )


class Alignment(NamedTuple):
    """How one trace was aligned.

    Attributes:
        cost: events that are no step, and required steps that are missing, one each.
        open_cost: the same where what is not reached yet is not missing (another alignment may be cheapest then).
        events: events that count: all but free ones that are no step.
        taken: of each event the step that it is, or 0.
        odd: the events that are no step: place in the trace, kind (out of order, repeated, extra), and the step whose
            value it has (0: of none).
        skipped: required steps that are missing, with a later step taken.
        stopped: required steps that are missing at the end.
    """

    cost: int
    open_cost: int
    events: int
    taken: tuple[int, ...]
    odd: tuple[tuple[int, str, int], ...]
    skipped: tuple[int, ...]
    stopped: tuple[int, ...]

    @property
    def furthest(self) -> int:
        """The furthest step that came, in order or not; 0 before the first."""
        return max([0, *self.taken, *(step for _, kind, step in self.odd if kind == OUT_OF_ORDER)])

    def fitness(self, shortest: int, is_open: bool = False) -> float:
        """Return 1 − cost / (events + steps of the shortest journey on plan): 1 on plan, 0 with nothing in common."""
        most = self.events + shortest
        return 1.0 if not most else 1 - (self.open_cost if is_open else self.cost) / most


def plan_of(written: Iterable[str | Step], allowed: Sequence[str] = ()) -> Plan:
    """Return the plan of steps whose values are compared with the values of a trace as they are.

    >>> plan_of(["a", "b+", "c?"]).shortest
    2
    """
    found = _steps.parse(written, "plan")
    values = dict.fromkeys(value for step in found for value in step.values)
    return Plan(
        tuple(not step.optional for step in found),
        tuple(step.repeat for step in found),
        {value: tuple(k for k, step in enumerate(found, start=1) if value in step.values) for value in values},
        frozenset(allowed),
    )


def align(trace: Sequence[str], written: Iterable[str | Step]) -> Alignment:
    """Align one trace with a plan, as `judge` does it.

    >>> for trace in ("abce", "abe", "abbcce", "abxyzce", "ab", "acbe"):
    ...     print(trace, round(align(trace, ["a", "b", "c", "d?", "e"]).fitness(4), 3))
    abce 1.0
    abe 0.857
    abbcce 0.8
    abxyzce 0.727
    ab 0.667
    acbe 0.75
    """
    plan = plan_of(written)
    names = list(dict.fromkeys([*plan.letters, *trace]))
    letter = {name: chr(33 + place) for place, name in enumerate(names)}
    coded = Plan(plan.required, plan.repeat, {letter[name]: plan.letters.get(name, ()) for name in names})
    return judge(["".join(letter[value] for value in trace)], coded)[0]


def judge(traces: Sequence[str], plan: Plan) -> list[Alignment]:
    """Align each trace (a text of letters) with a plan at the lowest cost, and name what differs.

    Every event that is no step costs 1, and so does every required step that is missing. Of equally cheap alignments
    the one is taken that has the fewest deviations before the end, then the one that misses a step as late as possible
    (so an event came too early, rather than the step before it being missing), then the one whose events are steps as
    early as possible. Of the same events with no step between them, the first is the step and the later ones repeat it.
    A trace that can still become the plan has no deviation: what it lacks is not reached. Costs are those of an exact
    search (Adriansyah 2014), by dynamic programming over places in the trace and steps of the plan, many traces at
    once. Rival: replay of tokens, which is faster still and is not the lowest cost.

    An event that is no step is **out of order** when the step it could be is missing (it came, but not where it
    belongs), or optional and not there; **repeated** when that step is there; **extra** when it is no step's. The first
    of several that could be a missing step is out of order, the others are repeated.

    Args:
        traces: one text each; a letter that the plan does not know is no step's.
        plan: see `Plan`.

    Raises:
        JourneyError: a trace or a plan has more steps than costs can be told apart by (a million).
    """
    closed, opened = _lowest(traces, plan, _UNIT), _lowest(traces, plan, 1)
    found = []
    for trace, (cost, taken), (open_cost, so_far) in zip(traces, closed, opened, strict=True):
        found.append(_named(trace, plan, cost, open_cost, taken if open_cost else so_far))
    return found


def marked(trace: Sequence[str], found: Alignment, labels: Mapping[int, str], extras: Mapping[str, str]) -> str:
    """Return an alignment as text: ✓ done, ○ skipped, + extra, ↺ repeated, ⇄ out of order, and where it stops.

    The same in a row is said once. A step that is out of order is said where it came.

    Args:
        trace: its letters.
        found: its alignment.
        labels: the name of each step.
        extras: the names of letters that are no step's.

    >>> found = align("acbbe", ["a", "b", "c", "d", "e", "f"])
    >>> marked("acbbe", found, dict(enumerate("abcdef", start=1)), {})
    '✓ a → ⇄ c → ✓ b → ↺ b → ○ d → ✓ e → stops before f'
    """
    signs = {OUT_OF_ORDER: "⇄", REPEATED: "↺", EXTRA: "+"}
    odd = {place: f"{signs[kind]} {labels[step] if step else extras[trace[place]]}" for place, kind, step in found.odd}
    skipped, parts = list(found.skipped), []
    for place, step in enumerate(found.taken):
        while step and skipped and skipped[0] < step:
            parts.append(f"○ {labels[skipped.pop(0)]}")
        if step or place in odd:
            parts.append(odd.get(place, "") or f"✓ {labels[step]}")
    if found.stopped:
        parts.append(f"stops before {labels[found.stopped[0]]}")
    return " → ".join(text for text, _ in groupby(parts))


def _named(trace: str, plan: Plan, cost: int, open_cost: int, taken: Whole) -> Alignment:
    """Name what differs, event by event."""
    steps = [int(step) for step in taken]
    for number in range(len(steps) - 1, 0, -1):  # the first of the same events is the step
        if steps[number] and not steps[number - 1]:
            same = [k for k in range(number) if trace[k] == trace[number] and not any(steps[k:number])]
            if same:
                steps[same[0]], steps[number] = steps[number], 0
    place, came = max(steps, default=0), {step for step in steps if step}
    missing = {k for k, required in enumerate(plan.required, start=1) if required and k not in came}
    odd, free = [], 0
    for number, (letter, step) in enumerate(zip(trace, steps, strict=True)):
        if step:
            continue
        can = plan.letters.get(letter, ())
        late = [k for k in can if k in missing]
        is_free = letter in plan.free
        free += is_free
        # Of a trace that can still become the plan, what is free is no deviation: the step may come yet.
        if late and open_cost:
            missing.discard(late[0])
            came.add(late[0])
            odd.append((number, OUT_OF_ORDER, late[0]))
        elif not is_free:
            again = [k for k in can if k in came]
            came.update(can[:1])
            odd.append(
                (number, REPEATED, again[0]) if again else (number, OUT_OF_ORDER if can else EXTRA, (*can, 0)[0])
            )
    gone = sorted(missing)
    return Alignment(
        cost,
        open_cost,
        len(steps) - free,
        tuple(steps),
        tuple(odd),
        tuple(k for k in gone if k < place),
        tuple(k for k in gone if k > place),
    )


def _lowest(traces: Sequence[str], plan: Plan, end: int) -> list[tuple[int, Whole]]:
    """The lowest cost of each trace and the steps that its events are; each step missing at the end costs `end`.

    That is in parts of `_UNIT`, so 1 costs nothing, but of equally cheap alignments takes the one that comes furthest.
    """
    if max([len(plan.required), *map(len, traces)]) >= _UNIT - 1:
        raise JourneyError(f"plan: a journey or a plan has more than {_UNIT:,} steps. Filter the events first.")
    order = sorted(range(len(traces)), key=lambda k: len(traces[k]))
    found: list[tuple[int, Whole]] = [(0, np.empty(0, np.int64))] * len(traces)
    for length, same in groupby(order, key=lambda k: len(traces[k])):
        places = list(same)
        for start in range(0, len(places), BATCH):
            part = places[start : start + BATCH]
            for k, cost, taken in zip(part, *_batch([traces[k] for k in part], length, plan, end), strict=True):
                found[k] = (int(cost) // _UNIT, taken)
    return found


def _batch(traces: list[str], length: int, plan: Plan, end: int) -> tuple[Whole, Whole]:
    """The same for traces of one length, all at once: costs backwards from the end, then the steps forwards."""
    states, size = len(plan.required) + 1, len(traces)
    known = sorted(plan.letters)
    can = np.zeros((len(known) + 1, states), bool)  # the last row: a letter that the plan does not know
    for row, letter in enumerate(known):
        can[row, list(plan.letters[letter])] = True
    extra = np.array([0 if letter in plan.free else _UNIT + 1 for letter in known] + [_UNIT + 1])
    codes = np.array([ord(letter) for letter in known])
    points = np.array(traces, dtype=f"<U{max(length, 1)}").view(np.uint32).reshape(size, -1)[:, :length]
    which = np.searchsorted(codes, points) if len(codes) else np.zeros(points.shape, np.int64)
    known_here = (codes[np.minimum(which, len(codes) - 1)] == points) if len(codes) else np.zeros(points.shape, bool)
    which = np.where(known_here, which, len(known))

    before = np.concatenate([[0], np.cumsum(plan.required)]).astype(np.int64)  # required steps up to each
    repeat = np.array([False, *plan.repeat])
    free_until = (_UNIT + 1) * np.concatenate([[0], before[:-1]])  # cost of missing all steps before one
    costs = np.empty((length + 1, size, states), np.int64)
    costs[length] = end * (before[-1] - before)
    for place in range(length - 1, -1, -1):
        later, fits = costs[place + 1], can[which[:, place]]
        on = np.where(fits, later + free_until, _NEVER)
        after = np.full((size, states), _NEVER)  # the cheapest step after each
        after[:, :-1] = np.minimum.accumulate(on[:, :0:-1], axis=1)[:, ::-1]
        again = np.where(fits & repeat, later, _NEVER)
        added = later + extra[which[:, place]][:, None]
        costs[place] = np.minimum(np.minimum(added, again), after - (_UNIT + 1) * before)

    rows, state = np.arange(size), np.zeros(size, np.int64)
    taken = np.zeros((size, length), np.int64)
    step = np.arange(states)
    for place in range(length):
        best, later, fits = costs[place][rows, state], costs[place + 1], can[which[:, place]]
        missed = np.maximum(free_until - (_UNIT + 1) * before[state][:, None], 0)
        ahead = np.where(step > state[:, None], missed, 0)
        allowed = fits & ((step > state[:, None]) | ((step == state[:, None]) & repeat))
        good = allowed & (ahead + later == best[:, None])
        smooth = good & (ahead == 0)
        as_extra = extra[which[:, place]] + later[rows, state] == best
        chosen = np.where(smooth.any(axis=1), smooth.argmax(axis=1), np.where(as_extra, 0, good.argmax(axis=1)))
        taken[:, place] = chosen
        state = np.where(chosen > 0, chosen, state)
    return costs[0][:, 0], taken
