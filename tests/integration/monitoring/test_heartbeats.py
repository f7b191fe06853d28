"""The heartbeats that a process writes to the ledger, and what they are made of."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import redis as sync_redis

from app.broker.depths import Broker
from app.core.clock import server_clock, utc_now
from app.ledger import Ledger
from app.ledger.client import answers
from app.ledger.heartbeats import Heartbeat, Role, TaskTimes
from app.monitoring.heartbeat import Activity, HeartbeatWriter, Identity
from app.testbed.embedded.servers import EmbeddedRedis
from tests.support.ledger import claim, loaded, log_batch
from tests.support.wait import until

NOW = utc_now().replace(microsecond=0)
HEARTBEAT = Heartbeat(
    Role.WORKER,
    "celery@host",
    "host",
    7,
    started_at=NOW,
    marked_at=NOW,
    queues=("poll", "deliver"),
    tasks={"poll": TaskTimes(3, 1, 0.5)},
)
PAUSE = timedelta(milliseconds=50)


async def test_a_mark_is_read_as_it_was_written_and_takes_the_place_of_the_last(
    ledger: Ledger,
) -> None:
    await ledger.heartbeats.put(replace(HEARTBEAT, taken=1))
    await ledger.heartbeats.put(replace(HEARTBEAT, taken=2))
    beat = Heartbeat(Role.BEAT, "beat@host", "host", 8, NOW, NOW, sent_seconds=1.5)
    await ledger.heartbeats.put(beat)
    assert await ledger.heartbeats.since(NOW) == [beat, replace(HEARTBEAT, taken=2)]
    assert await ledger.heartbeats.since(NOW, Role.BEAT) == [beat]
    assert await ledger.heartbeats.since(NOW, host="elsewhere") == []
    assert await ledger.heartbeats.since(NOW + timedelta(seconds=1)) == []


async def test_a_process_that_leaves_does_not_take_away_what_its_successor_said(
    ledger: Ledger,
) -> None:
    await ledger.heartbeats.put(replace(HEARTBEAT, pid=8))
    await ledger.heartbeats.leave(HEARTBEAT.role, HEARTBEAT.name, pid=7)
    assert len(await ledger.heartbeats.since(NOW)) == 1
    await ledger.heartbeats.leave(HEARTBEAT.role, HEARTBEAT.name, pid=8)
    assert await ledger.heartbeats.since(NOW) == []


async def test_processes_not_heard_of_for_long_are_forgotten(ledger: Ledger) -> None:
    await ledger.heartbeats.put(HEARTBEAT)
    await ledger.heartbeats.forget(NOW)
    assert len(await ledger.heartbeats.since(NOW)) == 1
    await ledger.heartbeats.forget(NOW + timedelta(seconds=1))
    assert await ledger.heartbeats.since(NOW) == []


async def test_a_process_that_starts_under_a_wrong_clock_forgets_nobody_who_is_there(
    ledger: Ledger,
    mongo_database_url: str,
    own_redis: EmbeddedRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await ledger.heartbeats.put(replace(HEARTBEAT, name="celery@another"))
    monkeypatch.setattr(
        server_clock, "_wall", lambda: time.time() + timedelta(days=100).total_seconds()
    )
    monkeypatch.setattr(server_clock, "_reading", None)
    marker = _marker(mongo_database_url, own_redis.url, Activity(), lambda _: False)
    marker.start()
    try:
        started = (
            await _when(ledger, lambda m: m.name == "celery@host", "its heartbeat")
        ).started_at
    finally:
        marker.stop()
    assert [heartbeat.name for heartbeat in await ledger.heartbeats.since(NOW)] == [
        "celery@another"
    ]
    assert abs(started - utc_now()) < timedelta(minutes=1)


@pytest.fixture
def own_redis() -> Iterator[EmbeddedRedis]:
    """A Redis that the test may stop."""
    with EmbeddedRedis() as running:
        yield running


def _marker(
    url: str, redis_url: str, progress: Activity, loop: Callable[[Callable[[], None]], bool]
) -> HeartbeatWriter:
    return HeartbeatWriter(
        Identity(Role.WORKER, "celery@host", ("poll", "deliver")),
        progress,
        open_ledger=lambda: Ledger.at(url, timedelta(seconds=5)),
        open_broker=lambda: Broker(redis_url, timedelta(seconds=1)),
        pause=PAUSE,
        ping=loop,
    )


async def _when(ledger: Ledger, wanted: Callable[[Heartbeat], object], message: str) -> Heartbeat:
    async def found() -> Heartbeat | None:
        return next(
            (heartbeat for heartbeat in await ledger.heartbeats.since(NOW) if wanted(heartbeat)),
            None,
        )

    heartbeat: Heartbeat = await until(found, timeout=15, message=message)
    return heartbeat


async def test_a_marker_tells_what_waits_whether_redis_and_the_loop_answer_and_takes_its_leave(
    ledger: Ledger, mongo_database_url: str, own_redis: EmbeddedRedis
) -> None:
    progress, blocked = Activity(), threading.Event()

    def loop(answered: Callable[[], None]) -> bool:
        if not blocked.is_set():
            answered()
        return True

    marker = _marker(mongo_database_url, own_redis.url, progress, loop)
    marker.start()
    heartbeat = await _when(ledger, lambda m: m.broker_seconds is not None, "a heartbeat")
    assert (heartbeat.waiting_seconds, heartbeat.loop_seconds, heartbeat.consumer_seconds) == (
        None,
        0.0,
        None,
    )
    with sync_redis.Redis.from_url(own_redis.url) as client:
        client.lpush("deliver", "message")
        await _when(ledger, lambda m: (m.waiting_seconds or 0) > 0.2, "a message that waits")
        client.delete("deliver")
    await _when(ledger, lambda m: m.waiting_seconds is None, "nothing that waits")
    blocked.set()
    await _when(ledger, lambda m: (m.loop_seconds or 0) > 0.2, "a loop that does not answer")
    own_redis.kill()
    await _when(ledger, lambda m: m.broker_seconds is None, "Redis to be missed")
    own_redis.restart()
    heartbeat = await _when(ledger, lambda m: m.broker_seconds is not None, "Redis to be back")
    assert (heartbeat.broker_seconds or 0) < 5
    marker.stop()
    assert await ledger.heartbeats.since(NOW) == []


async def test_reading_and_recording_are_movement_and_what_a_timer_asks_is_not(
    ledger: Ledger,
) -> None:
    batch = await claim(ledger, await log_batch(ledger, 1, now=NOW), now=NOW)

    async def moves(*steps: Awaitable[object]) -> bool:
        answers.at = None
        for step in steps:
            await step
        return answers.at is not None

    assert await moves(loaded(ledger, batch))
    assert await moves(ledger.pauses.paused())
    assert not await moves(ledger.batches.renew(batch, NOW), ledger.batches.renew(batch, NOW))
    assert not await moves(ledger.heartbeats.put(HEARTBEAT), ledger.heartbeats.since(NOW))
