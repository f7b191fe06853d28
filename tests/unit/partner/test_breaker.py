"""When a breaker opens: too large a part of enough requests, in the window and no longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.core.attempts import Answer, Ruling
from app.feeds.feed import Breaker
from app.partner.throttle.breaker import opens_for, should_open
from app.partner.throttle.results import Results, Window, failed, of_the_endpoint

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, False),
        (400, False),
        (404, False),
        (408, True),
        (429, False),
        (500, True),
        (503, True),
        (None, True),
    ],
)
def test_an_endpoint_is_unwell_when_it_does_not_answer_or_says_so(
    status: int | None, expected: bool
) -> None:
    assert failed(Answer(NOW, 1, status)) is expected


def test_a_2xx_that_is_to_be_retried_says_that_the_endpoint_is_unwell() -> None:
    assert failed(Answer(NOW, 1, 200, error="success: status is busy", ruling=Ruling.FAILED))
    assert not failed(
        Answer(NOW, 1, 200, error="success: status is rejected", ruling=Ruling.REFUSED)
    )


def test_a_row_that_cannot_be_sent_says_nothing_of_the_endpoint() -> None:
    assert not of_the_endpoint(Answer(NOW, 0, error="no such column", ruling=Ruling.REFUSED))
    assert of_the_endpoint(Answer(NOW, 1, error="cut", ruling=Ruling.LOST))
    assert of_the_endpoint(Answer(NOW, 1, 404))


@pytest.mark.parametrize(
    ("sent", "failures", "expected"),
    [(19, 19, False), (20, 9, False), (20, 10, True), (1000, 499, False)],
)
def test_it_opens_for_a_ratio_of_enough_requests(sent: int, failures: int, expected: bool) -> None:
    assert should_open(Breaker(consecutive_failures=0), sent, failures, failures) is expected


@pytest.mark.parametrize(
    ("sent", "in_a_row", "expected"),
    [(0, 9, False), (0, 10, True), (1, 10, True), (19, 500, True), (20, 10, False)],
)
def test_with_too_few_requests_it_opens_for_failures_in_a_row(
    sent: int, in_a_row: int, expected: bool
) -> None:
    assert should_open(Breaker(), sent, 0, in_a_row) is expected


def test_one_that_is_turned_off_never_opens() -> None:
    assert not should_open(Breaker(enabled=False), 1000, 1000, 1000)
    assert not should_open(Breaker(consecutive_failures=0), 5, 5, 1000)


@pytest.mark.parametrize(
    ("statuses", "before", "expected"),
    [
        ([], 4, 4),
        ([500], 4, 5),
        ([200], 4, 0),
        ([500, 200, 500, 500], 4, 2),
        ([500, 429], 9, 0),
        ([None, None], 0, 2),
    ],
)
def test_failures_in_a_row_end_with_an_answer_that_is_none(
    statuses: list[int | None], before: int, expected: int
) -> None:
    assert Results.of(Answer(NOW, 1, status) for status in statuses).in_a_row(before) == expected


def test_results_told_later_count_as_if_told_at_once() -> None:
    statuses = [500, 200, 500, 500, 500, 404, 500]
    answers = [Answer(NOW, 1, status) for status in statuses]
    for at in range(len(answers) + 1):
        assert Results.of(answers[:at]).then(Results.of(answers[at:])) == Results.of(answers)


def test_the_cooldown_doubles_up_to_its_cap() -> None:
    breaker, hour = Breaker(), timedelta(hours=1)
    assert [opens_for(breaker, n, hour).total_seconds() for n in range(6)] == [
        10,
        20,
        40,
        80,
        120,
        120,
    ]
    assert opens_for(breaker, 10**9, hour) == timedelta(minutes=2)
    assert opens_for(breaker, 9, timedelta(seconds=30)) == timedelta(seconds=30), (
        "no longer than a retry waits"
    )
    assert opens_for(Breaker(open_for=timedelta(minutes=5)), 9, hour) == timedelta(minutes=5)


def test_the_window_forgets() -> None:
    window = Window(timedelta(seconds=10))
    window.add(100.0, 5, 2)
    window.add(100.5, 5, 1)
    window.add(105.0, 10, 0)
    assert window.totals(106.0) == (20, 3)
    assert window.totals(112.0) == (10, 0)
    assert window.totals(130.0) == (0, 0)
