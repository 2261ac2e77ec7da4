"""Numbers as a reader wants them: shares in percent, intervals beside estimates, units on everything."""

from __future__ import annotations

import html
import math
from typing import Any

import pandas as pd

WORDS = {
    "n": "n",
    "p": "p",
    "id": "ID",
    "as": "as",
    "of": "of",
    "utc": "UTC",
    "ph": "PH",
    "cuped": "CUPED",
    "nps": "NPS",
}
NONE = "–"
DIFFERENCES = ("effect", "margin", "detectable", "difference")  # of two shares: a number of percentage points
MONEY = (
    *("value", "value_if_quarter", "value_if_all", "spend", "cost_per_conversion"),
    *("with_value", "without_value", "value_gap", "at_stake_value"),
    *("new_value", "remaining_value", "total_value", "mean_spend", "cost", "earned_value", "expected_loss"),
)  # where the column is numeric and rows have no units of their own
MOMENT = 0.1  # days; shorter ones are no longer read as days
LONG = 40  # characters; a column whose median text is longer holds sentences


def missing(value: Any) -> bool:
    """Tell whether a value is None, NaN, NaT or infinite."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value))


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with thousands separators.

    >>> number(1234.56), number(None)
    ('1,234.6', '–')
    """
    return NONE if missing(value) else f"{float(value or 0):,.{digits}f}"


def count(value: float | None) -> str:
    """Return a whole number with thousands separators.

    >>> count(1234)
    '1,234'
    """
    return number(value, 0)


def share(value: float | None, digits: int = 1) -> str:
    """Return a share of 0–1 in percent.

    >>> share(0.1034)
    '10.3 %'
    """
    return NONE if missing(value) else f"{100 * float(value or 0):.{digits}f} %"


def days(value: float | None, digits: int = 1) -> str:
    """Return a duration in days.

    >>> days(1.0), days(3.24)
    ('1.0 days', '3.2 days')
    """
    return NONE if missing(value) else f"{number(value, digits)} days"


def seconds(value: float | None) -> str:
    """Return a duration in the unit that reads best.

    >>> seconds(42), seconds(600), seconds(7200), seconds(172800), seconds(-42)
    ('42 s', '10 min', '2.0 h', '2.0 days', '−42 s')
    """
    if missing(value):
        return NONE
    value = float(value or 0)
    if value < 0:
        return f"−{seconds(-value)}"
    if value < 120:
        return f"{value:.0f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h" if value < 172800 else days(value / 86400)


def money(value: float | None, currency: str) -> str:
    """Return an amount in whole units of the currency.

    >>> money(1234.5, "EUR")
    'EUR 1,234'
    """
    return NONE if missing(value) else f"{currency} {number(value, 0)}"


def interval(low: float | None, high: float | None, unit: str = "", digits: int = 1) -> str:
    """Return an interval; `unit` "share" prints percent.

    >>> interval(0.091, 0.116, "share"), interval(-0.02, 0.01, "share"), interval(1, 2)
    ('9.1–11.6 %', '−2.0 to 1.0 %', '1.0–2.0')
    """
    if missing(low) or missing(high):
        return NONE
    scale = 100 if unit == "share" else 1
    bottom, top = scale * float(low or 0), scale * float(high or 0)
    joined = (" to " if bottom < 0 else "–").join(number(x, digits) for x in (bottom, top)).replace("-", "−")
    return joined + (" %" if unit == "share" else "")


def amount(value: float | None, unit: str) -> str:
    """Return a value by its unit: share, score, days, seconds, people, orders, points, ratio or a currency.

    A rise carries no plus sign: points may be a difference or a level (a score of 32 points), and the unit cannot say.

    >>> amount(0.5, "share"), amount(1.84, "ratio"), amount(12.25, "EUR"), amount(0.361, "score"), amount(5, "points")
    ('50.0 %', '× 1.84', 'EUR 12', '0.36', '5.0 points')
    >>> amount(0.1234, "per session")
    '0.123 per session'
    >>> amount(1.5, "days"), amount(0.02, "days")  # less than a day in hours, minutes or seconds
    ('1.5 days', '29 min')
    """
    if missing(value):
        return NONE
    if unit == "days" and 0 < float(value or 0) < 1:
        return seconds(86_400 * float(value or 0))
    if unit == "score":
        return number(value, 2).replace("-", "−")
    simple = {"share": share, "days": days, "seconds": seconds, "": number}
    if unit in simple:
        return simple[unit](value).replace("-", "−")
    if unit == "ratio":
        return f"× {number(value, 2)}"
    if unit in ("people", "orders", "events", "journeys", "rows"):
        return f"{count(value)} {unit}"
    if len(unit) == 3 and unit.isupper():
        return money(value, unit)
    return f"{number(value, 3 if unit.startswith('per ') else 1)} {unit}".replace("-", "−")


