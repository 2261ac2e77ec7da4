"""The one error that journeykit raises on purpose."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class JourneyError(ValueError):
    """Something in the configuration, the input or a call is wrong, and the reader can mend it.

    The message says *where*, what was found, what is allowed and what to do next.
    """


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the allowed name nearest to `word`, or "" when none is near.

    >>> nearest("chanel", ["channel", "event"])
    " Did you mean 'channel'?"
    """
    close = difflib.get_close_matches(word, list(allowed), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def require_columns(have: Iterable[str], need: Iterable[str], where: str) -> None:
    """Raise JourneyError when a table lacks a column, naming the table's columns.

    >>> require_columns(["event"], ["event"], "funnel")
    """
    columns = list(have)
    missing = [name for name in need if name not in columns]
    if missing:
        hint = nearest(missing[0], columns)
        raise JourneyError(f"{where}: column {missing[0]!r} is missing.{hint} The table has: {', '.join(columns)}.")
