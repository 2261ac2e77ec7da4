"""Customer journey analytics: raw exports in, an honest report out.

Notebooks start with `open_chapter`; the analysis modules (`funnels`, `paths`, `attribution`, …) take any dataframe.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["open_chapter"]


def open_chapter(name: str, folder: str, run_dir: str = "") -> Any:
    """Open a chapter on a study; see `journeykit.chapter.Chapter`."""
    from journeykit.chapter import open_chapter as opened

    return opened(name, folder, run_dir)
