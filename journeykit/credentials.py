"""Addresses with secrets in them: where they come from, and how they are shown without them."""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from journeykit.errors import JourneyError


def from_environment(text: str, where: str) -> str:
    """Return the address that `text` names: the value of the environment variable `NAME` for `"$NAME"`, or itself.

    Raises:
        JourneyError: the variable is not set.
    """
    if not text.startswith("$"):
        return text
    name = text.strip("${}")
    if not os.environ.get(name):
        raise JourneyError(
            f"{where}: the environment variable {name} is not set. Set it to the address, "
            "such as postgresql://user:password@host/database, before the run."
        )
    return os.environ[name]


def public_url(url: str) -> str:
    """Return a URL without user, password, query string and fragment.

    >>> public_url("https://ann:pw@host:8000/a/b.csv?signature=1")
    'https://host:8000/a/b.csv'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.split(":", 1)[0] + "://…"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else parts.path


def scrub(text: str, url: str) -> str:
    """Return a message in which user, password and the query string of each part of `url` are `***`.

    >>> scrub('no password "pw" for user "ann" of "annual"', "postgresql://ann:pw@host/db")
    'no password "***" for user "***" of "annual"'
    """
    secrets: set[str] = set()
    for part in url.split("::"):
        try:
            split = urlsplit(part)
        except ValueError:
            secrets.add(part)
            continue
        user, _, password = split.netloc.rpartition("@")[0].partition(":")
        secrets |= {user, password, unquote(user), unquote(password), split.query}
        secrets |= {value for key, value in parse_qsl(split.query) if key not in PUBLIC_PARAMETERS}
    for secret in sorted(secrets - {""}, key=lambda secret: (-len(secret), secret)):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return text


PUBLIC_PARAMETERS = {"host", "port", "dbname", "sslmode", "connect_timeout", "application_name"}
