"""Exports of the shop and its partners: Shopify orders, the carrier, Stripe subscriptions, showroom visits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from journeykit.simulate.after import ACCESSORIES, LAPTOPS, After
from journeykit.simulate.files import (
    DUPLICATE,
    GOOD,
    Export,
    Lines,
    Raw,
    csv_header,
    csv_lines,
    happened,
    iso,
    local,
    mix,
    shown,
    some,
)
from journeykit.simulate.people import hexes, text
from journeykit.simulate.plan import DAY, END, HOUR, MINUTE, SECOND, Ints, moment

STORES = np.array(["Berlin", "Hamburg", "Munich"], dtype=object)
SHOPIFY_TIME = "%Y-%m-%d %H:%M:%S %z"
AMBIGUOUS = moment("2025-10-26T00:00:00")  # 02:00 local, the first of the two hours
SKIPPED = moment("2025-03-30T01:30:00")  # 03:30 local; a wrong clock wrote 02:30, which that night did not have


def order_names(after: After, chunk: int) -> Lines:
    """Return the names of orders ("#10001"), numbered by time."""
    return text("#", 10_001 + chunk * 10_000_000 + after.orders["rank"].to_numpy())


def shopify(rng: np.random.Generator, people: pd.DataFrame, after: After, names: Lines) -> Export:
    """Return the orders CSV: a row per line item, the order's fields only on its first row."""
    orders = after.orders.assign(name=names)[after.orders["happens"]].sort_values("rank", ignore_index=True)
    n, size = len(people), len(orders)
    who = orders["row"].to_numpy()
    laptop = (orders["kind"] == "laptop").to_numpy()
    item = orders["item"].to_numpy()
    first = np.where(laptop, np.array(LAPTOPS, dtype=object)[item], np.array(ACCESSORIES, dtype=object)[item])
    email = people["email"].to_numpy(dtype=object)[who]
    capital = some(rng, laptop, n, 30)
    email[capital] = [value.capitalize() for value in email[capital]]
    phone = np.where(rng.random(size) < 0.55, people["phone"].to_numpy(dtype=object)[who], "")
    at, price = orders["at"].to_numpy(), orders["price"].to_numpy()
    second = orders["lines"].to_numpy() > 1
    subtotal = price + np.where(second, 39.0, 0.0)
    total = subtotal + orders["shipping_price"].to_numpy()
    fulfilled = np.where(orders["place"] == "store", at + 5 * MINUTE, at + 1 * DAY)
    frame = pd.DataFrame(
        {
            "Name": orders["name"], "Email": email, "Financial Status": "paid",
            "Paid at": local(at + 2 * SECOND, SHOPIFY_TIME),
            "Fulfilled at": np.where(fulfilled < END, local(fulfilled, SHOPIFY_TIME), ""),
            "Currency": "EUR", "Subtotal": _money(subtotal), "Shipping": _money(orders["shipping_price"].to_numpy()),
            "Total": _money(total), "Created at": local(at, SHOPIFY_TIME),
            "Lineitem quantity": 1, "Lineitem name": first, "Lineitem price": _money(price),
            "Phone": phone, "Tags": orders["kind"], "Source": orders["place"],
        }
    )  # fmt: skip
    blank = dict.fromkeys([name for name in frame.columns if name not in ("Name", "Email")], "")
    more = frame[second].assign(**{**blank, "Lineitem quantity": "1", "Lineitem name": "Sleeve"})
    more = more.assign(**{"Lineitem price": "39.00"})
    whole = pd.concat([frame, more]).sort_index(kind="stable").astype(object).reset_index(drop=True)
    heads = (whole["Created at"] != "").to_numpy()
    broken: dict[str, tuple[Ints, Lines]] = {}
    for number, (reason, usual, change) in enumerate(
        (
            ("time cannot be read", 3, {"Created at": "31.02.2025"}),
            ("value is negative", 3, {"Total": "-49.00"}),
            ("time lies in the future", 2, {"Created at": "2035-05-05 10:00:00 +0200"}),
        )
    ):
        picked = some(rng, heads, n, usual)
        # Orders with the name of another order would pass for its further line items.
        bad = whole.iloc[picked].assign(Name=text(f"IMP{number}-", picked), **change)
        broken[reason] = (picked, csv_lines(bad))
    picked = some(rng, heads, n, 3)
    broken["wrong number of columns"] = (picked, text(text("IMP9-", picked), ",truncated"))
    event = np.where(laptop, "order_placed", "accessory_ordered")
    return Export(
        "shop/shopify_orders.csv",
        csv_header(frame),
        mix(rng, csv_lines(whole), 0, broken),
        happened(who, at, event).assign(value=total),
        shown(who, order=orders["name"], email=email, phone=phone),
        {"continued": int(second.sum())},
    )


