"""The HTML report of a run: an index and one page a chapter, self-contained and safe to send on."""

from __future__ import annotations

from journeykit.report.build import build

__all__ = ["build"]
