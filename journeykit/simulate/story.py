"""What people do before they buy: trips become visits, visits become events on the web, in the app and in the shop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from journeykit.simulate import visits as v
from journeykit.simulate.people import CHANNELS
from journeykit.simulate.plan import DAY, END, HOUR, PLAN, SECOND, Bools, Ints, moment

LANDING = {"paid_search": "ad_click", "paid_social": "ad_click", "organic_search": "search_visit"}
LANDING["review_site"] = "review_site_visit"
KIOSK_GAP = 10 * 60 * SECOND


@dataclass(frozen=True)
class Story:
    """The told story so far: events of the web and the app, visits to showrooms, laptop orders.

    events: one row per event: row (of people), session, at (µs UTC), event, slot, category, medium, login, order
    (row of orders or -1). orders: one row per laptop order: row, at, place (web, app, store), slot, category, login,
    session, shipping_price. showroom: row, at. outcomes: one row per trip. effect: planted effects, in points.
    """

    events: pd.DataFrame
    orders: pd.DataFrame
    showroom: pd.DataFrame
    outcomes: pd.DataFrame
    sessions: pd.DataFrame
    upfront: dict[str, float]


def tell(rng: np.random.Generator, people: pd.DataFrame) -> Story:
    """Tell the first trip of everybody and, for some, a second one months later."""
    rows = np.arange(len(people))
    first = _trip(rng, people, rows, people["arrived"].to_numpy(), first_trip=True, session_from=0)
    bought = first["outcomes"]["order_at"].to_numpy() < END
    again = rng.random(len(people)) < np.where(bought, 0.20, 0.16)
    later = v.midnight(np.where(bought, first["outcomes"]["order_at"].clip(upper=END), people["arrived"]))
    later = later + rng.integers(75, 220, len(people)) * DAY + v.time_of_day(rng, len(people))
    rows = np.flatnonzero(again & (later < v.LATEST))
    second = _trip(rng, people, rows, later[rows], first_trip=False, session_from=len(first["sessions"]))
    parts = {
        name: pd.concat([first[name], second[name]], ignore_index=True)
        for name in ("events", "orders", "showroom", "outcomes", "sessions")
    }
    order_rows = parts["events"]["order"].to_numpy(copy=True)
    in_second = np.arange(len(order_rows)) >= len(first["events"])
    order_rows[in_second & (order_rows >= 0)] += len(first["orders"])
    return Story(
        **{**parts, "events": parts["events"].assign(order=order_rows)},
        upfront=_upfront_effect(people, parts["events"], parts["outcomes"]),
    )


def _trip(
    rng: np.random.Generator, people: pd.DataFrame, rows: Ints, starts: Ints, first_trip: bool, session_from: int
) -> dict[str, pd.DataFrame]:
    trips = v.make_trips(rng, people, rows, starts)
    research = v.make_visits(rng, people, trips, first_trip)
    retry = pd.DataFrame(
        {"trip": np.arange(len(trips)), "row": rows, "start": trips["retry_at"].to_numpy(), "is_cart": False}
    )
    retry = v.equip(rng, people, retry)
    cart = research[research["is_cart"]]
    mobile = (cart["category"] == "mobile").to_numpy()
    mobile_retry = (retry["category"] == "mobile").to_numpy()
    arm = people["shipping_upfront"].to_numpy()[rows]
    upfront = [arm & running("shipping_upfront", trips[name].to_numpy()) for name in ("cart_at", "retry_at")]
    outcomes = v.decide(trips, mobile, mobile_retry, upfront[0], upfront[1])
    never, always = np.zeros(len(trips), bool), np.ones(len(trips), bool)
    for name, shown in (("without", never), ("with", always)):
        outcomes[f"order_at_{name}"] = v.decide(trips, mobile, mobile_retry, shown, shown)["order_at"]
    outcomes = trips[["row", "start", "bounces", "puts_in_cart", "shipping_price", "cart_at"]].join(outcomes)
    sessions = _sessions(people, research, retry, outcomes)
    sessions = v.untangle_tablets(sessions, people)
    showroom, kiosk = _showroom(rng, people, trips, outcomes)
    sessions = pd.concat([sessions, kiosk], ignore_index=True)
    sessions.index = pd.RangeIndex(session_from, session_from + len(sessions))
    events = _expand(rng, sessions)
    orders = _orders(events, sessions, outcomes, trips)
    events = events.assign(order=_order_of(events, orders))
    return {"events": events, "orders": orders, "showroom": showroom, "outcomes": outcomes, "sessions": sessions}


def running(name: str, times: Ints) -> Bools:
    """Say for each time whether a trial is running."""
    trial = next(trial for trial in PLAN.trials if trial.name == name)
    result: Bools = (times >= moment(trial.starts)) & (times < moment(trial.ends))
    return result


def _sessions(
    people: pd.DataFrame, research: pd.DataFrame, retry: pd.DataFrame, outcomes: pd.DataFrame
) -> pd.DataFrame:
    """Join research visits and second tries, with the steps taken in each; visits beyond the year are dropped."""
    steps = outcomes.iloc[research["trip"]].reset_index(drop=True)
    cart = research["is_cart"].to_numpy()
    research = research.assign(
        bounces=steps["bounces"].to_numpy(),
        cart=cart & steps["puts_in_cart"].to_numpy(),
        reveal=cart & steps["reveal"].to_numpy(),
        checkout=cart & steps["checkout"].to_numpy(),
        order=cart & steps["order"].to_numpy(),
    )
    retry = retry.assign(bounces=False, cart=True, reveal=True, checkout=outcomes["checkout_2"].to_numpy())
    retry = retry.assign(order=outcomes["order_2"].to_numpy())[outcomes["retries"].to_numpy()]
    sessions = pd.concat([research, retry], ignore_index=True)
    # Whoever fills a cart and has an account is mostly logged in by then; an order logs in for good.
    account = people["account"].to_numpy()[sessions["row"]]
    eager = account & (sessions["cart"] & sessions["remembers"]).to_numpy()
    sessions["login"] = sessions["login"] | eager | (account & sessions["order"].to_numpy())
    return sessions[(sessions["start"] < v.LATEST).to_numpy()].reset_index(drop=True)


def _showroom(
    rng: np.random.Generator, people: pd.DataFrame, trips: pd.DataFrame, outcomes: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return visits to a showroom (row, at, buys) and the sessions at its kiosk."""
    n = len(trips)
    near = trips["near_store"].to_numpy()
    looks = ~trips["bounces"].to_numpy() & (rng.random(n) < np.where(near, 0.34, 0.05))
    span = np.maximum(trips["cart_at"].to_numpy() - trips["start"].to_numpy(), DAY)
    look_at = v.opening_hours(rng, trips["start"].to_numpy() + (rng.random(n) * span).astype(np.int64))
    look_at = look_at + 137_000  # never the instant of an event on the web
    buys = outcomes["buys_in_store"].to_numpy()
    rows = np.concatenate([trips["row"].to_numpy()[looks], trips["row"].to_numpy()[buys]])
    trip = np.concatenate([np.flatnonzero(looks), np.flatnonzero(buys)])
    at = np.concatenate([look_at[looks], trips["store_at"].to_numpy()[buys] - 25 * 60 * SECOND])
    kiosk = np.concatenate([rng.random(int(looks.sum())) < 0.11, np.zeros(int(buys.sum()), bool)])
    showroom = pd.DataFrame({"trip": trip, "row": rows, "at": at, "kiosk": kiosk})
    showroom = showroom[showroom["at"] < v.LATEST].sort_values(["at", "row"], ignore_index=True)
    at_kiosk = showroom[showroom["kiosk"]]
    # One person at a time: whoever finds the kiosk taken walks on.
    free = at_kiosk["at"].diff().fillna(HOUR) > KIOSK_GAP
    showroom["kiosk"] = showroom.index.isin(at_kiosk.index[free])
    users = showroom[showroom["kiosk"]]
    login = people["account"].to_numpy()[users["row"]] & (rng.random(len(users)) < 0.45)
    sessions = pd.DataFrame(
        {
            "trip": users["trip"], "row": users["row"], "start": users["at"] + 60 * SECOND, "is_cart": False,
            "slot": v.KIOSK, "category": "desktop", "medium": 4, "login": login, "bounces": False, "remembers": True,
            "cart": False, "reveal": False, "checkout": False, "order": False,
        }
    )  # fmt: skip
    return showroom, sessions


