"""The endpoint's throttle over a real Redis: what one worker process learns holds for all, also
when Redis is lost.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from app.core.attempts import Answer, Ruling
from app.core.clock import utc_now
from app.core.url import parse_url
from app.feeds.feed import Breaker, Feed, Partner, Rate
from app.partner.throttle import breaker as breaker_module
from app.partner.throttle import throttles as throttles_module
from app.partner.throttle.store import CHANNEL, Said, Shared, ThrottleStore
from app.partner.throttle.throttle import EndpointThrottle
from app.partner.throttle.throttles import Throttles
from app.partner.throttle.view import BreakerState, view_endpoints
from app.testbed.embedded.server import NoServer
from app.testbed.embedded.servers import EmbeddedRedis
from tests.support.feeds import make_feed
from tests.support.wait import until


def _feed(**partner: Any) -> Feed:
    return make_feed(partner=Partner(url=parse_url("http://partner.invalid/"), **partner))


@asynccontextmanager
async def _process(url: str, name: str, feed: Feed) -> AsyncIterator[EndpointThrottle]:
    """A worker process's clock for the feed, with what keeps it up to date.

    The store is patient: a Redis that was killed refuses at once, so only a busy machine is waited
    for.
    """
    throttles = Throttles(ThrottleStore(url, name, timeout=3.0))
    throttles.start()
    try:
        yield await throttles.of(feed)
    finally:
        await throttles.close()


@asynccontextmanager
async def _processes(url: str, feed: Feed, count: int = 2) -> AsyncIterator[list[EndpointThrottle]]:
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


async def _admitted(throttle: EndpointThrottle) -> bool:
    return await throttle.admit() is None


# --- holds


async def test_a_hold_holds_here_at_once_and_in_every_process_a_moment_later(
    clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told of it: no beat comes in which they could ask."""
    monkeypatch.setattr(throttles_module, "BEAT_SECONDS", 600.0)
    async with (
        _processes(clean_redis_url, _feed(), 3) as throttles,
        Redis.from_url(clean_redis_url) as redis,
    ):

        async def listening() -> bool:
            return dict(await redis.pubsub_numsub(CHANNEL)) == {CHANNEL.encode(): 3}

        await until(listening, message="each process to subscribe")
        throttles[0].hold(utc_now() + timedelta(seconds=60))
        assert throttles[0].parked_until()
        await until(lambda: all(throttle.parked_until() for throttle in throttles))
        assert not await _admitted(throttles[2])


async def test_a_process_that_starts_later_learns_of_the_hold_before_it_sends(
    clean_redis_url: str,
) -> None:
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


async def test_holds_outlive_a_redis_that_forgets(
    clean_redis_url: str, own_redis: EmbeddedRedis
) -> None:
    del clean_redis_url
    async with _process(own_redis.url, "old", _feed()) as old:
        old.hold(utc_now() + timedelta(seconds=60))
        await old.close()
        await asyncio.to_thread(own_redis.restart)
        await until(lambda: old.store and old.store.up, message="Redis to answer again")
        async with _process(own_redis.url, "new", _feed()) as new:
            await until(new.parked_until, message="the hold to be told again")


# --- the rate

AT_MOST = 55
"""In any second, under a rate of 50: on a busy machine a slot may be used a moment after it was
found to be in time.
"""


async def _moments(throttles: list[EndpointThrottle], takers: int, seconds: float) -> list[float]:
    moments: list[float] = []
    end = time.monotonic() + seconds

    async def take(throttle: EndpointThrottle) -> None:
        while time.monotonic() < end:
            if await _admitted(throttle):
                moments.append(time.monotonic())

    await asyncio.gather(*(take(throttle) for throttle in throttles for _ in range(takers)))
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
    async with _processes(clean_redis_url, feed) as throttles:
        moments = await _moments(throttles, 20, 3.0)
    assert most_in_a_second(moments) <= AT_MOST
    assert len(moments) > 90, "and the limit is used"


