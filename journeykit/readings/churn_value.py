"""What the tables of customer value say, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from journeykit import present
from journeykit.churn.payback import ALL
from journeykit.findings import Finding
from journeykit.stats import wilson

CHAPTER = "07_churn"
SMALL = 100  # below it, money is told to the hundredth
LUCK = "The interval is of the expectation; what comes in also depends on luck."
COSTS = (
    "First channel, average cost: not what one more customer would cost, and not proof that the channel caused them."
)


def money(value: float, currency: str) -> str:
    """Return an amount, in hundredths where it is small.

    >>> money(59.478, "EUR"), money(49123.2, "EUR"), money(-0.5, "EUR")
    ('EUR 59.48', 'EUR 49,123', 'EUR −0.50')
    """
    if present.missing(value) or abs(value) >= SMALL:
        return present.money(value, currency).replace("-", "−")
    return f"{currency} {present.number(value, 2)}".replace("-", "−").strip()


def contract(table: pd.DataFrame, currency: str = "") -> str:
    """Say what a new customer and those there now are worth. Needs `margin.customer_value`."""
    if table.empty:
        return ""
    lines = [_contract(row, currency, len(table) > 1) for _, row in table.iterrows()]
    return " ".join([*lines[:2], *([f"The other {len(lines) - 2} are in the table."] if len(lines) > 2 else [])])


def point(table: pd.DataFrame, currency: str = "") -> str:
    """Say what one more point of retention is worth. Needs `margin.retention_point`."""
    if table.empty:
        return ""
    row = table.iloc[0]
    who = f"In “{row['segment']}”, " if len(table) > 1 else ""
    text = (
        f"{present.share(row['still_there_share'])} are still there after {row['horizon_days']:.0f} days. One point "
        f"more would be worth {_with(row, 'new_value', currency)} for a new customer and "
        f"{_with(row, 'total_value', currency)} over the {present.count(row['there_n'])} there now: the most that "
        "keeping that point may cost."
    )
    return who + text if not who else who + text[0].lower() + text[1:]


def orders(table: pd.DataFrame, currency: str = "") -> str:
    """Say what customers are expected to bring, or why no value in money is given. Needs `worth.total`."""
    if table.empty:
        return ""
    row = table.iloc[0]
    bought = (
        f"The {present.count(row['n'])} customers are expected to buy {_count(row, 'purchases_n')} times in the next "
        f"{row['horizon_days']:.0f} days"
    )
    refused = str(table.attrs.get("refused", ""))
    if refused:
        return f"{bought}. {refused}"
    parts = table.iloc[1:]
    text = (
        f"{bought}, at {_with(row, 'mean_spend', currency)} a purchase: {_with(row, 'total_value', currency)} of "
        f"margin in today's money, {_with(row, 'value', currency)} a customer."
    )
    if len(parts) < 2 or not row["total_value"] > 0:
        return text
    top = parts.loc[parts["total_value"].idxmax()]
    return (
        f"{text} {present.share(top['total_value'] / row['total_value'], 0)} of it comes from the "
        f"{present.share(top['n'] / row['n'], 0)} with {top['group']} so far."
    )


def bought(table: pd.DataFrame, currency: str = "") -> str:
    """Say how many customers bought again so far. Needs `purchases.counts`."""
    if table.empty:
        return ""
    n, once = int(table["n"].iloc[0]), table[table["group"] == "1 purchase"]
    again = n - (int(once["customers_n"].iloc[0]) if len(once) else 0)
    low, high = wilson(again, n)
    rest = table[table["group"] != "1 purchase"].dropna(subset=["mean_spend"])
    text = (
        f"Of {present.count(n)} customers, {present.count(again)} ({present.share(again / n)}, "
        f"{present.interval(low, high, 'share')}) bought again so far"
    )
    if rest.empty:
        return f"{text}."
    mean = float((rest["mean_spend"] * rest["customers_n"]).sum() / rest["customers_n"].sum())
    return f"{text}, for {money(mean, currency)} a purchase on average."


def alive(table: pd.DataFrame) -> str:
    """Say how many of those who bought again are likely gone. Needs `worth.alive`."""
    if table.empty:
        return ""
    n = int(table["n"].sum())
    gone = int(table.loc[table["to_share"] <= 0.5 + 1e-9, "n"].sum())
    once = int(table.attrs.get("once_n", 0))
    text = (
        f"Of {present.count(n)} customers who bought again, {present.count(gone)} ({present.share(gone / n)}) are more "
        "likely gone than active."
    )
    more = f" {present.count(once)} who bought once are left out: the model lets nobody leave before a second purchase."
    return text + (more if once else "")


def backtest(table: pd.DataFrame) -> str:
    """Say how far what was foretold is from what came. Needs `worth.backtest`."""
    if table.empty:
        return ""
    row = table.iloc[0]
    n, came = present.count(row["n"]), present.count(row["actual_n"])
    text = (
        f"Fitted on what was known {row['days']:.0f} days before the end, the model foretold "
        f"{_count(row, 'predicted_n')} purchases of {n} customers for those days; {came} came."
    )
    if present.missing(row["error_share"]):
        return text
    error, low, high = (float(row[f"error_share{end}"]) for end in ("", "_low", "_high"))
    many = "many" if error > 0 else "few"
    span = present.interval(low, high, "share")
    chance = "more than chance explains" if low > 0 or high < 0 else "no more than chance explains"
    pace = float(row["same_pace_n"]) / float(row["actual_n"]) - 1
    rival = "Counting on the pace so far"
    return (
        f"{text} That is {present.share(abs(error))} too {many} (error {span}), {chance}. {rival} would have been "
        f"{present.share(abs(pace), 0)} too {'many' if pace > 0 else 'few'}."
    )


def payback(table: pd.DataFrame, currency: str = "", what: str = "") -> str:
    """Say what new customers cost and when that is earned back.

    Needs the table of `payback.of_contract` or `payback.of_orders`. `what` names the margin that is counted, such as
    "the care plan".
    """
    if table.empty:
        return ""
    known = table[(table["channel"] != ALL) & table["cost"].notna()]
    if known.empty:
        return f"No channel has both spend and new customers: {table['verdict'].iloc[0]}."
    lines = [_paid(row, currency) for _, row in known.head(3).iterrows()]
    free = table[(table["channel"] != ALL) & table["spend"].isna()]
    rest = [f"No spend is recorded for {_names(free['channel'])}: they have no cost here."] if len(free) else []
    return " ".join([*([f"Counting {what} alone:"] if what else []), *lines, *rest])


def shown(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table of value that a page has room for; the file has all of them."""
    columns = ["segment", "group", "channel", "n", "there_n", "ahead_days", "still_there_share", "new_value"]
    columns += ["remaining_value", "customers_n", "customers_share", "alive_share", "purchases_n", "mean_spend"]
    columns += ["value", "total_value", "predicted_n", "actual_n", "error_share", "same_pace_n", "cost"]
    columns += ["earned_value", "payback_days"]
    empty = [name for name in columns if name in table and len(table) and table[name].isna().all()]
    if "segment" in table and set(table["segment"]) == {"all"}:
        empty.append("segment")
    return [name for name in columns if name in table and name not in empty]


