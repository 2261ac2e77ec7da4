"""What the tables of staying and leaving say, in sentences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from journeykit import present
from journeykit.config import Churn
from journeykit.findings import Finding

CHAPTER = "07_churn"


def people(spells: pd.DataFrame, choice: Churn, min_n: int = 20) -> str:
    """Say how many people the chapter is about and how many of them have ended; nothing of a group below `min_n`."""
    if len(spells) < min_n:
        return ""
    ends = int(spells["ended"].sum())
    since = f"since “{_words(choice.start)}”" if choice.start else "since their first event"
    return (
        f"{present.count(len(spells))} people are followed {since}; {present.count(ends)} of them "
        f"({_share(ends / len(spells))}) reached “{_words(choice.end)}” while observed, the other "
        f"{present.count(len(spells) - ends)} are counted for as long as they were seen."
    )


def survival(curve: pd.DataFrame, choice: Churn) -> str:
    """Say what share is still there at the horizon (or at the last day that enough people were observed for)."""
    point = _at_horizon(curve, choice.horizon_days)
    return "" if point is None else _survival_sentence(point, choice)


def median(table: pd.DataFrame) -> str:
    """Say by when half have left."""
    if table.empty:
        return ""
    line = table.iloc[0]
    if present.missing(float(line["median_days"])):
        return "More than half are still there as far as the data reach, so the median cannot be given."
    high = float(line["median_days_high"])
    span = (
        f"at least {present.days(line['median_days_low'], 0)}"
        if present.missing(high)
        else f"{present.interval(line['median_days_low'], high, '', 0)} days"
    )
    return f"Half have left after {present.days(line['median_days'], 0)} (95 % interval {span})."


def leaving(table: pd.DataFrame, choice: Churn) -> str:
    """Say in which period of tenure leaving is likeliest, and whether the intervals allow to say so."""
    if table.empty:
        return ""
    if len(table) == 1 or not table["ended_n"].sum():
        ends = present.count(table["ended_n"].sum())
        return f"Reached “{_words(choice.end)}” in the periods shown: {ends} people."
    ordered = table.sort_values("leaving_share", kind="stable")
    top, bottom = ordered.iloc[-1], ordered.iloc[0]
    apart = top["leaving_share_low"] > bottom["leaving_share_high"]
    reserve = "" if apart else " The intervals of the two overlap, so that the difference may be chance."
    what = "Leaving" if choice.start else f"“{_words(choice.end)}”"
    return (
        f"{what} is likeliest in days {top['from_day']:.0f}–{top['to_day']:.0f}, for {_estimate(top, 'leaving_share')} "
        f"of those there at its start, and least likely in days {bottom['from_day']:.0f}–{bottom['to_day']:.0f}, "
        f"for {_estimate(bottom, 'leaving_share')}.{reserve}"
    )


def segments(table: pd.DataFrame) -> str:
    """Say which segment stays longest or shortest compared with the largest, and what the log-rank test says."""
    if table.empty:
        return ""
    line = _largest(table, "difference_days")
    p = float(table.attrs.get("logrank_p_value", float("nan")))
    verdict = "differ by more than chance explains" if p < 0.05 else "do not differ by more than chance explains"
    text = f"The segments' curves {verdict} (log-rank {_p(p)})."
    if not p < 0.05:
        n = present.count(line["reference_people_n"])
        return f"{text} Each is compared with the largest, “{line['reference']}” (n = {n})."
    gap = float(line["difference_days"])
    bounds = present.interval(line["difference_days_low"], line["difference_days_high"]).replace("–", " to ")
    more = "longer" if gap >= 0 else "less"
    return (
        f"{text} Within {present.days(line['horizon_days'], 0)}, "
        f"people of “{line['segment']}” stay {present.days(abs(gap))} {more} on average than those of "
        f"“{line['reference']}” (difference {bounds} days; n = {present.count(line['n'])} and "
        f"{present.count(line['reference_people_n'])})."
    )


def ratios(table: pd.DataFrame, choice: Churn) -> str:
    """Say what goes with leaving sooner, the strongest covariate first; at most three sentences."""
    if table.empty:
        return ""
    clear = _strongest(table[table["p_value"] < 0.05])
    if clear.empty:
        n, events = present.count(table["n"].iloc[0]), present.count(table["events_n"].iloc[0])
        return f"No covariate goes clearly with leaving sooner or later (n = {n}, {events} of them left)."
    return " ".join(_ratio_sentence(line, choice) for _, line in clear.head(3).iterrows())


def assumption(table: pd.DataFrame) -> str:
    """Say whether the ratios may be read as constant over tenure."""
    if table.empty:
        return ""
    # Bonferroni: with several covariates, one small p-value alone is expected by chance.
    broken = table[table["proportionality_p_value"] < 0.05 / len(table)]
    if broken.empty:
        lowest = float(table["proportionality_p_value"].min())
        return f"Nothing speaks against ratios that stay the same over tenure (smallest of the checks: {_p(lowest)})."
    which = " and ".join(f"“{name}”" for name in broken["label"])
    lowest = float(broken["proportionality_p_value"].min())
    return (
        f"The ratio of {which} changes with tenure ({_p(lowest)}): read it as an average "
        "over the time observed, and rely on the difference in days below."
    )


def days_kept(table: pd.DataFrame) -> str:
    """Say the difference in days stayed of the covariate where it is largest."""
    if table.empty:
        return ""
    line = _largest(table, "difference_days")
    gap = float(line["difference_days"])
    bounds = present.interval(line["difference_days_low"], line["difference_days_high"]).replace("–", " to ")
    return (
        f"Within {present.days(line['horizon_days'], 0)} after the landmark, people with “{line['label']}” stay "
        f"{present.days(abs(gap))} {'longer' if gap >= 0 else 'less'} than people without (difference {bounds} days; "
        f"n = {present.count(line['people_with_n'])} with, {present.count(line['people_without_n'])} without)."
    )


def forecast(table: pd.DataFrame) -> str:
    """Say how well the model of earlier customers ranks later ones, and what the number means."""
    if table.empty:
        return ""
    line = table.iloc[0]
    facts = [present.count(line[name]) for name in ("train_people_n", "n", "events_n")]
    text = (
        f"Learned from {facts[0]} people who started before {line['split_at']:%Y-%m-%d} and tested on {facts[1]} later "
        f"ones ({facts[2]} of them left), the model puts who leaves first in the right order in "
        f"{_share(float(line['concordance']))} of the pairs that can be compared (C = {line['concordance']:.2f}, "
        f"{line['concordance_low']:.2f}–{line['concordance_high']:.2f}): {_verdict(line)}, where 0.50 is a coin and "
        "1.00 never errs."
    )
    skill = float(line["skill_share"])
    if present.missing(skill):
        return text
    clear = "a clear gain" if line["skill_share_low"] > 0 else "not clearly different from none"
    clear = "a clear loss" if line["skill_share_high"] < 0 else clear
    return (
        f"{text} In foretelling who is still there {present.days(line['horizon_days'], 0)} after the landmark, its "
        f"gain over one curve for everybody is {_share(skill).replace('-', '−')} of the error "
        f"({_bounds(line['skill_share_low'], line['skill_share_high'])}): {clear}."
    )


def shown(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table of the chapter that a page has room for; the file has all of them."""
    columns = ["segment", "reference", "label", "split_at", "train_people_n", "n", "people_with_n", "people_without_n"]
    columns += ["ended_n", "events_n", "hazard_ratio", "median_days", "restricted_mean_days", "difference_days"]
    columns += ["concordance", "skill_share", "p_value", "proportionality_p_value"]
    constant = [name for name in ("segment", "reference", "n", "events_n") if len(table) > 1 and name in table]
    dropped = [name for name in constant if len(set(table[name])) == 1]
    if "segment" in table and set(table["segment"]) == {"all"}:
        dropped.append("segment")
    return [name for name in columns if name in table and name not in dropped]


