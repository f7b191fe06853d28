"""When a breaker opens: too large a part of enough requests, in the window and no longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.feed import Breaker
from app.models import Answer, Ruling
from app.partner.breaker import Window, count_failed, failed, should_open

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, False), (400, False), (404, False), (408, True), (429, False), (500, True), (503, True), (None, True)],
)
def test_an_endpoint_is_unwell_when_it_does_not_answer_or_says_so(status: int | None, expected: bool) -> None:
    assert failed(Answer(NOW, 1, status)) is expected


def test_a_2xx_that_is_to_be_retried_says_that_the_endpoint_is_unwell() -> None:
    assert failed(Answer(NOW, 1, 200, error="success: status is busy", ruling=Ruling.FAILED))
    assert not failed(Answer(NOW, 1, 200, error="success: status is rejected", ruling=Ruling.REFUSED))


def test_a_row_that_cannot_be_sent_says_nothing_of_the_endpoint() -> None:
    assert not failed(Answer(NOW, 0, error="no such column", ruling=Ruling.REFUSED))
    assert count_failed([Answer(NOW, 1, error="cut", ruling=Ruling.LOST), Answer(NOW, 1, 200)]) == 1


@pytest.mark.parametrize(
    ("sent", "failures", "expected"), [(19, 19, False), (20, 9, False), (20, 10, True), (1000, 499, False)]
)
def test_it_opens_for_a_ratio_of_enough_requests(sent: int, failures: int, expected: bool) -> None:
    assert should_open(Breaker(), sent, failures) is expected


def test_one_that_is_turned_off_never_opens() -> None:
    assert not should_open(Breaker(enabled=False), 1000, 1000)


def test_the_window_forgets() -> None:
    window = Window(timedelta(seconds=10))
    window.add(100.0, 5, 2)
    window.add(100.5, 5, 1)
    window.add(105.0, 10, 0)
    assert window.totals(106.0) == (20, 3)
    assert window.totals(112.0) == (10, 0)
    assert window.totals(130.0) == (0, 0)
