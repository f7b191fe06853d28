"""The endpoint's clock over a real Redis: what one worker process learns holds for all, also when Redis is lost."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from app.clock import utc_now
from app.embedded.server import NoServer
from app.embedded.servers import EmbeddedRedis
from app.feed import Breaker, Feed, Partner, Rate
from app.models import Answer
from app.partner import clock as clock_module
from app.partner.clock import Clocks, EndpointClock
from app.partner.clock_store import CHANNEL, ClockStore
from app.url import parse_url
from tests.support.feeds import make_feed
from tests.support.wait import until


def _feed(**partner: Any) -> Feed:
    return make_feed(partner=Partner(url=parse_url("http://partner.invalid/"), **partner))


@asynccontextmanager
async def _process(url: str, name: str, feed: Feed) -> AsyncIterator[EndpointClock]:
    """A worker process's clock for the feed, with what keeps it up to date.

    The store is patient: a Redis that was killed refuses at once, so only a busy machine is waited for.
    """
    clocks = Clocks(ClockStore(url, name, timeout=3.0))
    clocks.start()
    try:
        yield await clocks.of(feed)
    finally:
        await clocks.close()


@asynccontextmanager
async def _processes(url: str, feed: Feed, count: int = 2) -> AsyncIterator[list[EndpointClock]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_process(url, f"p{n}", feed)) for n in range(count)]


@pytest.fixture
def own_redis() -> Iterator[EmbeddedRedis]:
    """A Redis that the test may kill."""
    server = EmbeddedRedis()
    try:
        server.start()
    except NoServer as error:
        pytest.skip(str(error))
    with server:
        yield server


def _answers(count: int, status: int | None) -> list[Answer]:
    return [Answer(utc_now(), 1, status) for _ in range(count)]


async def _admitted(clock: EndpointClock) -> bool:
    return await clock.admit() is None


# --- holds


async def test_a_hold_holds_here_at_once_and_in_every_process_a_moment_later(
    clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told of it: no beat comes in which they could ask."""
    monkeypatch.setattr(clock_module, "BEAT_SECONDS", 600.0)
    async with _processes(clean_redis_url, _feed(), 3) as clocks, Redis.from_url(clean_redis_url) as redis:

        async def listening() -> bool:
            return dict(await redis.pubsub_numsub(CHANNEL)) == {CHANNEL.encode(): 3}

        await until(listening, message="each process to subscribe")
        clocks[0].hold(utc_now() + timedelta(seconds=60))
        assert clocks[0].parked_until()
        await until(lambda: all(clock.parked_until() for clock in clocks))
        assert not await _admitted(clocks[2])


async def test_a_process_that_starts_later_learns_of_the_hold_before_it_sends(clean_redis_url: str) -> None:
    async with _process(clean_redis_url, "old", _feed()) as old:
        ends = utc_now() + timedelta(seconds=60)
        old.hold(ends)
        await old.close()
        async with _process(clean_redis_url, "new", _feed()) as new:
            held = new.parked_until()
            assert held
            assert held > ends - timedelta(seconds=1)


async def test_a_shorter_hold_shortens_nothing_and_a_hold_ends(clean_redis_url: str) -> None:
    async with _processes(clean_redis_url, _feed()) as (one, other):
        ends = utc_now() + timedelta(seconds=4)
        one.hold(ends)
        one.hold(utc_now() + timedelta(seconds=0.5))
        await until(lambda: other.guarded)
        await until(lambda: _admitted(other), message="the hold to end")
        assert utc_now() > ends - timedelta(seconds=1)
        await until(lambda: one.parked_until() is None)


async def test_holds_outlive_a_redis_that_forgets(clean_redis_url: str, own_redis: EmbeddedRedis) -> None:
    del clean_redis_url
    async with _process(own_redis.url, "old", _feed()) as old:
        old.hold(utc_now() + timedelta(seconds=60))
        await old.close()
        await asyncio.to_thread(own_redis.restart)
        await until(lambda: old._store and old._store.up, message="Redis to answer again")
        async with _process(own_redis.url, "new", _feed()) as new:
            await until(new.parked_until, message="the hold to be told again")


# --- the rate

AT_MOST = 55
"""In any second, under a rate of 50: on a busy machine a slot may be used a moment after it was found to be in time."""