def _expand(rng: np.random.Generator, sessions: pd.DataFrame) -> pd.DataFrame:
    """Turn each session into its events, in order and at least two seconds apart."""
    n = len(sessions)
    number = np.arange(n)
    pages = 1 + rng.poisson(1.35, n)
    products = np.where(sessions["bounces"], 0, rng.poisson(1.25, n))
    products = np.where(sessions["cart"], np.maximum(products, 1), products)
    # The first visit of a trip that goes on shows at least one product in nine cases of ten.
    products = np.where(~sessions["bounces"] & (rng.random(n) < 0.62), np.maximum(products, 1), products)
    compares = ((products > 0) & (rng.random(n) < 0.16)).astype(int)
    medium = sessions["medium"].to_numpy()
    landing = np.isin(medium, [0, 1, 2, 3])
    names = np.array([LANDING.get(name, "") for name in CHANNELS], dtype=object)
    step = {"add_to_cart": ("cart", 3.0), "shipping_cost_shown": ("reveal", 4.0)}
    step |= {"checkout_start": ("checkout", 5.0), "purchase_confirmation": ("order", 6.0)}
    parts = [
        (number[landing], names[medium[landing]], np.zeros(int(landing.sum()))),
        (number, np.full(n, "page_view", dtype=object), np.full(n, 0.5)),
    ]
    for name, count, low in (("page_view", pages - 1, 1.0), ("product_view", products, 1.2), ("compare", compares, 2)):
        of = np.repeat(number, count)
        parts.append((of, np.full(len(of), name, dtype=object), low + rng.random(len(of))))
    for name, (column, place) in step.items():
        of = np.flatnonzero(sessions[column].to_numpy())
        parts.append((of, np.full(len(of), name, dtype=object), np.full(len(of), place)))
    of = np.concatenate([part[0] for part in parts])
    event = np.concatenate([part[1] for part in parts])
    key = np.concatenate([part[2] for part in parts])
    order = np.lexsort((key, of))
    of, event = of[order], event[order]
    gap = np.clip(rng.lognormal(np.log(40), 0.9, len(of)), 2, 900)
    gap = np.where(event == "purchase_confirmation", np.maximum(gap, 45), gap)  # forms take their time
    first = np.r_[True, of[1:] != of[:-1]] if len(of) else np.empty(0, bool)
    total = ((np.where(first, 0, gap) * 1000).astype(np.int64) * 1000).cumsum()
    at = sessions["start"].to_numpy()[of] + total - total[first][of]
    picked = sessions.iloc[of]
    return pd.DataFrame(
        {
            "row": picked["row"].to_numpy(),
            "session": picked.index.to_numpy(),
            "at": at,
            "event": event,
            "slot": picked["slot"].to_numpy(),
            "category": picked["category"].to_numpy(),
            "medium": np.where(first, picked["medium"].to_numpy(), -1),
            "login": picked["login"].to_numpy() & ~(first & landing[of]),
        }
    )


