"""Web and app exports: GA4 as BigQuery writes it (JSON Lines), Segment tracks (CSV)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from journeykit.simulate import visits as v
from journeykit.simulate.files import (
    Batch,
    Export,
    Lines,
    csv_header,
    csv_lines,
    happened,
    iso,
    local,
    mix,
    shown,
    some,
)
from journeykit.simulate.people import CHANNELS, hexes, text
from journeykit.simulate.plan import DAY, SECOND, Ints

PLACEHOLDERS = np.array(["anonymous", "0000", "null"], dtype=object)
YEARS_AHEAD = 10 * 365 * DAY
PRODUCTS = np.array(["aero-13", "aero-15", "campus-14", "studio-16", "works-15"], dtype=object)


def digital(people: pd.DataFrame, story: Any, exposed: pd.DataFrame, setups: pd.DataFrame, kiosk: str) -> pd.DataFrame:
    """Return all web and app events, with the device, the login and the experiment arm that the export shows.

    One row per event: row, at, event, slot, category, medium, device, customer, order (row of orders, -1), trial,
    variant, session.
    """
    logged = exposed[~exposed["lost"]]
    arms = logged.assign(
        event="experiment_viewed",
        medium=-1,
        variant=np.where(logged["treated"], "treatment", "control"),
        order=-1,
    )
    new = pd.DataFrame(
        {
            "row": setups["row"], "session": -1, "at": setups["at"], "event": "setup_completed",
            "slot": v.NEW_LAPTOP, "category": "desktop", "medium": -1, "login": True, "order": setups["order"],
        }
    )  # fmt: skip
    events = pd.concat([story.events, arms, new], ignore_index=True)
    events = events.assign(trial=events["trial"].fillna(""), variant=events["variant"].fillna(""))
    who = events["row"].to_numpy()
    slots = ["device_1", "device_2", "device_app", "", "device_new"]
    device = np.full(len(events), kiosk, dtype=object)
    for slot, column in enumerate(slots):
        at = (events["slot"] == slot).to_numpy()
        if column:
            device[at] = people[column].to_numpy(dtype=object)[who[at]]
    customer = np.where(events["login"], people["customer"].to_numpy()[who], "")
    starts = np.where(events["session"] >= 0, events.groupby("session")["at"].transform("min"), events["at"])
    return events.assign(device=device, customer=customer, session_start=starts)


def ga4(
    rng: np.random.Generator, people: pd.DataFrame, events: pd.DataFrame, orders: pd.DataFrame, order_names: Lines
) -> list[Export]:
    """Return one export per month of GA4 events, in no order of time, as BigQuery gives them."""
    rows = events[(events["slot"] != v.APP).to_numpy()]
    rows = _placeholder_devices(rng, rows, len(people))
    rows = rows.sort_values(["device", "at"], ignore_index=True)
    n = len(people)
    anonymous = (rows["customer"] == "") & (rows["order"] < 0) & ~rows["event"].isin(["experiment_viewed"])
    spoilt: dict[str, tuple[Ints, pd.DataFrame]] = {}
    for reason, usual, change in (
        ("time cannot be read", 6, {"stamp": "not-a-time"}),
        ("no time", 3, {"stamp": ""}),
        ("no event", 4, {"event": ""}),
        ("no identifier", 9, {"device": ""}),
        ("identifier is blocked", 38, {"device": "placeholder"}),
    ):
        at = some(rng, anonymous, n, usual)
        values = {
            name: rng.choice(PLACEHOLDERS, len(at)) if value == "placeholder" else value
            for name, value in change.items()
        }
        spoilt[reason] = (at, rows.iloc[at].assign(**values))
    future = some(rng, anonymous, n, 5)
    ahead = (rows["at"].to_numpy()[future] + YEARS_AHEAD).astype(str).astype(object)
    spoilt["time lies in the future"] = (future, rows.iloc[future].assign(stamp=ahead))
    shipping = people["shipping_price"].to_numpy()
    lines = _ga4_lines(rows, shipping, orders, order_names)
    broken = {reason: (at, _ga4_lines(bad, shipping, orders, order_names)) for reason, (at, bad) in spoilt.items()}
    cut = some(rng, anonymous, n, 9)
    broken["row is not a JSON object"] = (cut, np.array([line[: len(line) * 2 // 3] for line in lines[cut]], object))
    batch = mix(rng, lines, round(0.004 * len(rows)), broken)
    month = local(rows["at"].to_numpy(), "%Y%m")
    month_of_line = month[batch.base]
    exports = []
    for name in np.unique(month.astype(str)):
        at = month_of_line == name
        part = rows[month == name]
        exports.append(
            Export(
                f"web/ga4_{name}.jsonl.gz",
                "",
                Batch(batch.lines[at], batch.kinds[at], batch.base[at]),
                happened(part["row"], part["at"], part["event"].to_numpy()),
                shown(
                    part["row"],
                    device=np.where(np.isin(part["device"], PLACEHOLDERS), "", part["device"]),
                    customer=part["customer"],
                    order=_named(part["order"].to_numpy(), order_names),
                ),
            )
        )
    return exports


def _placeholder_devices(rng: np.random.Generator, rows: pd.DataFrame, people_n: int) -> pd.DataFrame:
    """Replace the device by a placeholder in some sessions where the login alone says who it is."""
    web = rows[(rows["slot"] == v.FIRST_DEVICE) & (rows["session"] >= 0)]
    clear = (web["customer"] != "").groupby(web["session"]).all()
    sessions = clear.index.to_numpy()[clear.to_numpy()]
    picked = sessions[some(rng, np.ones(len(sessions), bool), people_n, 25)]
    blank = rows["session"].isin(picked).to_numpy()
    stand_in = PLACEHOLDERS[rows["session"].to_numpy() % len(PLACEHOLDERS)]
    return rows.assign(device=np.where(blank, stand_in, rows["device"]))


def _named(order: Ints, names: Lines) -> Lines:
    result: Lines = np.full(len(order), "", dtype=object)
    result[order >= 0] = names[order[order >= 0]]
    return result


def _ga4_lines(rows: pd.DataFrame, shipping: Any, orders: pd.DataFrame, order_names: Lines) -> Lines:
    """Write events as GA4's BigQuery export does: integers as text, parameters as a list of key and value."""
    if rows.empty:
        return np.empty(0, dtype=object)
    at = rows["at"].to_numpy()
    event = rows["event"].to_numpy(dtype=object)
    stamp = rows["stamp"].to_numpy(dtype=object) if "stamp" in rows else at.astype(str).astype(object)
    order = rows["order"].to_numpy()
    session = (rows["session_start"].to_numpy() // SECOND).astype(str).astype(object)
    product = PRODUCTS[rows["session"].to_numpy() % len(PRODUCTS)]
    page = np.select(
        [event == "product_view", np.isin(event, ["add_to_cart", "shipping_cost_shown"]), event == "page_view"],
        ["/laptops/" + product, "/cart", "/laptops"],
        "",
    )
    price = np.array([f"{value:.2f}" for value in shipping], dtype=object)[rows["row"].to_numpy()]
    params = text('{"key":"ga_session_id","value":{"int_value":"', session, '"}}')
    params = params + np.where(page != "", ',{"key":"page_location","value":{"string_value":"' + page + '"}}', "")
    params = params + np.where(
        event == "shipping_cost_shown", ',{"key":"shipping_price","value":{"string_value":"' + price + '"}}', ""
    )
    trial, variant = rows["trial"].to_numpy(dtype=object), rows["variant"].to_numpy(dtype=object)
    arm = ',{"key":"experiment","value":{"string_value":"' + trial
    arm = arm + '"}},{"key":"variant","value":{"string_value":"' + variant + '"}}'
    params = params + np.where(trial != "", arm, "")
    medium = np.append(CHANNELS.astype(object), "")[rows["medium"].to_numpy()]
    bought = event == "purchase_confirmation"
    worth = np.zeros(len(rows))
    worth[bought] = orders["price"].to_numpy()[order[bought]]
    revenue = np.where(bought, text(',"purchase_revenue":', worth), "")
    number = '{"transaction_id":"' + _named(order, order_names) + '"' + revenue + "}"
    parts: list[Any] = [
        '{"event_date":"', local(at, "%Y%m%d"), '","event_timestamp":"', stamp, '","event_name":"', event,
        '","user_pseudo_id":', _quoted(rows["device"]), ',"user_id":', _quoted(rows["customer"]),
        ',"event_params":[', params, '],"device":{"category":"', rows["category"].to_numpy(dtype=object), '"}',
        np.where(medium != "", ',"collected_traffic_source":{"manual_medium":"' + medium + '"}', ""),
        np.where(order >= 0, ',"ecommerce":' + number, ""), "}",
    ]  # fmt: skip
    return text(*parts)


def _quoted(values: Any) -> Lines:
    texts = np.asarray(values, dtype=object)
    result: Lines = np.where(texts == "", "null", '"' + texts + '"')
    return result


def segment(rng: np.random.Generator, people: pd.DataFrame, events: pd.DataFrame, order_names: Lines) -> Export:
    """Return the app's events as Segment's table of tracks; some arrive days after they happened."""
    rows = events[(events["slot"] == v.APP).to_numpy()].sort_values(["at", "row"], ignore_index=True)
    n, size = len(people), len(rows)
    at = rows["at"].to_numpy()
    who = rows["row"].to_numpy()
    delay = rng.integers(300, 4000, size) * 1000
    late = rng.random(size) < 0.012
    delay = np.where(late, rng.integers(26 * 3600, 6 * 86400, size) * SECOND, delay)
    event = rows["event"].replace({"page_view": "screen_view", "purchase_confirmation": "order_confirmed"}).to_numpy()
    price = np.array([f"{value:.2f}" for value in people["shipping_price"]], dtype=object)[who]
    customer = rows["customer"].to_numpy(dtype=object)
    email = np.where(customer != "", people["email"].to_numpy()[who], "")
    device = rows["device"].to_numpy(dtype=object)
    order = _named(rows["order"].to_numpy(), order_names)
    frame = pd.DataFrame(
        {
            "id": hexes(rng, size, 12),
            "event": event,
            "anonymous_id": device,
            "user_id": customer,
            "timestamp": iso(at, "ms"),
            "sent_at": iso(at + delay - 150_000, "ms"),
            "received_at": iso(at + delay, "ms"),
            "context_device_type": rows["category"],
            "context_campaign_medium": np.append(CHANNELS.astype(object), "")[rows["medium"].to_numpy()],
            "context_traits_email": email,
            "order_id": order,
            "shipping_price": np.where(event == "shipping_cost_shown", price, ""),
            "experiment": rows["trial"],
            "variant": rows["variant"],
        }
    )
    plain = (customer == "") & (order == "") & (rows["trial"] == "").to_numpy()
    zeros = "00000000-0000-0000-0000-000000000000"
    broken: dict[str, tuple[Ints, Lines]] = {}
    for reason, usual, change in (
        ("time cannot be read", 4, {"timestamp": "0000-00-00"}),
        ("no event", 2, {"event": ""}),
        ("no identifier", 5, {"anonymous_id": ""}),
        ("identifier is blocked", 6, {"anonymous_id": zeros}),
        ("time lies in the future", 3, {"timestamp": "2035-01-01T00:00:00.000Z"}),
    ):
        picked = some(rng, plain, n, usual)
        bad = frame.iloc[picked].assign(id=hexes(rng, len(picked), 12), **change)
        broken[reason] = (picked, csv_lines(bad))
    picked = some(rng, plain, n, 5)
    lines = csv_lines(frame.iloc[picked].assign(id=hexes(rng, len(picked), 12)))
    broken["wrong number of columns"] = (picked, np.array([f"{line},extra,fields" for line in lines], dtype=object))
    return Export(
        "app/segment_tracks.csv",
        csv_header(frame),
        mix(rng, csv_lines(frame), round(0.006 * size), broken),
        happened(who, at, event),
        shown(who, device=device, customer=customer, email=email, order=order),
        {"late": int(late.sum())},
    )
