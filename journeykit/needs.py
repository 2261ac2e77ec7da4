"""What a chapter needs of a study, so that one without it is skipped with a reason."""

from __future__ import annotations

from journeykit import config


def skip_reason(plan: config.Study, name: str) -> str:
    """Return why a study has no data for a chapter, or "" when the chapter can run.

    >>> skip_reason(config.parse({"study": {"title": "x"}, "identity": {"identifiers": ["u"]}, "sources": [
    ...     {"name": "s", "path": "p", "time": {"column": "t"}, "event": "e"}]}), "08_experiment")
    'journey.toml declares no [[experiments]], no [[changes]] and no [[actions]].'
    """
    part = name.split("_", 1)[1] if "_" in name else name
    channels = any(source.marketing_channel for source in plan.sources)
    conversion = plan.journeys.conversion or (plan.attribution.conversion if plan.attribution else [])
    wanted = {
        "[attribution]": plan.attribution is not None,
        "source with a marketing_channel": channels,
        "conversion event": bool(conversion),
    }
    missing = [what for what, there in wanted.items() if not there]
    needs = {
        "map": (bool(plan.stages), "journey.toml has no [[stages]]. Add the stages with their touchpoints."),
        "funnel": (bool(plan.funnels), "journey.toml has no [funnels.<name>]. Add one with its steps."),
        "attribution": (not missing, f"journey.toml has no {' and no '.join(missing)}."),
        "churn": (plan.churn is not None, "journey.toml has no [churn]. Say which event starts and which ends it."),
        "experiment": (
            bool(plan.experiments or plan.changes or plan.actions),
            "journey.toml declares no [[experiments]], no [[changes]] and no [[actions]].",
        ),
    }
    met, reason = needs.get(part, (True, ""))
    return "" if met else reason
