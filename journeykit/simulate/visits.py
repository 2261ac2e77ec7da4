"""Trips and visits: on which days each person comes back, from where, on which device, and what comes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from journeykit.simulate.people import CHANNELS, time_of_day
from journeykit.simulate.plan import DAY, END, HOUR, MINUTE, PLAN, Bools, Floats, Ints, logit, moment, sigmoid

LATEST = END - 3 * HOUR  # a visit that starts later is not told
MAIL = 5  # in CHANNELS
# Device slots of a visit.
FIRST_DEVICE, SECOND_DEVICE, APP, KIOSK, NEW_LAPTOP = range(5)
LATER = np.array([0.09, 0.05, 0.18, 0.08, 0.60])  # channels of later visits of people without the newsletter
LATER_WITH_NEWSLETTER = np.array([0.07, 0.04, 0.14, 0.06, 0.39])  # the rest comes by e-mail


def midnight(times: Any) -> Ints:
    """Return the start of the UTC day of each time."""
    result: Ints = np.asarray(times) // DAY * DAY
    return result


def make_trips(rng: np.random.Generator, people: pd.DataFrame, rows: Ints, starts: Ints) -> pd.DataFrame:
    """Draw everything that may happen on a trip (one person's search for a laptop); outcomes come in `decide`.

    One row per trip. All random numbers are drawn here, so that `decide` can be asked "what if" with the same luck.
    """
    n = len(rows)
    who = people.iloc[rows].reset_index(drop=True)
    engagement = who["engagement"].to_numpy()
    bounces = rng.random(n) < PLAN.bounce_share
    visits = 1 + np.minimum(rng.poisson(1.55 * np.exp(0.22 * engagement)), 7)
    visits = np.where(bounces, 1, visits)
    days = np.where(np.arange(8) == 0, 0, rng.geometric(0.26, (n, 8))).cumsum(axis=1)
    last_day = days[np.arange(n), visits - 1]
    cart_at = np.where(visits == 1, starts, midnight(starts) + last_day * DAY + time_of_day(rng, n))
    retry_at = midnight(cart_at) + rng.geometric(0.33, n) * DAY + time_of_day(rng, n)
    store_at = midnight(cart_at) + (1 + rng.geometric(0.25, n)) * DAY
    luck = {f"u_{name}": rng.random(n) for name in ("checkout", "order", "retry", "checkout_2", "order_2", "store")}
    cart = sigmoid(PLAN.cart_intercept + PLAN.cart_engagement * engagement)
    return pd.DataFrame(
        {
            "row": rows,
            "start": starts,
            "visits": visits,
            "bounces": bounces,
            "cart_at": cart_at,
            "retry_at": retry_at,
            "store_at": opening_hours(rng, store_at),
            "puts_in_cart": ~bounces & (rng.random(n) < cart),
            "sees_shipping": rng.random(n) < PLAN.reveal_share,
            "engagement": engagement,
            "near_store": who["near_store"].to_numpy(),
            "shipping_price": who["shipping_price"].to_numpy(),
            **luck,
            **{f"day_{k}": days[:, k] for k in range(8)},
        }
    )


def opening_hours(rng: np.random.Generator, days: Ints) -> Ints:
    """Return a time in a showroom's opening hours (10–20 h local, Monday to Saturday) on or after each day."""
    sunday = (days // DAY + 3) % 7 == 6
    result: Ints = midnight(days) + np.where(sunday, DAY, 0) + rng.integers(9 * 3600, 18 * 3600, len(days)) * 1_000_000
    return result


def make_visits(rng: np.random.Generator, people: pd.DataFrame, trips: pd.DataFrame, first_trip: bool) -> pd.DataFrame:
    """Lay out the research visits of each trip; the last of them is the one where the cart may be filled.

    One row per visit: trip, row (of people), start, is_cart, slot, category, medium (index of CHANNELS), login.
    """
    trip = np.repeat(np.arange(len(trips)), trips["visits"])
    visits_n = trips["visits"].to_numpy()
    number = np.arange(len(trip)) - np.repeat(visits_n.cumsum() - visits_n, visits_n)
    days = trips[[f"day_{k}" for k in range(8)]].to_numpy()
    start = midnight(trips["start"].to_numpy()[trip]) + days[trip, number] * DAY + time_of_day(rng, len(trip))
    is_cart = number == trips["visits"].to_numpy()[trip] - 1
    start = np.where(number == 0, trips["start"].to_numpy()[trip], start)
    start = np.where(is_cart, trips["cart_at"].to_numpy()[trip], start)
    visits = pd.DataFrame({"trip": trip, "row": trips["row"].to_numpy()[trip], "start": start, "is_cart": is_cart})
    visits = equip(rng, people, visits)
    if first_trip:
        entry = people["entry"].to_numpy()[visits["row"]]
        visits["medium"] = np.where(number == 0, entry, visits["medium"])
    return visits


def equip(rng: np.random.Generator, people: pd.DataFrame, visits: pd.DataFrame) -> pd.DataFrame:
    """Draw the device, the channel and the login of each visit."""
    n = len(visits)
    who = people.iloc[visits["row"]].reset_index(drop=True)
    on_app = (who["device_app"] != "").to_numpy() & (rng.random(n) < 0.55)
    second = (who["device_2"] != "").to_numpy() & (rng.random(n) < np.where(who["shares_tablet"], 0.5, 0.25))
    slot = np.select([on_app, second], [APP, SECOND_DEVICE], FIRST_DEVICE)
    category = np.select([on_app, second], ["mobile", who["category_2"]], who["category_1"])
    draw = rng.random(n)
    plain = np.searchsorted(LATER.cumsum()[:-1], draw, side="right")
    mailed = np.searchsorted(LATER_WITH_NEWSLETTER.cumsum(), draw, side="right")
    medium = np.where(who["newsletter"], mailed, plain)
    # A link in a newsletter logs in.
    login = who["account"].to_numpy() & ((rng.random(n) < PLAN.login_share) | (medium == MAIL))
    medium = np.where(on_app & (medium < 4), 4, medium)
    return visits.assign(slot=slot, category=category, medium=medium, login=login, remembers=rng.random(n) < 0.8)


def decide(trips: pd.DataFrame, mobile: Bools, mobile_retry: Bools, treated: Bools, retried: Bools) -> pd.DataFrame:
    """Say what comes of each trip, given whether the shipping price is shown upfront at the first and second try.

    One row per trip: reveal, checkout, order (first try), retries, checkout_2, order_2, buys_in_store, order_at.
    """
    base = (
        PLAN.checkout_intercept
        + PLAN.checkout_per_10_eur_shipping * (trips["shipping_price"].to_numpy() - 20) / 10
        + PLAN.checkout_engagement * trips["engagement"].to_numpy()
    )
    cart_at, retry_at = trips["cart_at"].to_numpy(), trips["retry_at"].to_numpy()
    reveal = (trips["puts_in_cart"] & trips["sees_shipping"]).to_numpy() & (cart_at < LATEST)

    def goes_on(luck: str, mobile: Bools, treated: Bools) -> Bools:
        upfront = PLAN.shipping_upfront_checkout * treated
        result: Bools = trips[luck].to_numpy() < sigmoid(base + PLAN.checkout_mobile * mobile + upfront)
        return result

    checkout = reveal & goes_on("u_checkout", mobile, treated)
    order = checkout & (trips["u_order"].to_numpy() < completion(cart_at))
    wish = np.where(checkout, PLAN.retry_after_checkout_share, PLAN.retry_after_reveal_share)
    retries = reveal & ~order & (trips["u_retry"].to_numpy() < wish) & (retry_at < LATEST)
    checkout_2 = retries & goes_on("u_checkout_2", mobile_retry, retried)
    order_2 = checkout_2 & (trips["u_order_2"].to_numpy() < completion(retry_at))
    in_store = PLAN.buy_in_store_instead_share * np.where(trips["near_store"], 1.9, 0.4)
    buys_in_store = (
        ~order & ~order_2 & ~retries & ~trips["bounces"].to_numpy()
        & (trips["u_store"].to_numpy() < in_store) & (trips["store_at"].to_numpy() < LATEST)
    )  # fmt: skip
    never = np.iinfo(np.int64).max
    order_at = np.select([order, order_2, buys_in_store], [cart_at, retry_at, trips["store_at"]], never)
    return pd.DataFrame(
        {
            "reveal": reveal,
            "checkout": checkout,
            "order": order,
            "retries": retries,
            "checkout_2": checkout_2,
            "order_2": order_2,
            "buys_in_store": buys_in_store,
            "order_at": order_at,
        }
    )


def completion(times: Ints) -> Floats:
    """Return the probability that a checkout ends in an order: a weekly cycle, and a step at the release."""
    weekend = (times // DAY + 3) % 7 >= 5
    before, after = logit(PLAN.order_completion_share), logit(PLAN.order_completion_share_after_release)
    return sigmoid(np.where(times >= moment(PLAN.release), after, before) + PLAN.order_completion_weekend * weekend)


def untangle_tablets(visits: pd.DataFrame, people: pd.DataFrame) -> pd.DataFrame:
    """Move a visit on a shared tablet to the person's own device where the other person used it within two hours."""
    shared = (people["shares_tablet"].to_numpy()[visits["row"]]) & (visits["slot"] == SECOND_DEVICE).to_numpy()
    part = visits[shared].assign(device=people["device_2"].to_numpy()[visits.loc[shared, "row"]])
    part = part.sort_values(["device", "start", "row"])
    close = part["start"].diff().lt(120 * MINUTE) & (part["device"] == part["device"].shift())
    slot = visits["slot"].to_numpy(copy=True)
    category = visits["category"].to_numpy(dtype=object, copy=True)
    moved = visits.index.get_indexer(part.index[close.to_numpy()])
    slot[moved] = FIRST_DEVICE
    category[moved] = people["category_1"].to_numpy()[visits["row"].to_numpy()[moved]]
    return visits.assign(slot=slot, category=category)


def channel_name(medium: Ints) -> Any:
    """Return the marketing channel of a channel index."""
    return CHANNELS[medium]
