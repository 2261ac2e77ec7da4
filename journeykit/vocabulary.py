"""The names of events, touchpoints and stages that journey.toml uses in its questions, and whether they occur."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

import pandas as pd

from journeykit.config import Study
from journeykit.config_funnels import EXIT
from journeykit.errors import JourneyError, nearest
from journeykit.stats import not_enough
from journeykit.steps import kind_of

TYPO = 0.85  # how alike two names are that one is taken for a misspelling of the other


def named_events(plan: Study) -> Iterator[tuple[str, str]]:
    """Yield where journey.toml names an event, and the event."""
    yield from (("journeys.start", event) for event in plan.journeys.start)
    for event in plan.journeys.conversion:
        yield "journeys.conversion", event
    for event in plan.attribution.conversion if plan.attribution else []:
        yield "attribution.conversion", event
    yield from ((where, step) for kind, where, step in _steps(plan) if kind == "event")
    if plan.churn:
        for key in ("start", "end", "activity"):
            yield from ((f"churn.{key}", event) for event in getattr(plan.churn, key))
        yield from (("churn.value.orders", event) for event in plan.churn.value.orders)
        for covariate in plan.churn.covariates:
            names = [*covariate.events, *covariate.without]
            yield from ((f"churn.covariates.{covariate.name}", event) for event in names)
    for test in plan.experiments:
        yield f"experiments.{test.name}.exposure", test.exposure
        for metric in test.metrics:
            yield from ((f"experiments.{test.name}.metrics.{metric.name}", event) for event in metric.event)


def _steps(plan: Study) -> Iterator[tuple[str, str, str]]:
    """Yield of each value of each step what it is (event, touchpoint or stage), where it is named, and the value."""
    for part, paths in (("funnels", plan.funnels), ("plans", plan.plans)):
        for name, path in paths.items():
            for step in path.steps:
                values = [value for value in step.values if value != EXIT]
                yield from ((kind_of(step, path.on), f"{part}.{name}.steps", value) for value in values)
                yield from ((path.on, f"{part}.{name}.steps", value) for value in step.without)
            for key in ("allowed", "exclude"):
                yield from ((path.on, f"{part}.{name}.{key}", value) for value in getattr(path, key, []))


def unknown_steps(plan: Study) -> list[str]:
    """Return the problems of steps that name a touchpoint or a stage which `[[stages]]` does not declare."""
    known = {
        "stage": [stage.name for stage in plan.stages],
        "touchpoint": [touchpoint for stage in plan.stages for touchpoint in stage.touchpoints],
    }
    return [
        f"{where}: {step!r} is not a {kind}.{nearest(step, known[kind])} "
        f"Declared: {', '.join(known[kind]) or 'none'}. Mend the name, or add it to [[stages]]"
        for kind, where, step in _steps(plan)
        if kind in known and step not in known[kind]
    ]


def never(plan: Study, occurring: Iterable[str]) -> pd.DataFrame:
    """Return the events that journey.toml names and that never occur.

    Returns:
        One row per place and event: named_in, event.

    Raises:
        JourneyError: an event that never occurs is nearly the name of one that does, which is a misspelling.
    """
    events = sorted(set(occurring))
    missing = [(where, event) for where, event in dict.fromkeys(named_events(plan)) if event not in events]
    typos = []
    for where, event in missing:
        close = difflib.get_close_matches(event, events, n=1, cutoff=TYPO)
        if close:
            typos.append(f"{where}: no event is called {event!r}. Did you mean {close[0]!r}? Mend the name.")
    if typos:
        raise JourneyError("journey.toml names events that never occur.\n" + "\n".join(typos))
    if not missing:
        return not_enough(["named_in", "event"], "every event that journey.toml names occurs")
    return pd.DataFrame(missing, columns=["named_in", "event"])
