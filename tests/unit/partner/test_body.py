"""What is sent in place of a row: templates, functions, headers from the row, and what is wrong
with them.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import orjson
import pytest

from app.core.attempts import Ruling
from app.core.errors import ConfigError
from app.partner.failures import Undone
from app.partner.request import prepare
from tests.support.partners import delivery, feed_to

URL = "https://partner.example"
ROW = '{"id":7,"Name":"Zoë","amount":"12.50","note":null,"big":123456789012345678901234567890}'


def sent(body: Any, row: str = ROW) -> Any:
    """The body that a feed with this `body` sends for a row."""
    return json.loads(prepare(feed_to(URL, body=body)).request(delivery(payload=row)).body)


def headers_for(headers: dict[str, str], row: str = ROW) -> dict[str, str]:
    return dict(prepare(feed_to(URL, headers=headers)).request(delivery(payload=row)).headers)


def rewritten(row: dict[str, Any]) -> dict[str, Any]:
    """A function of an operator's."""
    return {"ref": f"{row['id']}-{row['Name']}"}


def failing(row: dict[str, Any]) -> dict[str, Any]:
    return {"of": row["id"] / 0}


def unfit(row: dict[str, Any]) -> object:
    return {"what": {row["id"]}}


NOT_A_FUNCTION = "text"


def test_without_a_body_the_row_goes_byte_for_byte() -> None:
    assert prepare(feed_to(URL)).request(delivery(payload=ROW)).body == ROW.encode()


def test_a_template_renames_nests_adds_constants_and_drops() -> None:
    template = {
        "reference": "$id",
        "customer": {"name": "$name", "tags": ["$amount", "new", 3]},
        "price": "$$12",
        "live": True,
        "none": "$note",
    }
    assert sent(template) == {
        "reference": 7,
        "customer": {"name": "Zoë", "tags": ["12.50", "new", 3]},
        "price": "$12",
        "live": True,
        "none": None,
    }


def test_all_columns_but_some_are_taken_with_a_star() -> None:
    assert sent({"*": {"except": ["NOTE", "big"]}, "source": "erp"}) == {
        "id": 7,
        "Name": "Zoë",
        "amount": "12.50",
        "source": "erp",
    }


def test_integers_keep_all_their_digits() -> None:
    assert sent({"n": "$big"}) == {"n": 123456789012345678901234567890}


def test_a_function_makes_the_body() -> None:
    assert sent(f"{__name__}:rewritten") == {"ref": "7-Zoë"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"x": "$missing"}, "no column 'missing'; it has id, Name"),
        ({"*": {"except": ["noet"]}}, "no column 'noet'"),
        (f"{__name__}:failing", "failing: ZeroDivisionError: division by zero"),
        (f"{__name__}:unfit", "body: no JSON form"),
    ],
)
def test_a_row_that_nothing_can_be_made_of_is_refused_with_the_reason(
    body: Any, reason: str
) -> None:
    prepared = prepare(feed_to(URL, body=body))
    with pytest.raises(Undone) as caught:
        prepared.request(delivery(payload=ROW))
    assert caught.value.ruling is Ruling.REFUSED
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("no.such.module:function", "cannot be imported: there is no module no"),
        (f"{__name__}:no_such_function", "cannot be imported: the module has no no_such_function"),
        (f"{__name__}:NOT_A_FUNCTION", "is no function"),
        ("not a path", "names no function"),
        ({"*": "$*"}, 'write "*" = {} for all columns'),
        ({"x": float("nan")}, "Out of range"),
    ],
)
def test_a_body_that_cannot_be_used_is_told_when_the_feed_is_loaded(body: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=r"feeds\.orders\.body") as caught:
        prepare(feed_to(URL, body=body))
    assert told in str(caught.value)


def test_columns_that_a_feed_does_not_read_are_told_when_it_is_loaded() -> None:
    feed = feed_to(URL, body={"x": "$id", "y": {"z": "$gone"}}, headers={"X-Tenant": "$tenant"})
    with pytest.raises(ConfigError) as caught:
        prepare(feed.model_copy(update={"columns": ("ID", "name")}))
    assert {problem.field: problem.found for problem in caught.value.problems} == {
        "feeds.orders.body": "'gone'",
        "feeds.orders.partner.headers.X-Tenant": "'tenant'",
    }