def _orders(events: pd.DataFrame, sessions: pd.DataFrame, outcomes: pd.DataFrame, trips: pd.DataFrame) -> pd.DataFrame:
    """Return the laptop orders: placed online three to nine seconds before the confirmation page, or in the shop."""
    online = events[events["event"] == "purchase_confirmation"]
    jitter = 3 + online["at"].to_numpy() // 1000 % 5
    web = pd.DataFrame(
        {
            "row": online["row"],
            "trip": sessions.loc[online["session"], "trip"].to_numpy(),
            "at": (online["at"] // SECOND - jitter) * SECOND,
            "place": np.where(online["slot"] == v.APP, "app", "web"),
            "slot": online["slot"], "category": online["category"], "login": online["login"],
            "session": online["session"], "confirmed": online["at"],
        }
    )  # fmt: skip
    bought = np.flatnonzero(outcomes["buys_in_store"].to_numpy())
    store = pd.DataFrame(
        {
            "row": outcomes["row"].to_numpy()[bought], "trip": bought,
            "at": trips["store_at"].to_numpy()[bought] // SECOND * SECOND, "place": "store",
            "slot": -1, "category": "", "login": False, "session": -1, "confirmed": -1,
        }
    )  # fmt: skip
    orders = pd.concat([web, store], ignore_index=True)
    price = outcomes["shipping_price"].to_numpy()[orders["trip"]]
    return orders.assign(shipping_price=np.where(orders["place"] == "store", 0.0, price))


def _order_of(events: pd.DataFrame, orders: pd.DataFrame) -> Ints:
    """Return, for each confirmation page, the row of its order; -1 for other events."""
    result = np.full(len(events), -1, dtype=np.int64)
    result[(events["event"] == "purchase_confirmation").to_numpy()] = np.flatnonzero(orders["place"] != "store")
    return result


def _upfront_effect(people: pd.DataFrame, events: pd.DataFrame, outcomes: pd.DataFrame) -> dict[str, float]:
    """Return sums for the true effect of shipping_upfront on orders within 14 days: everybody told both ways."""
    seen = events[(events["event"] == "product_view") & (events["slot"] != v.KIOSK)]
    seen = seen[running("shipping_upfront", seen["at"].to_numpy())]
    exposed = seen.groupby("row")["at"].min()
    told = outcomes[outcomes["row"].isin(exposed.index)]
    since = told["row"].map(exposed).to_numpy()
    sums = {"exposed_n": float(len(exposed))}
    for name in ("without", "with"):
        at = told[f"order_at_{name}"].to_numpy()
        # `at` is the start of the visit, which the page with the exposure follows by minutes.
        within = (at >= since - HOUR) & (at <= since + 14 * DAY)
        sums[f"ordered_{name}_n"] = float(told.loc[within, "row"].nunique())
    return sums
