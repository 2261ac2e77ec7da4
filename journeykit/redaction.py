"""Free text loses what could name a person, and names lose their addresses, before anything is written.

What is not caught: names of people, street addresses, dates of birth, numbers of fewer than 7 digits, user names,
addresses that are spelled out ("ada at example dot com"), and what stands in a picture or an attachment. A column that
may hold such things should not be mapped.
"""

from __future__ import annotations

import ipaddress
import re

from journeykit import engine

# Every pattern starts only where a word starts or has a bounded length, so that a text of a million characters without
# a blank takes time in proportion to its length.
AT = r"(?:@|＠|%40|&#0*64;|&#[xX]0*40;|&commat;|\\u0040)"
AT_SIGN = re.compile(AT)
EMAIL = re.compile(
    r"(?<![^\s@<>,;:=?&/()\[\]\"|])"
    rf"[^\s@<>,;:=?&/()\[\]\"|]+?{AT}(?:[\w-]{{1,63}}\.){{1,8}}[^\W\d_][\w-]{{1,62}}"
)
URL = re.compile(
    r"((?:(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,30}://|(?<![\w.@-])(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}/|(?<!\S)/))"
    r"([^\s<>\"'?#]*)([?#][^\s<>\"']*)?"
)
USER = re.compile(r"^[^/\s]*@")
DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d([-/.])(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0?[1-9]|[12]\d|3[01])([-/.])(?:0?[1-9]|[12]\d|3[01])\2(?:19|20)\d\d)(?!\d)"
)
SEPARATOR = "[ \u00a0\u202f()/.\u2010-\u2015-]"
NUMBER = re.compile(rf"(?:\+{SEPARATOR}{{0,2}}|\()?\d(?:{SEPARATOR}{{0,3}}\d)*")
AMOUNT = re.compile(r"[1-9]\d{0,7}\.\d{1,2}|\d\.\d+")  # 12999.00, 0.12345678; a comma ends a number anyway
CARD = re.compile(r"\d(?:[ -]?\d){12,18}")
IP = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9A-Fa-f]{0,4}:){2,7}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}))(?![\w:])"
)
IBAN = re.compile(r"(?<![^\W_])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,32}")
IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
        "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
        "YE30",
    )
}
IS_LINK = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://|/)\S*|[^\s?#]*[?][^\s?#=]*=\S*")
LINKS = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]{0,30}://|^/)[^\s?#]*)(?:[?]\S*|#\S*[=&?@%]\S*)")
ANCHOR = re.compile(r"#[\w/!.-]*$")
USER_INFO = re.compile(r"(://)[^/\s]*@")
SHORTEST_NUMBER = 7  # digits; an order number may be shorter, a telephone number hardly is

# What any of the above needs to be in a text, in the engine's syntax: most comments hold none and stay there.
WORTH = (
    r"[@＠]|%40|&#|&commat;|\\u0040|[?#]\S|[0-9A-Fa-f]*:[0-9A-Fa-f]*:|\d\.\d{1,3}\.\d{1,3}\.\d"
    r"|\p{Nd}(?:[ \x{a0}\x{202f}()/.\x{2010}-\x{2015}-]{0,3}\p{Nd}){6}"
)


def redact(text: str) -> str:
    """Return free text with what could name a person replaced.

    E-mail addresses become `<e-mail>`, telephone and other numbers of 7 digits or more `<number>`, payment cards (13 to
    19 digits with a right check digit) `<card>`, bank accounts `<IBAN>`, internet addresses `<IP>` (a version number of
    four parts looks like one), and a link keeps its host and path. Dates and amounts stay. What is not caught stands at
    the top of this module.

    >>> redact("Call +49 170 1234567 or ada@example.com about order 10001 of 2025-01-06 (1,299.00)")
    'Call <number> or <e-mail> about order 10001 of 2025-01-06 (1,299.00)'
    >>> redact("see https://ada:pw@shop.example/reset?token=a#b, card 4111 1111 1111 1111, from 192.168.0.1")
    'see https://shop.example/reset?<query> card <card>, from <IP>'
    """
    if "/" in text:
        text = URL.sub(_link, text)
    if AT_SIGN.search(text):
        text = EMAIL.sub("<e-mail>", text)
    text = IBAN.sub(_iban, text)
    if ":" in text or "." in text:
        text = IP.sub(_ip, text)
    return NUMBER.sub(_number, text)


def redact_sql(text: str) -> str:
    """Return the SQL of `redact`; a text without a digit, an @ or a link costs no more than a look at it.

    It is valid on the engine's connection of the thread that asked for it.
    """
    engine.function("redact_text", redact)
    return f"CASE WHEN regexp_matches({text}, '{WORTH}') THEN redact_text({text}) ELSE {text} END"