def test_headers_come_from_the_row_and_replace_static_ones() -> None:
    headers = headers_for(
        {"X-Row": "$ID", "user-agent": "$amount", "X-Price": "$$5", "X-Fixed": "a"}
    )
    assert (headers["x-row"], headers["user-agent"]) == ("7", "12.50")
    assert (headers["x-price"], headers["x-fixed"]) == ("$5", "a")
    assert headers["idempotency-key"] == "orders:1"


def test_a_null_leaves_its_header_out() -> None:
    assert "x-note" not in headers_for({"X-Note": "$note"})


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Zoë", r"U+00EB (letter 3)"),
        ("two\r\nX-Injected: 1", r"U+000D (letter 4)"),
        ("two\nX-Injected: 1", r"U+000A (letter 4)"),
        ("a\x00", r"U+0000 (letter 2)"),
        ("a\tb", r"U+0009 (letter 2)"),
        ("\x7f", r"U+007F (letter 1)"),
        ("\x85", r"U+0085 (letter 1)"),
        ("\u2028", r"U+2028 (letter 1)"),
        ("\xa0x", r"U+00A0 (letter 1)"),
        ("\ud800", r"U+D800 (letter 1)"),
        ("𝛑", r"U+1D6D1 (letter 1)"),
        (["é"], r"U+00E9 (letter 3)"),
    ],
    ids=ascii,
)
def test_a_value_that_no_header_can_carry_makes_the_row_a_dead_letter_that_says_what_to_write(
    value: Any, found: str
) -> None:
    row = json.dumps({"name": value})
    with pytest.raises(Undone) as caught:
        headers_for({"X-Name": "$name", "X-Other": "$NAME"}, row)
    assert caught.value.ruling is Ruling.REFUSED
    assert str(caught.value) == "; ".join(
        f"headers.{header}: column '{column}' holds {found}; a header's value is printable ASCII on one line, "
        f'or "${column}|quote" encodes it'
        for header, column in (("X-Name", "name"), ("X-Other", "NAME"))
    )
    assert headers_for({"X-Name": "$name|quote"}, row)["x-name"].isascii()


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("plain-text_1.~", "plain-text_1.~"),
        ("Zoë & Söhne", "Zo%C3%AB%20%26%20S%C3%B6hne"),
        ("100%", "100%25"),
        ("a\r\nX-Injected: 1", "a%0D%0AX-Injected%3A%201"),
        ("\x00", "%00"),
        (" padded ", "%20padded%20"),
        ("", ""),
        ("\ud800", "%ED%A0%80"),
        (7, "7"),
        (2**80, str(2**80)),
        (True, "true"),
        ({"a": "é"}, "%7B%22a%22%3A%22%C3%A9%22%7D"),
    ],
    ids=ascii,
)
def test_a_quoted_value_is_percent_encoded_and_can_be_read_back(value: Any, sent: str) -> None:
    row = json.dumps({"name": value})
    assert headers_for({"X-Name": "$name|quote"}, row)["x-name"] == sent
    plain = (
        value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    )
    assert unquote(sent, errors="surrogatepass") == plain
    assert orjson.loads(prepare(feed_to(URL, body={"name": "$name|quote"})).body(row)) == {
        "name": sent
    }


def test_a_quoted_null_leaves_its_header_out_and_stays_null_in_a_body() -> None:
    assert "x-note" not in headers_for({"X-Note": "$note|quote"})
    assert prepare(feed_to(URL, body={"note": "$note|quote"})).body(ROW) == b'{"note":null}'


@pytest.mark.parametrize(("value", "sent"), [("  ACME  ", "ACME"), ("   ", ""), ("a  b", "a  b")])
def test_blanks_around_a_header_s_value_are_no_part_of_it(value: str, sent: str) -> None:
    assert headers_for({"X-Name": "$name"}, json.dumps({"name": value}))["x-name"] == sent


def test_what_follows_a_column_is_quote_and_nothing_else() -> None:
    feed = feed_to(URL, headers={"X-Tenant": "$id|qoute", "X-Good": "$id|quote"})
    with pytest.raises(ConfigError) as caught:
        prepare(feed.model_copy(update={"columns": ("id",)}))
    assert [(problem.field, problem.found) for problem in caught.value.problems] == [
        ("feeds.orders.partner.headers.X-Tenant", "'id|qoute'")
    ]
