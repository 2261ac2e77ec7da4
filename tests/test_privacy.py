"""Tokens and redaction: one value one token, in Python and in the engine, and free text that names nobody."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeykit import engine, privacy, redaction
from journeykit.config import Identity

SECRET = b"a key of the tests"
RULES = ("", "gmail", "phone:DE", "phone:")
ODD = ["ada@example.com", "A.da+x@GoogleMail.com", "0151 23456789", "+1 (415) 555-2671", "Σίσυφος@Ἀθήνα.gr", "İ@x.tr"]


def in_engine(sql: Callable[[str], str], values: list[str]) -> list[str | None]:
    engine.register(pd.DataFrame({"n": range(len(values)), "v": pd.Series(values, dtype=object)}), "given")
    return [row[0] for row in engine.rows(f"SELECT {sql('v')} FROM given ORDER BY n")]


def test_token_is_the_standard_hmac_of_the_name_and_the_normal_value() -> None:
    expected = hmac.new(SECRET, b"email:ada@example.com", hashlib.sha256).hexdigest()[:24]
    assert privacy.token("email", "\t Ada@Example.COM\u00a0", SECRET) == expected
    assert in_engine(lambda v: privacy.token_sql("email", v, SECRET), ["\t Ada@Example.COM\u00a0"]) == [expected]


@pytest.mark.parametrize("secret", [b"k", b"x" * 64, b"y" * 65])
def test_a_key_of_any_length_gives_the_standard_hmac(secret: bytes) -> None:
    expected = hmac.new(secret, b"customer:c-1", hashlib.sha256).hexdigest()[:24]
    assert in_engine(lambda v: privacy.token_sql("customer", v, secret), ["c-1"]) == [expected]


@pytest.mark.parametrize("rule", RULES)
@given(
    values=st.lists(
        st.one_of(
            st.text(),
            st.from_regex(r"\s?[A-Za-zÄΣİß.+]{0,6}@(gmail|googlemail|x)\.com\s?", fullmatch=True),
            st.from_regex(r"(00|\+|0|)[1-9][0-9 ()/.-]{3,14}( ext\. ?[0-9])?", fullmatch=True),
            st.sampled_from(ODD),
        ),
        min_size=1,
        max_size=40,
    )
)
@settings(max_examples=60, deadline=None)
def test_engine_and_python_make_the_same_token(rule: str, values: list[str]) -> None:
    made = in_engine(lambda v: _token(v, rule), values)
    assert made == [privacy.token("name", value, SECRET, rule) for value in values]


def _token(v: str, rule: str) -> str:
    return privacy.token_sql("name", v, SECRET, rule)


def test_no_value_no_token() -> None:
    for rule in RULES:
        assert engine.rows(f"SELECT {_token('CAST(NULL AS VARCHAR)', rule)}") == [(None,)]


@pytest.mark.parametrize(
    ("value", "rule", "normal"),
    [
        (" Ada@Example.com ", "", "ada@example.com"),
        ("a.da@gmail.com", "", "a.da@gmail.com"),
        ("A.d.a+news@Gmail.com", "gmail", "ada@gmail.com"),
        ("ada@googlemail.com", "gmail", "ada@gmail.com"),
        ("a.da+x@example.com", "gmail", "a.da+x@example.com"),  # another server tells them apart
        ("...@gmail.com", "gmail", "...@gmail.com"),
        ("a@b@gmail.com", "gmail", "a@b@gmail.com"),
        ("C-1 ", "gmail", "C-1"),  # ids keep their case
        ("0151 23456789", "phone:DE", "+4915123456789"),
        ("+49 (0)151 / 23456789", "phone:DE", "+4915123456789"),
        ("0049-151-23456789", "phone:US", "+4915123456789"),
        ("0049-151-23456789", "phone:", "+4915123456789"),
        ("(415) 555-2671", "phone:US", "+14155552671"),
        ("011 49 151 23456789", "phone:US", "+4915123456789"),
        ("0151 23456789", "phone:", "015123456789"),  # of which country?
        ("12-34 5", "phone:DE", "12345"),
        ("+49 30 901820 ext. 5", "phone:DE", "+4930901820;ext=5"),
        ("Ada@example.com", "phone:DE", "ada@example.com"),
        ("---", "phone:DE", "---"),
    ],
)
def test_values_are_compared_in_their_normal_form(value: str, rule: str, normal: str) -> None:
    assert privacy.normalise(value, rule) == normal


def test_the_study_says_which_rule_an_identifier_has() -> None:
    identity = Identity(identifiers=["email", "mobile"], phones=["mobile"], phone_region="DE", merge_email_dots=True)
    assert [privacy.rule(identity, name) for name in ("email", "mobile")] == ["gmail", "phone:DE"]
    assert privacy.rule(Identity(identifiers=["email"]), "email") == ""
    with pytest.raises(ValueError, match="'XX' is not a country"):
        Identity(identifiers=["mobile"], phone_region="XX")
    with pytest.raises(ValueError, match="phone 'mobil' is not in identifiers"):
        Identity(identifiers=["mobile"], phones=["mobil"])


REDACTED = [
    ("write to Ada.Lovelace+x@mail.example.co.uk!", "write to <e-mail>!"),
    ("ada%40example.com, ada&#64;example.com, ada&commat;example.com", "<e-mail>, <e-mail>, <e-mail>"),
    ("Müller@müller.de and o'brien@x.ie", "<e-mail> and <e-mail>"),
    (f"{'a' * 300}@example.com", "<e-mail>"),
    ("call +49 (0)170 1234567.", "call <number>."),
    ("(030) 1234567 or 415.555.2671 or 0170/1234567", "<number> or <number> or <number>"),
    ("fullwidth ０１７０１２３４５６７", "fullwidth <number>"),
    ("card 4111 1111 1111 1111", "card <card>"),
    ("card 4111-1111-1111-1112", "card <number>"),  # a wrong check digit is no card, and still a number
    ("DE89 3704 0044 0532 0130 00 please", "<IBAN> please"),
    ("gb82west12345698765432.", "<IBAN>."),
    ("DE89370400440532013001", "DE<number>"),  # a wrong check digit
    ("from 192.168.0.1 and 2001:db8::8a2e:370:7334", "from <IP> and <IP>"),
    ("::ffff:192.168.1.1", "<IP>"),
    ("https://ada:pw@shop.example/reset?token=a#b", "https://shop.example/reset?<query>"),
    ("shop.example/reset?mail=a and /me?token=b", "shop.example/reset?<query> and /me?<query>"),
    ("https://shop.example/a#access_token=b", "https://shop.example/a#<fragment>"),
    ("on 6.1.2025 call 0170 1234567 2025-01-06", "on 6.1.2025 call <number> 2025-01-06"),
]
KEPT = [
    "Fine, but filters could be better. 10 out of 10!",
    "ordered 2025-01-06, came 06.01.2025 or 1/6/2025 at 10:30:00",
    "2025-01-06 - 2025-01-09",
    "1,299.00 or 1.299,00 or 12999.00 EUR, 0.12345678 of it",
    "order 123456 and #10001",
    "https://shop.example/laptops/aero-15",
    "std::map, a::b, 12:30:15, version 1.2.3, really? yes",
    "@ada is not an address",
]


@pytest.mark.parametrize(("text", "expected"), REDACTED)
def test_free_text_loses_what_could_name_a_person(text: str, expected: str) -> None:
    assert redaction.redact(text) == expected


@pytest.mark.parametrize("text", KEPT)
def test_free_text_keeps_dates_amounts_and_order_numbers(text: str) -> None:
    assert redaction.redact(text) == text


def test_the_engine_redacts_as_python_does() -> None:
    texts = [text for text, _ in REDACTED] + KEPT
    assert in_engine(redaction.redact_sql, texts) == [redaction.redact(text) for text in texts]
    assert engine.rows(f"SELECT {redaction.redact_sql('CAST(NULL AS VARCHAR)')}") == [(None,)]


PIECES = ["ada", "@", "%40", "x.com", "://", "https://", "www.", "?", "#", "/", "a=1", ":", "::", ".", " ", "-", "(0)"]
PIECES += ["0170", "1234567", "4111111111111111", "DE89370400440532013000", "192.168.0.1", "fe80::1", "2025-01-06", "é"]


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=9).map("".join), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
def test_no_text_that_python_would_redact_passes_the_first_look(texts: list[str]) -> None:
    assert in_engine(redaction.redact_sql, texts) == [redaction.redact(text) for text in texts]


@pytest.mark.parametrize(
    "unit", ["a", "%40", "a@", "1 ", "12:", "DE89", "a.", "a://b", "(", "2025-01-06 ", "/?", "0a-"]
)
def test_a_very_long_text_takes_no_longer_than_its_length(unit: str) -> None:
    started = time.process_time()
    redaction.redact(unit * (200_000 // len(unit)))
    assert time.process_time() - started < 5  # about 0.1 s; a pattern that goes back and forth takes hours


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("spring sale 2025 1234567", "spring sale 2025 1234567"),  # a campaign's number is no telephone number
        ("2025-01-06T10:00:00Z", "2025-01-06T10:00:00Z"),
        ("Ada <ada@example.com>", "Ada <<e-mail>>"),
        ("ada%40example.com", "<e-mail>"),
        ("https://x.example/a?gclid=1&utm_source=g&utm_medium=cpc", "https://x.example/a"),
        ("https://u:p@x.example/a?utm_source=g&utm_term=ada@x.com", "https://x.example/a"),
        ("/reset?token=abc&mail=ada%40x.com", "/reset"),
        ("page?user=17", "page"),
        ("https://x.example/#/route", "https://x.example/#/route"),
        ("https://x.example/#token=1", "https://x.example/"),
        ("from https://x.example/a?b=c to https://y.example/d#e=f", "from https://x.example/a to https://y.example/d"),
        ("What now?", "What now?"),
        ("C# developers", "C# developers"),
    ],
)
def test_names_lose_addresses_and_query_strings_and_no_digit(name: str, expected: str) -> None:
    assert in_engine(redaction.name_sql, [name]) == [expected]
    assert in_engine(redaction.link_sql, [name]) == [expected]
    assert redaction.clean_name(name) == expected


def test_a_megabyte_without_a_blank_is_masked_at_once() -> None:
    assert redaction.mask("x" * 1_000_000) == "x" * 1_000_000  # hours, where a word may start anywhere