def amount_interval(low: float | None, high: float | None, unit: str) -> str:
    """Return the interval of a value by its unit.

    >>> amount_interval(1.5, 2.25, "ratio"), amount_interval(9, 12, "EUR"), amount_interval(0.328, 0.394, "score")
    ('1.50–2.25', '9–12', '0.33–0.39')
    >>> amount_interval(1.5, 3, "days"), amount_interval(0.02, 1.5, "days")  # each bound in its own unit
    ('1.5–3.0', '29 min to 1.5 days')
    """
    if unit == "seconds" and not missing(low) and not missing(high):
        return f"{seconds(low)} to {seconds(high)}"
    if unit == "days" and not missing(low) and not missing(high) and float(low or 0) < 1:
        return f"{amount(low, unit)} to {amount(high, unit)}"
    other = 0 if len(unit) == 3 and unit.isupper() else 3 if unit.startswith("per ") else 1
    digits = {"ratio": 2, "score": 2, "people": 0, "orders": 0}.get(unit, other)
    return interval(low, high, unit, digits)


def heading(column: str) -> str:
    """Return a column's name as a reader's heading, with its unit.

    >>> heading("continued_share"), heading("median_days"), heading("people_n"), heading("n")
    ('Continued', 'Median (days)', 'People', 'n')
    """
    if column == "n":
        return "n"
    for suffix, unit in (("_share", ""), ("_n", ""), ("_days", " (days)"), ("_seconds", ""), ("_at", " (UTC)")):
        if column.endswith(suffix) and column != suffix:
            return _words(column.removesuffix(suffix)) + unit
    return _words(column)


def _words(name: str) -> str:
    words = " ".join(WORDS.get(word, word) for word in name.split("_"))
    return words[:1].upper() + words[1:] if not words.startswith("n ") and words != "p value" else words


def table(frame: pd.DataFrame, limit: int | None = None, currency: str = "") -> str:
    """Return a table as HTML for a reader: formatted by suffix, with `x_low` and `x_high` beside `x` in its cell.

    A column `unit` gives each row its own unit, and amounts of money are in `currency`. Everything is escaped. Each
    number carries its exact value in `data-sort`, so that pages can sort by it. Columns of sentences have class `wide`.
    """
    shown = frame if limit is None else frame.head(limit)
    names = [str(name) for name in frame.columns]
    columns = [name for name in names if not _is_bound(name, names) and name != "unit"]
    numeric = {name: pd.api.types.is_numeric_dtype(frame[name]) or name.endswith("_share") for name in columns}
    money_columns = [n for n in columns if n in MONEY and numeric[n] and currency and "unit" not in names]
    titles = _titles(columns, dict.fromkeys(money_columns, f" ({currency})"))
    spans = {name for name in columns if name.endswith("_days") and numeric[name] and _has_moments(frame[name])}
    titles |= {name: titles[name].removesuffix(" (days)") for name in spans}
    kinds = {name: "num" if numeric[name] else "wide" if _is_long(shown[name]) else "" for name in columns}
    head = "".join(f'<th scope="col"{_class(kinds[name])}>{html.escape(titles[name])}</th>' for name in columns)
    rows = []
    for row in shown.to_dict("records"):
        cells = "".join(_cell(row, name, kinds[name], names, "days" if name in spans else "") for name in columns)
        rows.append(f"<tr>{cells}</tr>")
    return f'<table class="jk"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _is_long(column: pd.Series[Any]) -> bool:
    """Tell whether a column holds sentences, which need room."""
    lengths = column.dropna().astype(str).str.len()
    return len(lengths) > 0 and float(lengths.median()) > LONG


