"""What a feed may say about its cursor, its rows and its conditions, and what is refused before
anything is read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from app.core.rows import SourceRow
from app.feeds.cursors import SPECS
from app.feeds.feed import Feed
from app.ledger.delivery_documents import delivery_id


def _feed(strategy: str = "identity", **fields: Any) -> Feed:
    cursor = {"strategy": strategy, "column": "id", **fields.pop("cursor", {})}
    partner = {"url": "https://partner.example/"}
    plain = {"name": "orders", "table": "orders", "key": "id", "cursor": cursor, "partner": partner}
    return Feed.model_validate(plain | fields)


@pytest.mark.parametrize(
    ("strategy", "start"),
    [
        ("identity", 5),
        ("identity", "5"),
        ("rowversion", "0x7d1"),
        ("timestamp", "2026-01-31"),
        ("timestamp", "2026-01-31T10:00:00.1234567Z"),
        ("timestamp", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("timestamp", "now"),
    ],
)
def test_a_start_is_a_word_or_a_position_of_the_strategy(strategy: str, start: Any) -> None:
    assert _feed(strategy, cursor={"start": start}).cursor.start not in ("", "beginning")


@pytest.mark.parametrize(
    ("strategy", "start", "needs"),
    [
        ("identity", "0x7d1", "an integer"),
        ("rowversion", 5, "a version such as"),
        ("rowversion", "0x" + "1" * 17, "a version such as"),
        ("timestamp", "yesterday", "a moment such as"),
        ("timestamp", "2026-01-31' OR 1=1 --", "a moment such as"),
    ],
)
def test_a_start_of_another_form_is_refused_with_the_right_one(
    strategy: str, start: Any, needs: str
) -> None:
    with pytest.raises(ValidationError, match=needs):
        _feed(strategy, cursor={"start": start})


def test_a_position_is_kept_in_one_form() -> None:
    assert SPECS["identity"].parse_position(" 5 ") == 5
    assert SPECS["rowversion"].parse_position("0x7d1") == "0x00000000000007D1"
    assert SPECS["timestamp"].parse_position("2026-01-31T10:00:00Z") == "2026-01-31 10:00:00+00:00"


def test_changes_need_a_column_that_an_update_moves() -> None:
    assert _feed("rowversion", capture="changes").capture == "changes"
    with pytest.raises(ValidationError, match="an update moves no identity"):
        _feed("identity", capture="changes")


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"op": "="}, "needs one value"),
        ({"op": "=", "value": [1]}, "needs one value"),
        ({"op": "in", "value": 1}, "needs a list"),
        ({"op": "in", "value": []}, "needs a list"),
        ({"op": "is null", "value": 1}, "takes no value"),
        ({"op": "like", "value": 1}, "needs a text"),
        ({"op": "; DROP TABLE orders", "value": 1}, "Input should be"),
    ],
)
def test_a_condition_that_means_nothing_is_refused(condition: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        _feed(where=[{"column": "status", **condition}])


def test_each_change_of_a_row_has_a_delivery_of_its_own() -> None:
    row = SourceRow("a%3Ab:7", 1, "{}")
    changed = SourceRow("a%3Ab:7", 1, "{}", change="2026-01-31 10:00:00.5")
    assert delivery_id("orders", row) == "orders:a%3Ab:7"
    assert delivery_id("orders", changed) == "orders:a%3Ab:7:2026-01-31%2010%3A00%3A00.5"
