"""What to add to `journey.toml` so that a skipped chapter runs."""

from __future__ import annotations

SNIPPETS = {
    "map": """\
[[stages]]
name = "Purchase"
owner = "Checkout team"               # who acts when this stage hurts
weight = 0.25                         # its share of the journey score
touchpoints = { Cart = ["add_to_cart"], Order = ["order_placed"] }
""",
    "funnel": """\
[funnels.buy]
steps = ["product_view", "add_to_cart", "order_placed"]  # "a | b" are alternatives
within = "30d"                        # from the first step to the last
""",
    "paths": """\
[plans.purchase]
steps = ["product_view", "compare?", "add_to_cart", "order_placed"]  # a step ending in "?" is optional
on = "event"                          # or "touchpoint" or "stage", with the names of [[stages]]
""",
    "attribution": """\
[attribution]
conversion = "order_placed"
lookback = "30d"                      # touches older than this earn nothing
# and, in each source that knows it, the column that says what brought the visit:
# marketing_channel = "utm_channel"
""",
    "churn": """\
[churn]
start = "plan_started"                # the event that makes a customer
end = "plan_cancelled"                # the event that ends it
landmark = "30d"                      # what is known by then may explain who leaves later
""",
    "experiment": """\
[[experiments]]
name = "shipping_upfront"
hypothesis = "Shipping cost shown early raises orders"
exposure = "experiment_viewed"        # the event that puts a person in the test
arms = { control = 0.5, treatment = 0.5 }  # the planned split
control = "control"
metrics = [{ name = "orders", event = "order_placed", role = "primary" }]
""",
}


def snippet(chapter: str) -> str:
    """Return the lines of `journey.toml` that a chapter needs, as an example, or "" for a chapter without its own.

    >>> snippet("07_churn").split("\\n")[0], snippet("01_ingest")
    ('[churn]', '')
    """
    return SNIPPETS.get(chapter.split("_", 1)[-1], "")
