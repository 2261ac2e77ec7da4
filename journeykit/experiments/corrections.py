"""Corrections for the number of comparisons of one experiment."""

from __future__ import annotations

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from journeykit.config import Experiment

ALPHA = 0.05
FAMILY = ("primary", "secondary")


def in_family(role: pd.Series) -> pd.Series:
    """Whether comparisons belong to the family that is corrected: guardrails do not, whatever the correction.

    A correction makes it harder to show something. For a guardrail, what is to be shown is harm, and harm must not be
    hidden because many things were looked at; so each guardrail keeps the whole error rate.
    """
    return role.isin(FAMILY)


def levels(role: pd.Series, experiment: Experiment) -> pd.Series:
    """Return the error rate of each comparison under `preferential`: the family's 0.05, shared out by role.

    Of `primary_share` γ each of the k comparisons of primary metrics gets γα/k, of the rest each of the others an equal
    part; with only one kind of them, it gets the whole. Bonferroni's inequality keeps the chance of any false finding
    in the family below α, and the intervals at these levels agree with the p-values, which those of Holm do not. As in
    Eppo's "preferential Bonferroni", there with guardrails among the rest.

    >>> from journeykit.config import Experiment
    >>> plan = Experiment(name="t", hypothesis="h", exposure="x", arms={"a": 1.0}, control="a", primary_share=0.8,
    ...     metrics=[{"name": "m", "event": "e"}])
    >>> levels(pd.Series(["primary", "secondary", "secondary", "guardrail"]), plan).round(4).tolist()
    [0.04, 0.005, 0.005, 0.05]
    """
    primary, rest = (int((role == name).sum()) for name in FAMILY)
    share = experiment.primary_share if primary and rest else 1.0
    found = pd.Series(ALPHA, index=role.index)
    found[role == "primary"] = share * ALPHA / max(primary, 1)
    found[role == "secondary"] = (1 - share if primary else 1.0) * ALPHA / max(rest, 1)
    return found


def adjusted(p_value: pd.Series, role: pd.Series, experiment: Experiment) -> pd.Series:
    """Return p-values corrected over the family, to be compared with 0.05; NaN for guardrails.

    `holm`: Holm (1979), the chance of any false finding. `fdr`: Benjamini & Hochberg (1995), the share of false ones
    among the findings. `preferential`: p · 0.05 / level; see `levels`.

    >>> from journeykit.config import Experiment
    >>> plan = Experiment(name="t", hypothesis="h", exposure="x", arms={"a": 1.0}, control="a",
    ...     metrics=[{"name": "m", "event": "e"}])
    >>> role = pd.Series(["primary", "secondary", "guardrail"])
    >>> adjusted(pd.Series([0.01, 0.03, 0.001]), role, plan).tolist()
    [0.02, 0.03, nan]
    """
    family = in_family(role)
    found = pd.Series(np.nan, index=role.index)
    if not family.any():
        return found
    p = p_value[family].astype(float)
    if experiment.correction == "preferential":
        found[family] = np.minimum(p * ALPHA / levels(role, experiment)[family], 1.0)
    else:
        method = "holm" if experiment.correction == "holm" else "fdr_bh"
        found[family] = multipletests(p, method=method)[1]
    return found
