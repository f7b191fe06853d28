"""A cursor is what a page of ours ended with, or it is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.console.errors import Invalid
from app.console.schemas import cursor_of, moment_cursor, read_moment_cursor

AT = datetime(2026, 8, 1, 12, tzinfo=timezone(timedelta(hours=7)))


def test_a_place_is_read_as_it_was_told_in_utc() -> None:
    place = read_moment_cursor(moment_cursor((AT, "one")))
    assert place == (AT, "one")
    assert place[0].tzinfo is UTC
    assert read_moment_cursor(moment_cursor(None)) is None


@pytest.mark.parametrize(
    ("at", "last"),
    [
        ("2026-08-01T12:00:00", "one"),
        ("yesterday", "one"),
        ("0001-01-01T00:00:00+14:00", "one"),
        ("2026-08-01T12:00:00+00:00", "o\nne"),
    ],
    ids=["without a zone", "no moment", "before all moments", "control characters"],
)
def test_what_no_page_ended_with_is_refused(at: str, last: str) -> None:
    with pytest.raises(Invalid, match="of this list"):
        read_moment_cursor(cursor_of(at, last))