async def _moments(clocks: list[EndpointClock], takers: int, seconds: float) -> list[float]:
    moments: list[float] = []
    end = time.monotonic() + seconds

    async def take(clock: EndpointClock) -> None:
        while time.monotonic() < end:
            if await _admitted(clock):
                moments.append(time.monotonic())

    await asyncio.gather(*(take(clock) for clock in clocks for _ in range(takers)))
    return sorted(moments)


def most_in_a_second(moments: list[float]) -> int:
    most = start = 0
    for end, moment in enumerate(moments):
        while moment - moments[start] >= 1:
            start += 1
        most = max(most, end - start + 1)
    return most


async def test_two_processes_together_never_pass_the_rate(clean_redis_url: str) -> None:
    feed = _feed(rate_limit=Rate(count=50, per_seconds=1))
    async with _processes(clean_redis_url, feed) as clocks:
        moments = await _moments(clocks, 20, 3.0)
    assert most_in_a_second(moments) <= AT_MOST
    assert len(moments) > 90, "and the limit is used"


async def test_the_rate_holds_while_redis_is_killed_and_comes_back_empty(own_redis: EmbeddedRedis) -> None:
    feed = _feed(rate_limit=Rate(count=50, per_seconds=1))
    async with _processes(own_redis.url, feed) as clocks:
        await until(lambda: all(clock._live == 2 for clock in clocks))
        taking = asyncio.create_task(_moments(clocks, 10, 5.0))
        await asyncio.sleep(1)
        await asyncio.to_thread(own_redis.kill)
        await asyncio.sleep(2)
        await asyncio.to_thread(own_redis.restart)
        moments = await taking
        await until(lambda: all(clock._store and clock._store.up for clock in clocks))
    assert most_in_a_second(moments) <= 55, "a tenth more where the processes lose and find Redis at different moments"
    assert len(moments) > 120, "and it went on while Redis was away"


def _take_in_a_process(url: str, name: str, seconds: float, answer: Any) -> None:
    async def run() -> list[float]:
        feed = _feed(rate_limit=Rate(count=50, per_seconds=1))
        async with _process(url, name, feed) as clock:
            return await _moments([clock], 10, seconds)

    answer.put(asyncio.run(run()))


