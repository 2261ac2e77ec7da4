"""What the chapter looks at: `[churn]` of journey.toml with the notebook's parameters laid over it."""

from __future__ import annotations

from journeykit import config
from journeykit.errors import JourneyError


def choose(plan: config.Churn | None, **parameters: str) -> config.Churn:
    """Return `[churn]` with the notebook's parameters laid over it: one that is not "" wins over journey.toml.

    Raises:
        JourneyError: there is no `[churn]`, or a duration cannot be read.

    >>> choose(config.Churn(start="joined", end="left"), horizon="90d", by="").horizon_days
    90.0
    """
    if plan is None:
        raise JourneyError("journey.toml: [churn] is missing. Say which event starts and which ends being a customer.")
    given = {name: value for name, value in parameters.items() if value}
    for name in ("horizon", "landmark", "ahead", "quiet"):
        config.seconds(given.get(name) or "1d")
    return plan.model_copy(update=given)
