"""Beat spreads polls over the interval, and asks for several with one message where they are many."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from app.core.clock import LONG_AGO
from app.feeds.feed import Feed
from tasks import schedule
from tasks.messages import POLLED_TOGETHER
from tasks.schedule import EARLY_SECONDS, POLL_MESSAGES_A_SECOND, beat_schedule
from tests.support.feeds import make_feed

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Beat:
    """Sends what is due, at the very moment, by a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = START
        monkeypatch.setattr(schedule, "steady_now", lambda: self.now)

    def sent(self, entries: Mapping[str, Any], until: timedelta) -> list[tuple[float, Any]]:
        """(seconds from the start, the entry) of each message, in order."""
        found: list[tuple[float, Any]] = []
        heap = [(START, name) for name in entries]
        last, asked = dict.fromkeys(entries, LONG_AGO), 0
        while heap[0][0] <= START + until:
            self.now, name = heapq.heappop(heap)
            due, seconds = entries[name]["schedule"].is_due(last[name])
            assert 0 < seconds <= entries[name]["schedule"].seconds + EARLY_SECONDS
            if due:
                found.append(((self.now - START).total_seconds(), entries[name]))
                last[name] = self.now
            wait = max(seconds - EARLY_SECONDS, 1e-4)  # as Celery's beat, which then asks again
            asked += 1
            heapq.heappush(heap, (self.now + timedelta(seconds=wait), name))
        assert asked <= 2 * len(found) + len(entries), "it does not ask again and again"
        return found


@pytest.fixture
def beat(monkeypatch: pytest.MonkeyPatch) -> Beat:
    """One that has sent nothing yet."""
    return Beat(monkeypatch)


def polls(feeds: Iterable[Feed]) -> dict[str, Any]:
    """The entries for them."""
    settings = SimpleNamespace(sweep_every=timedelta(seconds=15), notifies=False)
    config: Any = SimpleNamespace(feeds={feed.name: feed for feed in feeds}, settings=settings)
    entries = beat_schedule(config)
    return {name: entry for name, entry in entries.items() if entry["task"] == "poll"}


def many(count: int, every: timedelta = SECOND) -> list[Feed]:
    return [make_feed(name=f"feed{number}", poll_every=every) for number in range(count)]


def polled(entry: Mapping[str, Any]) -> list[str]:
    named = entry["kwargs"]
    return list(named["feeds"]) if "feeds" in named else [named["feed"]]


@pytest.mark.parametrize(("count", "seconds"), [(1, 5), (7, 1), (50, 1), (50, 30), (400, 1)])
def test_each_feed_is_polled_at_once_and_then_once_in_each_interval(
    beat: Beat, count: int, seconds: int
) -> None:
    every = timedelta(seconds=seconds)
    at: dict[str, list[float]] = {}
    for moment, entry in beat.sent(polls(many(count, every)), 4 * every):
        for name in polled(entry):
            at.setdefault(name, []).append(moment)
    assert len(at) == count
    for moments in at.values():
        first, second, *others = moments
        assert first == 0
        assert 0 < second < seconds + 0.01
        waits = [b - a for a, b in zip([second, *others], others, strict=False)]
        assert waits == pytest.approx([seconds] * len(others), abs=2 * EARLY_SECONDS)


def test_polls_are_spread_over_the_interval(beat: Beat) -> None:
    moments = [moment for moment, _ in beat.sent(polls(many(50)), 2 * SECOND) if moment > 1]
    assert len(moments) >= POLL_MESSAGES_A_SECOND - 1
    assert max(b - a for a, b in zip([1.0, *moments], [*moments, 2.0], strict=True)) < 0.2


def test_a_feed_has_a_message_of_its_own_unless_that_were_too_many() -> None:
    few, long = polls(many(10)), polls(many(50, 5 * SECOND))
    assert all(len(polled(entry)) == 1 for entry in [*few.values(), *long.values()])
    several = polls(many(50))
    assert len(several) == POLL_MESSAGES_A_SECOND
    assert {len(polled(entry)) for entry in several.values()} == {5}
    very_many = polls(many(1000))
    assert max(len(polled(entry)) for entry in very_many.values()) <= POLLED_TOGETHER


def test_feeds_of_one_message_are_polled_as_often() -> None:
    feeds = [*many(40), *(make_feed(name=f"slow{n}", poll_every=7 * SECOND) for n in range(90))]
    by_name = {feed.name: feed for feed in feeds}
    entries = polls(feeds)
    assert sorted(name for entry in entries.values() for name in polled(entry)) == sorted(by_name)
    for entry in entries.values():
        assert {by_name[name].poll_every.total_seconds() for name in polled(entry)} == {
            entry["schedule"].seconds
        }


def test_other_feeds_that_come_and_go_do_not_move_a_feeds_polls() -> None:
    hour = timedelta(hours=1)
    before, after = polls(many(3, hour)), polls(many(9, hour))
    assert {name: after[name]["schedule"] for name in before} == {
        name: entry["schedule"] for name, entry in before.items()
    }


def test_a_beat_that_stood_still_sends_once_and_goes_on_in_step(beat: Beat) -> None:
    (entry,) = polls(many(1)).values()
    due: Any = entry["schedule"].is_due
    beat.now = START + timedelta(seconds=100)
    assert due(START)[0]
    late = beat.now
    beat.now += timedelta(seconds=due(late)[1])
    assert due(late)[0]
    assert beat.now - late <= SECOND
