"""Exports of what is said: Zendesk tickets, Qualtrics surveys, SendGrid events, and the daily cost of ads."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd

from journeykit.simulate import visits as v
from journeykit.simulate.after import After
from journeykit.simulate.feedback import Feedback
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
from journeykit.simulate.people import hexes, text
from journeykit.simulate.plan import DAY, END, MINUTE, SECOND, START, Ints

SUBJECTS = {
    "delivery": "Where is my parcel?",
    "product": "Question about my laptop",
    "addons": "Accessory that I did not order",
    "later": "Laptop does not charge",
    "chat": "Chat on the web site",
}
GROUPS = {
    "delivery": "Logistics desk",
    "product": "Support",
    "addons": "Order desk",
    "later": "Support",
    "chat": "Chat",
}
COST_PER_CLICK = {"paid_search": 2.40, "paid_social": 1.10}


def zendesk(rng: np.random.Generator, people: pd.DataFrame, after: After, chunk: int) -> Export:
    """Return the tickets CSV; a few requesters mistyped their address once."""
    rows = after.tickets
    n, size = len(people), len(rows)
    who = rows["row"].to_numpy()
    solved = (rows["solved"] < END).to_numpy()
    email = people["email"].to_numpy(dtype=object)[who]
    customer = people["customer"].to_numpy(dtype=object)[who]
    known = people["account"].to_numpy()[who] & (rng.random(size) < 0.6)
    customer = np.where(known, customer, "")
    typos = some(rng, ~known & (rows["kind"] != "chat").to_numpy(), n, 12)
    email[typos] = [value.replace("@example", "@exmaple") for value in email[typos]]
    kind = rows["kind"].to_numpy(dtype=object)
    rating = np.where(solved & (rng.random(size) < 0.25), np.where(rng.random(size) < 0.7, "good", "bad"), "")
    frame = pd.DataFrame(
        {
            "id": 300_001 + chunk * 10_000_000 + np.arange(size),
            "requester_email": email,
            "requester_external_id": customer,
            "created_at": iso(rows["opened"].to_numpy()),
            "solved_at": iso(np.where(solved, rows["solved"], 9 * 10**15)),
            "via_channel": rows["via"],
            "group": [GROUPS[name] for name in kind],
            "status": np.where(solved, "solved", "open"),
            "satisfaction_score": rating,
            "subject": [SUBJECTS[name] for name in kind],
        }
    )
    broken: dict[str, tuple[Ints, Lines]] = {}
    unsolved = ~solved
    for number, (reason, usual, change) in enumerate(
        (
            ("time cannot be read", 3, {"created_at": "yesterday"}),
            ("no identifier", 4, {"requester_email": "", "requester_external_id": ""}),
            ("identifier is blocked", 2, {"requester_email": "anonymous", "requester_external_id": ""}),
        )
    ):
        picked = some(rng, unsolved, n, usual)
        bad = frame.iloc[picked].assign(id=900_000 + 1000 * number + picked, **change)
        broken[reason] = (picked, csv_lines(bad))
    picked = some(rng, unsolved, n, 3)
    broken["wrong number of columns"] = (picked, text(csv_lines(frame.iloc[picked].assign(id=990_000 + picked)), ",?"))
    chat = (rows["kind"] == "chat").to_numpy()
    done = solved & ~chat
    events = pd.concat(
        [
            happened(who, rows["opened"], np.where(chat, "chat_started", "ticket_opened")),
            happened(who[done], rows["solved"].to_numpy()[done], "ticket_solved"),
        ],
        ignore_index=True,
    )
    return Export(
        "support/zendesk_tickets.csv",
        csv_header(frame),
        mix(rng, csv_lines(frame), round(0.004 * size), broken),
        events,
        shown(who, email=email, customer=customer),
        {"mistyped_email": len(typos)},
    )


def qualtrics(rng: np.random.Generator, people: pd.DataFrame, feedback: Feedback, devices: Lines) -> list[Export]:
    """Return the NPS and the CSAT survey, each with Qualtrics' three header rows (the zone is in the third)."""
    asked = feedback.asked
    nps = (asked["about"] == "Loyalty").to_numpy()
    answered = asked["answered"].to_numpy()
    return [
        _survey(rng, people, asked[mine & answered], devices[mine & answered], kind)
        for kind, mine in (("nps", nps), ("csat", ~nps))
    ]


QUESTIONS = {
    "Q1_NPS": "How likely are you to recommend us to a friend (0-10)?",
    "Q1_CSAT": "How satisfied were you (1-5)?",
    "Q2_COMMENT": "What is the main reason?",
}


