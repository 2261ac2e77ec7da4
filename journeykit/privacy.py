"""Nothing leaks: identifiers become keyed tokens, free text loses what could name a person."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

KEY_FILE = ".journeykit-key"
TOKEN_LENGTH = 24  # 96 bits: no chance collision among a billion identifiers

EMAIL = r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}"
PHONE = r"\+?\d[\d ()/.-]{6,}\d"
LONG_CODE = r"[A-Za-z0-9_-]*\d[A-Za-z0-9_.-]{5,}"


def key(root: Path) -> bytes:
    """Return the secret key of the tokens: `JOURNEYKIT_KEY`, or a file made once and ignored by git.

    The same key gives the same tokens on every run; whoever lacks the key cannot go back from a token.
    """
    given = os.environ.get("JOURNEYKIT_KEY", "")
    if given:
        return given.encode()
    path = root / KEY_FILE
    if not path.exists():
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32))
        except FileExistsError:
            pass  # another run made it between the check and now
    return path.read_text(encoding="ascii").strip().encode()


def normalise(value: str) -> str:
    """Return an identifier in the form in which it is compared: trimmed, an e-mail address in lower case.

    >>> normalise(" Ada@Example.com ")
    'ada@example.com'
    """
    value = value.strip()
    return value.lower() if "@" in value else value


def token(name: str, value: str, secret: bytes) -> str:
    """Return the keyed token (HMAC-SHA-256) of an identifier's value.

    >>> token("email", "Ada@example.com", b"k") == token("email", "ada@example.com ", b"k")
    True
    """
    message = f"{name}:{normalise(value)}".encode()
    return hmac.new(secret, message, hashlib.sha256).hexdigest()[:TOKEN_LENGTH]


def token_sql(name: str, text: str, secret: bytes) -> str:
    """Return the SQL of `token`, so that identifiers never leave the engine."""
    block = (secret if len(secret) <= 64 else hashlib.sha256(secret).digest()).ljust(64, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in block).hex() for pad in (0x36, 0x5C))
    value = f"CASE WHEN contains({text}, '@') THEN lower(trim({text})) ELSE trim({text}) END"
    message = f"encode('{name}:' || {value})"
    digest = f"sha256(unhex('{outer}') || unhex(sha256(unhex('{inner}') || {message})))"
    return f"CASE WHEN {text} IS NOT NULL THEN substr({digest}, 1, {TOKEN_LENGTH}) END"


def redact_sql(text: str) -> str:
    """Return the SQL that replaces e-mail addresses and telephone numbers in text."""
    without_email = f"regexp_replace({text}, '{EMAIL}', '<e-mail>', 'g')"
    return f"regexp_replace({without_email}, '{PHONE}', '<number>', 'g')"


def redact_record_sql(text: str) -> str:
    """Return the SQL that redacts a broken row, whose columns are unknown: every code with a digit goes as well."""
    return f"regexp_replace({redact_sql(text)}, '{LONG_CODE}', '<code>', 'g')"