def _money(values: object) -> Lines:
    return np.char.mod("%.2f", np.asarray(values, dtype=float)).astype(object)


def carrier(rng: np.random.Generator, people: pd.DataFrame, after: After, names: Lines) -> Export:
    """Return the carrier's CSV: one row per parcel, its times empty until they happen."""
    rows = after.deliveries.sort_values(["shipped", "order"], ignore_index=True)
    n = len(people)
    done = (rows["delivered"] < END).to_numpy()
    frame = pd.DataFrame(
        {
            "order_name": names[rows["order"]],
            "carrier": np.where(rows["order"] % 3 == 0, "Blitz", "Paketo"),
            "status": np.select([~done, rows["late"]], ["in_transit", "late"], "on_time"),
            "shipped_at": iso(rows["shipped"].to_numpy()),
            "promised_at": iso(rows["promised"].to_numpy()),
            "delivered_at": iso(rows["delivered"].to_numpy()),
        }
    )
    broken: dict[str, tuple[Ints, Lines]] = {}
    for reason, usual, change in (
        ("time cannot be read", 2, {"shipped_at": "soon"}),
        ("no identifier", 2, {"order_name": ""}),
    ):
        picked = some(rng, done, n, usual)
        broken[reason] = (picked, csv_lines(frame.iloc[picked].assign(**change)))
    picked = some(rng, done, n, 2)
    broken["wrong number of columns"] = (picked, text(csv_lines(frame.iloc[picked]), ",?,?"))
    arrived = rows[done]
    events = pd.concat(
        [
            happened(rows["row"], rows["shipped"], "order_shipped"),
            happened(
                arrived["row"], arrived["delivered"], np.where(arrived["late"], "delivery_late", "delivery_on_time")
            ),
        ],
        ignore_index=True,
    )
    return Export(
        "delivery/carrier.csv",
        csv_header(frame),
        mix(rng, csv_lines(frame), round(0.003 * len(frame)), broken),
        events,
        shown(rows["row"], order=frame["order_name"]),
    )