async def test_real_processes_together_never_pass_the_rate(clean_redis_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    answers: Any = spawn.Queue()
    started = [
        spawn.Process(target=_take_in_a_process, args=(clean_redis_url, name, 3.0, answers)) for name in ("a", "b")
    ]
    for process in started:
        process.start()
    moments = [moment for _ in started for moment in await asyncio.to_thread(answers.get)]
    for process in started:
        await asyncio.to_thread(process.join)
    assert most_in_a_second(sorted(moments)) <= AT_MOST


async def test_a_rate_that_leaves_no_room_for_a_while_parks(clean_redis_url: str) -> None:
    feed = _feed(rate_limit=Rate(count=2, per_seconds=3600))
    async with _process(clean_redis_url, "one", feed) as clock:
        assert await _admitted(clock)
        back_at = await clock.admit()
    assert back_at
    assert back_at > utc_now() + timedelta(minutes=25)


# --- the cap


async def test_the_shares_of_living_processes_add_up_to_the_cap(clean_redis_url: str) -> None:
    feed = _feed(concurrency=100)
    async with _processes(clean_redis_url, feed) as clocks:
        async with _process(clean_redis_url, "third", feed) as third:
            assert third.slots.limit == 1, "a process that comes new begins small"
            await until(lambda: sorted(clock.slots.limit for clock in (*clocks, third)) == [33, 33, 34])
        await until(lambda: all(clock.slots.limit == 50 for clock in clocks), message="the share of the one who left")


async def test_the_share_stays_while_redis_is_away(own_redis: EmbeddedRedis) -> None:
    async with _processes(own_redis.url, _feed(concurrency=100)) as clocks:
        await until(lambda: all(clock.slots.limit == 50 for clock in clocks))
        await asyncio.to_thread(own_redis.kill)
        await until(lambda: all(clock._store and not clock._store.up for clock in clocks))
        assert [clock.slots.limit for clock in clocks] == [50, 50]


async def test_a_process_that_has_never_heard_of_redis_sends_one_at_a_time() -> None:
    async with _process("redis://127.0.0.1:1/0", "lonely", _feed(concurrency=100)) as clock:
        assert clock.slots.limit == 1


# --- the breaker

_BREAKER = Breaker(min_requests=10, open_for=timedelta(seconds=0.6), probes=2)


async def _opened(clocks: list[EndpointClock]) -> None:
    await clocks[0].report(_answers(6, 500))
    await clocks[1].report(_answers(6, 500))
    await until(lambda: all(clock._generation for clock in clocks), message="the breaker to open for all")


async def test_the_breaker_opens_for_all_on_what_all_have_seen(clean_redis_url: str) -> None:
    feed = _feed(breaker=_BREAKER.model_copy(update={"open_for": timedelta(seconds=30)}))
    async with _processes(clean_redis_url, feed) as clocks:
        await clocks[0].report(_answers(9, 500))
        assert await _admitted(clocks[0]), "nine requests prove nothing"
        await clocks[1].report(_answers(3, None))
        await until(lambda: all(clock.parked_until() for clock in clocks))


async def test_half_open_a_few_probes_go_and_it_closes_when_all_succeed(clean_redis_url: str) -> None:
    async with _processes(clean_redis_url, _feed(breaker=_BREAKER)) as clocks:
        await _opened(clocks)
        probes = await asyncio.gather(*(_admitted(clock) for clock in clocks for _ in range(10)))
        assert probes.count(True) == 2
        await clocks[0].report(_answers(1, 200))
        await clocks[1].report(_answers(1, 200))
        await until(lambda: not any(clock._generation for clock in clocks), message="the breaker to close for all")
        assert all(await asyncio.gather(*map(_admitted, clocks)))


async def test_a_probe_that_fails_opens_it_again_for_all(clean_redis_url: str) -> None:
    async with _processes(clean_redis_url, _feed(breaker=_BREAKER)) as clocks:
        await _opened(clocks)
        assert await _admitted(clocks[0])
        before = clocks[0]._generation
        await clocks[0].report(_answers(1, 503))
        await until(lambda: all(clock._generation > before for clock in clocks))


async def test_late_failures_of_requests_sent_before_say_nothing_of_the_probes(clean_redis_url: str) -> None:
    late = _answers(5, 500)
    async with _processes(clean_redis_url, _feed(breaker=_BREAKER)) as clocks:
        await _opened(clocks)
        generation = clocks[0]._generation
        assert await _admitted(clocks[0])
        await clocks[0].report(late)
        assert clocks[0]._generation == generation


async def test_alone_a_process_opens_and_closes_its_own_breaker(own_redis: EmbeddedRedis) -> None:
    async with _process(own_redis.url, "one", _feed(breaker=_BREAKER)) as clock:
        await asyncio.to_thread(own_redis.kill)
        await clock.report(_answers(12, None))
        assert clock._opened_until
        assert await _admitted(clock)
        assert await _admitted(clock)
        assert not await _admitted(clock), "two probes"
        await clock.report(_answers(2, 200))
        assert await _admitted(clock)


async def test_what_was_opened_alone_opens_for_all_once_redis_is_back(own_redis: EmbeddedRedis) -> None:
    feed = _feed(breaker=_BREAKER.model_copy(update={"open_for": timedelta(seconds=60)}))
    async with _processes(own_redis.url, feed) as (one, other):
        await asyncio.to_thread(own_redis.kill)
        await one.report(_answers(12, None))
        assert other.parked_until() is None
        await asyncio.to_thread(own_redis.restart)
        await until(other.parked_until, message="the other process to hear of it")


async def test_an_outage_of_redis_is_said_once(own_redis: EmbeddedRedis, logged: Callable[[str], int]) -> None:
    feed = _feed(rate_limit=Rate(count=1000, per_seconds=1))
    async with _process(own_redis.url, "one", feed) as clock:
        await asyncio.to_thread(own_redis.kill)
        await asyncio.gather(*(clock.admit() for _ in range(50)))
        await clock.report(_answers(5, 500))
        await asyncio.sleep(2.5)
        await asyncio.to_thread(own_redis.restart)
        await until(lambda: logged("endpoint_clock_shared_again"))
    assert logged("endpoint_clock_alone") == 1


@pytest.fixture
def logged() -> Iterator[Callable[[str], int]]:
    """How often an event has been logged."""
    from structlog.testing import capture_logs

    with capture_logs() as events:
        yield lambda name: sum(event["event"] == name for event in events)
