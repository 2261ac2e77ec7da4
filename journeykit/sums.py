"""Sums of fractions that are the same to the last digit, whatever the order in which an engine meets the rows.

Floats added in another order give another last digit; integers do not. So fractions are added as whole numbers of a
small unit.
"""

from __future__ import annotations

import narwhals as nw
import pandas as pd

MONEY = 1_000_000  # units of 1: no currency is counted in less than millionths
LARGE = 1e9  # what is not below is added as it is: in millionths, few such amounts would not fit an integer
SHARE = 10_000_000_000  # units of 1 for what lies between 0 and 1: decimals stay exact, 900 million fit an integer


def whole(value: nw.Expr, units: int) -> nw.Expr:
    """Return a number as whole units, 0 where it is null; the sum of such is as exact as an integer."""
    return nw.when(value.abs() < LARGE).then((value * units).round(0)).otherwise(0.0).cast(nw.Int64)


def money(name: str, value: nw.Expr) -> dict[str, nw.Expr]:
    """Return the columns to add up, instead of amounts, under `<name>_whole` and `<name>_large`; see `total`."""
    value = value.cast(nw.Float64)
    return {
        f"{name}_whole": whole(value, MONEY),
        f"{name}_large": nw.when(value.abs() >= LARGE).then(value).otherwise(0.0),
    }


def total(found: pd.DataFrame, name: str) -> pd.Series:
    """Return the sums of amounts from the sums of the columns of `money`, 0 where there was none.

    >>> total(pd.DataFrame({"value_whole": [300_000], "value_large": [0.0]}), "value").tolist()
    [0.3]
    """
    return found[f"{name}_whole"].astype(float) / MONEY + found[f"{name}_large"].astype(float)