def note(table: pd.DataFrame) -> str:
    """Return what a table says about people or covariates that it left out."""
    return str(table.attrs.get("note", ""))


def findings(
    curve: pd.DataFrame,
    ratios: pd.DataFrame,
    forecast: pd.DataFrame,
    choice: Churn,
    owner: Callable[[str], str] = lambda event: "",
) -> list[Finding]:
    """Return the chapter's findings: the share still there, each clear covariate, and whether the model foresees.

    `owner` gives the team that owns an event; a finding about a covariate goes to the owner of its first event.
    """
    found = _survival_finding(curve, choice, owner)
    events = {covariate.name: covariate.events[0] for covariate in choice.covariates if covariate.events}
    clear = _strongest(ratios[ratios["p_value"] < 0.05]) if len(ratios) else ratios
    for place, (_, line) in enumerate(clear.iterrows()):
        team = owner(events.get(line["covariate"], ""))
        found.append(_ratio_finding(line, choice, team, headline=place == 0))
    if len(forecast):
        line = forecast.iloc[0]
        found.append(
            Finding(
                id="churn.concordance",
                chapter=CHAPTER,
                statement=_forecast_statement(line),
                value=line["concordance"],
                low=line["concordance_low"],
                high=line["concordance_high"],
                n=line["n"],
                better="up",
                evidence="observed",
                caveat="0.50 is a coin. The model was fixed before the interval was computed.",
                table=f"{CHAPTER}__out_of_time",
            )
        )
    return found


def _survival_finding(curve: pd.DataFrame, choice: Churn, owner: Callable[[str], str]) -> list[Finding]:
    point = _at_horizon(curve, choice.horizon_days)
    if point is None:
        return []
    return [
        Finding(
            id="churn.survival",
            chapter=CHAPTER,
            statement=_survival_sentence(point, choice),
            value=point["survival_share"],
            low=point["survival_share_low"],
            high=point["survival_share_high"],
            n=curve["at_risk_n"].max(),
            unit="share",
            better="up" if choice.start else "down",
            evidence="observed",
            caveat="Assumes that people who joined late in the period leave as those before them did.",
            owner=owner(choice.end[0]),
            table=f"{CHAPTER}__survival",
            headline=True,
            label=f"{'Still there' if choice.start else 'Not yet'} after {point['day']:.0f} days",
        )
    ]