def _survey(rng: np.random.Generator, people: pd.DataFrame, rows: pd.DataFrame, devices: Lines, kind: str) -> Export:
    order = np.lexsort((rows["row"].to_numpy(), rows["at"].to_numpy()))
    rows, devices = rows.iloc[order].reset_index(drop=True), devices[order]
    column = f"Q1_{kind.upper()}"
    n, size = len(people), len(rows)
    who, at = rows["row"].to_numpy(), rows["at"].to_numpy()
    on_site = (rows["about"] == "Consideration").to_numpy()
    email = np.where(on_site, "", people["email"].to_numpy(dtype=object)[who])
    account = people["account"].to_numpy()[who] & ~on_site
    customer = np.where(account, people["customer"].to_numpy(dtype=object)[who], "")
    device = np.where(on_site, devices, "")
    pattern = "%Y-%m-%d %H:%M:%S"
    frame = pd.DataFrame(
        {
            "StartDate": local(at - 2 * MINUTE, pattern), "EndDate": local(at - 5 * SECOND, pattern),
            "Status": "IP Address", "Progress": 100, "Finished": "True", "RecordedDate": local(at, pattern),
            "ResponseId": text("R_", hexes(rng, size, 10)), "RecipientEmail": email, "ExternalReference": customer,
            "ga_client_id": device, "about": rows["about"],
            column: rows["answer"] + (0 if kind == "nps" else 1), "Q2_COMMENT": rows["comment"],
        }
    )  # fmt: skip
    picked = some(rng, np.ones(size, bool), n, 5)
    preview = frame.iloc[picked].assign(
        Status="Survey Preview",
        ResponseId=text("R_", hexes(rng, len(picked), 10)),
        RecipientEmail="",
        Q2_COMMENT="test",
    )
    previews = len(preview)
    whole = pd.concat([frame, preview.assign(ExternalReference="", ga_client_id="")], ignore_index=True)
    broken: dict[str, tuple[Ints, Lines]] = {}
    for reason, usual, change in (
        ("time cannot be read", 2, {"RecordedDate": "2025-13-45 10:00:00"}),
        ("no identifier", 2, {"RecipientEmail": "", "ExternalReference": "", "ga_client_id": ""}),
        ("answer is outside its scale", 2, {column: 99}),
    ):
        picked = some(rng, np.ones(size, bool), n, usual)
        bad = frame.iloc[picked].assign(ResponseId=text("R_", hexes(rng, len(picked), 10)), **change)
        broken[reason] = (picked, csv_lines(bad))
    top = {"nps": 10, "csat": 4}[kind]
    events = happened(who, at, f"survey_{kind}").assign(satisfaction=rows["answer"].to_numpy() / top)
    comment = rows["comment"].astype(str)
    personal = int((comment.str.contains("@") | comment.str.contains("+49", regex=False)).sum())
    return Export(
        f"surveys/qualtrics_{kind}.csv",
        _three_headers(list(frame.columns)),
        mix(rng, csv_lines(whole), round(0.005 * size), broken),
        events,
        shown(who, email=email, customer=customer, device=device),
        {"left_out": previews, "comments_with_personal_data": personal},
    )


