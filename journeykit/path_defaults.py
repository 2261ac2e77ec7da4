"""What 05_paths looks at when it is not told: an event to look around from, and patterns to look for."""

from __future__ import annotations

from journeykit.config import Study
from journeykit.config_funnels import EXIT
from journeykit.pattern_text import quoted
from journeykit.steps import kind_of


def anchor(plan: Study, on: str) -> str:
    """Return the middle step of the first funnel whose steps are of this kind, or "" where there is none.

    The first steps are seen by all and the last by few: what goes on or turns back is seen best between them.
    """
    values = _steps(plan, on)
    return values[len(values) // 2] if values else ""


def patterns(plan: Study, on: str) -> list[str]:
    """Return the patterns that the first funnel suggests: through it, straight through it, and left half way.

    >>> steps = ["look", "cart", "pay"]
    >>> _through(steps)
    ['look -> .* -> pay', 'look -> cart -> pay', 'cart -> [^pay]* -> exit']
    """
    return _through(_steps(plan, on))


def _through(values: list[str]) -> list[str]:
    if len(values) < 2:
        return []
    named = [quoted(value) for value in values]
    first, middle, last = named[0], named[len(named) // 2], named[-1]
    if middle == last:
        middle = first
    return [f"{first} -> .* -> {last}", " -> ".join(named), f"{middle} -> [^{last}]* -> exit"]


def _steps(plan: Study, on: str) -> list[str]:
    """The first value of each required step of the first funnel whose steps are all of this kind."""
    for funnel in plan.funnels.values():
        steps = [step for step in funnel.steps if not step.optional and EXIT not in step.values]
        if all(kind_of(step, funnel.on) == on for step in steps):
            return [step.values[0] for step in steps]
    return []
