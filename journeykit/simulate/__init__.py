"""The bundled study's simulator: a laptop shop over a year, written as its vendors would export it.

Everything is drawn from one seed; the same seed and size give the same bytes. What was planted lies in `truth/`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from journeykit.errors import JourneyError
from journeykit.simulate import after as later
from journeykit.simulate import contact, feedback, shop, story, trials, truth, web
from journeykit.simulate.files import Raw
from journeykit.simulate.people import make_people
from journeykit.simulate.plan import END, PLAN, Ints

__all__ = ["simulate"]
CHUNK = 50_000


def simulate(out: Path, people: int = 6000, seed: int = 7, chunk: int = CHUNK) -> dict[str, Any]:
    """Write the study of the laptop shop into a folder and return the content of truth/truth.json.

    The folder gets `raw/`, `truth/` and, where it has none, the bundled study's journey.toml, so that it can be run.
    People are told in chunks, so that memory is bounded; existing raw and truth files of the same names are replaced.

    Raises:
        JourneyError: fewer than 50 people, of whom nothing could be said.
    """
    if people < 50:
        raise JourneyError(f"people: found {people}. At least 50 are needed. Ask for more people.")
    out = Path(out)
    raw = Raw(out / "raw")
    total: dict[str, Any] = {}
    clicks = []
    sample = truth.labelled(people, seed)
    for number, first in enumerate(range(0, people, chunk)):
        rng = np.random.default_rng([seed, number])
        part, ads = _chunk(rng, min(chunk, people - first), first + 1, number, raw, out / "truth", sample)
        total = truth.add(total, part)
        clicks.append(ads)
    costs, spent = contact.spend(pd.concat(clicks), np.random.default_rng([seed, 2**31]), people)
    raw.write(costs)
    raw.close()
    told = _summary(total, raw, spent, seed)
    (out / "truth" / "truth.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    described = Path(__file__).parents[2] / "data" / "laptop_store" / "journey.toml"
    if described.exists() and not (out / "journey.toml").exists():
        shutil.copyfile(described, out / "journey.toml")
    return told


def _chunk(
    rng: np.random.Generator, n: int, first: int, number: int, raw: Raw, folder: Path, sample: Ints
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Tell and write one chunk of people; return its sums and its ad clicks."""
    people = make_people(rng, n, first)
    told = story.tell(rng, people)
    exposed = trials.exposures(rng, people, told)
    after = later.happen(rng, people, told, exposed)
    _, added = trials.addons_orders(exposed, len(told.orders))
    said = feedback.gather(rng, people, told, after, added)
    kiosk = f"kiosk-berlin-{number + 1}"
    names = shop.order_names(after, number)
    events = web.digital(people, told, exposed, after.setups, kiosk)
    showroom = shop.night_sale(told.showroom)
    exports = [
        *web.ga4(rng, people, events, after.orders, names),
        web.segment(rng, people, events, names),
        shop.shopify(rng, people, after, names),
        shop.carrier(rng, people, after, names),
        shop.stripe(rng, people, after),
        contact.zendesk(rng, people, after, number),
        *contact.qualtrics(rng, people, said, contact.survey_devices(people, said)),
        contact.sendgrid(rng, people, said),
    ]
    for export in exports:
        raw.write(export)
    exports.append(shop.visits(rng, people, showroom, kiosk, raw))
    happened = pd.concat([export.events for export in exports], ignore_index=True)
    fresh = number == 0
    person = people["person"].to_numpy()
    identifiers = pd.concat([export.identifiers for export in exports], ignore_index=True).drop_duplicates()
    identifiers = identifiers.assign(person=person[identifiers["row"].to_numpy(dtype=np.int64)])
    identifiers = identifiers.sort_values(["identifier", "person", "value"])[["identifier", "value", "person"]]
    truth.append(folder / "identities.csv", identifiers, fresh)
    truth.append(folder / "labels.csv", truth.label_table(identifiers, sample), fresh)
    truth.append(folder / "people.csv", truth.person_table(people, told), fresh)
    truth.append(folder / "care_plans.csv", truth.plan_table(people, after), fresh)
    truth.append(folder / "devices_shared.csv", truth.shared_devices(people, events), fresh)
    metrics = {
        name: happened[happened["event"] == name][["row", "at"]]
        for name in ("order_placed", "add_to_cart", "accessory_ordered", "ticket_opened", "chat_started", "survey_csat")
    }
    sums = truth.facts(people, told, after, said, happened, exposed)
    sums["experiments"] = trials.describe(exposed, metrics)
    ads = events[events["event"] == "ad_click"]
    channel = story.v.channel_name(ads["medium"].to_numpy())
    return sums, pd.DataFrame({"at": ads["at"].to_numpy(), "marketing_channel": channel})


def _summary(total: dict[str, Any], raw: Raw, spent: dict[str, float], seed: int) -> dict[str, Any]:
    """Turn the sums of all chunks into the content of truth.json."""
    upfront = total.pop("shipping_upfront")
    effect = (upfront["ordered_with_n"] - upfront["ordered_without_n"]) / max(upfront["exposed_n"], 1)
    experiments = total.pop("experiments")
    natures = {trial.name: trial.nature for trial in PLAN.trials}
    effects: dict[str, dict[str, float]] = {
        "shipping_upfront": {"order_placed_points": round(100 * effect, 2)},
        "new_badge": {"order_placed_points": 0.0, "add_to_cart_points": 0.0},
        "chat_popup": {"order_placed_points": 0.0, "chat_started_points": 0.0},
        "one_click_addons": {
            "accessory_ordered_points": round(100 * PLAN.one_click_accessory_share, 2),
            "ticket_opened_points": round(100 * PLAN.one_click_ticket_share, 2),
            "satisfaction_points": round(100 * PLAN.one_click_satisfaction, 2),
        },
    }
    satisfaction = {
        stage: {
            "asked_n": found["asked_n"],
            "answered_n": found["answered_n"],
            "true_mean": round(found["asked_sum"] / max(found["asked_n"], 1), 4),
            "answered_mean": round(found["answered_sum"] / max(found["answered_n"], 1), 4),
        }
        for stage, found in total.pop("satisfaction").items()
    }
    return {
        "seed": seed,
        "as_of": f"{np.datetime64(END, 'us').astype('datetime64[s]')}Z",
        **{name: value for name, value in total.items() if name != "checkouts"},
        "satisfaction": satisfaction,
        "experiments": {
            name: {"nature": natures[name], "true_effects": effects[name], "arms": arms}
            for name, arms in experiments.items()
        },
        "release": {"name": "checkout_v2", "at": f"{PLAN.release}Z", "checkouts": total["checkouts"]},
        "spend": spent,
        "files": dict(sorted(raw.accounts.items())),
        "planted": PLAN.as_dict(),
    }
