"""When a feed is polled again without waiting for beat: soon while rows come, and never twice at
once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.core.cursors import Cursor, FollowUp
from app.feeds.feed import Feed
from app.intake.follow_ups import ANOTHER, Chain, Polled
from tests.support.feeds import make_feed

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FEED = make_feed(poll_every=timedelta(seconds=5), poll_soonest=timedelta(milliseconds=100))
UNTIL = NOW + timedelta(seconds=5)


class Polls:
    """The polls of one process's feed, told by seconds after beat's first."""

    def __init__(self, feed: Feed = FEED) -> None:
        self._feed = feed
        self._chain = Chain()

    def ended(
        self,
        seconds: float,
        logged: int = 0,
        follow_up: FollowUp | None = None,
        stopped: str = "up to date",
        *,
        took: float = 0.05,
        read: int | None = None,
    ) -> FollowUp | None:
        """What follows a poll that ended then."""
        now, polled = _at(seconds), Polled(logged if read is None else read, logged, stopped)
        began = now - timedelta(seconds=took)
        assert self._chain.begin(self._feed, follow_up, began)
        return self._chain.after(self._feed, polled, follow_up, began=began, now=now)

    def overlapped(
        self, seconds: float, logged: int, follow_up: FollowUp | None, *, met_at: float
    ) -> FollowUp | None:
        """The same, where a poll of beat's came while it ran."""
        began = _at(seconds) - timedelta(seconds=0.05)
        assert self._chain.begin(self._feed, follow_up, began)
        self._chain.meet(self._feed, None, _at(met_at))
        polled = Polled(logged, logged)
        return self._chain.after(self._feed, polled, follow_up, began=began, now=_at(seconds))

    def sees(self, last_row_at: datetime) -> None:
        self._chain.see(Cursor(self._feed.name, last_row_at=last_row_at))

    def leaves(self, last_row_at: datetime) -> None:
        self._chain.leave(Cursor(self._feed.name, last_row_at=last_row_at))

    def begins(self, seconds: float, follow_up: FollowUp | None) -> bool:
        return self._chain.begin(self._feed, follow_up, _at(seconds))


def _at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def _in(seconds: float, until: datetime = UNTIL) -> FollowUp:
    return FollowUp(timedelta(seconds=seconds), until)


def _first(logged: int = 0, stopped: str = "up to date", *, took: float = 0.05) -> FollowUp | None:
    """What follows a poll of beat's that began at 0."""
    return Polls().ended(took, logged, stopped=stopped, took=took)


def _later(
    seconds: float,
    logged: int = 0,
    *,
    follow_up: FollowUp,
    stopped: str = "up to date",
    took: float = 0.05,
) -> FollowUp | None:
    """What follows a follow-up poll that ended then."""
    return Polls().ended(seconds, logged, follow_up, stopped, took=took)


def test_a_poll_that_finds_rows_is_followed_up_soon() -> None:
    assert _first(logged=1) == _in(0.25)
    assert _later(1, logged=7, follow_up=_in(1)) == _in(0.25)


def test_a_poll_that_finds_many_rows_is_followed_up_sooner() -> None:
    assert _first(logged=10) == _in(0.1)
    assert _later(1, logged=10, follow_up=_in(1)) == _in(0.1)


def test_an_idle_feed_is_left_to_beat() -> None:
    assert _first() is None


def test_each_follow_up_poll_that_finds_nothing_doubles_the_wait() -> None:
    assert _later(1, follow_up=_in(0.25)) == _in(0.5)
    assert _later(1, follow_up=_in(0.5)) == _in(1)


def test_a_feed_of_many_rows_is_looked_at_for_a_second_before_the_wait_grows() -> None:
    polls = Polls()
    follow_up, at, waits = polls.ended(0.05, logged=10), 0.05, []
    while follow_up is not None:
        waits.append(follow_up.after.total_seconds())
        at += waits[-1]
        follow_up = polls.ended(at, follow_up=follow_up, took=0)
    assert waits == [0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.4, 0.8, 1.6]


def test_a_feed_of_few_rows_is_not() -> None:
    polls = Polls()
    follow_up = polls.ended(0.05, logged=9)
    assert follow_up == _in(0.25)
    assert polls.ended(0.3, follow_up=follow_up) == _in(0.5)


def test_a_poll_that_took_long_is_followed_up_after_a_rest() -> None:
    assert _first(logged=1, took=0.5) == _in(1)
    assert _later(3, logged=1, follow_up=_in(0.25), took=0.5) == _in(1)
    assert _later(3, follow_up=_in(0.25), took=0.5) == _in(1)
    assert _later(3, logged=1, follow_up=_in(0.25), took=1) is None, "beat's poll comes first"


