"""Which rows a feed's filter sends, which it skips, and that a row it cannot judge is not lost."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from app.core.rows import SourceRow
from app.feeds.feed import Condition
from app.feeds.filter import sift, skip_reason

ROW = {
    "id": 7,
    "Name": "Zoë",
    "amount": "12.50",
    "note": None,
    "at": "2026-01-31T10:00:00",
    "paid": True,
}


def condition(column: str, op: str, value: Any = None) -> Condition:
    return Condition.model_validate({"column": column, "op": op, "value": value})


def row(**changes: Any) -> SourceRow:
    return SourceRow("7", 7, json.dumps(ROW | changes))


@pytest.mark.parametrize(
    ("column", "op", "value", "met"),
    [
        ("id", "=", 7, True),
        ("id", "!=", 7, False),
        ("amount", ">", 9.5, True),
        ("amount", "=", 12.5, True),
        ("amount", "<=", 12, False),
        ("name", "=", "Zoë", True),
        ("Name", "like", "z%", True),
        ("Name", "like", "_o", False),
        ("Name", "in", ["Ann", "Zoë"], True),
        ("id", "not in", [1, 7], False),
        ("note", "is null", None, True),
        ("note", "is not null", None, False),
        ("note", "=", "", False),
        ("note", "!=", "x", False),
        ("at", ">=", datetime(2026, 1, 31, 9), True),  # noqa: DTZ001  the column has no offset
        ("at", "<", date(2026, 1, 31), False),
        ("paid", "=", True, True),
        ("paid", "=", False, False),
    ],
)
def test_each_condition_says_what_sql_would(column: str, op: str, value: Any, met: bool) -> None:
    reason = skip_reason([condition(column, op, value)], ROW)
    assert (reason is None) is met


def test_a_skipped_row_has_the_condition_it_did_not_meet_as_its_reason_and_not_its_value() -> None:
    sifted = sift([condition("id", ">", 1), condition("amount", ">=", 100)], [row()])
    assert [reason for _, reason in sifted.skipped] == ["filter: not amount >= 100"]
    assert sifted.sent == []


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (condition("gone", "=", 1), "filter: the row has no column 'gone'; it has id"),
        (condition("Name", ">", 3), "filter: column 'Name' holds no number to compare with"),
        (
            condition("at", ">", datetime(2026, 1, 1, tzinfo=UTC)),
            "filter: can't compare offset-naive",
        ),
    ],
)
def test_a_row_that_cannot_be_judged_goes_on_record_as_unreadable(
    wanted: Condition, reason: str
) -> None:
    sifted = sift([wanted], [row()])
    assert [str(found.error).startswith(reason) for found in sifted.unreadable] == [True]
    assert (sifted.sent, sifted.skipped) == ([], [])


def test_without_a_filter_every_readable_row_is_sent() -> None:
    broken = SourceRow("8", 8, "", "no JSON form")
    sifted = sift([], [row(), broken])
    assert (sifted.sent, sifted.unreadable, sifted.skipped) == ([row()], [broken], [])
