"""Whether a feature tells those who stopped from those who went on: shares, differences, odds, and adjusted tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats as _stats
from statsmodels.stats.multitest import multipletests

from journeykit import stats
from journeykit.differences import difference, stratified, two_shares

NEARLY_ALL, NEARLY_NONE = 0.95, 0.05  # of one side and of the other: the feature is the step itself, or its twin
SURE = 0.05
ENOUGH = 20  # units with a feature, and without it: of fewer, no difference is told
_STOPPED = ("stopped_n", "stopped_of_n", "stopped_share", "stopped_share_low", "stopped_share_high")
_WENT_ON = ("went_on_n", "went_on_of_n", "went_on_share", "went_on_share_low", "went_on_share_high")
COLUMNS = (
    *("feature", "kind", "same_as", "n", *_STOPPED, *_WENT_ON),
    *("lost_share", "lost_share_low", "lost_share_high", "lost_without_share"),
    *("difference_points", "difference_points_low", "difference_points_high"),
    *("log_odds", "log_odds_low", "log_odds_high", "p_value", "p_adjusted", "test", "direction", "is_structural"),
)
DESCRIBED = ("feature", "kind", "same_as", *_STOPPED, *_WENT_ON, "before_next_share", "is_structural")


def compared(counts: pd.DataFrame, of: pd.DataFrame, *, min_n: int = 1, design: float = 1.0) -> pd.DataFrame:
    """Compare the presence of features between units that stopped and units that went on.

    The difference is that of the share lost: of those with the feature, less that of those without it, in percentage
    points. With one stratum it has Newcombe's interval, and the p-value of the chi-square test, or Fisher's where few
    are expected. With several, units are compared within each: the difference is Mantel and Haenszel's, with Sato's
    interval, and the p-value that of Cochran, Mantel and Haenszel. The log-odds have half a unit added to each cell
    (Haldane 1956), spread over the strata by their size, so that they are finite, and the interval of Robins, Breslow
    and Greenland (1986), which is Woolf's with one stratum.

    p-values are adjusted over all features that are tested by Benjamini and Hochberg: of those called sure (p_adjusted
    < 0.05), at most one in twenty is expected to be chance. A feature that nearly all of one side have and nearly none
    of the other is the step itself, its twin, or a technical part of it: marked, not tested, listed last.

    Args:
        counts: one row per feature and stratum: feature, kind (its column), stratum, stopped_n, went_on_n, and whose (a
            number that stands for the units; features of the same ones are one, under the name that comes first).
        of: one row per stratum: stratum, stopped_n and went_on_n, of all units.
        min_n: features of which a smaller number (but not 0) stopped or went on are not shown, nor those that fewer
            than 20 units have, or have not, nor those that all or none of a stratum have. How many these are is in
            `attrs["left_out_n"]`.
        design: by how much the units are fewer than their number, because those of a person are alike.

    Returns:
        One row per feature, ordered by p_adjusted, structural ones last: feature, kind, same_as (other names of it), n
        units with it; stopped_n of stopped_of_n, went_on_n of went_on_of_n; lost_share of those with it, and
        lost_without_share, of all strata together; difference_points; log_odds of stopping; p_value, p_adjusted, test;
        direction ("leave": those with it leave more often; "stay"); is_structural.
    """
    stopped_of, on_of = int(of["stopped_n"].sum()), int(of["went_on_n"].sum())
    if min(stopped_of, on_of) < max(min_n, ENOUGH):
        few = f"{stopped_of} stopped, {on_of} went on; at least {max(min_n, ENOUGH)} of each are needed"
        return stats.not_enough(COLUMNS, f"not enough data ({few})")
    table = _named_once(counts)
    without = stopped_of + on_of - table["n"]
    enough = (table["n"] >= ENOUGH) & (without >= ENOUGH) & _shown(table, min_n)
    table, left_out = table[enough], int((~enough & (without > 0)).sum())
    if table.empty:
        reason = f"not enough data (no feature that {ENOUGH} have and {ENOUGH} have not)"
        return stats.not_enough(COLUMNS, reason)
    table = _shares(table.assign(stopped_of_n=stopped_of, went_on_of_n=on_of), design)
    totals = of.set_index("stratum")[["stopped_n", "went_on_n"]]
    parts = counts.set_index(["kind", "feature"])[["stratum", "stopped_n", "went_on_n"]].sort_index()
    rows = []
    for kind, feature in zip(table["kind"], table["feature"], strict=True):
        part = parts.loc[[(kind, feature)]].set_index("stratum").reindex(totals.index, fill_value=0)
        rows.append(_row(part.to_numpy(dtype=float), totals.to_numpy(dtype=float), design))
    table = pd.concat([table.reset_index(drop=True), pd.DataFrame(rows)], axis=1)
    alone = table["difference_points"].isna()  # no stratum has units with it and units without it
    table, left_out = table[~alone], left_out + int(alone.sum())
    if table.empty:
        return stats.not_enough(COLUMNS, "not enough data (nobody to compare with who took as long to the step)")
    table = table.assign(is_structural=_is_structural(table))
    tested = ~table["is_structural"]
    table.loc[~tested, ["p_value"]] = np.nan
    table["p_adjusted"] = np.nan
    if tested.any():
        table.loc[tested, "p_adjusted"] = multipletests(table.loc[tested, "p_value"], method="fdr_bh")[1]
    table["_size"] = -table["difference_points"].abs()
    order = ["is_structural", "p_adjusted", "p_value", "_size", "kind", "feature"]
    table = table.sort_values(order, ignore_index=True)[list(COLUMNS)]
    table.attrs["left_out_n"] = left_out
    return table


def described(counts: pd.DataFrame, of: pd.DataFrame, *, min_n: int = 1) -> pd.DataFrame:
    """Return the presence of features on both sides without comparing them.

    Args:
        counts: as in `compared`, with close_n (of those who went on, units where it was last seen a few seconds before
            the next step).
        stopped_of_n: all that stopped.
        went_on_of_n: all that went on.
        min_n: units with the feature that a row needs; as in `compared`.

    Returns:
        One row per feature, the most frequent among those who stopped first, structural ones last: feature, kind,
        stopped_n of stopped_of_n, went_on_n of went_on_of_n with shares, before_next_share (close_n of went_on_n),
        is_structural: nearly only on one side, or nearly always seconds before the next step.
    """
    stopped_of, on_of = int(of["stopped_n"].sum()), int(of["went_on_n"].sum())
    if stopped_of < max(min_n, ENOUGH):
        few = f"not enough data ({stopped_of} stopped, at least {max(min_n, ENOUGH)} are needed)"
        return stats.not_enough(DESCRIBED, few)
    table = _named_once(counts)
    table = table[(table["n"] >= ENOUGH) & _shown(table, min_n)]
    if table.empty:
        return stats.not_enough(DESCRIBED, f"not enough data (nothing that {ENOUGH} of them did)")
    table = _shares(table.assign(stopped_of_n=stopped_of, went_on_of_n=on_of), 1.0)
    table["before_next_share"] = table["close_n"] / table["went_on_n"].where(table["went_on_n"] > 0)
    close = (table["before_next_share"] >= NEARLY_ALL) & (table["went_on_n"] >= ENOUGH)
    table["is_structural"] = _is_structural(table) | close
    order = ["is_structural", "stopped_n", "went_on_n", "kind", "feature"]
    table = table.sort_values(order, ascending=[True, False, False, True, True], ignore_index=True)
    return table[list(DESCRIBED)]


def _named_once(counts: pd.DataFrame) -> pd.DataFrame:
    """Add up the strata, and join features that the same units have, such as the only event of a channel and that."""
    sums = counts.groupby(["kind", "feature"], sort=False, as_index=False).sum(numeric_only=True)
    same = [sums[name] for name in ("stopped_n", "went_on_n", "whose")]
    names = sums["feature"].astype(str).groupby(same, sort=False)
    first, joined = names.cumcount() == 0, names.transform(lambda part: ", ".join(dict.fromkeys(part.iloc[1:])))
    return sums.assign(same_as=joined, n=sums["stopped_n"] + sums["went_on_n"])[first]


def _shown(table: pd.DataFrame, min_n: int) -> pd.Series:
    """Whether no cell is so small that it would show single people; none at all is no person."""
    cells = table[["stopped_n", "went_on_n"]]
    return ((cells == 0) | (cells >= min_n)).all(axis=1)


def _shares(table: pd.DataFrame, design: float) -> pd.DataFrame:
    """Add the share of each side that has the feature, with Wilson's interval of the effective numbers."""
    for side in ("stopped", "went_on"):
        k, n = table[f"{side}_n"], table[f"{side}_of_n"]
        bounds = [stats.wilson(a / design, b / design) for a, b in zip(k, n, strict=True)]
        table = table.assign(**{f"{side}_share": k / n.where(n > 0)})
        table[f"{side}_share_low"], table[f"{side}_share_high"] = ([bound[x] for bound in bounds] for x in (0, 1))
    return table


