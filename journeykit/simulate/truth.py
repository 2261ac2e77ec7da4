"""What was planted and what came of it: truth.json and the small tables beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from journeykit.simulate import visits as v
from journeykit.simulate.after import After
from journeykit.simulate.feedback import STAGES, Feedback
from journeykit.simulate.files import csv_lines, iso
from journeykit.simulate.plan import DAY, END, PLAN, Ints
from journeykit.simulate.story import Story

BUY = ("product_view", "add_to_cart", "shipping_cost_shown", "checkout_start", "order_placed")
WITHIN = 30 * DAY
LABELLED = 500  # people whose identifiers are told in labels.csv


def reached(events: pd.DataFrame, steps: tuple[str, ...] = BUY, within: int = WITHIN) -> Ints:
    """Return how many people reach each step of an ordered funnel, any first step may start it.

    A step counts when it is strictly later than the step before and at most `within` after the start of its chain.
    One pass per step over (row, at): for each event, the latest start of a chain that leads to it.
    """
    kept = events[events["event"].isin(steps)].sort_values(["row", "at"], kind="stable")
    row, at, event = kept["row"].to_numpy(), kept["at"].to_numpy(), kept["event"].to_numpy()
    counts = []
    start = np.where(event == steps[0], at, -1)
    counts.append(len(np.unique(row[start >= 0])))
    for step in steps[1:]:
        # Latest start among earlier events of the person; the person's number keeps people apart in one running max.
        known = pd.Series(start).groupby(row).cummax().groupby(row).shift(1).fillna(-1).to_numpy().astype(np.int64)
        start = np.where((event == step) & (known >= 0) & (at - known <= within), known, -1)
        counts.append(len(np.unique(row[start >= 0])))
    return np.array(counts)


def followed(events: pd.DataFrame) -> dict[str, int]:
    """Return how often each event directly followed another of the same person: "a -> b" and its count."""
    ordered = events.sort_values(["row", "at"], kind="stable")
    row, event = ordered["row"].to_numpy(), ordered["event"].to_numpy(dtype=str)
    same = row[1:] == row[:-1]
    pairs = pd.Series(event[:-1][same]) + " -> " + pd.Series(event[1:][same])
    return _counts(pairs)


def facts(
    people: pd.DataFrame, story: Story, after: After, feedback: Feedback, events: pd.DataFrame, exposed: pd.DataFrame
) -> dict[str, Any]:
    """Return numbers of one chunk of people that add up over chunks."""
    names, numbers = np.unique(events["event"].to_numpy(dtype=str), return_counts=True)
    outcomes = story.outcomes
    asked = feedback.asked
    laptops = story.orders
    opens = feedback.mails[feedback.mails["event"] == "open"]["row"].unique()
    read = np.zeros(len(people), dtype=bool)
    read[opens] = True
    bought = np.zeros(len(people), dtype=bool)
    bought[laptops["row"]] = True
    engaged = people["engagement"].to_numpy() > 0
    result: dict[str, Any] = {
        "people_n": len(people),
        "orders_n": len(laptops),
        "buyers_n": int(bought.sum()),
        "accessory_orders_n": int(((after.orders["kind"] == "accessory") & after.orders["happens"]).sum()),
        "care_plans_n": len(after.plans),
        "care_plans_cancelled_n": int((after.plans["ended"] < END).sum()),
        "care_plans_cancelled_by_reason_n": {
            reason: int((after.plans["reason"] == reason).sum()) for reason in PLAN.cancel_reason_shares
        },
        "deliveries_n": int((after.deliveries["delivered"] < END).sum()),
        "deliveries_late_n": int((after.deliveries["late"] & (after.deliveries["delivered"] < END)).sum()),
        "events_n": dict(zip(names.tolist(), numbers.tolist(), strict=True)),
        "funnel_buy": dict(zip(BUY, reached(events).tolist(), strict=True)),
        "transitions_n": followed(events),
        "orders_by_place": _counts(laptops["place"]),
        "entry_channel_people_n": _counts(pd.Series(v.channel_name(people["entry"].to_numpy()))),
        "after_shipping_cost": {
            "by_shipping_price": _went_on(outcomes, outcomes["shipping_price"].map("{:.2f}".format)),
            "by_device": _went_on(*_device_of_cart(story)),
        },
        "email": {
            f"{'engaged' if high else 'others'}_{'readers' if opened else 'non_readers'}": {
                "people_n": int(((engaged == high) & (read == opened)).sum()),
                "buyers_n": int(((engaged == high) & (read == opened) & bought).sum()),
            }
            for high in (True, False)
            for opened in (True, False)
        },
        "satisfaction": {
            stage: {
                "asked_n": int((asked["about"] == stage).sum()),
                "asked_sum": float(asked.loc[asked["about"] == stage, "satisfaction"].sum()),
                "answered_n": int(((asked["about"] == stage) & asked["answered"]).sum()),
                "answered_sum": float(asked.loc[(asked["about"] == stage) & asked["answered"], "satisfaction"].sum()),
            }
            for stage in STAGES
        },
        "checkouts": _release(story),
        "shipping_upfront": story.upfront,
        "exposures_lost_n": int(exposed["lost"].sum()),
    }
    return result


def _counts(values: pd.Series) -> dict[str, int]:
    names, numbers = np.unique(values.to_numpy(dtype=str), return_counts=True)
    return dict(zip(names.tolist(), numbers.tolist(), strict=True))


def _went_on(outcomes: pd.DataFrame, by: pd.Series) -> dict[str, dict[str, int]]:
    """Count visits (or trips) that saw the shipping cost, and those of them that started the checkout at once."""
    seen = outcomes["reveal"].to_numpy()
    groups = by.to_numpy(dtype=str)
    return {
        name: {
            "shown_n": int((seen & (groups == name)).sum()),
            "checkout_n": int((outcomes["checkout"].to_numpy() & (groups == name)).sum()),
        }
        for name in sorted(set(groups[seen].tolist()))
    }


def _device_of_cart(story: Story) -> tuple[pd.DataFrame, pd.Series]:
    """Return the visits with a cart and their device category."""
    carts = story.sessions[story.sessions["cart"].to_numpy(dtype=bool)]
    return carts, carts["category"]


def _release(story: Story) -> dict[str, dict[str, int]]:
    """Count checkouts started online and orders that came of them in the same visit, by release and day of week."""
    started = story.sessions[story.sessions["checkout"].to_numpy(dtype=bool)]
    at = started["start"].to_numpy()
    after = at >= np.datetime64(PLAN.release, "us").astype(np.int64)
    weekend = (at // DAY + 3) % 7 >= 5
    order = started["order"].to_numpy(dtype=bool)
    return {
        f"{'after' if late else 'before'}_{'weekend' if free else 'weekday'}": {
            "checkout_n": int(((after == late) & (weekend == free)).sum()),
            "order_n": int(((after == late) & (weekend == free) & order).sum()),
        }
        for late in (False, True)
        for free in (False, True)
    }


def person_table(people: pd.DataFrame, story: Story) -> pd.DataFrame:
    """Return one row per person: traits, the last step before dropping on the first trip, and the planted reason."""
    trip = story.outcomes.iloc[: len(people)]
    price = people["shipping_price"].to_numpy()
    # A stable pseudo-random number per person, so that reasons do not depend on what else is drawn.
    luck = (people["person"].to_numpy() * 2_654_435_761 % 1_000_003) / 1_000_003
    tried = (trip["checkout"] | trip["checkout_2"]).to_numpy()
    bought = (trip["order_at"] < END).to_numpy()
    shipping = luck < 0.55 + 0.35 * (price > 25)
    step = np.select(
        [bought, tried, trip["reveal"], trip["puts_in_cart"], ~trip["bounces"]],
        ["", "checkout_start", "shipping_cost_shown", "add_to_cart", "product_view"],
        "landing",
    )
    reason = np.select(
        [
            bought,
            tried & (luck < 0.6),
            tried,
            trip["reveal"] & shipping,
            trip["reveal"],
            trip["puts_in_cart"],
            ~trip["bounces"] & (luck < 0.5),
            ~trip["bounces"],
        ],
        [
            "", "payment failed", "had to open an account", "shipping cost", "delivery takes too long",
            "interrupted", "laptop too expensive", "still comparing",
        ],
        "only looking",
    )  # fmt: skip
    orders = story.orders.groupby("row").size().reindex(np.arange(len(people)), fill_value=0)
    return pd.DataFrame(
        {
            "person": people["person"],
            "arrived_at": iso(people["arrived"].to_numpy()),
            "engagement": people["engagement"].round(3),
            "shipping_price": price,
            "newsletter": people["newsletter"].astype(int),
            "dropped_after": step,
            "reason": reason,
            "orders_n": orders.to_numpy(),
            **{trial.name: np.where(people[trial.name], "treatment", "control") for trial in PLAN.trials},
        }
    )


def plan_table(people: pd.DataFrame, after: After) -> pd.DataFrame:
    """Return one row per care plan: person, start, end and reason (empty = still active), covariates as of day 30."""
    plans = after.plans
    return pd.DataFrame(
        {
            "person": people["person"].to_numpy()[plans["row"]],
            "started_at": iso(plans["started"].to_numpy()),
            "ended_at": iso(plans["ended"].to_numpy()),
            "reason": plans["reason"],
            **{name: plans[name].astype(int) for name in PLAN.hazard_ratios},
        }
    )


def labelled(people: int, seed: int) -> Ints:
    """Return the numbers of the people of the labelled sample, of a stream of random numbers of its own."""
    drawn: Ints = np.random.default_rng([seed, 2**31 + 1]).choice(people, min(LABELLED, people), replace=False) + 1
    return drawn


def label_table(identifiers: pd.DataFrame, sample: Ints) -> pd.DataFrame:
    """Return identifier, value and person of the people of a sample, without what several people share."""
    owners = identifiers.groupby(["identifier", "value"])["person"].transform("nunique")
    return identifiers[identifiers["person"].isin(sample) & (owners == 1)]


def shared_devices(people: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """Return the sessions on devices that several people used: device, start, end, person, logged_in."""
    sessions = events[events["session"] >= 0]
    owners = sessions.groupby("device")["row"].nunique()
    part = sessions[sessions["device"].isin(owners.index[owners > 1])]
    found = part.groupby(["device", "session"], as_index=False).agg(
        start=("at", "min"), end=("at", "max"), row=("row", "first"), logged_in=("login", "max")
    )
    found = found.sort_values(["device", "start", "row"])
    return pd.DataFrame(
        {
            "device": found["device"],
            "started_at": iso(found["start"].to_numpy(), "ms"),
            "ended_at": iso(found["end"].to_numpy(), "ms"),
            "person": people["person"].to_numpy()[found["row"]],
            "logged_in": found["logged_in"].astype(int),
        }
    )


def add(total: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Add up nested numbers.

    >>> add({"a": {"b": 1}}, {"a": {"b": 2, "c": 1}})
    {'a': {'b': 3, 'c': 1}}
    """
    result = dict(total)
    for name, value in part.items():
        result[name] = add(result.get(name, {}), value) if isinstance(value, dict) else result.get(name, 0) + value
    return result


def append(path: Path, table: pd.DataFrame, fresh: bool) -> None:
    """Append a table to a CSV file of the truth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = csv_lines(table).tolist()
    head = [",".join(table.columns)] if fresh else []
    with path.open("w" if fresh else "a", encoding="utf-8", newline="") as file:
        file.write("".join(f"{line}\n" for line in head + lines))