def _three_headers(columns: list[str]) -> str:
    """Return Qualtrics' header: names, questions, and import ids with the zone of the times."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerow([QUESTIONS.get(name, name) for name in columns])
    dates = {"StartDate": "startDate", "EndDate": "endDate", "RecordedDate": "recordedDate"}
    zone = ',"timeZone":"Europe/Berlin"'
    writer.writerow([f'{{"ImportId":"{dates.get(name, name)}"{zone if name in dates else ""}}}' for name in columns])
    return buffer.getvalue()


def sendgrid(rng: np.random.Generator, people: pd.DataFrame, feedback: Feedback) -> Export:
    """Return the events of the mail service: delivered, open and click, some sent twice."""
    rows = feedback.mails
    n, size = len(people), len(rows)
    who = rows["row"].to_numpy()
    email = people["email"].to_numpy(dtype=object)[who]
    customer = np.where(people["account"].to_numpy()[who], people["customer"].to_numpy(dtype=object)[who], "")
    ids = hexes(rng, size, 10)
    stamp = (rows["at"].to_numpy() // SECOND).astype(str).astype(object)
    lines = _mail_lines(email, stamp, ids, rows, customer)
    read = (rows["event"] != "delivered").to_numpy()
    broken: dict[str, tuple[Ints, Lines]] = {}
    for reason, usual in (("time cannot be read", 3), ("no identifier", 3)):
        at = some(rng, read, n, usual)
        nobody = np.full(len(at), "", dtype=object)
        wrong = np.full(len(at), "null-time", dtype=object)
        lost = reason == "no identifier"
        part = rows.iloc[at]
        broken[reason] = (
            at,
            _mail_lines(
                nobody if lost else email[at], stamp[at] if lost else wrong, hexes(rng, len(at), 10), part,
                nobody if lost else customer[at],
            ),
        )  # fmt: skip
    at = some(rng, read, n, 4)
    broken["row is not a JSON object"] = (at, np.array([line[:-20] for line in lines[at]], dtype=object))
    batch = mix(rng, lines, 0, broken)
    batch = _sent_twice(rng, batch, read)
    return Export(
        "email/sendgrid_events.jsonl.gz",
        "",
        batch,
        happened(who[read], rows["at"].to_numpy()[read], text("email_", rows["event"].to_numpy(dtype=object)[read])),
        shown(who[read], email=email[read], customer=customer[read]),
        {"left_out": int((~read).sum())},
    )


def _sent_twice(rng: np.random.Generator, batch: Batch, read: np.ndarray) -> Batch:
    """Repeat one in a hundred opens and clicks: the service delivers at least once."""
    again = np.flatnonzero((batch.kinds == "") & read[batch.base])
    again = np.sort(rng.choice(again, max(1, round(0.01 * len(again))), replace=False))
    order = np.argsort(np.concatenate([np.arange(len(batch.lines)), again]), kind="stable")
    lines = np.concatenate([batch.lines, batch.lines[again]])[order]
    kinds = np.concatenate([batch.kinds, np.full(len(again), "duplicate", dtype=object)])[order]
    return Batch(lines, kinds, np.concatenate([batch.base, batch.base[again]])[order])


def _mail_lines(email: Lines, stamp: Lines, ids: Lines, rows: pd.DataFrame, customer: Lines) -> Lines:
    if len(rows) == 0:
        return np.empty(0, dtype=object)
    bare = np.char.isdigit(stamp.astype(str))
    return text(
        '{"email":"', email, '","timestamp":', np.where(bare, stamp, '"' + stamp + '"'), ',"event":"',
        rows["event"].to_numpy(dtype=object), '","sg_event_id":"', ids, '","category":"',
        rows["category"].to_numpy(dtype=object), '"',
        np.where(customer != "", ',"customer_id":"' + customer + '"', ""), "}",
    )  # fmt: skip


def spend(clicks: pd.DataFrame, rng: np.random.Generator, people: int) -> tuple[Export, dict[str, float]]:
    """Return the daily cost of ads and its sum; `clicks` has one row per ad click: at, marketing_channel."""
    days = pd.DataFrame({"day": np.repeat(np.arange(365), 2), "channel": list(COST_PER_CLICK) * 365})
    day = (clicks["at"].to_numpy() - START) // DAY
    counted = pd.DataFrame({"day": day, "channel": clicks["marketing_channel"].to_numpy()}).value_counts(sort=False)
    days = days.join(counted.rename("clicks"), on=["day", "channel"])
    number = days["clicks"].fillna(0).astype(int).to_numpy()
    cost = number * days["channel"].map(COST_PER_CLICK).to_numpy() * rng.uniform(0.85, 1.15, len(days)) + 2
    frame = pd.DataFrame(
        {
            "date": np.datetime_as_string((START + days["day"].to_numpy() * DAY).astype("datetime64[us]"), unit="D"),
            "channel": days["channel"],
            "spend": np.char.mod("%.2f", cost),
            "clicks": number,
        }
    )
    bad = some(rng, np.ones(len(frame), bool), 6000, 2)
    wrong = csv_lines(frame.iloc[bad].assign(date="2025-02-30"))
    batch = mix(rng, csv_lines(frame), 1, {"time cannot be read": (bad, wrong)})
    nothing = happened([], [], "")
    sums = {name: round(float(cost[(days["channel"] == name).to_numpy()].round(2).sum()), 2) for name in COST_PER_CLICK}
    return Export("ads/spend.csv", csv_header(frame), batch, nothing, shown([], customer=[])), sums


def survey_devices(people: pd.DataFrame, feedback: Feedback) -> Lines:
    """Return the browser of each survey that was answered on the web site, as the export shows it."""
    slot = feedback.asked["slot"].to_numpy()
    row = feedback.asked["row"].to_numpy()
    first, second = (people[name].to_numpy(dtype=object)[row] for name in ("device_1", "device_2"))
    result: Lines = np.select([slot == v.FIRST_DEVICE, slot == v.SECOND_DEVICE], [first, second], "")
    return result