def test_a_poll_that_had_pages_to_read_is_followed_up_soon_however_long_it_took() -> None:
    assert _later(3, logged=FEED.page_size, follow_up=_in(0.25), took=2) == _in(0.25)
    assert _first(stopped="budget", took=3) == _in(0.1)


def test_a_chain_ends_before_beats_next_poll_begins_another() -> None:
    assert _later(4.7, logged=1, follow_up=_in(0.25)) == _in(0.25)
    assert _later(4.8, logged=1, follow_up=_in(0.25)) is None
    assert _later(3.5, follow_up=_in(1)) is None


@pytest.mark.parametrize("found", [0, 3, 10])
def test_beats_poll_in_the_middle_of_a_busy_chain_goes_on_at_its_pace(found: int) -> None:
    """What it finds tells little: the poll before it has just taken the rows."""
    polls = Polls()
    chain = polls.ended(0.05, logged=20)
    assert polls.ended(4.95, logged=20, follow_up=chain) is None
    assert polls.ended(5.05, logged=found) == _in(0.1, _at(10))


def test_beats_poll_waits_no_longer_than_after_few_rows_whatever_the_chain_came_to() -> None:
    polls = Polls()
    polls.ended(0.05, logged=1)
    assert polls.ended(2, follow_up=_in(2)) is None
    assert polls.ended(5, logged=1) == _in(0.25, _at(9.95))


@pytest.mark.parametrize("logged", [0, 3, 20])
def test_beats_poll_that_meets_a_busy_chain_keeps_it_going(logged: int) -> None:
    polls = Polls()
    chain = polls.ended(0.05, logged=20)
    assert polls.overlapped(5.02, logged, chain, met_at=5) == _in(0.1, _at(10))


def test_a_poll_of_beats_that_meets_another_is_made_up_for() -> None:
    """A row that came since the other one read must not wait for two intervals."""
    assert Polls().overlapped(5.01, 0, None, met_at=5) == _in(0.25, _at(10))
    assert Polls().overlapped(5.01, 0, _in(2), met_at=5) == _in(0.25, _at(10))


def test_a_poll_that_died_leaves_nothing_to_be_made_up_for() -> None:
    chain = Chain()
    chain.begin(FEED, None, NOW)
    chain.meet(FEED, None, _at(5))
    chain.begin(FEED, None, _at(10))
    ended = chain.after(FEED, Polled(20, 20), None, began=_at(10), now=_at(10.05))
    assert ended == _in(0.1, _at(15))


def test_a_feed_has_one_chain_in_a_process() -> None:
    polls = Polls()
    chain = polls.ended(0.05, logged=20)
    assert polls.ended(4.05, logged=20) == _in(0.1, _at(9)), "beat's poll came early"
    assert not polls.begins(4.1, chain)
    assert polls.begins(4.2, _in(0.1, _at(9)))


def test_of_a_feed_that_another_process_polls_at_the_same_time_beats_poll_is_followed_up() -> None:
    assert _first(stopped=ANOTHER) == _in(0.25)
    assert _later(1, follow_up=_in(0.25), stopped=ANOTHER) == _in(0.5)


def test_a_feed_whose_rows_came_within_the_interval_is_busy() -> None:
    polls = Polls()
    polls.ended(0.05, logged=1)
    assert polls.ended(5.04) == _in(0.25, _at(9.99))
    assert polls.ended(10) is None


def test_rows_that_another_process_read_within_the_interval_make_it_busy_too() -> None:
    polls = Polls()
    polls.sees(_at(-1))
    assert polls.ended(0.05) == _in(0.25)
    polls.leaves(_at(4))
    polls.sees(_at(4))
    assert polls.ended(5) is None, "what this process read were known rows"


def test_rows_that_were_known_are_no_reason_to_look_again() -> None:
    assert Polls().ended(0.05, read=9) is None


def test_what_the_budget_cut_short_goes_on_at_once() -> None:
    assert _first(stopped="budget") == _in(0.1)


def test_no_follow_up_is_due_further_ahead_than_30_s() -> None:
    polls, until = Polls(make_feed(poll_every=timedelta(hours=1))), NOW + timedelta(hours=1)
    assert polls.ended(60, follow_up=_in(15, until)) == _in(30, until)
    assert polls.ended(120, follow_up=_in(16, until)) is None


@pytest.mark.parametrize("stopped", ["paused", "backing off", "backlog"])
def test_what_keeps_a_poll_from_its_rows_is_not_pressed(stopped: str) -> None:
    assert _first(logged=1, stopped=stopped) is None
    assert Polls().ended(5, 1, _in(0.25), stopped) is None


def test_follow_ups_can_be_switched_off() -> None:
    feed = make_feed(poll_every=timedelta(seconds=5), poll_soonest=timedelta(seconds=5))
    assert Polls(feed).ended(0.05, logged=1) is None
