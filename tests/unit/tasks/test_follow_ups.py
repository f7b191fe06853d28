"""A follow-up poll is begun by the process that polled: once, in time, and by none that stops."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from app.core.clock import utc_now
from app.core.cursors import FollowUp
from app.core.under_way import About, UnderWay
from app.intake.follow_ups import Polled
from app.monitoring.heartbeat import Activity
from tasks.poll import poll, poll_feed
from tests.support.feeds import make_feed

FEED = make_feed()
SOON = timedelta(milliseconds=1)


@dataclass
class Chain:
    """A `Polling` whose first polls say when the next is due."""

    again: list[FollowUp]
    draining: bool = False
    asked: list[FollowUp | None] = field(default_factory=list)

    async def poll(self, _: object, follow_up: FollowUp | None) -> Polled:
        self.asked.append(follow_up)
        return Polled(again=self.again.pop(0) if self.again else None)


def services(polling: Chain) -> Any:
    """As much of a worker as a poll needs."""
    feeds = {FEED.name: FEED}
    return SimpleNamespace(
        polling=polling, under_way=UnderWay(Activity()), config=SimpleNamespace(feeds=feeds)
    )


def due(until: timedelta = timedelta(hours=1)) -> FollowUp:
    return FollowUp(SOON, utc_now() + until)


async def _let_timers_run(worker: Any) -> None:
    await asyncio.sleep(10 * SOON.total_seconds())
    await worker.under_way.finished()


async def test_each_poll_that_wants_a_follow_up_gets_one() -> None:
    first, second = due(), due()
    polling = Chain([first, second])
    worker, ended = services(polling), asyncio.get_running_loop().time() + 60
    await poll_feed(worker, FEED.name)
    while len(polling.asked) < 3 and asyncio.get_running_loop().time() < ended:
        await _let_timers_run(worker)
    await _let_timers_run(worker)
    assert polling.asked == [None, first, second]


async def test_a_worker_that_stops_begins_none() -> None:
    polling = Chain([due()])
    worker = services(polling)
    await poll_feed(worker, FEED.name)
    polling.draining = True
    await _let_timers_run(worker)
    assert polling.asked == [None]


async def test_one_that_comes_when_beats_next_poll_is_due_is_left_to_beat() -> None:
    polling = Chain([due(until=timedelta(0))])
    worker = services(polling)
    await poll_feed(worker, FEED.name)
    await _let_timers_run(worker)
    assert polling.asked == [None]


async def test_a_feed_that_went_meanwhile_is_polled_no_more() -> None:
    polling = Chain([due()])
    worker = services(polling)
    await poll_feed(worker, FEED.name)
    worker.config.feeds.clear()
    await _let_timers_run(worker)
    assert polling.asked == [None]


async def test_a_message_of_several_feeds_polls_each_and_passes_over_one_that_went() -> None:
    polled: list[str] = []

    class Polls(Chain):
        async def poll(self, feed: Any, follow_up: FollowUp | None) -> Polled:
            polled.append(feed.name)
            if feed.name == "broken":
                raise ValueError("of this feed alone")
            return await super().poll(feed, follow_up)

    worker = services(Polls([]))
    names = ["broken", FEED.name, "gone", "bills"]
    worker.config.feeds |= {name: make_feed(name=name) for name in ("broken", "bills")}
    task: Any = SimpleNamespace(
        hand_over=lambda work, name, *, alone: worker.under_way.start(
            lambda: work(worker), About("poll", name), alone=alone
        )
    )
    body: Any = poll.run
    body.__func__(task, feeds=names)
    await worker.under_way.finished()
    assert polled == ["broken", FEED.name, "bills"]
