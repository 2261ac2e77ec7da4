"""The A/B tests: who is exposed, in which arm, and what of it is never logged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from journeykit.simulate import visits as v
from journeykit.simulate.plan import DAY, PLAN, Bools
from journeykit.simulate.story import Story, running

SHOWN_AT = {"one_click_addons": "purchase_confirmation"}  # the others are shown at a product page


def exposures(rng: np.random.Generator, people: pd.DataFrame, story: Story) -> pd.DataFrame:
    """Return the first exposure of each person to each trial, also those that are lost.

    One row per person and trial: row, session, at, slot, category, login, trial, treated, lost. The kiosk shows no
    tests. Assignment is by person and independent between trials. Of chat_popup, treated exposures are lost more on
    phones, so that its split is broken and those who are left are not alike.
    """
    found = []
    for number, trial in enumerate(PLAN.trials, start=1):
        seen = story.events[story.events["event"] == SHOWN_AT.get(trial.name, "product_view")]
        seen = seen[(seen["slot"] != v.KIOSK).to_numpy() & running(trial.name, seen["at"].to_numpy())]
        first = seen.sort_values(["row", "at"]).drop_duplicates("row")
        treated = people[trial.name].to_numpy()[first["row"]]
        lost: Bools = np.zeros(len(first), dtype=bool)
        if trial.nature == "broken split":
            phone = (first["category"] == "mobile").to_numpy()
            share = np.where(phone, PLAN.chat_popup_lost_share_mobile, PLAN.chat_popup_lost_share_other)
            lost = treated & (rng.random(len(first)) < share)
        part = first[["row", "session", "at", "slot", "category", "login", "order"]]
        # The page is shown before the test on it is: a fraction of a second later, no two tests at the same instant.
        later = part["at"] + rng.integers(120, 900, len(part)) * 1000 + number
        found.append(part.assign(at=later, trial=trial.name, treated=treated, lost=lost))
    return pd.concat(found, ignore_index=True)


def addons_orders(exposed: pd.DataFrame, orders: int) -> tuple[Bools, Bools]:
    """Say for each order whether one_click_addons was shown with it, and whether in the treated arm."""
    rows = exposed[exposed["trial"] == "one_click_addons"]
    shown = np.zeros(orders, dtype=bool)
    treated = np.zeros(orders, dtype=bool)
    shown[rows["order"]] = True
    treated[rows["order"]] = rows["treated"].to_numpy()
    return shown, treated


def describe(exposed: pd.DataFrame, happened: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Count, for each trial, people per arm and how many of them then did what its metrics count.

    `happened` has one table (row, at) per event; counts are of people with the event within the trial's window after
    the exposure, of the exposures that were logged.
    """
    result: dict[str, Any] = {}
    for trial in PLAN.trials:
        rows = exposed[exposed["trial"] == trial.name]
        window = (30 if trial.name in SHOWN_AT else 14) * DAY
        counts: dict[str, Any] = {}
        for arm, treated in (("control", False), ("treatment", True)):
            people = rows[rows["treated"] == treated]
            logged = people[~people["lost"]].set_index("row")["at"]
            counts[arm] = {"assigned_n": len(people), "exposed_n": len(logged)}
            for name, table in happened.items():
                since = table["row"].map(logged)
                hit = (table["at"] > since) & (table["at"] <= since + window)
                counts[arm][f"{name}_n"] = int(table.loc[hit, "row"].nunique())
        result[trial.name] = counts
    return result
