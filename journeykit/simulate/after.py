"""What happens after the order: delivery, set-up, tickets, accessories, the care plan and its hazard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from journeykit.simulate import visits as v
from journeykit.simulate.plan import DAY, END, HOUR, MINUTE, PLAN, SECOND, Bools, Ints, moment, sigmoid
from journeykit.simulate.story import Story
from journeykit.simulate.trials import addons_orders

NEVER = np.iinfo(np.int64).max
PEAK = moment("2025-11-20")
LAPTOPS = ("Aero 13", "Aero 15", "Campus 14", "Studio 16", "Works 15")
PRICES = (899, 1149, 649, 1899, 1399)
ACCESSORIES = ("Sleeve", "Mouse", "Dock", "Charger", "Headset")
ACCESSORY_PRICES = (39, 29, 149, 59, 89)


@dataclass(frozen=True)
class After:
    """One table per kind of record; times in µs UTC, NEVER = did not happen.

    orders: all orders, laptops first in the order of story.orders. deliveries: one row per delivered laptop.
    setups: row, at, order. tickets: row, opened, solved, kind (delivery, product, addons, later, chat).
    plans: one row per care plan, with the covariates as known on day 30; `reason` is "" where it did not end.
    """

    orders: pd.DataFrame
    deliveries: pd.DataFrame
    setups: pd.DataFrame
    tickets: pd.DataFrame
    plans: pd.DataFrame


def happen(rng: np.random.Generator, people: pd.DataFrame, story: Story, exposed: pd.DataFrame) -> After:
    """Let everything after the orders happen."""
    laptops = story.orders
    shown, treated = addons_orders(exposed, len(laptops))
    deliveries = _deliver(rng, laptops)
    setups = _set_up(rng, people, laptops, deliveries)
    tickets = _tickets(rng, people, story, laptops, deliveries, treated)
    orders = _all_orders(rng, people, laptops, shown, treated)
    plans = _care_plans(rng, laptops, deliveries, setups, tickets)
    return After(orders, deliveries, setups, tickets, plans)


def seconds(times: Any) -> Ints:
    """Cut times to whole seconds, which is all that most vendors write."""
    result: Ints = np.asarray(times) // SECOND * SECOND
    return result


def _deliver(rng: np.random.Generator, laptops: pd.DataFrame) -> pd.DataFrame:
    orders = np.flatnonzero((laptops["place"] != "store").to_numpy())
    at = laptops["at"].to_numpy()[orders]
    n = len(orders)
    late = rng.random(n) < np.where(at >= PEAK, PLAN.late_share_peak, PLAN.late_share)
    shipped = at + rng.integers(5 * 3600, 40 * 3600, n) * SECOND
    promised = v.midnight(at) + 5 * DAY + 18 * HOUR
    on_time = shipped + (rng.random(n) * (promised - shipped) * 0.85).astype(np.int64) + 4 * HOUR
    delivered = np.where(
        late, promised + rng.integers(20 * 3600, 13 * 86400, n) * SECOND, np.minimum(on_time, promised)
    )
    found = pd.DataFrame(
        {
            "order": orders,
            "row": laptops["row"].to_numpy()[orders],
            "shipped": seconds(shipped),
            "promised": promised,
            "delivered": seconds(delivered),
            "late": late,
        }
    )
    found = found[found["shipped"] < END]
    return found.assign(delivered=found["delivered"].where(found["delivered"] < END, NEVER)).reset_index(drop=True)


def _set_up(
    rng: np.random.Generator, people: pd.DataFrame, laptops: pd.DataFrame, deliveries: pd.DataFrame
) -> pd.DataFrame:
    in_hands = laptops["at"].to_numpy(copy=True) + HOUR
    online = (laptops["place"] != "store").to_numpy()
    in_hands[online] = NEVER
    in_hands[deliveries["order"]] = deliveries["delivered"]
    engagement = people["engagement"].to_numpy()[laptops["row"]]
    done = (rng.random(len(laptops)) < sigmoid(0.55 + 0.5 * engagement)) & (in_hands < END - 6 * DAY)
    lag = rng.integers(1800, 5 * 86400, len(laptops)) * SECOND + rng.integers(0, 1000, len(laptops)) * 1000
    rows = np.flatnonzero(done)
    return pd.DataFrame({"row": laptops["row"].to_numpy()[rows], "at": in_hands[rows] + lag[rows], "order": rows})


def _tickets(
    rng: np.random.Generator,
    people: pd.DataFrame,
    story: Story,
    laptops: pd.DataFrame,
    deliveries: pd.DataFrame,
    treated: Bools,
) -> pd.DataFrame:
    n = len(laptops)
    at = laptops["at"].to_numpy()
    late = np.zeros(n, dtype=bool)
    late[deliveries["order"]] = deliveries["late"] & (deliveries["delivered"] < END)
    chances = {
        "delivery": (late * PLAN.ticket_share_when_late, 5, 20),
        "product": (np.full(n, PLAN.ticket_share), 3, 26),
        "addons": (treated * PLAN.one_click_ticket_share, 0.2, 9),
        "later": (np.full(n, 0.13), 45, 200),
    }
    parts = []
    for kind, (share, low, high) in chances.items():
        rows = np.flatnonzero(rng.random(n) < share)
        opened = at[rows] + (rng.uniform(low, high, len(rows)) * DAY).astype(np.int64)
        parts.append(pd.DataFrame({"row": laptops["row"].to_numpy()[rows], "opened": opened, "kind": kind}))
    # Questions in the chat, during a visit to the web site.
    visits = story.sessions[story.sessions["slot"].isin([v.FIRST_DEVICE, v.SECOND_DEVICE])]
    asks = visits[rng.random(len(visits)) < 0.035]
    opened = asks["start"].to_numpy() + rng.integers(120, 600, len(asks)) * SECOND
    parts.append(pd.DataFrame({"row": asks["row"].to_numpy(), "opened": opened, "kind": "chat"}))
    tickets = pd.concat(parts, ignore_index=True)
    m = len(tickets)
    hours = np.clip(rng.lognormal(np.log(28), 1.0, m), 0.3, 24 * 14)
    draw = rng.random(m)
    slow = (draw >= PLAN.ticket_solved_share) & (
        draw < PLAN.ticket_solved_share + PLAN.ticket_solved_after_landmark_share
    )
    wait = np.where(slow, rng.uniform(35 * 24, 60 * 24, m), hours)
    chat = (tickets["kind"] == "chat").to_numpy()
    wait = np.where(chat, rng.uniform(0.1, 0.6, m), wait)
    solved = seconds(tickets["opened"].to_numpy() + (wait * HOUR).astype(np.int64))
    is_solved = ((draw < PLAN.ticket_solved_share) | slow | chat) & (solved < END)
    tickets = tickets.assign(opened=seconds(tickets["opened"]), solved=np.where(is_solved, solved, NEVER))
    via = np.where(chat, "chat", rng.choice(["email", "web", "call"], m, p=[0.5, 0.3, 0.2]))
    tickets = tickets.assign(via=via)[tickets["opened"] < END]
    return tickets.sort_values(["opened", "row", "kind"], ignore_index=True)


def _all_orders(
    rng: np.random.Generator, people: pd.DataFrame, laptops: pd.DataFrame, shown: Bools, treated: Bools
) -> pd.DataFrame:
    """Append accessory orders to the laptop orders and number them all by time."""
    n = len(laptops)
    item = rng.choice(len(LAPTOPS), n, p=[0.28, 0.22, 0.24, 0.1, 0.16])
    parts = [
        laptops.assign(
            kind="laptop",
            item=item,
            price=np.array(PRICES)[item].astype(float),
            lines=1 + (rng.random(n) < 0.22),
            laptop=np.arange(n),
        )
    ]
    at = laptops["at"].to_numpy()
    one_click = treated & (rng.random(n) < PLAN.one_click_accessory_share)
    chances = [
        (one_click, rng.uniform(0.002, 0.02, n)),
        (rng.random(n) < 0.12, rng.uniform(1, 29, n)),
        (rng.random(n) < 0.16, rng.uniform(31, 200, n)),
    ]
    for happens, lag in chances:
        rows = np.flatnonzero(happens)
        kind = rng.choice(len(ACCESSORIES), len(rows))
        parts.append(
            pd.DataFrame(
                {
                    "row": laptops["row"].to_numpy()[rows],
                    "at": seconds(at[rows] + (lag[rows] * DAY).astype(np.int64) + 61 * SECOND),
                    "place": "web", "kind": "accessory", "item": kind, "shipping_price": 4.9,
                    "price": np.array(ACCESSORY_PRICES)[kind].astype(float), "lines": 1, "laptop": rows,
                    "session": -1, "slot": -1, "confirmed": -1,
                }
            )
        )  # fmt: skip
    orders = pd.concat(parts, ignore_index=True)
    orders["happens"] = orders["at"] < END
    rank = np.empty(len(orders), dtype=np.int64)
    rank[np.lexsort((orders.index.to_numpy(), orders["at"].to_numpy()))] = np.arange(len(orders))
    return orders.assign(rank=rank)


def _care_plans(
    rng: np.random.Generator,
    laptops: pd.DataFrame,
    deliveries: pd.DataFrame,
    setups: pd.DataFrame,
    tickets: pd.DataFrame,
) -> pd.DataFrame:
    """Start care plans at or after a person's first order, and end them by the planted hazard."""
    first = laptops.sort_values(["row", "at"]).drop_duplicates("row")
    n = len(first)
    lag = np.where(rng.random(n) < 0.45, rng.integers(180, 600, n), rng.integers(86400, 9 * 86400, n)) * SECOND
    takes = rng.random(n) < PLAN.care_plan_share
    started = first["at"].to_numpy() + lag
    keep = takes & (started < END)
    row, started = first["row"].to_numpy()[keep], started[keep]
    landmark = started + PLAN.landmark_days * DAY
    late = deliveries[deliveries["late"] & (deliveries["delivered"] < END)]
    on_time = tickets[tickets["kind"] != "chat"]
    covariates = {
        "late_delivery": _before(row, landmark, late["row"], late["delivered"]) >= 0,
        "unresolved_ticket": _before(row, landmark, on_time["row"], on_time["opened"])
        > _before(row, landmark, on_time["row"], on_time["solved"]),
        "setup_done": _before(row, landmark, setups["row"], setups["at"]) >= 0,
    }
    ratio = np.ones(len(row))
    for name, has in covariates.items():
        ratio = ratio * np.where(has, PLAN.hazard_ratios[name], 1.0)
    early = rng.exponential(1 / PLAN.cancel_hazard_before_landmark_per_day, len(row))
    late_days = PLAN.landmark_days + rng.exponential(1 / PLAN.cancel_hazard_per_day, len(row)) / ratio
    days = np.where(early < PLAN.landmark_days, early, late_days)
    ended = seconds(started + (np.minimum(days, 3650) * DAY).astype(np.int64)) + MINUTE
    ended = np.where(ended < END, ended, NEVER)
    asked = np.maximum(started + 30 * SECOND, ended - rng.integers(3600, 10 * 86400, len(row)) * SECOND)
    # A stream of its own: reasons change nothing else that is drawn.
    why = rng.spawn(1)[0].choice(list(PLAN.cancel_reason_shares), len(row), p=list(PLAN.cancel_reason_shares.values()))
    plans = pd.DataFrame({"row": row, "started": started, "asked": np.where(ended < END, asked, NEVER), "ended": ended})
    plans = plans.assign(reason=np.where(ended < END, why, ""))
    return plans.assign(**covariates).sort_values(["started", "row"], ignore_index=True)


def _before(row: Ints, limit: Ints, event_row: pd.Series, event_at: pd.Series) -> Ints:
    """Return the time of each person's last event before a limit, or -1."""
    events = pd.DataFrame({"row": event_row.to_numpy(), "at": event_at.to_numpy()})
    people = pd.DataFrame({"row": row, "limit": limit, "position": np.arange(len(row))})
    pairs = people.merge(events, on="row")
    last = pairs[pairs["at"] < pairs["limit"]].groupby("position")["at"].max()
    result: Ints = last.reindex(np.arange(len(row)), fill_value=-1).to_numpy()
    return result
