"""Finished journeys up to their conversion: where they came, and when each deviation from the plan was first known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import alignment, landmarks
from journeykit.alignment import EXTRA, SKIPPED, Alignment
from journeykit.landmarks import FEW, Groups
from journeykit.plan_times import WHOLE_PLAN
from journeykit.plans import FINISHED, LATE, Judged, groups

AFTER = "comes with the conversion or after it, and cannot change it"
UNKNOWN = "is not known before the conversion, so there is nothing to compare"

SUMMED = ("n", "converted", "value", "squares")
Key = tuple[str, int, str]  # kind, number of the step (0: outside the plan), name


def names(judged: Judged, found: Alignment) -> set[Key]:
    """Return the deviations of an alignment; those outside the plan are in no code, and not here."""
    labels = judged.labels
    odd = {(kind, step, labels[step]) for _, kind, step in found.odd if step}
    return odd | {(SKIPPED, step, labels[step]) for step in found.skipped}


def broken_rules(judged: Judged) -> list[tuple[Key, str]]:
    """Return the deviation that breaks each time rule, and the column of `Judged.table` that tells it."""
    last = len(judged.steps) + 1  # the whole plan comes after its steps
    numbers = [last if rule.label == WHOLE_PLAN else rule.step for rule in judged.rules]
    names = [rule.label if rule.label == WHOLE_PLAN else judged.labels[rule.step] for rule in judged.rules]
    return [((LATE, k, name), column) for k, name, column in zip(numbers, names, judged.late, strict=True)]


class Walked:
    """Finished journeys up to their conversion: the places that they came to, and when deviations were first known."""

    def __init__(self, judged: Judged, over: pd.DataFrame, values: Sequence[str] = ()) -> None:
        """Walk through finished journeys, given as those rows of `Judged.groups`; `values` lie outside the plan."""
        self.judged, self.over, self.values = judged, over, list(values)
        self.conversion = judged.letters.conversion
        self.plan = judged.letters.plan.until(self.conversion) if self.conversion else judged.letters.plan
        cuts = [self._cut(code, cut) for code, cut in zip(over["code"], over["cut"], strict=True)]
        summed = self._sums(over.assign(trace=cuts), ["trace"])
        summed = summed[summed["trace"] != ""].reset_index(drop=True)  # who converted at once was at no place before
        self.groups, self.row = summed, {trace: k for k, trace in enumerate(summed["trace"])}
        self.places = len(self.plan.required) + 1
        self.came = np.zeros((len(summed), self.places), bool)  # places that each trace came to
        self.first: dict[Key, list[tuple[int, int, np.ndarray]]] = {}  # row, place, places before
        self.at: dict[str, Alignment] = {}
        self._known_places: dict[str, tuple[int, np.ndarray]] = {}
        self._walk()

    def _cut(self, code: str, cut: int, end: int | None = None) -> str:
        known = self.plan.letters
        whole = code if cut < 0 else code[:cut]
        return "".join(letter for letter in whole[:end] if letter in known)

    def _sums(self, table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
        table = table.assign(converted=table["n"].where(table["outcome"] == "converted", 0))
        return table.groupby(by, as_index=False)[[name for name in SUMMED if name in table]].sum()

    def _walk(self) -> None:
        """Go through each trace event by event, judging at each only what has happened by then."""
        traces = list(self.groups["trace"])
        prefixes = sorted({trace[:end] for trace in traces for end in range(len(trace) + 1)})
        self.at = dict(zip(prefixes, alignment.judge(prefixes, self.plan), strict=True))
        named = {prefix: names(self.judged, found) for prefix, found in self.at.items()}
        for row, trace in enumerate(traces):
            seen: set[Key] = set()
            came = self.came[row]
            came[0] = True
            for end in range(1, len(trace) + 1):
                place = self.at[trace[:end]].furthest
                for key in named[trace[:end]] - seen:
                    seen.add(key)
                    self.first.setdefault(key, []).append((row, place, _without(came, place)))
                came[place] = True

    def compare(self, key: Key) -> dict[str, Any]:
        """Compare journeys with a deviation and without it; see `landmarks.compare`."""
        kind, number, step = key
        if self.conversion and number >= self.conversion:
            return {"note": AFTER}
        if kind == LATE:
            found = self._late(next(column for name, column in broken_rules(self.judged) if name == key))
        elif kind == EXTRA:
            found = self._outside(step)
        else:
            found = self._known(self.first.get(key, []))
        if "gap_points" in found:
            return {**found, "note": ""}
        if not found["with_n"]:
            return {"note": UNKNOWN}
        few = f"{found['with_n']} with and {found['without_n']} without"
        return {**found, "note": f"too few to compare before the conversion: {few}, at least {FEW} are needed"}

    def _known(self, first: Iterable[tuple[int, int, np.ndarray]]) -> dict[str, Any]:
        case, control = np.full(len(self.groups), -1), self.came.copy()
        for row, place, before in first:
            case[row], control[row] = place, before
        return landmarks.compare(_as_groups(self.groups), case, control)

    def _late(self, column: str) -> dict[str, Any]:
        found = self._sums(self.over[self.over[column].isin([1, 2])], [column])
        late = (found[column] == 2).to_numpy()
        return landmarks.compare(_as_groups(found), np.where(late, 0, -1), ~late[:, None])

    def _outside(self, value: str) -> dict[str, Any]:
        """The same for a value outside the plan, which is in no trace: its journeys are taken out of their groups."""
        cases = self.outside[self.outside["value_of"] == value]
        columns = [name for name in SUMMED if name in self.groups]
        rest = self.groups[columns].to_numpy(float).copy()
        rows: list[list[float]] = []
        places: list[int] = []
        controls: list[np.ndarray] = []
        for each in cases.to_dict("records"):
            row = self.row.get(self._cut(each["code"], each["cut"]))
            if row is None:
                continue
            rows.append([float(each[name]) for name in columns])
            rest[row] -= rows[-1]
            place, before = self._come(self._cut(each["code"], each["cut"], each["at"]))
            places.append(place)
            controls.append(before)
        both = pd.DataFrame(np.vstack([rest, *rows]), columns=columns)
        case = np.concatenate([np.full(len(rest), -1), np.array(places, dtype=np.int64)])
        return landmarks.compare(_as_groups(both), case, np.vstack([self.came, *controls]))

    def _come(self, trace: str) -> tuple[int, np.ndarray]:
        """The place where a trace ends, and those that it came to before."""
        if trace not in self._known_places:
            came = np.zeros(self.places, bool)
            came[[0, *(self.at[trace[:end]].furthest for end in range(1, len(trace) + 1))]] = True
            place = self.at[trace].furthest
            self._known_places[trace] = (place, _without(came, place))
        return self._known_places[trace]

    @cached_property
    def outside(self) -> pd.DataFrame:
        """Journeys with each value outside the plan before the conversion, by their code and its place in it."""
        judged = self.judged
        table = judged.table.filter(nw.col("outcome").is_in(list(FINISHED)), nw.col("code") != "")
        outside = judged.outside.filter(nw.col("value").is_in(self.values), nw.col("cut") >= 0)
        outside = outside.select("journey_id", value_of="value", at="cut")
        joined = table.join(outside, on="journey_id", how="inner")
        found = groups(joined, ["value_of", "code", "cut", "at", "outcome"], judged.has_value)
        return self._sums(found, ["value_of", "code", "cut", "at"])


def _without(came: np.ndarray, place: int) -> np.ndarray:
    """The places that a journey came to before the one where it is now."""
    before = came.copy()
    before[place] = False
    return before


def _as_groups(table: pd.DataFrame) -> Groups:
    return Groups(*(table[name].to_numpy(float) for name in SUMMED if name in table))
