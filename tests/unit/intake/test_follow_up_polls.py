"""When a feed is polled again without waiting for beat: soon while rows come, and never twice at
once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.core.cursors import FollowUp
from app.intake.poll import ANOTHER, Polled, next_follow_up
from tests.support.feeds import make_feed

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FEED = make_feed(poll_every=timedelta(seconds=5), poll_soonest=timedelta(milliseconds=100))
UNTIL = NOW + timedelta(seconds=5)


def _after(
    seconds: float,
    logged: int = 0,
    follow_up: FollowUp | None = None,
    stopped: str = "up to date",
    *,
    took: float = 0.05,
) -> FollowUp | None:
    """After a poll that ended so many seconds after beat's began: the first of its chain, or the
    one that `follow_up` was due for, which took so long.
    """
    now = NOW + timedelta(seconds=seconds)
    began = now - timedelta(seconds=took) if follow_up else NOW
    return next_follow_up(FEED, Polled(logged, logged, stopped), follow_up, began=began, now=now)


def _in(seconds: float) -> FollowUp:
    return FollowUp(timedelta(seconds=seconds), UNTIL)


def test_a_poll_that_finds_rows_is_followed_up_soon() -> None:
    assert _after(0.05, logged=1) == _in(0.25)
    assert _after(1, logged=7, follow_up=_in(1)) == _in(0.25)


def test_a_poll_that_finds_many_rows_is_followed_up_sooner() -> None:
    assert _after(0.02, logged=10) == _in(0.1)
    assert _after(1, logged=10, follow_up=_in(1), took=0.02) == _in(0.1)


def test_an_idle_feed_is_left_to_beat() -> None:
    assert _after(0.1) is None


def test_each_follow_up_poll_that_finds_nothing_doubles_the_wait() -> None:
    assert _after(1, follow_up=_in(0.25)) == _in(0.5)
    assert _after(1, follow_up=_in(0.5)) == _in(1)


def test_a_poll_that_took_long_is_followed_up_after_a_rest() -> None:
    assert _after(0.5, logged=1) == _in(1)
    assert _after(3, logged=1, follow_up=_in(0.25), took=0.5) == _in(1)
    assert _after(3, follow_up=_in(0.25), took=0.5) == _in(1)
    assert _after(3, logged=1, follow_up=_in(0.25), took=1) is None, "beat's poll comes first"


def test_a_poll_that_had_pages_to_read_is_followed_up_soon_however_long_it_took() -> None:
    assert _after(3, logged=FEED.page_size, follow_up=_in(0.25), took=3) == _in(0.25)
    assert _after(3, stopped="budget") == _in(0.1)


def test_a_chain_ends_before_beats_next_poll_begins_another() -> None:
    assert _after(4.7, logged=1, follow_up=_in(0.25)) == _in(0.25)
    assert _after(4.8, logged=1, follow_up=_in(0.25)) is None
    assert _after(3.5, follow_up=_in(1)) is None


def test_beats_poll_takes_over_from_the_chain_that_it_meets() -> None:
    assert _after(0, stopped=ANOTHER) == _in(0.25)
    assert _after(1, follow_up=_in(0.25), stopped=ANOTHER) == _in(0.5)


def test_a_feed_whose_rows_came_a_moment_ago_is_busy() -> None:
    assert next_follow_up(FEED, Polled(), None, began=NOW, now=NOW, busy=True) == _in(0.25)


def test_rows_that_were_known_are_no_reason_to_look_again() -> None:
    assert next_follow_up(FEED, Polled(read=9), None, began=NOW, now=NOW) is None


def test_what_the_budget_cut_short_goes_on_at_once() -> None:
    assert _after(0.1, stopped="budget") == _in(0.1)


def test_no_look_is_sent_further_ahead_than_the_broker_keeps_a_message_out_of_sight() -> None:
    feed = make_feed(poll_every=timedelta(hours=1))
    until = NOW + timedelta(hours=1)
    assert (
        next_follow_up(feed, Polled(), FollowUp(timedelta(seconds=15), until), began=NOW, now=NOW)
        is not None
    )
    assert (
        next_follow_up(feed, Polled(), FollowUp(timedelta(seconds=16), until), began=NOW, now=NOW)
        is None
    )


@pytest.mark.parametrize("stopped", ["paused", "backing off", "backlog"])
def test_what_keeps_a_poll_from_its_rows_is_not_pressed(stopped: str) -> None:
    assert _after(0.1, logged=1, stopped=stopped) is None


def test_looks_can_be_switched_off() -> None:
    feed = make_feed(poll_every=timedelta(seconds=5), poll_soonest=timedelta(seconds=5))
    assert next_follow_up(feed, Polled(logged=1), None, began=NOW, now=NOW) is None
