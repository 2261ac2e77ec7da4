"""What the tables of stitching say, in sentences and findings: shared identifiers, policies, a labelled sample."""

from __future__ import annotations

import pandas as pd

from journeykit import present
from journeykit.findings import Finding


def sizes(table: pd.DataFrame) -> str:
    """Say how many people were put together from several identifiers."""
    if table.empty:
        return ""
    n, alone = int(table["n"].iloc[0]), int(table["people_n"].iloc[0])
    return (
        f"{present.count(n - alone)} of {present.count(n)} people ({present.share((n - alone) / n)}) were put together "
        f"from several identifiers; {present.count(alone)} have a single one."
    )


def shared(table: pd.DataFrame) -> str:
    """Say what joins nobody, and what became of the events on it."""
    if table.empty:
        return "No identifier is shared: no device had two people sign in on it, and no cap was exceeded."
    identifiers, kiosks = int(table["identifiers_n"].sum()), int(table["kiosks_n"].sum())
    anonymous, given = int(table["anonymous_n"].sum()), int(table["given_n"].sum())
    named = f"{present.count(identifiers)} identifiers join" if identifiers > 1 else "1 identifier joins"
    said = f"{named} nobody, because several people use {'them' if identifiers > 1 else 'it'}; "
    said += f"{kiosks} of them had five people or more. " if kiosks else "none had five people or more. "
    if not anonymous:
        return f"{said}Every event there says itself whose it was."
    return (
        f"{said}Of {present.count(anonymous)} events there that do not say whose they were, {present.count(given)} "
        f"({present.share(given / anonymous)}) lie in a visit in which somebody signed in, and were given to them; the "
        "others are visits of nobody known."
    )


def band(table: pd.DataFrame, moved: pd.DataFrame) -> str:
    """Say which figure depends most on the policy, and whether that matters beside sampling."""
    if table.empty:
        return ""
    width = (table["highest"] - table["lowest"]) / table["value"].abs()
    if float(width.max()) == 0:
        return "Every rule gives the same figures: the choice does not matter on this study."
    most = table.to_dict("records")[int(width.argmax())]
    said = (
        f"Between the rules that join devices to people, no headline figure moves by more than "
        f"{present.share(float(width.max()))} of itself; the most is {most['figure']}: "
        f"{present.amount(most['lowest'], most['unit'])} to {present.amount(most['highest'], most['unit'])}."
    )
    beyond = table[(table["lowest"] < table["value_low"]) | (table["highest"] > table["value_high"])]
    if len(beyond):
        said += f" The rule moves {' and '.join(beyond['figure'])} beyond the interval of sampling."
    elif table["value_low"].notna().any():
        said += " Every share and duration stays within the interval of sampling, so the rule adds little doubt."
    used = moved.loc[moved["used"], "people_n"]
    none = moved.loc[moved["policy"] == "none", "people_n"]
    if len(used) and len(none):
        said += (
            f" Without any stitching there would be {present.count(none.iloc[0])} people instead of "
            f"{present.count(used.iloc[0])}."
        )
    return said


def scores(table: pd.DataFrame) -> str:
    """Say how well the study's own policy finds the labelled people, and which other one finds them better."""
    if table.empty:
        return ""
    sample = (
        f"{present.count(table['labelled_events_n'].iloc[0])} events of "
        f"{present.count(table['labelled_people_n'].iloc[0])} labelled people"
    )
    both = ["b_cubed_precision", "b_cubed_recall"]
    own = table[table["used"]]
    if own.empty:
        return f"Measured on {sample}."
    row = own.iloc[0]
    better = table[(table[both] >= row[both]).all(axis=1) & (table[both] > row[both]).any(axis=1)]
    other = (
        f" Better on both would be {' and '.join(better['policy'])}." if len(better) else " No other rule is better."
    )
    return (
        f"Measured on {sample}: of the events that {row['policy']} puts together with one, "
        f"{present.share(row['b_cubed_precision'])} are truly of the same person, and it finds "
        f"{present.share(row['b_cubed_recall'])} of those that are (B³).{other}"
    )


def findings(table: pd.DataFrame, scored: pd.DataFrame, shared_table: pd.DataFrame) -> list[Finding]:
    """Return the findings on how much depends on the policy, and on kiosks."""
    found = []
    kiosks = int(shared_table["kiosks_n"].sum()) if len(shared_table) else 0
    if kiosks:
        events = int(shared_table.loc[shared_table["kiosks_n"] > 0, "events_n"].sum())
        found.append(
            Finding(
                id="kiosks",
                chapter="02_stitch",
                statement=f"{kiosks} device{'s' if kiosks > 1 else ''} had five people or more sign in: a kiosk, a "
                "counter or a test device.",
                value=float(events),
                unit="events",
                better="down",
                evidence="observed",
                action="Find out where the device stands. If it is a test device, block it or leave its rows out.",
                caveat=f"{present.count(events)} events lie on shared devices, these among them; a count of all.",
                table="02_stitch__busiest_shared",
            )
        )
    people = table[table["figure"] == "People"] if len(table) else table
    if len(people) and people["lowest"].iloc[0] < people["highest"].iloc[0]:
        row = people.iloc[0]
        found.append(
            Finding(
                id="people-by-policy",
                chapter="02_stitch",
                statement=f"{present.count(row['value'])} people; other rules of stitching make it "
                f"{present.count(row['lowest'])} to {present.count(row['highest'])}.",
                value=row["value"],
                unit="people",
                better="up",
                evidence="observed",
                caveat="A count of all, so without an interval; the range is over rules and need not hold the truth."
                + ("" if len(scored) else " Label a sample of people to measure which rule is right."),
                table="02_stitch__band",
            )
        )
    return found