def note(table: pd.DataFrame) -> str:
    """Return what a table says about what was cut or left out."""
    return str(table.attrs.get("note", ""))


def findings(
    *,
    value: pd.DataFrame | None = None,
    kept: pd.DataFrame | None = None,
    ordered: pd.DataFrame | None = None,
    tested: pd.DataFrame | None = None,
    paybacks: dict[str, pd.DataFrame] | None = None,
    currency: str = "",
    owner: Callable[[str], str] = lambda event: "",
    events: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> list[Finding]:
    """Return the findings of value: what customers are worth, a point of retention, the back-test, slow paybacks.

    Args:
        value: of `margin.customer_value`.
        kept: of `margin.retention_point`.
        ordered: of `worth.total`.
        tested: of `worth.backtest`.
        paybacks: tables of payback by the name of what is counted.
        currency: of the study.
        owner: gives the team that owns an event.
        events: those that end a contract, and those that are purchases.
    """
    found = []
    if value is not None and len(value):
        row = value.iloc[0]
        found.append(
            _finding("value.contract", _contract(row, currency, len(value) > 1), row, "total_value", currency)
            | {"n": row["there_n"], "better": "up", "caveat": f"{LUCK} {note(value)}".strip(), "headline": True}
            | {"label": "Expected margin of those there now", "table": "customer_value"}
            | {"owner": _owner(owner, events[0])}
        )
    if kept is not None and len(kept):
        row = kept.iloc[0]
        sentence = point(kept.head(1), currency)
        found.append(
            _finding("value.point", sentence, row, "total_value", currency)
            | {"n": row["there_n"], "better": "up", "owner": _owner(owner, events[0]), "table": "retention_point"}
            | {"caveat": "The point is assumed to be kept evenly over time; what keeping it costs is not taken off."}
            | {"action": "Spend no more than this on keeping a point more, and test in an experiment what keeps it."}
        )
    if ordered is not None and len(ordered):
        row, refused = ordered.iloc[0], bool(ordered.attrs.get("refused", ""))
        sentence = orders(ordered, currency)
        name, off = "purchases_n" if refused else "total_value", ""
        if tested is not None and len(tested) and not present.missing(tested["error_share"].iloc[0]):
            error = present.share(tested["error_share"].iloc[0]).replace("-", "−")
            off = f"In the back-test the model was off by {error}, which the interval does not hold."
        found.append(
            _finding("value.orders", sentence, row, name, "" if refused else currency)
            | {
                "n": row["n"],
                "better": "up",
                "caveat": f"{off or LUCK} {note(ordered)}".strip(),
                "table": "order_value",
            }
            | {"owner": _owner(owner, events[1]), "label": "Expected margin of orders"}
        )
    if tested is not None and len(tested) and not present.missing(tested["error_share"].iloc[0]):
        row = tested.iloc[0]
        off = row["error_share_low"] > 0 or row["error_share_high"] < 0
        found.append(
            _finding("value.backtest", backtest(tested), row, "error_share", "share")
            | {"n": row["n"], "table": "backtest"}
            | {"caveat": "One period held out; another one may be nearer or farther."}
            | {"action": "Correct totals of the model by this error before planning with them." if off else ""}
        )
    for what, table in (paybacks or {}).items():
        found += _paybacks(what, table, currency)
    return [Finding(**{**made, "table": f"{CHAPTER}__{made['table']}"}) for made in found]


def _owner(owner: Callable[[str], str], events: Sequence[str]) -> str:
    """The team that owns the first of some events that has one."""
    return next((team for team in map(owner, events) if team), "")


def _paybacks(what: str, table: pd.DataFrame, currency: str) -> list[dict[str, Any]]:
    """The channel that takes longest to pay back, or does not."""
    known = table[(table["channel"] != ALL) & table["cost"].notna()] if len(table) else table
    if known.empty:
        return []
    slowest = known["payback_days"].fillna(float("inf")).to_numpy().argmax()
    row = known.iloc[int(slowest)]
    late = present.missing(row["payback_days"])
    name = "cost" if late else "payback_days"
    made = _finding(f"payback.{what.replace(' ', '_')}", _paid(row, currency), row, name, currency if late else "days")
    made |= {"n": row["n"], "better": "down", "caveat": COSTS, "table": f"payback_{what.replace(' ', '_')}"}
    made["statement"] = f"Counting {what} alone: {made['statement']}"
    action = f"Do not raise spend on {row['channel']} before an experiment shows what one more customer costs."
    return [made | {"action": action if late else ""}]


def _finding(name: str, statement: str, row: pd.Series, column: str, unit: str) -> dict[str, Any]:
    values = {"value": row[column], "low": row[f"{column}_low"], "high": row[f"{column}_high"]}
    return {"id": f"churn.{name}", "chapter": CHAPTER, "statement": statement, "unit": unit, **values}


def _contract(row: pd.Series, currency: str, named: bool) -> str:
    who = f" in “{row['segment']}”" if named else ""
    parts = []
    if not present.missing(row["new_value"]):
        parts.append(
            f"A new customer{who} (n = {present.count(row['n'])}) is expected to bring "
            f"{_with(row, 'new_value', currency)} of margin in the first {row['horizon_days']:.0f} days, in today's "
            "money."
        )
    if row["there_n"]:
        parts.append(
            f"The {present.count(row['there_n'])} there now{who} are worth {_with(row, 'total_value', currency)} over "
            f"the next {row['ahead_days']:.0f} days on average, {_with(row, 'remaining_value', currency)} each."
        )
    return " ".join(parts)


def _paid(row: pd.Series, currency: str) -> str:
    cost = f"A new customer by {row['channel']} costs {_with(row, 'cost', currency)} (n = {present.count(row['n'])})"
    if present.missing(row["payback_days"]):
        return (
            f"{cost}, which is not paid back within {row['horizon_days']:.0f} days: by day {row['earned_days']:.0f} "
            f"{_with(row, 'earned_value', currency)} is earned."
        )
    if row["payback_days"] == 0:
        return f"{cost}, which the first day pays back."
    low, high = row["payback_days_low"], row["payback_days_high"]
    beyond = f"from {low:.0f} days to more than the {row['horizon_days']:.0f} observed" if low == low else "unsure"
    span = f"{present.interval(low, high, '', 0)}" if not present.missing(high) else beyond
    return f"{cost}, which is paid back after {row['payback_days']:.0f} days ({span})."


def _with(row: pd.Series, name: str, currency: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if present.missing(low) or present.missing(high):
        return money(row[name], currency)
    digits = 2 if max(abs(low), abs(high)) < SMALL else 0
    return f"{money(row[name], currency)} ({present.interval(low, high, '', digits)})"


def _count(row: pd.Series, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    bounds = "" if present.missing(low) else f" ({present.interval(low, high, '', 0)})"
    return f"{present.count(row[name])}{bounds}"


def _names(names: pd.Series) -> str:
    listed = [str(name) for name in names]
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
