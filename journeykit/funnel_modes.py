"""The same funnel as GA4, Mixpanel, Amplitude and PostHog count it, and which of their rules makes which difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import permutations
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.stats import binom

from journeykit import engine, stats
from journeykit.config import Funnel, seconds
from journeykit.config_funnels import MODES
from journeykit.funnel_chains import Rules, outcome
from journeykit.funnel_reach import kernel_rules, microseconds, parsed, rows_for
from journeykit.funnel_rows import rows_of
from journeykit.funnels import NO_FUNNEL

YOURS = "yours"
NAMES = {YOURS: "Your rules", "ga4": "GA4", "mixpanel": "Mixpanel", "amplitude": "Amplitude", "posthog": "PostHog"}
NAMES |= {"strict": "Strict"}
COLUMNS = (
    *("mode", "rules", "n", "converted_n", "converted_share", "converted_share_low", "converted_share_high"),
    *("difference", "difference_low", "difference_high", "unit"),
    *("median_days", "median_days_low", "median_days_high", "why"),
)
SWITCHES = ("order", "entry", "clock", "excluded", "within", "counts_open")
ALL_ORDERS = 4  # rules that are switched in every order; of more, these would be too many

_SAID: dict[tuple[str, Any], str] = {
    ("order", "sequential"): "steps in order, others may lie between",
    ("order", "strict"): "nothing else between two steps",
    ("order", "any"): "steps in any order",
    ("entry", "closed"): "from the first step on",
    ("entry", "open"): "from any step on",
    ("clock", "any"): "every entry is tried",
    ("clock", "last"): "every entry is tried, the latest times it",
    ("clock", "first"): "only the first entry counts",
    ("excluded", "attempt"): "an excluded event ends the attempt",
    ("excluded", "unit"): "an excluded event removes the person",
    ("counts_open", True): "people whose time is not over count",
    ("counts_open", False): "people whose time is not over are set apart",
}
_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}

Switches = dict[str, Any]


def compare(touches: Any, *, until: pd.Timestamp | None = None, min_n: int = 1, **rules: Any) -> pd.DataFrame:
    """Count one funnel by your rules and by those of other tools, and say which rule makes the difference.

    The tools count as they do when nothing is set in them (`config_funnels.MODES`), on your steps and your units, over
    the same events; they also count those whose time is not over yet as not converted. What they read elsewhere (other
    events, other identities, sampling, thresholds) is not imitated.

    `why` comes from switching the rules from yours to theirs one after another, in every order that there is (of more
    than four, in one order and back), and taking the mean of what each then does: the parts add up to the whole
    difference (Shapley 1953). Rival: each rule by itself, which explains nothing where two rules only act together,
    as a short window and a clock that does not start again do; where the two disagree, both are said.

    The difference to your share is between two shares of mostly the same people: its interval is the square-and-add
    of Zou & Donner (2008) from the intervals of both shares and their correlation over people (with people on both
    sides, Newcombe's paired one, 1998, method 8). Rival: the interval of independent groups, far too wide here.

    Args:
        touches: as for `funnels.reach`.
        until: as for `funnels.reach`.
        min_n: units at the start that a row must have.
        rules: the keys of `config.Funnel`: steps, within, per and so on.

    Returns:
        One row per mode, yours first: mode, rules in words, n at the start, converted_n, converted_share with its
        interval (Wilson; of sessions, journeys and attempts clustered by person), difference to yours with its
        interval, median_days of those who converted with its order-statistic interval, and why it differs.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad@0d buy@3d | u2: ad@0d ad@9d buy@10d | u3: ad@0d buy@1h")
    >>> compare(log, steps=["ad", "buy"], within="30d")[["mode", "converted_n"]].values.tolist()[:4]
    [['yours', 3], ['ga4', 3], ['mixpanel', 2], ['amplitude', 2]]
    """
    if not rules.get("steps"):
        return stats.not_enough(COLUMNS, NO_FUNNEL)
    plan, end = parsed(rules), microseconds(until)
    mine = _switches(plan, counts_open=end is None or not plan.within)
    modes = {YOURS: mine, **{name: _mode(name, mine, plan) for name in MODES}}
    tried: list[Switches] = []
    for switches in modes.values():
        changed = _changed(mine, switches, plan)
        for order in _orders(changed):
            tried += [_mixed(mine, switches, order[:n]) for n in range(len(order) + 1)]
        tried += [switches, *[_mixed(mine, switches, [key]) for key in changed]]
    tried = [one for n, one in enumerate(tried) if one not in tried[:n]]
    with engine.scratch():
        moments, times = _counted(touches, plan, tried, end, [tried.index(switches) for switches in modes.values()])
    of_mine = moments[0]
    if of_mine["n"] < max(min_n, 1):
        return stats.not_enough(COLUMNS, f"not enough data (n = {of_mine['n']}, at least {min_n} are needed)")
    shares = [
        (switches, one["k"] / one["n"] if one["n"] else math.nan) for switches, one in zip(tried, moments, strict=True)
    ]
    rows = []
    for name, switches in modes.items():
        found, (middle, low, high) = moments[tried.index(switches)], times[tried.index(switches)]
        if found["n"] < max(min_n, 1):
            continue
        share = _share(found, plan)
        gap = (math.nan,) * 3 if name == YOURS else _difference(found, share, of_mine, _share(of_mine, plan))
        why = "" if name == YOURS else _why(mine, switches, _changed(mine, switches, plan), shares)
        said = _in_words(switches, plan, end is not None)
        rows.append((name, said, found["n"], found["k"], *share, *gap, "share", middle, low, high, why))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def variants(table: pa.Table, first: int = 1, *, rules: Sequence[Rules]) -> pa.Table:
    """Count sorted rows by several rules at once: the work given to `engine.in_order`.

    Returns:
        One row per unit (and number of its attempt): person_id, and for the v-th rules n_v and k_v (1: counted,
        converted), us_v (µs from the first step to the last, or null).
    """
    rows = rows_of(table, rules[0])
    found = [outcome(rows, one) for one in rules]
    most = 1 + max(int(one.attempt.max(initial=0)) for one in found)
    keys = [one.unit * most + one.attempt for one in found]
    every = np.unique(np.concatenate(keys))
    whose = np.zeros(len(every), dtype=np.int64)
    columns: dict[str, Any] = {}
    for v, (one, key) in enumerate(zip(found, keys, strict=True)):
        where, counts = np.searchsorted(every, key), ~one.is_open
        done = counts & (one.taken[-1] >= 0)
        whose[where] = rows.origin[one.first]
        n, k, us = (np.zeros(len(every), dtype=np.int64) for _ in range(3))
        n[where], k[where] = counts, done
        us[where[done]] = rows.time[one.taken[-1][done]] - rows.time[one.taken[0][done]]
        timed = k == 1 if rules[v].entry == "closed" else np.zeros(len(every), dtype=bool)
        columns |= {f"n_{v}": pa.array(n), f"k_{v}": pa.array(k), f"us_{v}": pa.array(us, mask=~timed)}
    return pa.table({"person_id": rows.table["person_id"].take(whose), **columns})


def _switches(plan: Funnel, *, counts_open: bool) -> Switches:
    return {**{key: getattr(plan, key) for key in SWITCHES[:-1]}, "counts_open": counts_open}


def _mode(name: str, mine: Switches, plan: Funnel) -> Switches:
    """Return your rules as changed by a tool; the strict mode is no tool, and changes the order only."""
    theirs = {**mine, **MODES[name]}
    if name != "strict":
        theirs = {**theirs, "within": MODES[name].get("within", ""), "counts_open": True}
    return {**theirs, "excluded": "attempt"} if plan.per == "attempt" else theirs


def _changed(mine: Switches, theirs: Switches, plan: Funnel) -> list[str]:
    """Return the rules in which two differ, as far as they can matter."""
    bars = bool(plan.exclude) or any(step.without for step in plan.steps)
    return [key for key in SWITCHES if mine[key] != theirs[key] and (key != "excluded" or bars)]


def _counted(
    touches: Any, plan: Funnel, tried: list[Switches], end: int | None, timed: list[int]
) -> tuple[list[dict[str, int]], dict[int, tuple[float, float, float]]]:
    """Return the sums over people by each set of rules, and the median days of some, in one pass over the events."""
    kernels = []
    for switches in tried:
        changed = plan.model_copy(update={key: switches[key] for key in SWITCHES[:-1]})
        kernels.append(kernel_rules(changed, until=None if switches["counts_open"] else end))
    rows, order = rows_for(touches, plan, until=end, whole=True)
    table = engine.in_order(rows, by="unit", order=order, work=partial(variants, rules=kernels))
    numbers = range(len(tried))
    each = table
    if plan.per != "person":
        each = table.group_by("person_id").agg(*[nw.col(f"{name}_{v}").sum() for v in numbers for name in ("n", "k")])
    sums: dict[str, nw.Expr] = {}
    for v in numbers:
        n, k, n0, k0 = (nw.col(name) for name in (f"n_{v}", f"k_{v}", "n_0", "k_0"))
        parts = {"n": n, "k": k, "kk": k * k, "kn": k * n, "nn": n * n, "n0": n * n0, "nk0": n * k0, "kn0": k * n0}
        sums |= {f"{name}_{v}": part.sum() for name, part in {**parts, "kk0": k * k0}.items()}
        sums[f"people_{v}"] = nw.when(n > 0).then(nw.lit(1)).otherwise(nw.lit(0)).sum()
    found = engine.fetch(each.select(**sums)).iloc[0]
    moments: list[dict[str, int]] = [{} for _ in numbers]
    for name, value in found.items():
        part, number = str(name).rsplit("_", 1)
        moments[int(number)][part] = 0 if pd.isna(value) else int(value)
    return moments, {v: _median(table, v) for v in dict.fromkeys(timed)}


def _median(table: nw.LazyFrame[Any], v: int) -> tuple[float, float, float]:
    """Return the median days of those who converted, to the second, with its 95 % interval of order statistics."""
    took = table.filter(~nw.col(f"us_{v}").is_null()).with_columns(s=nw.col(f"us_{v}") // 1_000_000)
    found = engine.fetch(took.group_by("s").agg(n=nw.len()), limit=20_000_000).sort_values("s")
    n = int(found["n"].sum())
    if not n:
        return (math.nan,) * 3
    days, after = found["s"].to_numpy(dtype=float) / 86_400, found["n"].cumsum().to_numpy()

    def ranked(rank: float) -> float:
        return float(days[np.searchsorted(after, rank)])

    middle = (ranked((n + 1) // 2) + ranked(n // 2 + 1)) / 2
    rank = int(binom.ppf(0.025, n, 0.5))
    return (middle, ranked(rank), ranked(n - rank + 1)) if rank else (middle, math.nan, math.nan)


def _share(found: dict[str, int], plan: Funnel) -> tuple[float, float, float]:
    if plan.per == "person":
        low, high = stats.wilson(found["k"], found["n"])
    else:
        low, high = stats.clustered(*(found[name] for name in ("k", "n", "kk", "kn", "nn", "people")))
    return found["k"] / found["n"], low, high


def _difference(
    theirs: dict[str, int], share: tuple[float, float, float], mine: dict[str, int], own: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Return the difference of two shares over partly the same people, with its interval."""
    (p, low, high), (q, q_low, q_high) = share, own
    spread = [max(m["kk"] - 2 * s * m["kn"] + s * s * m["nn"], 0.0) for m, s in ((theirs, p), (mine, q))]
    both = theirs["kk0"] - q * theirs["kn0"] - p * theirs["nk0"] + p * q * theirs["n0"]
    alike = max(-1.0, min(1.0, both / math.sqrt(spread[0] * spread[1]))) if min(spread) > 0 else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * alike * a * b + b * b, 0.0))

    return p - q, p - q - reach(p - low, q_high - q), p - q + reach(high - p, q - q_low)


