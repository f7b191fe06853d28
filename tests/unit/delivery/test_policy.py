"""The one decision about an answer: as a table, then as properties that hold for every answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.attempts import Answer, Outcome, Ruling, Verdict
from app.delivery.policy import HOLD_LIMIT, UNDER_WAY_WAIT, accepted, backoff, judge
from app.feeds.feed import Retry

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


def answer(
    status: int | None = None, retry_after: str | None = None, error: str | None = None
) -> Answer:
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
    return judge(
        given_answer,
        attempt=attempt,
        created_at=NOW - age,
        policy=policy,
        now=NOW,
        draw=lambda: draw,
    )


@given(STATUSES, st.none() | st.sampled_from(Ruling), st.none() | st.just("cut off"))
def test_the_short_way_for_what_was_accepted_says_what_the_long_one_does(
    status: int | None, ruling: Ruling | None, error: str | None
) -> None:
    given_answer = replace(answer(status, error=error), ruling=ruling)
    short, verdict = accepted(given_answer), verdict_on(given_answer)
    assert short in (None, verdict)
    assert short or verdict.outcome is not Outcome.DELIVERED or ruling


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
def test_each_status_has_its_outcome(
    status: int, outcome: Outcome, reason: str | None, pauses: bool
) -> None:
    verdict = verdict_on(answer(status))
    assert verdict.outcome is outcome
    assert reason is None or verdict.reason == reason
    assert (verdict.pause_reason is not None) is pauses


@pytest.mark.parametrize(
    "error", ["ConnectError: refused", "Deadline: no complete answer", "ProtocolError: no HTTP"]
)
def test_a_request_without_an_answer_is_retried_and_says_why(error: str) -> None:
    verdict = verdict_on(answer(error=error))
    assert (verdict.outcome, verdict.reason) == (Outcome.RETRY, error)


def test_an_answer_that_says_nothing_at_all_is_retried() -> None:
    assert verdict_on(answer()) == Verdict(
        Outcome.RETRY, "no answer", NOW + timedelta(seconds=0.875)
    )


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("20.5", 21),
        ("0.2", 1),
        ("20,5", 20),  # two numbers, as two headers would be
        ("120, 60", 120),
        ('"30"', 30),
        ("30s", 30),
        ("2 minutes", 120),
        ("1500ms", 2),
        ("PT1M30S", 90),
        ("00:00:30", 30),
        ("120 (maintenance)", 120),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        ("Sun, 01 Mar 2026 12:00:10 GMT, Sun, 01 Mar 2026 12:00:40 GMT", 40),
        ("Sun, 01 Mar 2026 14:00:00 +0100", 3600),
        ("Sun, 01 Mar 2026 13:00:00 -0000", 3600),
        ("Sunday, 01-Mar-26 13:00:00 GMT", 3600),
        ("Sun Mar  1 13:00:00 2026", 3600),
        ("2026-03-01T12:01:00Z", 60),
        ("2026-03-01 12:01:00", 60),
        ("1772366430", 30),
        ("1772366430000", 30),
        ("86401", 86400),
        ("9" * 5000, 86400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400),
        ("-5", 5),
        ("", 5),
        ("soon", 5),
        ("nan", 5),
        ("٣", 5),
        ("1772366400", 5),
        ("Sun, 99 Mar 2026 13:00:00 GMT", 5),
        ("Sun, 01 Mar 99999 13:00:00 GMT", 5),
        (format_datetime(NOW - timedelta(seconds=1), usegmt=True), 5),
        ("0", 0),
        ("0.0", 0),
    ],
)
def test_every_form_of_retry_after_holds_the_endpoint_and_the_retry(
    status: int, retry_after: str, seconds: int
) -> None:
    verdict = verdict_on(answer(status, retry_after), draw=0)
    assert verdict.hold_until == (NOW + timedelta(seconds=seconds) if seconds else None)
    assert verdict.next_attempt_at == NOW + timedelta(seconds=max(seconds, 1))  # the backoff's


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("retry-after-ms", "1500", 2),
        ("x-retry-after", "7", 7),
        ("ratelimit-reset", "7", 7),
        ("x-ratelimit-reset", "1772366430", 30),
        ("x-rate-limit-reset", "1772366430", 30),
        ("x-ratelimit-reset-after", "1.25", 2),
        ("ratelimit", "limit=100, remaining=0, reset=50", 50),
        ("ratelimit", '"default";r=0;t=30', 30),
        ("ratelimit", '"default";r=0', 5),
    ],
)
def test_the_other_headers_for_it_are_read_where_the_answer_is_about_our_pace(
    name: str, value: str, seconds: int
) -> None:
    assert verdict_on(Answer(NOW, 5, 429, {name: value})).hold_until == NOW + timedelta(
        seconds=seconds
    )


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_rate_limit_told_with_every_answer_makes_no_refusal_pass(status: int) -> None:
    headers = {"x-ratelimit-reset": "1772366430", "ratelimit-reset": "30", "retry-after": "0"}
    assert verdict_on(Answer(NOW, 5, status, headers)).outcome is Outcome.DEAD


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ('{"message":"slow","retry_after":64.57}', 65),
        ('{"ok":false,"parameters":{"retry_after":7}}', 7),
        ('{"error":{"retryAfter":"30s"}}', 30),
        ('{"retry_after":"soon"}', 5),
        ('{"retry_after":null}', None),
        ('{"retry_after"', None),
        ('["retry_after"]', None),
    ],
)
def test_a_member_of_the_answer_may_say_it_too(body: str, seconds: int | None) -> None:
    expected = None if seconds is None else NOW + timedelta(seconds=seconds)
    assert verdict_on(Answer(NOW, 5, 429, body=body)).hold_until == expected


def test_a_date_is_taken_by_the_partners_own_clock() -> None:
    headers = {
        "date": "Sun, 01 Mar 2026 10:00:00 GMT",
        "retry-after": "Sun, 01 Mar 2026 10:00:20 GMT",
    }
    assert verdict_on(Answer(NOW, 5, 503, headers)).hold_until == NOW + timedelta(seconds=20)


@pytest.mark.parametrize(
    ("status", "outcome", "holds"),
    [
        (200, Outcome.DELIVERED, False),
        (202, Outcome.DELIVERED, False),
        (301, Outcome.RETRY, True),
        (307, Outcome.RETRY, True),
        (400, Outcome.RETRY, True),
        (403, Outcome.RETRY, True),
        (404, Outcome.RETRY, True),
        (408, Outcome.RETRY, True),
        (409, Outcome.RETRY, False),
        (413, Outcome.RETRY, False),
        (425, Outcome.RETRY, False),
        (500, Outcome.RETRY, True),
        (502, Outcome.RETRY, True),
        (410, Outcome.DEAD, False),
        (401, Outcome.RETRY, False),
    ],
)
def test_a_refusal_that_says_when_to_come_back_passes(
    status: int, outcome: Outcome, holds: bool
) -> None:
    verdict = verdict_on(answer(status, "120"), draw=0)
    assert verdict.outcome is outcome
    assert verdict.hold_until == (NOW + timedelta(seconds=120) if holds else None)
    assert (verdict.pause_reason is not None) is (status in (401, 410))
    if outcome is Outcome.RETRY and status != 401:
        assert verdict.next_attempt_at == NOW + timedelta(seconds=120)


def test_a_403_for_sending_too_fast_is_no_matter_of_credentials() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1772366430"}
    verdict = verdict_on(Answer(NOW, 5, 403, headers))
    assert (verdict.outcome, verdict.pause_reason) == (Outcome.RETRY, None)
    assert verdict.hold_until == NOW + timedelta(seconds=30)


@pytest.mark.parametrize(
    ("attempt", "in_doubt", "body", "outcome"),
    [
        (1, False, "", Outcome.DEAD),
        (1, False, '{"error":"order 7 exists"}', Outcome.DEAD),
        (1, True, "", Outcome.RETRY),
        (2, False, "", Outcome.RETRY),
        (1, False, '{"title":"A request is outstanding for this Idempotency-Key"}', Outcome.RETRY),
        (1, False, '{"detail":"the request is in progress"}', Outcome.RETRY),
        (12, True, "", Outcome.DEAD),
    ],
)
def test_a_409_that_may_speak_of_our_earlier_request_waits(
    attempt: int, in_doubt: bool, body: str, outcome: Outcome
) -> None:
    given_answer = Answer(NOW, 5, 409, body=body)
    verdict = judge(
        given_answer,
        attempt=attempt,
        created_at=NOW,
        policy=POLICY,
        now=NOW,
        draw=lambda: 0.0,
        in_doubt=in_doubt,
    )
    assert verdict.outcome is outcome
    if verdict.outcome is Outcome.RETRY:
        assert verdict.in_doubt
        assert verdict.next_attempt_at == NOW + UNDER_WAY_WAIT
    elif attempt > 1:
        assert verdict.reason.startswith(
            "attempts spent: 409 Conflict: the partner may have an earlier request"
        )


@pytest.mark.parametrize("status", [401, 403, 408, 409, 425, 429, 500, 503])
def test_doubt_stays_until_an_answer_tells(status: int) -> None:
    verdict = judge(
        answer(status),
        attempt=2,
        created_at=NOW,
        policy=POLICY,
        now=NOW,
        draw=lambda: 0.5,
        in_doubt=True,
    )
    assert verdict.in_doubt


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_that_got_no_answer_leaves_the_row_in_doubt(status: int) -> None:
    assert verdict_on(answer(status)).in_doubt
    assert not verdict_on(answer(503)).in_doubt


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
    assert (
        verdict_on(answer(200), attempt=1000, age=timedelta(days=365)).outcome is Outcome.DELIVERED
    )


@pytest.mark.parametrize(
    ("attempt", "bound_seconds"), [(1, 1), (2, 2), (3, 4), (12, 2048), (13, 3600), (1000, 3600)]
)
def test_the_backoff_doubles_up_to_its_cap(attempt: int, bound_seconds: int) -> None:
    assert backoff(POLICY, attempt, lambda: 0.0) == timedelta(seconds=bound_seconds)
    assert backoff(POLICY, attempt, lambda: 0.5) == timedelta(seconds=bound_seconds * 0.875)


@given(
    status=STATUSES,
    retry_after=st.none()
    | st.text()
    | st.integers().map(str)
    | st.datetimes().map(format_datetime),
    attempt=st.integers(1, 100_000),
    age=st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=10_000)),
    policy=POLICIES,
    draw=DRAWS,
)
def test_every_verdict_is_complete_and_bounded(
    *,
    status: int | None,
    retry_after: str | None,
    attempt: int,
    age: timedelta,
    policy: Retry,
    draw: float,
) -> None:
    verdict = verdict_on(
        answer(status, retry_after), attempt=attempt, age=age, policy=policy, draw=draw
    )
    assert (verdict.next_attempt_at is not None) is (verdict.outcome is Outcome.RETRY)
    assert verdict.reason
    assert "\n" not in verdict.reason
    if verdict.hold_until is not None:
        assert NOW < verdict.hold_until <= NOW + HOLD_LIMIT
    if verdict.next_attempt_at is not None:
        asked = HOLD_LIMIT if retry_after is not None else UNDER_WAY_WAIT
        latest = NOW + max(policy.backoff_cap, asked)
        assert NOW <= verdict.next_attempt_at <= latest
        assert verdict.next_attempt_at >= (verdict.hold_until or NOW)


@given(
    status=STATUSES.filter(lambda status: status not in (401, 403)),
    attempt=st.integers(1, 2000),
    policy=POLICIES,
    draw=DRAWS,
)
def test_no_row_is_retried_past_its_attempts(
    status: int | None, attempt: int, policy: Retry, draw: float
) -> None:
    verdict = verdict_on(answer(status), attempt=attempt, policy=policy, draw=draw)
    if policy.max_attempts and attempt >= policy.max_attempts:
        assert verdict.outcome is not Outcome.RETRY


@given(policy=POLICIES, attempt=st.integers(1, 10**9), draw=DRAWS)
def test_the_backoff_never_overflows_or_leaves_its_bounds(
    policy: Retry, attempt: int, draw: float
) -> None:
    assert timedelta(0) <= backoff(policy, attempt, lambda: draw) <= policy.backoff_cap


IN_58_MINUTES = str(int(NOW.timestamp()) + 3480)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-remaining": "4990", "x-ratelimit-reset": IN_58_MINUTES},
        {"ratelimit-remaining": "99", "ratelimit-reset": "3480"},
        {"ratelimit": "limit=100, remaining=99, reset=3480"},
        {"ratelimit": '"default";r=99;t=3480'},
    ],
)
def test_a_503_with_some_of_the_limit_left_holds_nothing(headers: dict[str, str]) -> None:
    verdict = verdict_on(Answer(NOW, 5, 503, headers))
    assert verdict.outcome is Outcome.RETRY
    assert verdict.hold_until is None
    assert verdict.next_attempt_at is not None
    assert verdict.next_attempt_at < NOW + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (503, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": IN_58_MINUTES}),
        (503, {"x-ratelimit-reset": IN_58_MINUTES}),
        (429, {"x-ratelimit-remaining": "4990", "x-ratelimit-reset": IN_58_MINUTES}),
        (503, {"x-ratelimit-remaining": "9", "x-ratelimit-reset": "99", "retry-after": "3480"}),
    ],
)
def test_what_is_about_our_pace_or_asks_outright_holds_it(
    status: int, headers: dict[str, str]
) -> None:
    assert verdict_on(Answer(NOW, 5, status, headers)).hold_until == NOW + timedelta(seconds=3480)
