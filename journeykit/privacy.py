"""Nothing leaks: identifiers become keyed tokens, free text loses what could name a person."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from journeykit.errors import JourneyError

KEY_FILE = ".journeykit-key"
TOKEN_LENGTH = 24  # 96 bits: no chance collision among a billion identifiers

EMAIL = r"[^\s@<>,;:=?&/()]+(@|%40)[^\s@<>,;:=?&/()]+\.[^\s@<>,;:=?&/().]{2,}"
PHONE = r"\+?\d[\d ()/.-]{6,}\d"


def key(root: Path) -> bytes:
    """Return the secret key of the tokens: `JOURNEYKIT_KEY`, or a file made once and ignored by git.

    The same key gives the same tokens on every run; whoever lacks the key cannot go back from a token.
    """
    given = os.environ.get("JOURNEYKIT_KEY", "")
    if given:
        return given.encode()
    path = root / KEY_FILE
    if not path.exists():
        # Written whole beside its name first: a half-made key would be another key.
        part = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(part, path)
        except FileExistsError:
            pass  # another run made it between the check and now
        finally:
            part.unlink()
    found = path.read_text(encoding="ascii").strip().encode()
    if len(found) < 16:
        raise JourneyError(
            f"{path.name}: the key of the tokens is empty or too short. Delete the file; one is made anew."
        )
    return found


def normalise(value: str) -> str:
    """Return an identifier in the form in which it is compared: trimmed, an e-mail address in lower case.

    >>> normalise(" Ada@Example.com ")
    'ada@example.com'
    """
    value = value.strip(" ")
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


def redact_email_sql(text: str) -> str:
    """Return the SQL that replaces e-mail addresses in text."""
    # Few values hold an @, and looking for one is much cheaper than the pattern.
    found = f"regexp_replace({text}, '{EMAIL}', '<e-mail>', 'g')"
    return f"CASE WHEN contains({text}, '@') OR contains({text}, '%40') THEN {found} ELSE {text} END"


def redact_sql(text: str) -> str:
    """Return the SQL that replaces e-mail addresses and telephone numbers in free text."""
    return f"regexp_replace({redact_email_sql(text)}, '{PHONE}', '<number>', 'g')"