def _why(mine: Switches, theirs: Switches, changed: list[str], shares: list[tuple[Switches, float]]) -> str:
    """Say which rules make the difference, the largest part first, and what each does by itself if that is another."""
    if not changed:
        return "The same rules as yours."

    def share_of(switches: Switches) -> float:
        return next(share for tried, share in shares if tried == switches)

    parts, orders = dict.fromkeys(changed, 0.0), _orders(changed)
    for order in orders:
        for n, key in enumerate(order):
            step = share_of(_mixed(mine, theirs, order[: n + 1])) - share_of(_mixed(mine, theirs, order[:n]))
            parts[key] += step / len(orders)
    alone = {key: share_of(_mixed(mine, theirs, [key])) - share_of(mine) for key in changed}
    shown = digits(max(share_of(mine), share_of(theirs)))
    visible = 0.5 * 10 ** -(shown + 2)  # a difference between shares that does not round to nothing
    moving = [key for key in changed if abs(parts[key]) >= visible]
    still = [_change(key, mine, theirs) for key in changed if key not in moving]
    if not moving:
        return f"Other rules, the same figure: {'; '.join(still)}."
    moving.sort(key=lambda key: (-abs(parts[key]), SWITCHES.index(key)))
    said = "; ".join(f"{_change(key, mine, theirs)}: {points(parts[key], shown)}" for key in moving)
    said = said[:1].upper() + said[1:] + "."
    if any(abs(parts[key] - alone[key]) >= max(visible, abs(parts[key]) / 4) for key in moving):
        alone_said = [points(alone[key], shown).removesuffix(" points") for key in moving]
        listed = " and ".join(part for part in (", ".join(alone_said[:-1]), alone_said[-1]) if part)
        said += f" Each alone would make {listed} points; the rest is what they do together."
    return said + (f" No difference: {'; '.join(still)}." if still else "")