def stripe(rng: np.random.Generator, people: pd.DataFrame, after: After) -> Export:
    """Return the subscriptions: unix seconds, amounts in cents, test rows with livemode = false."""
    plans = after.plans
    n, size = len(people), len(plans)
    who = plans["row"].to_numpy()
    ended = plans["ended"].to_numpy() < END
    asked = (plans["asked"] < END).to_numpy()
    email = people["email"].to_numpy(dtype=object)[who]
    account = people["account"].to_numpy()[who]
    customer = np.where(account, people["customer"].to_numpy(dtype=object)[who], "")
    frame = pd.DataFrame(
        {
            "id": text("sub_", hexes(rng, size, 10)),
            "customer_email": email,
            "client_reference_id": customer,
            "created": plans["started"] // SECOND - 1,
            "start_date": plans["started"] // SECOND,
            "canceled_at": np.where(asked, (plans["asked"] // SECOND).astype(str), ""),
            "ended_at": np.where(ended, (plans["ended"] // SECOND).astype(str), ""),
            "status": np.where(ended, "canceled", "active"),
            "plan_amount": 1290,
            "currency": "eur",
            "livemode": "true",
            "cancellation_reason": plans["reason"],
        }
    )
    tests = some(rng, np.ones(size, bool), n, 6)
    extra = frame.iloc[tests].assign(id=text("sub_test", tests), livemode="false", customer_email="qa@example.com")
    whole = pd.concat([frame, extra.assign(client_reference_id="")], ignore_index=True)
    broken: dict[str, tuple[Ints, Lines]] = {}
    for number, (reason, usual, change) in enumerate(
        (
            ("time cannot be read", 2, {"start_date": "n/a"}),
            ("value is negative", 2, {"plan_amount": "-1290"}),
            ("no identifier", 2, {"customer_email": "", "client_reference_id": ""}),
        )
    ):
        picked = some(rng, np.ones(size, bool), n, usual)
        bad = frame.iloc[picked].assign(id=text(f"sub_bad{number}_", picked), **change)
        broken[reason] = (picked, csv_lines(bad))
    started = happened(who, plans["started"], "care_plan_started")
    stopped = happened(who[ended], plans["ended"].to_numpy()[ended], "care_plan_cancelled")
    return Export(
        "billing/stripe_subscriptions.csv",
        csv_header(frame),
        mix(rng, csv_lines(whole), round(0.003 * size), broken),
        pd.concat([started, stopped], ignore_index=True),
        shown(who, email=email, customer=customer),
        {"left_out": len(tests)},
    )


def night_sale(showroom: pd.DataFrame) -> pd.DataFrame:
    """Move some showroom visits into the nights of the clock changes; `folded` marks the wrong clock's rows.

    Nine visits fall into the hour of 26 October that exists twice (a night sale; six in its first, three in its
    second pass), two into 30 March, noted at a time that does not exist.
    """
    at = showroom["at"].to_numpy(copy=True)
    free = ~showroom["kiosk"].to_numpy()
    october = np.flatnonzero(free & (at > AMBIGUOUS - 20 * DAY) & (at < AMBIGUOUS - DAY))[:9]
    march = np.flatnonzero(free & (at > SKIPPED - 25 * DAY) & (at < SKIPPED - DAY))[:2]
    passes = np.where(np.arange(len(october)) < 6, 0, HOUR)
    at[october] = AMBIGUOUS + passes + (4 + 5 * np.arange(len(october))) * MINUTE + 137_000
    at[march] = SKIPPED + np.arange(len(march)) * 7 * MINUTE + 137_000
    folded = np.zeros(len(showroom), dtype=bool)
    folded[march] = True
    return showroom.assign(at=at, folded=folded).sort_values(["at", "row"], ignore_index=True)


def visits(rng: np.random.Generator, people: pd.DataFrame, showroom: pd.DataFrame, kiosk: str, raw: Raw) -> Export:
    """Write showroom visits as Parquet, in local time without an offset; return what they say."""
    n, size = len(people), len(showroom)
    who = showroom["row"].to_numpy()
    draw = rng.random(size)
    account = people["account"].to_numpy()[who]
    customer = np.where(account & (draw < 0.6), people["customer"].to_numpy(dtype=object)[who], "")
    email = np.where((draw > 0.5) & (draw < 0.8), people["email"].to_numpy(dtype=object)[who], "")
    bare = (customer == "") & (email == "")
    phone = np.where(bare | (draw > 0.9), people["phone"].to_numpy(dtype=object)[who], "")
    device = np.where(showroom["kiosk"], kiosk, "")
    # The kiosk logs a visit by itself; nobody gave a card there.
    customer, email, phone = (np.where(device != "", "", value) for value in (customer, email, phone))
    at = showroom["at"].to_numpy()
    clock = pd.DatetimeIndex(at.astype("datetime64[us]")).tz_localize("UTC").tz_convert("Europe/Berlin")
    written = clock.tz_localize(None).to_numpy().astype("datetime64[us]")
    written = np.where(showroom["folded"], written - np.timedelta64(1, "h"), written)
    frame = pd.DataFrame(
        {
            "visit_id": text("v-", hexes(rng, size, 8)),
            "visited_at": written,
            "store": STORES[who % 3],
            "loyalty_id": customer,
            "loyalty_email": email,
            "loyalty_phone": phone,
            "kiosk_device": device,
        }
    )
    parts, kinds, base = [frame], [np.full(size, GOOD, dtype=object)], [np.arange(size)]
    copies = some(rng, np.ones(size, bool), n, 6)
    parts.append(frame.iloc[copies])
    kinds.append(np.full(len(copies), DUPLICATE, dtype=object))
    base.append(copies)
    nobody = dict.fromkeys(["loyalty_id", "loyalty_email", "loyalty_phone", "kiosk_device"], "")
    for reason, usual, change in (
        ("no identifier", 7, nobody),
        ("no time", 3, {"visited_at": np.datetime64("NaT", "us")}),
        ("time lies in the future", 2, {"visited_at": np.datetime64("2035-07-01T12:00:00", "us")}),
    ):
        picked = some(rng, ~showroom["folded"], n, usual)
        parts.append(frame.iloc[picked].assign(**change).assign(visit_id=text("v-", hexes(rng, len(picked), 8))))
        kinds.append(np.full(len(picked), reason, dtype=object))
        base.append(picked)
    order = np.argsort(np.concatenate(base), kind="stable")
    whole = pd.concat([part.astype({"visited_at": "datetime64[us]"}) for part in parts], ignore_index=True).iloc[order]
    fields = [(name, pa.timestamp("us") if name == "visited_at" else pa.string()) for name in frame.columns]
    columns = [
        pa.array(whole[name].to_numpy() if name == "visited_at" else whole[name].replace("", None).to_list(), kind)
        for name, kind in fields
    ]
    kind = np.concatenate(kinds)[order]
    twice = int(((at >= AMBIGUOUS) & (at < AMBIGUOUS + 2 * HOUR)).sum())
    counts = {"ambiguous_hour": twice, "skipped_hour": int(showroom["folded"].sum())}
    raw.write_table("store/visits.parquet", pa.table(columns, schema=pa.schema(fields)), kind, counts)
    events = happened(who, at, "showroom_visit")
    found = shown(who, customer=customer, email=email, phone=phone, device=device)
    empty = mix(rng, np.empty(0, dtype=object), 0, {})
    return Export("store/visits.parquet", "", empty, events, found)
