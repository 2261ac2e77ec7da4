"""The people of the simulated shop: when they arrive, what they are like, which identifiers they carry."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeykit.simulate.plan import DAY, HOUR, PLAN, SECOND, START, Floats, Ints, sigmoid

# fmt: off
FIRST = (
    "anna", "ben", "clara", "david", "elif", "felix", "greta", "hanna", "igor", "jana", "karim", "lea", "milan",
    "nora", "oskar", "paula", "quentin", "rosa", "samir", "tina", "ulla", "viktor", "wanda", "xenia", "yusuf", "zoe",
)
LAST = (
    "adler", "bauer", "celik", "dietrich", "engel", "fischer", "graf", "haas", "ivanov", "jansen", "koch", "lang",
    "maier", "nowak", "otto", "peters", "quast", "richter", "schulz", "thiel", "ulrich", "vogt", "weber", "yildiz",
    "ziegler",
)
# fmt: on
# Weight of each month, weekday (Monday first) and hour of the day (UTC) in the arrival of new people.
MONTHS = (1.0, 0.92, 0.95, 0.9, 0.9, 0.85, 0.85, 1.02, 1.05, 1.0, 1.45, 1.05)
WEEKDAYS = (1.1, 1.0, 0.98, 1.0, 0.95, 0.9, 1.15)
HOURS = (0, 0, 0, 0, 0, 0.2, 0.5, 0.8, 1.0, 1.1, 1.1, 1.1, 1.0, 1.0, 1.0, 1.1, 1.3, 1.6, 1.9, 2.0, 1.6, 0.9, 0, 0)
CHANNELS = np.array(["paid_search", "paid_social", "organic_search", "review_site", "direct", "email"])
BLACK_FRIDAY = 331  # day of the year, 0 = 1 January; the ten days around it are busy


def text(*parts: object) -> npt.NDArray[np.object_]:
    """Join arrays and strings element by element.

    >>> text("c-", np.array([7, 8])).tolist()
    ['c-7', 'c-8']
    """
    size = max(len(part) for part in parts if isinstance(part, np.ndarray))
    joined = np.full(size, "", dtype=object)
    for part in parts:
        joined = joined + (part.astype(str).astype(object) if isinstance(part, np.ndarray) else part)
    return joined


def hexes(rng: np.random.Generator, n: int, digits: int = 16) -> npt.NDArray[np.object_]:
    """Return n random hexadecimal strings.

    >>> len(hexes(np.random.default_rng(1), 2, 8)[0])
    8
    """
    if n == 0:
        return np.empty(0, dtype=object)
    return np.frombuffer(rng.bytes(n * digits // 2).hex().encode(), f"S{digits}").astype(str).astype(object)


def time_of_day(rng: np.random.Generator, n: int) -> Ints:
    """Draw times of the day (microseconds after midnight UTC, whole milliseconds) on the shop's daily curve."""
    weights = np.array(HOURS) / np.sum(HOURS)
    hour = rng.choice(24, n, p=weights)
    result: Ints = hour * HOUR + rng.integers(0, 3_600_000, n) * 1000
    return result


def arrivals(rng: np.random.Generator, n: int) -> Ints:
    """Draw the first visits of n people over the year: months, weekdays, the week of Black Friday."""
    days = pd.date_range("2025-01-01", "2025-12-29", freq="D")
    weights = np.array(MONTHS)[days.month - 1] * np.array(WEEKDAYS)[days.dayofweek]
    number = np.arange(len(days))
    weights = np.where((number >= BLACK_FRIDAY - 7) & (number <= BLACK_FRIDAY + 3), weights * 1.7, weights)
    day = np.sort(rng.choice(len(days), n, p=weights / weights.sum()))
    result: Ints = START + day * DAY + time_of_day(rng, n)
    return result


def make_people(rng: np.random.Generator, n: int, first: int) -> pd.DataFrame:
    """Make n people numbered from `first`: one row per person, with traits, identifiers and assigned arms.

    `engagement` is standard normal and drives carts, orders, newsletters and set-up (it is the confounder of e-mail).
    """
    number = first + np.arange(n)
    engagement: Floats = rng.normal(size=n)
    arrived = arrivals(rng, n)
    entry = np.array([0.27, 0.17, 0.24, 0.13, 0.19, 0.0])
    social = np.array([0.20, 0.32, 0.20, 0.06, 0.22, 0.0])
    draw = rng.random(n)
    channel = np.where(
        engagement > -0.4,
        np.searchsorted(entry.cumsum()[:-1], draw, side="right"),
        np.searchsorted(social.cumsum()[:-1], draw, side="right"),
    ).clip(max=4)
    category = rng.choice(["desktop", "mobile", "tablet"], n, p=[0.52, 0.40, 0.08])
    second = rng.random(n) < 0.40
    second_category = np.where(category == "desktop", "mobile", "desktop")
    app = rng.random(n) < 0.22
    account = rng.random(n) < sigmoid(PLAN.account_intercept + PLAN.account_engagement * engagement)
    wants = sigmoid(PLAN.newsletter_intercept + PLAN.newsletter_engagement * engagement)
    people = pd.DataFrame(
        {
            "person": number,
            "arrived": arrived,
            "engagement": engagement,
            "near_store": rng.random(n) < 0.40,
            "shipping_price": rng.choice(PLAN.shipping_prices, n, p=PLAN.shipping_shares),
            "entry": channel,
            "account": account,
            "newsletter": account & (rng.random(n) < wants),
            "mood": rng.normal(0, 0.10, n),
            "category_1": category,
            "category_2": np.where(second, second_category, ""),
            "customer": text("c-", 100_000 + number),
            "email": text(
                np.array(FIRST)[rng.integers(0, len(FIRST), n)],
                ".",
                np.array(LAST)[rng.integers(0, len(LAST), n)],
                number,
                "@",
                rng.choice(["example.com", "example.org"], n, p=[0.7, 0.3]),
            ),
            "phone": text("+4915", 100_000_000 + number * 7 % 899_999_999),
            "device_1": _browser(rng, arrived),
            "device_2": np.where(second, _browser(rng, arrived + 3 * DAY), ""),
            "device_app": np.where(app, hexes(rng, n), ""),
            "device_new": _browser(rng, arrived + 20 * DAY),
        }
    )
    for trial in PLAN.trials:
        people[trial.name] = rng.random(n) < 0.5  # True = treatment
    return _share_tablets(rng, people)


def _browser(rng: np.random.Generator, when: Ints) -> npt.NDArray[np.object_]:
    """Return pseudo ids as GA4 writes them: a random number and the second of the first visit."""
    return text(rng.integers(100_000_000, 2_000_000_000, len(when)), ".", when // SECOND)


def _share_tablets(rng: np.random.Generator, people: pd.DataFrame) -> pd.DataFrame:
    """Give some pairs of people one family tablet as the second device of both."""
    pairs = max(1, round(len(people) * 0.007)) if len(people) > 3 else 0
    start = np.sort(rng.choice(len(people) // 2, pairs, replace=False)) * 2 if pairs else np.empty(0, int)
    device = people["device_2"].to_numpy(copy=True)
    category = people["category_2"].to_numpy(copy=True)
    shared = np.zeros(len(people), dtype=bool)
    tablet = _browser(rng, people["arrived"].to_numpy()[start])
    for member in (start, start + 1):
        device[member], category[member], shared[member] = tablet, "tablet", True
    return people.assign(device_2=device, category_2=category, shares_tablet=shared)
