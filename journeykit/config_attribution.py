"""`[attribution]` of `journey.toml`."""

# ruff: noqa: RUF012 (pydantic copies the default of a key)

from __future__ import annotations

from journeykit.config_base import Duration, Names, Part


class Attribution(Part):
    """`[attribution]`: which conversions get credit, looking back how far."""

    conversion: Names = []
    """Events that give credit. `[]` is `journeys.conversion`."""
    lookback: Duration = "30d"
    """Visits longer than this before the conversion get no credit."""
    exclude: list[str] = []
    """Marketing channels that get no credit, such as `"direct"`; their share goes to the others."""
