"""Surveys and e-mails: what people think, who of them says so, and which newsletters they open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeykit.simulate import visits as v
from journeykit.simulate.after import NEVER, After, seconds
from journeykit.simulate.people import text
from journeykit.simulate.plan import DAY, END, HOUR, MINUTE, PLAN, SECOND, Floats, sigmoid
from journeykit.simulate.story import Story

STAGES = ("Consideration", "Purchase", "Delivery", "Support", "Loyalty")
# Comments by stage: unhappy, so-so, happy.
COMMENTS = {
    "Consideration": (
        ("The shipping price came as a surprise at the very end.", "Too many steps to compare two laptops."),
        ("Fine, but filters could be better.", "I still do not know which model fits me."),
        ("Easy to find what I wanted.", "Clear product pages, good photos."),
    ),
    "Purchase": (
        ("There was an accessory in my order that I never wanted.", "Shipping cost only shown in the cart, annoying."),
        ("Checkout was okay, a bit long.", "Payment took two attempts."),
        ("Quick and simple checkout.", "Ordered in five minutes, great."),
    ),
    "Delivery": (
        ("The parcel came much later than promised.", "Nobody told me that the delivery was delayed."),
        ("Box was slightly damaged, laptop is fine.", "Arrived, but the time window was too wide."),
        ("Arrived a day early, well packed.", "Fast delivery, friendly driver."),
    ),
    "Support": (
        ("I asked for the third time and still have no answer.", "The chat closed before my problem was solved."),
        ("Helpful in the end, but it took a while.", "Two people asked me the same questions."),
        ("Solved within a day, thank you.", "Very patient and competent."),
    ),
    "Loyalty": (
        ("Late parcel and no answer from support. Not again.", "Good laptop, poor service."),
        ("The laptop is good, the price is average.", "It works. Nothing special."),
        ("Great laptop, would buy again.", "Everything went well from the shop to the set-up."),
    ),
}


@dataclass(frozen=True)
class Feedback:
    """asked: one row per person and occasion, answered or not. mails: one row per SendGrid event."""

    asked: pd.DataFrame
    mails: pd.DataFrame


def gather(rng: np.random.Generator, people: pd.DataFrame, story: Story, after: After, added: Any) -> Feedback:
    """Ask everybody after each occasion and send newsletters; `added` marks orders with one-click addons."""
    return Feedback(_surveys(rng, people, story, after, added), _mails(rng, people, story, after))


def _surveys(rng: np.random.Generator, people: pd.DataFrame, story: Story, after: After, added: Any) -> pd.DataFrame:
    """One row per occasion: row, at, about, satisfaction (0–1, what an answer would say), answered, answer, comment."""
    laptops, deliveries, tickets = story.orders, after.deliveries, after.tickets
    mood = 0.74 + people["mood"].to_numpy()
    n = len(laptops)
    late = np.zeros(n, dtype=bool)
    late[deliveries["order"]] = deliveries["late"]
    harm = PLAN.one_click_satisfaction * added
    price = (laptops["shipping_price"].to_numpy() - 15) / 100
    buyer = mood[laptops["row"]]
    arrived = deliveries[deliveries["delivered"] < END]
    cases = tickets[(tickets["solved"] < END) & (tickets["kind"] != "chat")]
    trouble = np.zeros(len(people), dtype=bool)
    trouble[tickets.loc[(tickets["kind"] != "chat") & (tickets["solved"] == NEVER), "row"]] = True
    browsing = story.sessions[
        story.sessions["slot"].isin([v.FIRST_DEVICE, v.SECOND_DEVICE]) & ~story.sessions["checkout"]
    ]
    browsing = browsing[rng.random(len(browsing)) < 0.10]
    shock = np.where(browsing["reveal"], -0.25, 0.0)
    parts = [
        _occasion(
            browsing["row"], browsing["start"] + 45 * MINUTE, "Consideration", mood[browsing["row"]] - 0.08 + shock
        ).assign(slot=browsing["slot"].to_numpy(), session=browsing.index.to_numpy()),
        _occasion(laptops["row"], laptops["at"] + 20 * HOUR, "Purchase", buyer - price + harm),
        _occasion(
            arrived["row"], arrived["delivered"] + 26 * HOUR, "Delivery",
            mood[arrived["row"]] + 0.06 - 0.38 * arrived["late"].to_numpy() + harm[arrived["order"]],
        ),
        _occasion(
            cases["row"], cases["solved"] + 3 * HOUR, "Support",
            mood[cases["row"]] - 0.12 - (cases["solved"] - cases["opened"]).to_numpy() / (40 * DAY),
        ),
        _occasion(
            laptops["row"], laptops["at"] + 50 * DAY, "Loyalty",
            buyer - 0.22 * late - 0.25 * trouble[laptops["row"]] + harm / 2,
        ),
    ]  # fmt: skip
    asked = pd.concat(parts, ignore_index=True)
    m = len(asked)
    wait = (rng.exponential(0.5, m) * DAY).clip(0, 6 * DAY).astype(np.int64)
    at = seconds(asked["at"].to_numpy() + np.where(asked["about"] == "Consideration", 0, wait))
    at = at + rng.integers(0, 600, m) * SECOND
    # Nobody answers between one and five at night.
    at = np.where(at % DAY < 4 * HOUR, at + 6 * HOUR, at)
    satisfaction: Floats = np.clip(asked["satisfaction"].to_numpy() + rng.normal(0, 0.13, m), 0, 1)
    top = np.where(asked["about"] == "Loyalty", 10, 4)
    answer = np.rint(satisfaction * top)
    share = sigmoid(PLAN.response_intercept + PLAN.response_per_unhappiness * (0.6 - answer / top))
    answered = (rng.random(m) < share) & (at < END)
    asked = asked.assign(at=at, satisfaction=answer / top, answered=answered, answer=answer.astype(int))
    asked = asked[at < END].reset_index(drop=True)
    return asked.assign(comment=_comments(rng, people, asked))


def _occasion(row: Any, at: Any, about: str, satisfaction: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"row": np.asarray(row), "at": np.asarray(at), "about": about})
    return frame.assign(satisfaction=np.asarray(satisfaction, dtype=float), slot=-1, session=-1)


def _comments(rng: np.random.Generator, people: pd.DataFrame, asked: pd.DataFrame) -> npt.NDArray[np.object_]:
    """Write a comment for six in ten answers; one in twenty of them gives away an address or a phone number."""
    level = np.digitize(asked["satisfaction"], [0.45, 0.7])
    pick = rng.integers(0, 2, len(asked))
    table = np.array([COMMENTS[name] for name in STAGES], dtype=object)
    stage = asked["about"].map({name: k for k, name in enumerate(STAGES)}).to_numpy()
    comment = table[stage, level, pick]
    draw = rng.random(len(asked))
    contact = rng.random(len(asked))
    who = asked["row"].to_numpy()
    mail = text(" Please write to ", people["email"].to_numpy()[who], ".")
    call = text(" Call me on ", people["phone"].to_numpy()[who], ".")
    result: npt.NDArray[np.object_] = np.where(
        draw < 0.6, comment + np.select([contact < 0.025, contact < 0.05], [mail, call], ""), ""
    )
    return result


def _mails(rng: np.random.Generator, people: pd.DataFrame, story: Story, after: After) -> pd.DataFrame:
    """Welcome those who want the newsletter, send it every twelve days until they buy; the engaged open more."""
    wants = np.flatnonzero(people["newsletter"].to_numpy())
    bought = story.orders.groupby("row")["at"].min().reindex(wants).to_numpy()
    arrived = people["arrived"].to_numpy()[wants]
    until = np.fmin(np.fmin(arrived + 75 * DAY, bought), END).astype(np.int64)
    number = 1 + np.maximum((until - arrived - 2 * DAY) // (12 * DAY), 0)
    of = np.repeat(np.arange(len(wants)), number)
    turn = np.arange(len(of)) - np.repeat(number.cumsum() - number, number)
    later = v.midnight(arrived[of]) + (2 + turn * 12) * DAY + 7 * HOUR + rng.integers(0, 3 * 3600, len(of)) * SECOND
    sent = np.where(turn == 0, arrived[of] + 2 * MINUTE, later)
    row = wants[of]
    level = np.where(turn == 0, 0.9, -0.3)
    opens = rng.random(len(of)) < sigmoid(level + 0.7 * people["engagement"].to_numpy()[row])
    opened = sent + (rng.exponential(np.where(turn == 0, 1.5, 6)).clip(0.02, 60) * HOUR).astype(np.int64)
    # The visits that came by e-mail, and a third of the later accessory orders, were a click.
    by_mail = story.sessions[(story.sessions["medium"] == 5).to_numpy()]
    accessory = after.orders[(after.orders["kind"] == "accessory") & after.orders["happens"]]
    accessory = accessory[people["newsletter"].to_numpy()[accessory["row"]] & (accessory["rank"] % 3 == 0).to_numpy()]
    accessory = accessory[(accessory["at"] - story.orders["at"].to_numpy()[accessory["laptop"]]) > DAY]
    click_row = np.concatenate([by_mail["row"].to_numpy(), accessory["row"].to_numpy()])
    click_at = np.concatenate([by_mail["start"].to_numpy(), accessory["at"].to_numpy() - 6 * MINUTE])
    look = click_at - rng.integers(15, 90, len(click_at)) * SECOND
    parts = [
        _mail(row, sent, "delivered", "newsletter"),
        _mail(row[opens], opened[opens], "open", "newsletter"),
        _mail(click_row, look - rng.integers(1800, 40000, len(look)) * SECOND, "delivered", "offer"),
        _mail(click_row, look, "open", "offer"),
        _mail(click_row, click_at - 3 * SECOND, "click", "offer"),
    ]
    mails = pd.concat(parts, ignore_index=True)
    mails = mails.assign(at=seconds(mails["at"]))
    return mails[mails["at"] < END].sort_values(["at", "row", "event"], ignore_index=True)


def _mail(row: Any, at: Any, event: str, category: str) -> pd.DataFrame:
    return pd.DataFrame({"row": np.asarray(row), "at": np.asarray(at), "event": event, "category": category})
