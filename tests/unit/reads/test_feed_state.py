"""How a feed stands is said in one word, and its pace follows from the last 60 seconds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.cli.status_table import said_of
from app.core.cursors import Cursor
from app.partner.throttle.view import BreakerState, EndpointView
from app.reads.feed_state import FeedState, Stand, state_of
from app.reads.flow import Failure, Flow, flow_of
from tests.support.buckets import failed, minute_of

NOW = datetime(2026, 11, 21, 12, 0, 15, tzinfo=UTC)
MINUTE = NOW.replace(second=0)
CURSOR = Cursor("orders", last_poll_at=NOW)
FREE = EndpointView(BreakerState.CLOSED, 0, 0.0, 0.0, 1)
OPEN = replace(FREE, breaker=BreakerState.OPEN, open_seconds=30.0)
HELD = replace(FREE, hold_seconds=60.0)


def now(
    cursor: Cursor = CURSOR, endpoint: EndpointView | None = FREE, workers: bool = True, polled: bool = True,
    *, moving: bool = True,
) -> FeedState:  # fmt: skip
    return state_of(cursor, endpoint, NOW, workers=workers, polled=polled, moving=moving)


FAILING = replace(CURSOR, failures=3, retry_at=NOW + timedelta(seconds=9))
PAUSED = replace(CURSOR, paused=True, sends=False)


@pytest.mark.parametrize(
    ("found", "stand", "seconds"),
    [
        (now(moving=False), Stand.IDLE, None),
        (now(), Stand.SENDING, None),
        (now(endpoint=None), Stand.SENDING, None),
        (now(endpoint=OPEN), Stand.BREAKER_OPEN, 30),
        (now(endpoint=HELD), Stand.COOLDOWN, 60),
        (now(endpoint=replace(OPEN, hold_seconds=90.0)), Stand.COOLDOWN, 90),
        (now(endpoint=replace(OPEN, hold_seconds=20.0)), Stand.BREAKER_OPEN, 30),
        (now(endpoint=replace(FREE, breaker=BreakerState.HALF_OPEN)), Stand.PROBING, None),
        (now(FAILING, OPEN), Stand.BREAKER_OPEN, 30),
        (now(FAILING), Stand.POLLS_FAIL, 9),
        (now(replace(FAILING, retry_at=NOW)), Stand.POLLS_FAIL, None),
        (now(polled=False), Stand.NOT_POLLED, None),
        (now(endpoint=OPEN, workers=False), Stand.NO_WORKER, None),
        (now(PAUSED, OPEN, workers=False), Stand.PAUSED, None),
        (now(replace(CURSOR, paused=True), OPEN), Stand.POLLING_PAUSED, None),
        (now(replace(CURSOR, sends=False), OPEN), Stand.SENDING_PAUSED, None),
    ],
)
def test_what_keeps_a_feed_most_is_its_state_and_until_when(
    found: FeedState, stand: Stand, seconds: float | None
) -> None:
    assert found == FeedState(stand, None if seconds is None else NOW + timedelta(seconds=seconds))


def test_until_when_is_said_on_the_operators_clock_with_the_date_where_it_is_far() -> None:
    there = NOW.astimezone(ZoneInfo("Europe/Berlin"))
    assert said_of(FeedState(Stand.IDLE), there) == "idle"
    assert (
        said_of(FeedState(Stand.COOLDOWN, NOW + timedelta(seconds=5)), there)
        == "cooldown until 13:00:20"
    )
    assert (
        said_of(FeedState(Stand.BREAKER_OPEN, NOW + timedelta(hours=11, minutes=30)), there)
        == "breaker until 00:30:15"
    ), "of the next day, in the width of the same day's: no column goes at eleven at night"
    assert (
        said_of(FeedState(Stand.COOLDOWN, NOW + timedelta(hours=12)), there)
        == "cooldown until 22 Nov 01:00"
    )


def test_the_last_minute_is_the_last_sixty_seconds() -> None:
    minutes = [
        minute_of(
            "orders", MINUTE - timedelta(minutes=2), logged=9000, outcomes={"delivered": 9000}
        ),
        minute_of(
            "orders",
            MINUTE - timedelta(minutes=1),
            logged=400,
            outcomes={"delivered": 800, "dead": 80},
        ),
        minute_of("orders", MINUTE, logged=60, outcomes={"delivered": 120, "retry": 7}),
    ]
    found = flow_of(minutes, NOW)
    assert found.logged == pytest.approx((300 + 60) / 60)
    assert found.delivered == pytest.approx((600 + 120) / 60)
    assert found.settled == pytest.approx((660 + 120) / 60)
    assert found.failure is None
    assert flow_of([], NOW) == Flow()


def test_the_last_failure_is_the_most_frequent_of_the_last_minute_that_had_any() -> None:
    before = MINUTE - timedelta(minutes=3)
    minutes = [
        minute_of("orders", MINUTE - timedelta(minutes=9), failed=failed("410 Gone", 99)),
        minute_of(
            "orders",
            before,
            failed=failed("500 Internal Server Error", 2) | failed("503 Unavailable", 7),
        ),
        minute_of("orders", MINUTE, failed=failed("a row that no request can be made of", 0, 3)),
    ]
    assert flow_of(minutes, NOW).failure == Failure(before, "503 Unavailable", 7)


@pytest.mark.parametrize(
    ("waiting", "unlogged", "logged", "settled", "seconds"),
    [
        (0, 0, 5.0, 0.0, 0),
        (100, 0, 0.0, 0.0, None),
        (1000, 0, 0.0, 10.0, 100),
        (1000, 0, 5.0, 10.0, 200),
        (1000, 0, 10.0, 10.0, None),
        (40, 0, 10.0, 10.0, 4),
        (1000, 500, 10.0, 10.0, 150),
    ],
    ids=[
        "none",
        "nothing goes",
        "goes",
        "comes and goes",
        "grows",
        "on its way",
        "of the source nobody knows the pace",
    ],
)
def test_the_backlog_is_gone_when_what_goes_has_overtaken_what_comes(
    waiting: int, unlogged: int, logged: float, settled: float, seconds: float | None
) -> None:
    found = Flow(logged=logged, settled=settled).done_in(waiting, unlogged)
    assert found == (None if seconds is None else timedelta(seconds=seconds))