def _has_moments(days: pd.Series[Any]) -> bool:
    """Tell whether some of a column's durations are so short that each needs its own unit: hours, minutes, seconds."""
    return bool(((days.abs() > 0) & (days.abs() < MOMENT)).any())


def _titles(columns: list[str], units: dict[str, str]) -> dict[str, str]:
    """The headings of a table; money names its currency, and a share beside its count says that it is one."""
    titles = {name: heading(name) + units.get(name, "") for name in columns}
    twice = {title for title in titles.values() if list(titles.values()).count(title) > 1}
    return {n: f"{title} (%)" if title in twice and n.endswith("_share") else title for n, title in titles.items()}


def _is_bound(name: str, names: list[str]) -> bool:
    return any(name == f"{base}_{side}" for base in names for side in ("low", "high")) or (
        name in ("low", "high") and _main(names) != ""
    )


def _main(names: list[str]) -> str:
    """The estimate that bare `low` and `high` belong to: the column before `low`."""
    if "low" not in names or names.index("low") == 0:
        return ""
    return names[names.index("low") - 1]


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _cell(row: dict[Any, Any], name: str, kind: str, names: list[str], own: str = "") -> str:
    value = row[name]
    own = own or ("seconds" if name.endswith("_seconds") else "")
    unit = own or (row.get("unit") if isinstance(value, float) and not _has_own_unit(name) else None)
    if isinstance(unit, str) and unit and not missing(value):
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        if unit == "share" and name.removeprefix("cuped_") in DIFFERENCES:
            low, high = (None if bound is None or missing(bound) else 100 * bound for bound in (low, high))
            value, unit = 100 * value, "points"
        text = amount(value, unit)
        bounds = amount_interval(low, high, unit)
        text += f' <span class="ci">({bounds})</span>' if bounds != NONE else ""
        return f'<td{_class(kind)} data-sort="{_sort(value)}">{text}</td>'
    text = _format(name, value)
    low, high = (f"{name}_low", f"{name}_high") if f"{name}_low" in names else ("low", "high")
    if low in names and high in names and (low != "low" or _main(names) == name) and not missing(value):
        bounds = interval(row[low], row[high], "share" if _is_share(name) else "", _digits(name, value))
        if bounds != NONE:
            text += f' <span class="ci">({bounds})</span>'
            return f'<td{_class(kind)} data-sort="{_sort(value)}">{text}</td>'
    return f"<td{_class(kind)}{_data_sort(value, kind == 'num')}>{text}</td>"


def _data_sort(value: Any, is_number: bool) -> str:
    return f' data-sort="{_sort(value)}"' if is_number and not missing(value) else ""


def _sort(value: Any) -> str:
    return f"{float(value):.6g}"


def _is_share(name: str) -> bool:
    return name.endswith("_share") or name.startswith("share_") or name == "share" or "_share_" in name


def _has_own_unit(name: str) -> bool:
    """A column whose name says its unit; the others take the row's `unit`, where the table has that column."""
    own = name.endswith(("_n", "_days", "_seconds", "p_value")) or name.startswith("p_") or name == "n"
    return own or _is_share(name)


def _digits(name: str, value: Any) -> int:
    if name.endswith("_n") or name == "n" or (name in MONEY and abs(float(value)) >= 1000):
        return 0
    return 1 if _is_share(name) or abs(float(value)) >= 10 else 2


def _format(name: str, value: Any) -> str:
    if missing(value):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d" if value == value.normalize() else "%Y-%m-%d %H:%M")
    if not isinstance(value, (int, float)) and not pd.api.types.is_number(value):
        return html.escape(str(value))
    if name.startswith("p_") or name.endswith("p_value"):
        return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"
    if _is_share(name):
        return share(value).replace("-", "−")
    if name.endswith("_seconds"):
        return seconds(value)
    whole = float(value).is_integer() and (name.endswith("_n") or pd.api.types.is_integer(value) or name == "n")
    return number(value, 0 if whole else _digits(name, value)).replace("-", "−")