async def test_the_rate_holds_while_redis_is_killed_and_comes_back_empty(
    own_redis: EmbeddedRedis,
) -> None:
    feed = _feed(rate_limit=Rate(count=50, per_seconds=1))
    async with _processes(own_redis.url, feed) as throttles:
        await until(lambda: all(throttle.share.live == 2 for throttle in throttles))
        taking = asyncio.create_task(_moments(throttles, 10, 5.0))
        await asyncio.sleep(1)
        await asyncio.to_thread(own_redis.kill)
        await asyncio.sleep(2)
        await asyncio.to_thread(own_redis.restart)
        moments = await taking
        await until(lambda: all(throttle.store and throttle.store.up for throttle in throttles))
    assert most_in_a_second(moments) <= 55, (
        "a tenth more where the processes lose and find Redis at different moments"
    )
    assert len(moments) > 120, "and it went on while Redis was away"


def _take_in_a_process(url: str, name: str, seconds: float, answer: Any) -> None:
    async def run() -> list[float]:
        feed = _feed(rate_limit=Rate(count=50, per_seconds=1))
        async with _process(url, name, feed) as throttle:
            return await _moments([throttle], 10, seconds)

    answer.put(asyncio.run(run()))


async def test_real_processes_together_never_pass_the_rate(clean_redis_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    answers: Any = spawn.Queue()
    started = [
        spawn.Process(target=_take_in_a_process, args=(clean_redis_url, name, 3.0, answers))
        for name in ("a", "b")
    ]
    for process in started:
        process.start()
    moments = [moment for _ in started for moment in await asyncio.to_thread(answers.get)]
    for process in started:
        await asyncio.to_thread(process.join)
    assert most_in_a_second(sorted(moments)) <= AT_MOST


async def test_a_rate_that_leaves_no_room_for_a_while_parks(clean_redis_url: str) -> None:
    feed = _feed(rate_limit=Rate(count=2, per_seconds=3600))
    async with _process(clean_redis_url, "one", feed) as throttle:
        assert await _admitted(throttle)
        back_at = await throttle.admit()
    assert back_at
    assert back_at > utc_now() + timedelta(minutes=25)


# --- the cap


async def test_the_shares_of_living_processes_add_up_to_the_cap(clean_redis_url: str) -> None:
    feed = _feed(concurrency=100)
    async with _processes(clean_redis_url, feed) as throttles:
        async with _process(clean_redis_url, "third", feed) as third:
            assert third.slots.limit == 1, "a process that comes new begins small"
            await until(
                lambda: (
                    sorted(throttle.slots.limit for throttle in (*throttles, third)) == [33, 33, 34]
                )
            )
        await until(
            lambda: all(throttle.slots.limit == 50 for throttle in throttles),
            message="the share of the one who left",
        )


async def test_a_beat_keeps_all_endpoints_together_with_one_trip(
    clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    sync_all = ThrottleStore.sync_all

    async def noted(self: ThrottleStore, said: Sequence[Said]) -> Sequence[Shared] | None:
        asked.append([one.feed for one in said])
        return await sync_all(self, said)

    monkeypatch.setattr(ThrottleStore, "sync_all", noted)
    throttles = Throttles(ThrottleStore(clean_redis_url, "p0", timeout=3.0))
    feeds = [_feed().model_copy(update={"name": name}) for name in ("orders", "bills")]
    found = [await throttles.of(feed) for feed in feeds]
    found[0].hold(utc_now() + timedelta(seconds=60))
    throttles.start()
    try:
        await until(lambda: ["orders", "bills"] in asked)
        assert [throttle.share.live for throttle in found] == [1, 1]
        assert [throttle.held_for() > 30 for throttle in found] == [True, False], "each its own"
    finally:
        await throttles.close()


async def test_the_share_stays_while_redis_is_away(own_redis: EmbeddedRedis) -> None:
    async with _processes(own_redis.url, _feed(concurrency=100)) as throttles:
        await until(lambda: all(throttle.slots.limit == 50 for throttle in throttles))
        await asyncio.to_thread(own_redis.kill)
        await until(lambda: all(throttle.store and not throttle.store.up for throttle in throttles))
        assert [throttle.slots.limit for throttle in throttles] == [50, 50]


async def test_a_process_that_has_never_heard_of_redis_sends_one_at_a_time() -> None:
    async with _process("redis://127.0.0.1:1/0", "lonely", _feed(concurrency=100)) as throttle:
        assert throttle.slots.limit == 1


# --- the breaker

_BREAKER = Breaker(min_requests=10, open_for=timedelta(seconds=0.6), probes=2)


async def _opened(throttles: list[EndpointThrottle]) -> None:
    await throttles[0].report(_answers(6, 500))
    await throttles[1].report(_answers(6, 500))
    await until(
        lambda: all(throttle.breaker.generation for throttle in throttles),
        message="the breaker to open for all",
    )


async def test_the_breaker_opens_for_all_on_what_all_have_seen(clean_redis_url: str) -> None:
    feed = _feed(breaker=_BREAKER.model_copy(update={"open_for": timedelta(seconds=30)}))
    async with _processes(clean_redis_url, feed) as throttles:
        await throttles[0].report(_answers(9, 500))
        assert await _admitted(throttles[0]), "nine requests prove nothing"
        await throttles[1].report(_answers(3, None))
        await until(lambda: all(throttle.parked_until() for throttle in throttles))


async def test_half_open_a_few_probes_go_and_it_closes_when_all_succeed(
    clean_redis_url: str,
) -> None:
    async with _processes(clean_redis_url, _feed(breaker=_BREAKER)) as throttles:
        await _opened(throttles)
        probes = await asyncio.gather(
            *(_admitted(throttle) for throttle in throttles for _ in range(10))
        )
        assert probes.count(True) == 2
        await throttles[0].report(_answers(1, 200))
        await throttles[1].report(_answers(1, 200))
        await until(
            lambda: not any(throttle.breaker.generation for throttle in throttles),
            message="the breaker to close for all",
        )
        assert all(await asyncio.gather(*map(_admitted, throttles)))


async def test_however_many_requests_wait_for_a_probe_one_at_a_time_asks_redis(
    clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would ask at the same moment as the others, four times a second, and all would be told
    the same.
    """
    breaker = _BREAKER.model_copy(update={"probes": 1})
    async with _process(clean_redis_url, "one", _feed(breaker=breaker)) as throttle:
        await throttle.report(_answers(12, 500))
        assert await _admitted(throttle), "the only probe"
        assert throttle.store
        asks, asked = throttle.store.probe, 0

        async def counted(*args: Any) -> int | None:
            nonlocal asked
            asked += 1
            return await asks(*args)

        monkeypatch.setattr(throttle.store, "probe", counted)
        assert not any(await asyncio.gather(*(_admitted(throttle) for _ in range(100))))
        assert 1 <= asked < 100


async def test_a_probe_that_fails_opens_it_again_for_all(clean_redis_url: str) -> None:
    async with _processes(clean_redis_url, _feed(breaker=_BREAKER)) as throttles:
        await _opened(throttles)
        assert await _admitted(throttles[0])
        before = throttles[0].breaker.generation
        await throttles[0].report(_answers(1, 503))
        await until(lambda: all(throttle.breaker.generation > before for throttle in throttles))


async def test_late_failures_of_requests_sent_before_say_nothing_of_the_probes(
    clean_redis_url: str,
) -> None:
    late = _answers(5, 500)
    async with _processes(clean_redis_url, _feed(breaker=_BREAKER)) as throttles:
        await _opened(throttles)
        generation = throttles[0].breaker.generation
        assert await _admitted(throttles[0])
        await throttles[0].report(late)
        assert throttles[0].breaker.generation == generation


async def test_alone_a_process_opens_and_closes_its_own_breaker(own_redis: EmbeddedRedis) -> None:
    async with _process(own_redis.url, "one", _feed(breaker=_BREAKER)) as throttle:
        await asyncio.to_thread(own_redis.kill)
        await throttle.report(_answers(12, None))
        assert throttle.breaker.open_until
        assert await _admitted(throttle)
        assert await _admitted(throttle)
        assert not await _admitted(throttle), "two probes"
        await throttle.report(_answers(2, 200))
        assert await _admitted(throttle)


async def test_what_was_opened_alone_opens_for_all_once_redis_is_back(
    own_redis: EmbeddedRedis,
) -> None:
    feed = _feed(breaker=_BREAKER.model_copy(update={"open_for": timedelta(seconds=60)}))
    async with _processes(own_redis.url, feed) as (one, other):
        await asyncio.to_thread(own_redis.kill)
        await one.report(_answers(12, None))
        assert other.parked_until() is None
        await asyncio.to_thread(own_redis.restart)
        await until(other.parked_until, message="the other process to hear of it")


# --- the breaker of a quiet feed

_QUIET = Breaker(window=timedelta(milliseconds=50), open_for=timedelta(seconds=30), probes=2)
"""Of a window that holds one request at a time, like that of a feed with a row a minute."""


async def _fail_slowly(throttles: Sequence[EndpointThrottle], times: int) -> None:
    for n in range(times):
        await throttles[n % len(throttles)].report(_answers(1, 503))
        await asyncio.sleep(0.06)


async def test_failures_in_a_row_open_it_for_all_however_slowly_they_come(
    clean_redis_url: str,
) -> None:
    async with _processes(clean_redis_url, _feed(breaker=_QUIET)) as throttles:
        await _fail_slowly(throttles, 9)
        assert await _admitted(throttles[0]), "nine are too few"
        await throttles[1].report(_answers(1, None))
        await until(lambda: all(throttle.parked_until() for throttle in throttles))


async def test_a_success_anywhere_begins_the_row_anew(clean_redis_url: str) -> None:
    async with _processes(clean_redis_url, _feed(breaker=_QUIET)) as throttles:
        await _fail_slowly(throttles, 9)
        await throttles[0].report(_answers(1, 200))
        await throttles[0].sync()
        await _fail_slowly(throttles, 9)
        await asyncio.gather(*(throttle.sync() for throttle in throttles))
        assert not any(throttle.parked_until() for throttle in throttles)


async def test_a_row_of_failures_outlives_a_redis_that_forgets_and_a_worker_that_ends(
    clean_redis_url: str,
) -> None:
    feed = _feed(breaker=_QUIET)
    async with (
        _process(clean_redis_url, "one", feed) as one,
        Redis.from_url(clean_redis_url) as redis,
    ):
        async with _process(clean_redis_url, "two", feed) as two:
            await _fail_slowly([two], 5)
        await one.sync()
        await redis.flushall()
        await _fail_slowly([one], 4)
        assert one.parked_until() is None
        await redis.flushall()
        await one.report(_answers(1, 503))
        assert one.parked_until()


async def test_alone_failures_in_a_row_open_it_too(own_redis: EmbeddedRedis) -> None:
    async with _process(own_redis.url, "one", _feed(breaker=_QUIET)) as throttle:
        await _fail_slowly([throttle], 6)
        await asyncio.to_thread(own_redis.kill)
        await _fail_slowly([throttle], 3)
        assert throttle.parked_until() is None
        await throttle.report(_answers(1, None))
        assert throttle.parked_until()


async def test_each_time_its_probes_fail_it_stays_open_for_longer_also_where_redis_forgets(
    clean_redis_url: str,
) -> None:
    breaker = _QUIET.model_copy(
        update={
            "open_for": timedelta(seconds=0.2),
            "open_for_cap": timedelta(seconds=60),
            "consecutive_failures": 1,
        }
    )
    async with (
        _processes(clean_redis_url, _feed(breaker=breaker)) as throttles,
        Redis.from_url(clean_redis_url) as redis,
    ):
        for reopened in range(4):
            throttle = throttles[reopened % 2]
            await until(lambda throttle=throttle: _admitted(throttle), message="half open")  # type: ignore[misc]
            await throttle.report(_answers(1, 503))
            await until(lambda: throttles[0].breaker.generation == throttles[1].breaker.generation)
            openings = [
                length for each in throttles for _, length in each.openings()
            ]  # the other may have been faster
            assert openings == [breaker.open_for * 2**reopened]
            if reopened == 2:
                await redis.flushall()
                await until(
                    lambda: redis.exists("rowrelay:{orders}:clock"),
                    message="the breaker to be told again",
                )
        await until(lambda: _admitted(throttles[0]))
        await throttles[0].report(_answers(2, 200))
        await until(lambda: not any(throttle.breaker.generation for throttle in throttles))
        assert [throttle.breaker.reopened for throttle in throttles] == [0, 0]


async def test_half_open_one_success_is_enough_where_nobody_wants_more(
    clean_redis_url: str,
) -> None:
    """A feed with a row an hour is not half open for hours."""
    breaker = _QUIET.model_copy(update={"open_for": timedelta(seconds=0.3), "probes": 3})
    async with _processes(clean_redis_url, _feed(breaker=breaker)) as throttles:
        await _fail_slowly(throttles, 10)
        await until(lambda: all(throttle.breaker.generation for throttle in throttles))
        await until(lambda: _admitted(throttles[0]))
        await throttles[0].report(_answers(1, 200))
        await until(
            lambda: not any(throttle.breaker.generation for throttle in throttles),
            message="the breaker to close for all",
        )


# --- what is not of our making

_JUNK: dict[str, Callable[[Redis, str], Awaitable[Any]]] = {
    "text in the place of a hash": lambda redis, key: redis.set(key, "junk"),
    "a list in the place of anything": lambda redis, key: redis.rpush(key, "junk"),
    "words for numbers": lambda redis, key: redis.hset(
        key,
        mapping=dict.fromkeys(
            ["hold", "open", "due", "tripped", "generation", "in_a_row", "reopened"], "junk"
        ),
    ),
    "numbers beyond all bounds": lambda redis, key: redis.hset(
        key,
        mapping=dict.fromkeys(
            ["hold", "open", "due", "tripped", "generation", "in_a_row", "reopened"], "1e300"
        ),
    ),
    "no numbers": lambda redis, key: redis.hset(
        key,
        mapping={
            "hold": "nan",
            "open": "-inf",
            "due": "inf",
            "in_a_row": "-5",
            "probes": "nan",
            "7:sent": "x",
        },
    ),
    "counts of no bucket": lambda redis, key: redis.hset(
        key, mapping={"99999999999999:sent": "5", "x:failed": "1", "1:other": "2", "": ""}
    ),
    "members that live for ever": lambda redis, key: redis.zadd(
        key, {"ghost": float("inf"), "past": float("-inf")}
    ),
}


@pytest.mark.parametrize("what", _JUNK)
async def test_junk_under_our_keys_holds_nobody_back_and_is_mended(
    clean_redis_url: str, what: str, logged: Callable[[str], int]
) -> None:
    feed = _feed(breaker=_QUIET, concurrency=10, rate_limit=Rate(count=1000, per_seconds=1))
    async with Redis.from_url(clean_redis_url, decode_responses=True) as redis:
        for name in ("clock", "live", "counts"):
            await _JUNK[what](redis, f"rowrelay:{{{feed.name}}}:{name}")
        seen = await view_endpoints(redis, [feed.name])
        assert seen[feed.name].hold_seconds == 0
        assert seen[feed.name].breaker is not BreakerState.OPEN
        async with _process(clean_redis_url, "one", feed) as throttle:
            await until(lambda: _admitted(throttle))
            await until(lambda: throttle.slots.limit == 10)
            await _fail_slowly([throttle], 10)
            assert throttle.parked_until(), "and its breaker opens"
            assert throttle.store
            assert throttle.store.up
    assert logged("throttle_alone") == 0


async def test_junk_on_the_channel_is_passed_over(
    clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttles_module, "BEAT_SECONDS", 600.0)
    junk: list[str | bytes] = [
        "",
        "junk",
        "orders hold",
        "orders hold soon",
        "orders hold 1e400",
        "a b c d",
        b"\xff\xfe",
    ]
    async with (
        _processes(clean_redis_url, _feed()) as throttles,
        Redis.from_url(clean_redis_url) as redis,
    ):

        async def listening() -> bool:
            return dict(await redis.pubsub_numsub(CHANNEL)) == {CHANNEL.encode(): 2}

        await until(listening, message="each process to subscribe")
        for message in junk:
            await redis.publish(CHANNEL, message)
        await until(listening, message="each process to subscribe again")
        throttles[0].hold(utc_now() + timedelta(seconds=60))
        await until(lambda: all(throttle.parked_until() for throttle in throttles))


async def test_an_outage_of_redis_is_said_once(
    own_redis: EmbeddedRedis, logged: Callable[[str], int]
) -> None:
    feed = _feed(rate_limit=Rate(count=1000, per_seconds=1))
    async with _process(own_redis.url, "one", feed) as throttle:
        await asyncio.to_thread(own_redis.kill)
        await asyncio.gather(*(throttle.admit() for _ in range(50)))
        await throttle.report(_answers(5, 500))
        await asyncio.sleep(2.5)
        await asyncio.to_thread(own_redis.restart)
        await until(lambda: logged("throttle_shared_again"))
    assert logged("throttle_alone") == 1


@pytest.fixture
def logged() -> Iterator[Callable[[str], int]]:
    """How often an event has been logged."""
    from structlog.testing import capture_logs

    with capture_logs() as events:
        yield lambda name: sum(event["event"] == name for event in events)


def _open(*throttles: EndpointThrottle) -> list[bool]:
    return [throttle.breaker.is_open for throttle in throttles]


async def test_failures_told_as_it_opened_do_not_open_it_again_when_it_has_closed(
    clean_redis_url: str,
) -> None:
    """Two workers see the outage in the same moment: the second tells its failures after the first
    has opened the breaker. No time passes by which it could have heard of it."""
    breaker = Breaker(min_requests=20, open_for=timedelta(seconds=0.2), probes=3)
    feed = _feed(breaker=breaker)
    stores = [ThrottleStore(clean_redis_url, f"p{n}", timeout=3.0) for n in range(2)]
    one, other = (EndpointThrottle(feed, store) for store in stores)
    try:
        await one.sync()
        await other.sync()
        await one.sync()
        await one.report(_answers(50, 503))
        assert _open(one, other) == [True, False], "the other was not told yet"
        await other.report(_answers(50, 503))
        assert _open(one, other) == [True, True]
        await asyncio.sleep(0.3)
        for _ in range(3):
            assert await _admitted(one)
        await one.report(_answers(3, 200))  # the partner is back
        assert _open(one) == [False]
        await one.report(_answers(15, 200))
        await one.sync()  # the next beat
        assert _open(one) == [False]
        await other.sync()
        await one.sync()
        assert _open(one, other) == [False, False]
    finally:
        for store in stores:
            await store.close()


async def test_failures_of_one_process_told_as_it_opened_do_not_open_it_again(
    clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same within one process: two groups of results are reported at the same time."""
    breaker = Breaker(min_requests=20, open_for=timedelta(seconds=0.2), probes=3)
    store = ThrottleStore(clean_redis_url, "p", timeout=3.0)
    one = EndpointThrottle(_feed(breaker=breaker), store)
    try:
        await one.sync()
        trip, asked = store.trip, asyncio.Event()

        async def slow_trip(*args: Any) -> Any:  # another group comes while the answer is under way
            answer = await trip(*args)
            asked.set()
            await asyncio.sleep(0.05)
            return answer

        monkeypatch.setattr(store, "trip", slow_trip)
        first = asyncio.create_task(one.report(_answers(50, 503)))
        await asked.wait()
        await one.report(_answers(50, 503))
        await first
        assert _open(one) == [True]
        await asyncio.sleep(0.3)
        for _ in range(3):
            assert await _admitted(one)
        await one.report(_answers(3, 200))
        assert _open(one) == [False]
        await one.sync()
        assert _open(one) == [False]
    finally:
        await store.close()


async def test_a_probe_that_was_lost_while_redis_is_away_is_followed_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breaker_module, "_PROBE_GRACE_SECONDS", 0.1)
    feed = _feed(
        breaker=Breaker(min_requests=10, open_for=timedelta(seconds=0.2), probes=1),
        timeout=timedelta(seconds=0.3),
    )
    throttle = EndpointThrottle(feed)  # alone: as while Redis is away
    await throttle.report(_answers(12, 503))
    assert throttle.breaker.is_open
    await asyncio.sleep(0.3)
    assert await _admitted(throttle), "the probe"
    # It is not sent: its worker lacks something of its own (a token, a file descriptor, memory).
    await throttle.report([Answer(utc_now(), 0, None, ruling=Ruling.OURS)])
    await asyncio.sleep(0.6)  # longer than a probe may take
    assert await _admitted(throttle), "another, as with Redis"


async def test_a_second_batch_of_a_new_process_hears_of_the_hold_too(
    clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _process(clean_redis_url, "old", _feed()) as old:
        old.hold(utc_now() + timedelta(seconds=60))
        await old.close()
        store = ThrottleStore(clean_redis_url, "new", timeout=3.0)
        sync_all = store.sync_all

        async def on_its_way(said: Any) -> Any:
            await asyncio.sleep(0.05)  # the first connection: a name, TLS, a login
            return await sync_all(said)

        monkeypatch.setattr(store, "sync_all", on_its_way)
        new = Throttles(store)
        try:
            first = asyncio.create_task(new.of(_feed()))
            await asyncio.sleep(0)
            throttle = await new.of(_feed())  # the next batch, a moment later
            assert throttle.parked_until(), "it may not be claimed"
            assert await throttle.admit(), "and nothing may be sent"
            assert await first is throttle
        finally:
            await new.close()
