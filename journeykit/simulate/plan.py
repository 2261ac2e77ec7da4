"""What the simulator plants: every parameter of the story in one place, written to truth.json as it stands."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
ZONE = "Europe/Berlin"

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def moment(text: str) -> int:
    """Return an ISO time (UTC) as microseconds since 1970.

    >>> moment("1970-01-02")
    86400000000
    """
    return int(np.datetime64(text, "us").astype(np.int64))


START = moment("2025-01-01")
END = moment("2026-01-01")


def sigmoid(x: Any) -> Floats:
    """Return 1 / (1 + e^-x).

    >>> float(sigmoid(0.0))
    0.5
    """
    result: Floats = 1 / (1 + np.exp(-np.asarray(x, dtype=float)))
    return result


def logit(p: float) -> float:
    """Return log(p / (1 - p)), the inverse of `sigmoid`.

    >>> logit(0.5)
    0.0
    """
    return float(np.log(p / (1 - p)))


@dataclass(frozen=True)
class Trial:
    """A planted A/B test: when it runs (UTC), and what it is."""

    name: str
    starts: str
    ends: str
    nature: str  # real effect, null, broken split, harmed guardrail


@dataclass(frozen=True)
class Plan:
    """The planted parameters. Logit coefficients unless the name says otherwise."""

    # who goes on from which step
    bounce_share: float = 0.06
    cart_intercept: float = 1.65
    cart_engagement: float = 0.60
    reveal_share: float = 0.94
    checkout_intercept: float = -0.08
    checkout_per_10_eur_shipping: float = -0.50  # around EUR 20
    checkout_mobile: float = -0.55
    checkout_engagement: float = 0.50
    retry_after_reveal_share: float = 0.22
    retry_after_checkout_share: float = 0.40
    buy_in_store_instead_share: float = 0.14
    order_completion_share: float = 0.70  # of checkouts, on a working day, before the release
    order_completion_share_after_release: float = 0.79
    order_completion_weekend: float = -0.35
    release: str = "2025-09-14T22:00:00"  # checkout_v2, midnight in Berlin
    # shipping prices (EUR) and their shares
    shipping_prices: tuple[float, ...] = (9.9, 19.9, 29.9, 49.9)
    shipping_shares: tuple[float, ...] = (0.34, 0.34, 0.21, 0.11)
    # tests
    trials: tuple[Trial, ...] = (
        Trial("shipping_upfront", "2025-02-01", "2025-11-01", "real effect"),
        Trial("new_badge", "2025-05-01", "2025-08-01", "null"),
        Trial("chat_popup", "2025-09-20", "2025-12-15", "broken split"),
        Trial("one_click_addons", "2025-03-01", "2025-11-25", "harmed guardrail"),
    )
    shipping_upfront_checkout: float = 0.58  # added to checkout after the reveal, treated people, while it runs
    chat_popup_lost_share_mobile: float = 0.34  # treated exposures that are never logged
    chat_popup_lost_share_other: float = 0.14
    one_click_accessory_share: float = 0.12  # added to accessory orders within 30 days of the order
    one_click_ticket_share: float = 0.13  # added to tickets within 30 days
    one_click_satisfaction: float = -0.13  # added to satisfaction (0-1) after the order
    # delivery
    late_share: float = 0.13
    late_share_peak: float = 0.24  # from 20 November
    # support
    ticket_share: float = 0.13
    ticket_share_when_late: float = 0.28
    ticket_solved_share: float = 0.62
    ticket_solved_after_landmark_share: float = 0.08
    # care plan
    care_plan_share: float = 0.80
    cancel_hazard_before_landmark_per_day: float = 0.0007
    cancel_hazard_per_day: float = 0.0026  # from day 30 of the plan
    landmark_days: int = 30
    hazard_ratios: dict[str, float] = field(
        default_factory=lambda: {"late_delivery": 1.8, "unresolved_ticket": 2.4, "setup_done": 0.7}
    )
    # why a plan is cancelled: the same shares whoever it is and whenever, so that every reason has the ratios above
    cancel_reason_shares: dict[str, float] = field(
        default_factory=lambda: {"cancellation_requested": 0.66, "payment_failed": 0.22, "moved": 0.12}
    )
    # an account shows who it is: in so many visits people with one are logged in
    account_intercept: float = 1.1
    account_engagement: float = 0.6
    login_share: float = 0.62
    # e-mail goes to the engaged; it changes nothing itself
    newsletter_intercept: float = -0.1  # of those with an account
    newsletter_engagement: float = 1.3
    email_effect_on_orders: float = 0.0
    # surveys: the unhappy answer more often
    response_intercept: float = -0.95
    response_per_unhappiness: float = 2.6  # times (0.6 - satisfaction)

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters for truth.json."""
        return asdict(self)


PLAN = Plan()
