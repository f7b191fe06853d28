"""The one decision about an answer: as a table, then as properties that hold for every answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.feed import Retry
from app.models import Answer, Outcome, Verdict
from app.partner.policy import HOLD_LIMIT, backoff, judge

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
POLICY = Retry(
    max_attempts=12,
    max_age=timedelta(days=3),
    backoff=timedelta(seconds=1),
    backoff_cap=timedelta(hours=1),
)
STATUSES = st.none() | st.integers(min_value=100, max_value=999)
DRAWS = st.floats(min_value=0, max_value=1, exclude_max=True)
POLICIES = st.builds(
    Retry,
    max_attempts=st.none() | st.integers(1, 1000),
    max_age=st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=3650)),
    backoff=st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=30)),
    backoff_cap=st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=365)),
)


def answer(status: int | None = None, retry_after: str | None = None, error: str | None = None) -> Answer:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return Answer(at=NOW, duration_ms=5, status=status, headers=headers, error=error)


def verdict_on(
    given_answer: Answer,
    *,
    attempt: int = 1,
    age: timedelta = timedelta(0),
    policy: Retry = POLICY,
    draw: float = 0.5,
) -> Verdict:
    return judge(given_answer, attempt=attempt, created_at=NOW - age, policy=policy, now=NOW, draw=lambda: draw)


@pytest.mark.parametrize(
    ("status", "outcome", "reason", "pauses"),
    [
        (200, Outcome.DELIVERED, "200", False),
        (201, Outcome.DELIVERED, "201", False),
        (204, Outcome.DELIVERED, "204", False),
        (299, Outcome.DELIVERED, "299", False),
        (408, Outcome.RETRY, "408 Request Timeout", False),
        (425, Outcome.RETRY, "425 Too Early", False),
        (429, Outcome.RETRY, "429 Too Many Requests", False),
        (500, Outcome.RETRY, "500 Internal Server Error", False),
        (501, Outcome.RETRY, "501 Not Implemented", False),
        (503, Outcome.RETRY, "503 Service Unavailable", False),
        (599, Outcome.RETRY, "599", False),
        (401, Outcome.RETRY, "401 Unauthorized", True),
        (403, Outcome.RETRY, "403 Forbidden", True),
        (410, Outcome.DEAD, "410 Gone", True),
        (400, Outcome.DEAD, "400 Bad Request", False),
        (404, Outcome.DEAD, "404 Not Found", False),
        (422, Outcome.DEAD, None, False),  # the phrase differs between Python versions
        (499, Outcome.DEAD, "499", False),
        (301, Outcome.DEAD, "301 Moved Permanently: redirects are not followed", False),
        (304, Outcome.DEAD, "304 Not Modified: redirects are not followed", False),
        (101, Outcome.DEAD, "101 Switching Protocols", False),
        (600, Outcome.DEAD, "600", False),
        (999, Outcome.DEAD, "999", False),
    ],
)
def test_each_status_has_its_outcome(status: int, outcome: Outcome, reason: str | None, pauses: bool) -> None:
    verdict = verdict_on(answer(status))
    assert verdict.outcome is outcome
    assert reason is None or verdict.reason == reason
    assert (verdict.pause_reason is not None) is pauses


@pytest.mark.parametrize("error", ["ConnectError: refused", "Deadline: no complete answer", "ProtocolError: no HTTP"])
def test_a_request_without_an_answer_is_retried_and_says_why(error: str) -> None:
    verdict = verdict_on(answer(error=error))
    assert (verdict.outcome, verdict.reason) == (Outcome.RETRY, error)


def test_an_answer_that_says_nothing_at_all_is_retried() -> None:
    assert verdict_on(answer()) == Verdict(Outcome.RETRY, "no answer", NOW + timedelta(seconds=0.875))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "wait"),
    [
        ("120", timedelta(seconds=120)),
        (" 120 ", timedelta(seconds=120)),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), timedelta(seconds=90)),
        ("Sun, 01 Mar 2026 14:00:00 +0100", timedelta(hours=1)),
        ("Sun, 01 Mar 2026 13:00:00 -0000", timedelta(hours=1)),
        ("Sunday, 01-Mar-26 13:00:00 GMT", timedelta(hours=1)),
        ("86401", HOLD_LIMIT),
        ("1772366400", HOLD_LIMIT),
        ("9" * 5000, HOLD_LIMIT),
        ("Fri, 31 Dec 9999 23:59:59 GMT", HOLD_LIMIT),
        ("0", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
        ("٣", None),
        ("120, 120", None),
        ("Sun, 99 Mar 2026 13:00:00 GMT", None),
        ("Sun, 01 Mar 99999 13:00:00 GMT", None),
        (format_datetime(NOW - timedelta(seconds=1), usegmt=True), None),
    ],
)
def test_retry_after_holds_the_endpoint_and_the_retry(status: int, retry_after: str, wait: timedelta | None) -> None:
    verdict = verdict_on(answer(status, retry_after), draw=0)
    assert verdict.hold_until == (None if wait is None else NOW + wait)
    assert verdict.next_attempt_at == NOW + (wait or timedelta(seconds=1))


@pytest.mark.parametrize("status", [None, 200, 301, 400, 401, 410, 500, 502])
def test_retry_after_holds_nothing_on_another_status(status: int | None) -> None:
    assert verdict_on(answer(status, "120")).hold_until is None


def test_the_header_is_found_in_any_case() -> None:
    given_answer = Answer(at=NOW, duration_ms=1, status=503, headers={"Retry-After": "7"})
    assert verdict_on(given_answer).hold_until == NOW + timedelta(seconds=7)


def test_a_delivery_that_is_given_up_still_holds_the_endpoint() -> None:
    verdict = verdict_on(answer(429, "30"), attempt=12)
    assert verdict.outcome is Outcome.DEAD
    assert verdict.hold_until == NOW + timedelta(seconds=30)
    assert verdict.next_attempt_at is None


@pytest.mark.parametrize(
    ("attempt", "age", "reason"),
    [
        (11, timedelta(0), None),
        (12, timedelta(0), "attempts spent: 500 Internal Server Error"),
        (13, timedelta(0), "attempts spent: 500 Internal Server Error"),
        (1, timedelta(days=3) - timedelta(microseconds=1), None),
        (1, timedelta(days=3), "age spent: 500 Internal Server Error"),
    ],
)
def test_attempts_and_age_are_bounded(attempt: int, age: timedelta, reason: str | None) -> None:
    verdict = verdict_on(answer(500), attempt=attempt, age=age)
    assert verdict.outcome is (Outcome.RETRY if reason is None else Outcome.DEAD)
    assert reason is None or verdict.reason == reason


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_never_kill_a_row(status: int) -> None:
    verdict = verdict_on(answer(status), attempt=1000, age=timedelta(days=365))
    assert verdict.outcome is Outcome.RETRY
    assert "partner.auth" in str(verdict.pause_reason)


def test_a_success_counts_however_late_it_comes() -> None:
    assert verdict_on(answer(200), attempt=1000, age=timedelta(days=365)).outcome is Outcome.DELIVERED


@pytest.mark.parametrize(("attempt", "bound_seconds"), [(1, 1), (2, 2), (3, 4), (12, 2048), (13, 3600), (1000, 3600)])
def test_the_backoff_doubles_up_to_its_cap(attempt: int, bound_seconds: int) -> None:
    assert backoff(POLICY, attempt, lambda: 0.0) == timedelta(seconds=bound_seconds)
    assert backoff(POLICY, attempt, lambda: 0.5) == timedelta(seconds=bound_seconds * 0.875)


@given(
    status=STATUSES,
    retry_after=st.none() | st.text() | st.integers().map(str) | st.datetimes().map(format_datetime),
    attempt=st.integers(1, 100_000),
    age=st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=10_000)),
    policy=POLICIES,
    draw=DRAWS,
)
def test_every_verdict_is_complete_and_bounded(
    *, status: int | None, retry_after: str | None, attempt: int, age: timedelta, policy: Retry, draw: float
) -> None:
    verdict = verdict_on(answer(status, retry_after), attempt=attempt, age=age, policy=policy, draw=draw)
    assert (verdict.next_attempt_at is not None) is (verdict.outcome is Outcome.RETRY)
    assert verdict.reason
    assert "\n" not in verdict.reason
    if verdict.hold_until is not None:
        assert NOW < verdict.hold_until <= NOW + HOLD_LIMIT
        assert status in (429, 503)
    if verdict.next_attempt_at is not None:
        latest = max(NOW + policy.backoff_cap, verdict.hold_until or NOW)
        assert NOW <= verdict.next_attempt_at <= latest
        assert verdict.next_attempt_at >= (verdict.hold_until or NOW)


@given(
    status=STATUSES.filter(lambda status: status not in (401, 403)),
    attempt=st.integers(1, 2000),
    policy=POLICIES,
    draw=DRAWS,
)
def test_no_row_is_retried_past_its_attempts(status: int | None, attempt: int, policy: Retry, draw: float) -> None:
    verdict = verdict_on(answer(status), attempt=attempt, policy=policy, draw=draw)
    if policy.max_attempts and attempt >= policy.max_attempts:
        assert verdict.outcome is not Outcome.RETRY


@given(policy=POLICIES, attempt=st.integers(1, 10**9), draw=DRAWS)
def test_the_backoff_never_overflows_or_leaves_its_bounds(policy: Retry, attempt: int, draw: float) -> None:
    assert timedelta(0) <= backoff(policy, attempt, lambda: draw) <= policy.backoff_cap