def _ratio_finding(line: pd.Series, choice: Churn, team: str, headline: bool) -> Finding:
    harmful = float(line["hazard_ratio"]) > 1
    action = (
        f"Reach people with “{line['label']}” in their first {choice.landmark_days:.0f} days, and test in an "
        "experiment whether that keeps them."
        if harmful and choice.start
        else ""
    )
    caveat = "Associated, not caused: people with and without it may differ in what was not measured."
    if float(line["proportionality_p_value"]) < 0.05:
        caveat += " The ratio may change with tenure; it is an average."
    return Finding(
        id=f"churn.ratio.{line['covariate']}",
        chapter=CHAPTER,
        statement=_ratio_sentence(line, choice),
        value=line["hazard_ratio"],
        low=line["hazard_ratio_low"],
        high=line["hazard_ratio_high"],
        n=line["n"],
        unit="ratio",
        better="down" if choice.start else "up",
        evidence="associated",
        caveat=caveat,
        action=action,
        owner=team,
        table=f"{CHAPTER}__hazard_ratios",
        headline=headline,
        label=f"Speed of {'leaving' if choice.start else _words(choice.end)}: {line['label']}",
    )


def _forecast_statement(line: pd.Series) -> str:
    numbers = f"C = {line['concordance']:.2f}, {line['concordance_low']:.2f}–{line['concordance_high']:.2f}"
    return (
        "A model of earlier customers puts later ones in the right order of leaving in "
        f"{_share(float(line['concordance']))} of comparable pairs ({numbers}), {_verdict(line)} (0.50)."
    )


def _verdict(line: pd.Series) -> str:
    # Judged as printed: "0.50–0.65, better than chance" would contradict itself.
    if round(float(line["concordance_low"]), 2) > 0.5:
        return "better than chance"
    return "worse than chance" if round(float(line["concordance_high"]), 2) < 0.5 else "not clearly better than chance"


def _survival_sentence(point: pd.Series, choice: Churn) -> str:
    bounds = _bounds(float(point["survival_share_low"]), float(point["survival_share_high"]))
    numbers = f"{_share(float(point['survival_share']))} ({bounds})"
    short = point["day"] < choice.horizon_days
    asked = f" (too few people were observed for the {present.days(choice.horizon_days, 0)} asked for)"
    reach = asked if short else ""
    after = f"After {present.days(point['day'], 0)}{reach}"
    n = f"n = {present.count(point['n'])} at the start, {present.count(point['at_risk_n'])} observed to that day"
    if not choice.start:
        return f"{after}, {numbers} have not yet reached “{_words(choice.end)}” ({n})."
    of = f"of those with “{_words(choice.start)}” are still there"
    return f"{after}, {numbers} {of}: no “{_words(choice.end)}” so far ({n})."


def _ratio_sentence(line: pd.Series, choice: Churn) -> str:
    ratio, low, high = (float(line[f"hazard_ratio{side}"]) for side in ("", "_low", "_high"))
    what = "leave" if choice.start else f"reach “{_words(choice.end)}”"
    counted = any(c.name == line["covariate"] and c.kind == "count" for c in choice.covariates)
    who = f"Each further “{line['label']}” by day" if counted else f"People with “{line['label']}” by day"
    verb = f"goes with people who {what}" if counted else what
    speed = f"{ratio:.1f} times as fast ({low:.1f}–{high:.1f})"
    if ratio < 1:
        speed = f"{present.share(1 - ratio, 0)} more slowly (hazard ratio {ratio:.2f}, {low:.2f}–{high:.2f})"
    n = f"n = {present.count(line['n'])}, {present.count(line['people_with_n'])} with it"
    return f"{who} {choice.landmark_days:.0f} {verb} {speed}, other covariates equal ({n})."


def _strongest(table: pd.DataFrame) -> pd.DataFrame:
    strength = -np.abs(np.log(table["hazard_ratio"].to_numpy(float)))
    return table.iloc[np.argsort(strength, kind="stable")]


def _largest(table: pd.DataFrame, name: str) -> pd.Series:
    return table.iloc[int(np.argmax(np.abs(table[name].to_numpy(float))))]


def _at_horizon(curve: pd.DataFrame, horizon: float) -> pd.Series | None:
    """The curve's last point up to the horizon, with `n`, the people at its start."""
    known = curve[(curve["day"] <= horizon) & (curve["segment"] == curve["segment"].iloc[0])] if len(curve) else curve
    if known.empty:
        return None
    point = known.iloc[-1].copy()
    point["n"] = known["at_risk_n"].iloc[0]
    return point


def _estimate(line: pd.Series, name: str) -> str:
    return f"{_share(float(line[name]))} ({_bounds(float(line[f'{name}_low']), float(line[f'{name}_high']))})"


def _share(value: float) -> str:
    return present.share(value)


def _bounds(low: float, high: float) -> str:
    return present.interval(low, high, "share")


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _words(events: list[str]) -> str:
    return " or ".join(event.replace("_", " ") for event in events)
