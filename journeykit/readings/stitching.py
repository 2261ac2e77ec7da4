"""What the tables of stitching say, in sentences and findings: shared identifiers, policies, a labelled sample."""

from __future__ import annotations

import pandas as pd

from journeykit import present
from journeykit.findings import Finding
from journeykit.graph import SPLIT
from journeykit.identity_quality import KIOSK, ONLY_SHARED


def rules(table: pd.DataFrame, min_n: int) -> str:
    """Say how many rows the table of rules leaves out, because few people are in them."""
    left_out = int(table.attrs.get("left_out_n", 0))
    if not left_out:
        return ""
    if left_out == 1:
        return f"1 more combination of identifier and rule has fewer than {min_n} people."
    return f"{left_out} more combinations of identifier and rule have fewer than {min_n} people each."


def sizes(table: pd.DataFrame) -> str:
    """Say how many people were put together from several identifiers of their own."""
    if table.empty:
        return ""
    count = table.set_index("identifiers")["people_n"]
    n, alone, without = int(table["n"].iloc[0]), int(count.get("1", 0)), int(count.get(ONLY_SHARED, 0))
    merged = n - alone - without
    said = (
        f"{present.count(merged)} of {present.count(n)} people ({present.share(merged / n)}) were put together "
        f"from several identifiers; {present.count(alone)} have a single one."
    )
    if without:
        said += f" {present.count(without)} came only with identifiers that join nobody, and have none of their own."
    return said


def shared(table: pd.DataFrame) -> str:
    """Say what joins nobody and why, kind by kind, and what became of the events on it."""
    if table.empty:
        return "No identifier is shared: no device had two people sign in on it, and no cap was exceeded."
    device, split = table["is_device"].astype(bool), table["rule"] == SPLIT
    kiosks = int(table["kiosks_n"].sum())
    it = "it" if table.loc[device & ~split, "identifiers_n"].sum() == 1 else "them"
    many = f"{present.count(kiosks)} of them had" if kiosks else "none had"
    kinds = {
        "device": (device & ~split, f"several people use {it}; {many} {KIOSK} people or more"),
        "personal identifier": (~device & ~split, "more would be joined than a cap or a split by hand allows"),
        "identifier": (split, "that was split by hand"),
    }
    said = []
    for kind, (of_kind, why) in kinds.items():
        rows = table[of_kind]
        n = int(rows["identifiers_n"].sum())
        if n:
            named = f"{present.count(n)} {kind}s join" if n > 1 else f"1 {kind} joins"
            said.append(f"{named} nobody, because {why}. {_given(rows)}")
    return " ".join(said)


def _given(table: pd.DataFrame) -> str:
    anonymous, given = int(table["anonymous_n"].sum()), int(table["given_n"].sum())
    if not anonymous:
        return "Every event there says itself whose it was."
    return (
        f"Of {present.count(anonymous)} events there that do not say whose they were, {present.count(given)} "
        f"({present.share(given / anonymous)}) lie in a visit in which somebody signed in, and were given to them; the "
        "others are visits of nobody known."
    )


def band(table: pd.DataFrame, moved: pd.DataFrame) -> str:
    """Say which figure depends most on the policy, beside what chance does to it."""
    if table.empty:
        return ""
    rules = moved[moved["used"] | (moved["policy"] != "none")]
    said = _most(table) if len(rules) > 1 else "No other rule that joins devices was asked for."
    used, none = moved[moved["used"]].iloc[0], moved[(moved["policy"] == "none") & ~moved["used"]]
    if len(none):
        said += (
            f" Without any stitching there would be {present.count(none['people_n'].iloc[0])} people instead of "
            f"{present.count(used['people_n'])}."
        )
    return said


def _most(table: pd.DataFrame) -> str:
    width = table["highest"] - table["lowest"]
    if not width.any():
        return "Every rule that joins devices gives the same figures."
    relative = (width / table["value"].abs()).where(width > 0).replace([float("inf")], float("nan"))
    most = table.to_dict("records")[int(relative.argmax() if relative.notna().any() else width.argmax())]
    said = (
        f"Between the rules that join devices to people, {most['figure']} moves most: "
        f"{present.amount(most['lowest'], most['unit'])} ({most['lowest_by']}) to "
        f"{present.amount(most['highest'], most['unit'])} ({most['highest_by']})."
    )
    bounded = table[table["value_low"].notna() & (width > 0)]
    if len(bounded):
        row = bounded.to_dict("records")[int(relative[bounded.index].argmax())]
        interval = present.amount_interval(row["value_low"], row["value_high"], row["unit"])
        said += (
            f" {row['figure']} moves from {present.amount(row['lowest'], row['unit'])} to "
            f"{present.amount(row['highest'], row['unit'])}; chance alone gives it {interval}. The two come together: "
            "a rule shifts the same people, whatever their number."
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
    both = ["b3_precision_share", "b3_recall_share"]
    own = table[table["used"]]
    if own.empty:
        return f"Measured on {sample}."
    row = own.iloc[0]
    better = table[(table[both] >= row[both]).all(axis=1) & (table[both] > row[both]).any(axis=1)]
    other = (
        f" Better on both would be {' and '.join(better['policy'])}." if len(better) else " No other rule is better."
    )
    precision, recall = (
        f"{present.share(row[name])} ({present.interval(row[f'{name}_low'], row[f'{name}_high'], 'share')})"
        for name in both
    )
    return (
        f"Measured on {sample}: of the events that {row['policy']} puts together with one, {precision} are truly of "
        f"the same person, and it finds {recall} of those that are (B³).{other}"
    )


def hindsight(table: pd.DataFrame) -> str:
    """Say how much of what is known now of early events was not known then."""
    if table.empty:
        return ""
    row = table.to_dict("records")[int((table["known_now_share"] - table["known_then_share"]).argmax())]
    return (
        f"Of the events until {row['until_at'].day} {row['until_at']:%B %Y}, {present.share(row['known_then_share'])} "
        f"belonged to a known person then, and {present.share(row['known_now_share'])} do now; "
        f"{present.share(row['moved_share'])} of the people of then have other events now. A model of that day must "
        "not learn from the difference."
    )


def findings(table: pd.DataFrame, scored: pd.DataFrame, shared_table: pd.DataFrame) -> list[Finding]:
    """Return the findings on how much depends on the policy, and on kiosks."""
    found = []
    at_kiosks = shared_table[shared_table["kiosks_n"] > 0] if len(shared_table) else shared_table
    if len(at_kiosks):
        kiosks, events = int(at_kiosks["kiosks_n"].sum()), int(at_kiosks["kiosk_events_n"].sum())
        caveat = f"{present.count(events)} events lie on {'them' if kiosks > 1 else 'it'}; a count of all."
        if len(set(at_kiosks["id_name"])) > 1:
            caveat += " An event that names two of them counts twice."
        found.append(
            Finding(
                id="kiosks",
                chapter="02_stitch",
                statement=f"{present.count(kiosks)} device{'s' if kiosks > 1 else ''} had {KIOSK} people or more sign "
                "in: a kiosk, a counter or a test device.",
                value=float(events),
                unit="events",
                better="down",
                evidence="observed",
                action="Find out where the device stands. If it is a test device, block it or leave its rows out.",
                caveat=caveat,
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