def clean_name(text: str) -> str:
    """Return a name, a property or a time without addresses; no digit of it is touched.

    E-mail addresses become `<e-mail>`. A link loses its user and password and its query string; a fragment goes when it
    holds values, as in `#token=…`. What a query string says of a campaign is to be mapped as `marketing_channel`.

    >>> clean_name("https://shop.example/p/7?utm_source=news&email=ada@example.com#reviews")
    'https://shop.example/p/7#reviews'
    """
    mailed = AT_SIGN.search(text)
    if "?" in text or "#" in text:
        if IS_LINK.fullmatch(text):
            anchor = ANCHOR.search(text)
            text = text.split("?")[0].split("#")[0] + (anchor[0] if anchor else "")
        else:
            text = LINKS.sub(r"\1", text)
    return EMAIL.sub("<e-mail>", USER_INFO.sub(r"\1", text)) if mailed else text


CODE = re.compile(r"(?<![^\s,;])[^\s,;]*\d[^\s,;]*")  # only where a word starts: else long ones take hours
TIME = re.compile(r"1\d{9}(?:\d{3}){0,3}|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}[\dTtZz:.+ APMapm-]*|\d{1,2}:\d\d[\d:.]*")


def mask(text: str, time: bool = False) -> str:
    """Return a cell of a quarantined row without anything that may be somebody's: its columns may have shifted.

    >>> mask("ordered by CUST-00001 on 2025-01-06"), mask("2025-13-45 10:00", time=True), mask("CUST-00001", time=True)
    ('ordered by <code> on 2025-01-06', '2025-13-45 10:00', '<code>')
    """
    if time and TIME.fullmatch(text):  # no card or account begins with the 1 of a number of seconds
        return text
    return CODE.sub(lambda found: found[0] if len(found[0]) < 6 or DATE.fullmatch(found[0]) else "<code>", redact(text))


def name_sql(text: str) -> str:
    """Return the SQL of `clean_name`; it is valid on the engine's connection of the thread that asked for it."""
    engine.function("clean_name", clean_name)
    # Few values hold any of these, and to look for them is much cheaper than to replace them.
    return f"CASE WHEN regexp_matches({text}, '[@＠%&\\\\?#]') THEN clean_name({text}) ELSE {text} END"


def link_sql(text: str) -> str:
    """Return the SQL of `clean_name` for what is mostly links: their query strings are cut in the engine."""
    engine.function("clean_name", clean_name)
    return (
        f"CASE WHEN regexp_matches({text}, '[@＠%&\\\\]') AND regexp_matches({text}, '{AT}') THEN clean_name({text}) "
        f"WHEN contains({text}, '?') OR contains({text}, '#') THEN {_link_sql(text)} ELSE {text} END"
    )


def _link_sql(text: str) -> str:
    """Return the SQL that cuts the query string of a text that is a link; another text is left to Python."""
    path = f"split_part(split_part({text}, '?', 1), '#', 1)"
    anchor = rf"CASE WHEN contains({text}, '#') THEN regexp_extract({text}, '#[\p{{L}}\p{{N}}_/!.-]*$') ELSE '' END"
    whole = f"(starts_with({text}, 'http') OR starts_with({text}, '/')) AND NOT contains({text}, ' ')"
    return f"CASE WHEN {whole} THEN {path} || {anchor} ELSE clean_name({text}) END"


def _link(found: re.Match[str]) -> str:
    scheme, rest, tail = found.groups()
    rest = USER.sub("", rest) if scheme.endswith("//") else rest
    if not tail or len(tail) == 1:
        return f"{scheme}{rest}{tail or ''}"
    return f"{scheme}{rest}{'?<query>' if tail[0] == '?' else '#<fragment>'}"


def _iban(found: re.Match[str]) -> str:
    text = found[0]
    length = IBAN_LENGTHS.get(text[:2].upper(), 0)
    taken = [at for at, letter in enumerate(text) if letter not in " -"]
    if not length or len(taken) < length:
        return text
    end = taken[length - 1] + 1
    account = "".join(letter for letter in text[:end].upper() if letter not in " -")
    digits = "".join(str(int(letter, 36)) for letter in account[4:] + account[:4])
    return f"<IBAN>{text[end:]}" if int(digits) % 97 == 1 else text


def _ip(found: re.Match[str]) -> str:
    text = found[0]
    if not any(letter.isdigit() for letter in text):
        return text  # as in a::b
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return text  # such as a time of day
    return "<IP>"


def _is_card(text: str) -> bool:
    if not CARD.fullmatch(text):
        return False
    digits = [int(letter) for letter in text if letter.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _number(found: re.Match[str]) -> str:
    """Replace a run of digits, but for the dates in it, an amount, and what is too short."""
    kept, at = [], 0
    for date in DATE.finditer(found[0]):
        kept += [_between_dates(found[0][at : date.start()]), date[0]]
        at = date.end()
    return "".join([*kept, _between_dates(found[0][at:])])


def _between_dates(text: str) -> str:
    if sum(letter.isdigit() for letter in text) < SHORTEST_NUMBER or AMOUNT.fullmatch(text):
        return text
    bare = text.strip(" ")  # the blanks beside a date are no part of the number
    return text.replace(bare, "<card>" if _is_card(bare) else "<number>")
