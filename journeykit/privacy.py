"""Identifiers become keyed tokens: the key, the form in which values are compared, and the token in Python and SQL.

What free text loses is in `redaction`, who is to be forgotten in `erasure`, the search for what leaked in `leaks`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from functools import lru_cache, partial
from pathlib import Path

from journeykit import engine
from journeykit.config import Identity
from journeykit.errors import JourneyError

__all__ = [
    "KEY_FILE",
    "TOKEN_LENGTH",
    "key",
    "normalise",
    "phone",
    "rule",
    "token",
    "token_sql",
]

KEY_FILE = ".journeykit-key"
TOKEN_LENGTH = 24  # hexadecimal digits, 96 bits: no chance collision among a billion identifiers
GMAIL = ("gmail.com", "googlemail.com")  # two names of one mail server, which ignores dots and what follows a +
# What the engine's trim() takes off: the space separators of Unicode. Tabs and line ends only round what people type.
SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
BLANKS = f"{SPACES}\t\r\n\ufeff"


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


def rule(identity: Identity, name: str) -> str:
    """Return how an identifier's values are normalised: `"phone:DE"`, `"gmail"` or `""`.

    >>> rule(Identity(identifiers=["mobile"], phones=["mobile"], phone_region="DE"), "mobile")
    'phone:DE'
    """
    if name in identity.phones:
        return f"phone:{identity.phone_region}"
    return "gmail" if identity.merge_email_dots else ""


def normalise(value: str, rule: str = "") -> str:
    """Return an identifier's value in the form in which it is compared.

    Blanks around it go. What holds an @ is an e-mail address and becomes lower case; by the rule `"gmail"`, an address
    at gmail.com or googlemail.com also loses its dots and what follows a +. By `"phone:<region>"` see `phone`.

    >>> normalise(" Ada@Example.com "), normalise("A.da+news@googlemail.com", "gmail")
    ('ada@example.com', 'ada@gmail.com')
    >>> normalise("0151 / 234 567 89", "phone:DE")
    '+4915123456789'
    """
    if "@" not in value:
        return phone(value, rule.partition(":")[2]) if rule.startswith("phone") else value.strip(SPACES)
    # Letter by letter and İ → i, as the engine does it: str.lower() looks at a letter's neighbours.
    mail = "".join("i" if letter == "İ" else letter.lower() for letter in value.strip(BLANKS))
    local, _, domain = mail.partition("@")
    if rule == "gmail" and domain in GMAIL:
        short = local.partition("+")[0].replace(".", "")
        return f"{short}@{GMAIL[0]}" if short else mail
    return mail


@lru_cache(maxsize=200_000)
def phone(text: str, region: str = "") -> str:
    """Return a telephone number as E.164 (`+4915123456789`), with `;ext=` behind it where it has an extension.

    A number without + or 00 belongs to `region`. One that is not valid stays as it is but for blanks and punctuation.

    >>> phone("0049 (0)151 23456789"), phone("12 / 34-5", "DE")
    ('+4915123456789', '12345')
    """
    import phonenumbers  # here, because most studies have no telephone number and its tables take a moment

    trimmed = text.strip(BLANKS)
    bare = re.sub(r"[^\w+]|_", "", trimmed)
    given = f"+{trimmed[2:]}" if bare.startswith("00") and trimmed.startswith("00") else trimmed
    try:
        number = phonenumbers.parse(given, region or None)
    except phonenumbers.NumberParseException:
        return bare or trimmed
    if not phonenumbers.is_valid_number(number):
        return bare or trimmed
    extension = f";ext={number.extension}" if number.extension else ""
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) + extension


def token(name: str, value: str, secret: bytes, rule: str = "") -> str:
    """Return the keyed token (HMAC-SHA-256) of an identifier's value.

    >>> token("email", "Ada@example.com", b"k") == token("email", "ada@example.com ", b"k")
    True
    """
    message = f"{name}:{normalise(value, rule)}".encode()
    return hmac.new(secret, message, hashlib.sha256).hexdigest()[:TOKEN_LENGTH]


def token_sql(name: str, text: str, secret: bytes, rule: str = "") -> str:
    """Return the SQL of `token`, so that identifiers never leave the engine; null stays null.

    It is valid on the engine's connection of the thread that asked for it.
    """
    block = (secret if len(secret) <= 64 else hashlib.sha256(secret).digest()).ljust(64, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in block) for pad in (0x36, 0x5C))
    # Four rounds of SHA-256 are nine tenths of the cost; the pads are constants, which the engine prepares once.
    message = f"{_blob(inner + f'{name}:'.encode())} || encode({_normal_sql(text, rule)})"
    return f"substr(sha256({_blob(outer)} || unhex(sha256({message}))), 1, {TOKEN_LENGTH})"


def _blob(content: bytes) -> str:
    return "'" + "".join(f"\\x{byte:02X}" for byte in content) + "'::BLOB"


def _normal_sql(text: str, rule: str) -> str:
    """Return the SQL of `normalise`."""
    blanks = " || ".join(f"chr({ord(blank)})" for blank in BLANKS)
    mail = f"lower(trim({text}, {blanks}))"
    other = f"trim({text})"
    if rule == "gmail":
        local = "replace(split_part(split_part(mail, '@', 1), '+', 1), '.', '')"
        domains = ", ".join(f"'{domain}'" for domain in GMAIL)
        merged = (
            f"CASE WHEN mail[strpos(mail, '@') + 1:] IN ({domains}) AND {local} <> '' "
            f"THEN {local} || '@{GMAIL[0]}' ELSE mail END"
        )
        mail = f"list_transform([{mail}], lambda mail: {merged})[1]"
    if rule.startswith("phone"):
        region = rule.partition(":")[2]
        function = f"phone_{region.lower() or 'any'}"
        engine.function(function, partial(phone, region=region))
        other = f"{function}({text})"
    return f"CASE WHEN contains({text}, '@') THEN {mail} ELSE {other} END"