def _row(part: np.ndarray, totals: np.ndarray, design: float) -> dict[str, float | str]:
    """What one feature says: lines are strata, columns those that stopped and those that went on."""
    (stopped, on), (stopped_of, on_of) = part.sum(axis=0), totals.sum(axis=0)
    n, without = stopped + on, stopped_of + on_of - stopped - on
    k, k_without = stopped / design, (stopped_of - stopped) / design
    p_value, test = two_shares(k, n / design, k_without, without / design)
    gap = difference(k, n / design, k_without, without / design)
    if len(totals) > 1:
        rest = totals - part
        *within, of_strata = stratified(
            part[:, 0] / design, part.sum(axis=1) / design, rest[:, 0] / design, rest.sum(axis=1) / design
        )
        gap = (within[0], within[1], within[2])
        p_value, test = (p_value, test) if test == "Fisher" else (of_strata, "Cochran–Mantel–Haenszel")
    low, high = stats.wilson(k, n / design)
    log_odds, error = _log_odds(part, totals, design)
    reach = float(_stats.norm.ppf(0.975)) * error
    return {
        "lost_share": stopped / n,
        "lost_share_low": low,
        "lost_share_high": high,
        "lost_without_share": (stopped_of - stopped) / without,
        "difference_points": 100 * gap[0],
        "difference_points_low": 100 * gap[1],
        "difference_points_high": 100 * gap[2],
        "log_odds": log_odds,
        "log_odds_low": log_odds - reach,
        "log_odds_high": log_odds + reach,
        "p_value": p_value,
        "test": test,
        "direction": "leave" if gap[0] > 0 else "stay" if gap[0] < 0 else "",
    }


def _log_odds(part: np.ndarray, totals: np.ndarray, design: float) -> tuple[float, float]:
    """The log-odds of Mantel and Haenszel, and their standard error."""
    sizes = totals.sum(axis=1, keepdims=True)
    half = 0.5 * sizes / sizes.sum()
    (a, b), (c, d) = (part / design + half).T, ((totals - part) / design + half).T
    n = a + b + c + d
    p, q, r, s = (a + d) / n, (b + c) / n, a * d / n, b * c / n
    right, wrong = r.sum(), s.sum()
    variance = (p * r).sum() / (2 * right**2) + (p * s + q * r).sum() / (2 * right * wrong)
    variance += (q * s).sum() / (2 * wrong**2)
    return float(np.log(right / wrong)), float(np.sqrt(variance))


def _is_structural(table: pd.DataFrame) -> pd.Series:
    shares = table[["stopped_share", "went_on_share"]]
    return (shares.max(axis=1) >= NEARLY_ALL) & (shares.min(axis=1) <= NEARLY_NONE)