def _orders(changed: list[str]) -> list[list[str]]:
    if len(changed) > ALL_ORDERS:
        return [changed, changed[::-1]]
    return [list(order) for order in permutations(changed)]


def _mixed(mine: Switches, theirs: Switches, keys: Sequence[str]) -> Switches:
    return {**mine, **{key: theirs[key] for key in keys}}


def _change(key: str, mine: Switches, theirs: Switches) -> str:
    if key == "within":
        return f"{window(theirs[key])} instead of {window(mine[key])}"
    return _SAID[key, theirs[key]]


def window(within: str) -> str:
    """Return a duration in words.

    >>> window("7d"), window("1h"), window("")
    ('7 days', '1 hour', 'no time limit')
    """
    if not within:
        return "no time limit"
    seconds(within)
    return f"{within[:-1]} {_UNITS[within[-1]]}{'' if within[:-1] == '1' else 's'}"


def digits(share: float) -> int:
    """Return how many decimals of a percentage a share needs.

    >>> digits(0.12), digits(0.004), digits(0.0004)
    (1, 2, 3)
    """
    return 1 if share >= 0.01 or not share > 0 else 2 if share >= 0.001 else 3


def points(difference: float, decimals: int = 1) -> str:
    """Return a difference of shares in percentage points, with its sign.

    >>> points(-0.0123), points(0.00012, 3), points(0.0)
    ('−1.2 points', '+0.012 points', '±0.0 points')
    """
    size = f"{abs(100 * difference):.{decimals}f}"
    sign = "±" if not float(size) else "+" if difference > 0 else "−"
    return f"{sign}{size} points"


def _in_words(switches: Switches, plan: Funnel, has_end: bool) -> str:
    keys = ["order", "entry", "clock"]
    if switches["order"] == "any":
        keys.remove("entry")
    if switches["entry"] == "open" or plan.per == "attempt":
        keys.remove("clock")
    said = [_SAID[key, switches[key]] for key in keys]
    said.append(f"within {window(switches['within'])}" if switches["within"] else "no time limit")
    if plan.exclude or any(step.without for step in plan.steps):
        said.append(_SAID["excluded", switches["excluded"]])
    if has_end and switches["within"]:
        said.append(_SAID["counts_open", switches["counts_open"]])
    return "; ".join(said)
