"""Where the workers keep the clock of their endpoints together: Redis, by its own time of day.

    rowrelay:{<feed>}:clock    hash: hold, open, due (µs); generation, tripped, probes, probed_at, succeeded
    rowrelay:{<feed>}:live     sorted set: worker process → until when it counts as alive (µs)
    rowrelay:{<feed>}:counts   hash: `<bucket>:sent`, `<bucket>:failed` of the breaker's window
    rowrelay:clock             channel: `<feed> <what> <remaining µs>`, so that the others need not ask

Each question is one script, so it is one step for all workers. Times go in and out as what remains of them, for the
workers' own clocks may differ. Everything here may be lost: each process says again, with each beat, what it knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, cast

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.redis_url import parse_redis_url

log = structlog.get_logger()

CHANNEL = "rowrelay:clock"
KEPT_SECONDS = 3 * 86400
"""How long keys outlive their last change: longer than any hold, and than a day's rate limit."""

_MICRO = 1_000_000
_HOLD_SLACK_SECONDS = 0.05
"""A hold said again is a little later each time, by the way to Redis: up to this it is the same."""
_LISTEN_SECONDS = 5.0
_AGAIN_SECONDS = 1.0

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function number(field) return tonumber(redis.call('HGET', KEYS[1], field) or '0') end
local function keep() redis.call('EXPIRE', KEYS[1], ARGV[1]) end
local function tell(what, remaining)
  redis.call('PUBLISH', 'rowrelay:clock', string.format('%s %s %.0f', ARGV[2], what, remaining))
end
"""
"""Each script starts so. ARGV[1] is how long keys are kept, ARGV[2] the feed."""

_SYNC = (
    _NOW
    + """
local me, lease, hold_for = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local sent, failures, bucket_us, buckets = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local hold = number('hold')
if hold_for > 0 and now + hold_for > hold + tonumber(ARGV[10]) then
  hold = now + hold_for
  redis.call('HSET', KEYS[1], 'hold', string.format('%.0f', hold))
  keep()
  tell('hold', hold_for)
end
if redis.call('ZADD', KEYS[2], string.format('%.0f', now + lease), me) == 1 then tell('live', 0) end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
redis.call('EXPIRE', KEYS[2], ARGV[1])
local live, rank = redis.call('ZRANGE', KEYS[2], 0, -1), 0
for _, name in ipairs(live) do if name < me then rank = rank + 1 end end
local bucket = math.floor(now / bucket_us)
if sent > 0 then
  redis.call('HINCRBY', KEYS[3], string.format('%.0f:sent', bucket), sent)
  redis.call('HINCRBY', KEYS[3], string.format('%.0f:failed', bucket), failures)
  redis.call('EXPIRE', KEYS[3], math.ceil(bucket_us * (buckets + 1) / 1000000))
end
local counts, total = redis.call('HGETALL', KEYS[3]), {sent = 0, failed = 0}
for i = 1, #counts, 2 do
  local at, what = string.match(counts[i], '(%d+):(%a+)')
  if tonumber(at) > bucket - buckets then total[what] = total[what] + counts[i + 1]
  else redis.call('HDEL', KEYS[3], counts[i]) end
end
return {math.max(0, hold - now), math.max(0, number('open') - now), number('tripped'), number('generation'),
        #live, rank, total.sent, total.failed}
"""
)

_TRIP = (
    _NOW
    + """
if number('tripped') ~= tonumber(ARGV[3]) then return 0 end
local generation = number('generation') + 1
redis.call('HSET', KEYS[1], 'generation', generation, 'tripped', generation, 'probes', 0, 'succeeded', 0,
           'open', string.format('%.0f', now + ARGV[4]))
redis.call('DEL', KEYS[2])
keep()
tell('breaker', 0)
return generation
"""
)

_PROBE = (
    _NOW
    + """
if number('tripped') ~= tonumber(ARGV[3]) then return -1 end
if number('open') > now then return 0 end
local probes = number('probes')
if probes >= tonumber(ARGV[4]) and now - number('probed_at') > tonumber(ARGV[5]) then probes = number('succeeded') end
if probes >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], 'probes', probes + 1, 'probed_at', string.format('%.0f', now))
return 1
"""
)

_SETTLE = (
    _NOW
    + """
if number('tripped') ~= tonumber(ARGV[3]) then return 0 end
if redis.call('HINCRBY', KEYS[1], 'succeeded', ARGV[4]) < tonumber(ARGV[5]) then return 0 end
redis.call('HSET', KEYS[1], 'tripped', 0, 'open', 0)
tell('breaker', 0)
return 1
"""
)

_RESERVE = (
    _NOW
    + """
local interval, saved, count = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local due = math.max(number('due'), now + tonumber(ARGV[7]), now)
local first = due - saved - now
if first <= tonumber(ARGV[6]) then
  due = due + count * interval
  redis.call('HSET', KEYS[1], 'due', string.format('%.0f', due))
  keep()
end
return {math.floor(first), math.floor(due - now)}
"""
)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all workers know of one endpoint together. Times in seconds that remain."""

    hold: float
    open: float
    tripped: int
    """The generation of the opened breaker; 0: it is closed."""
    generation: int
    """How often it has opened. Less than a process remembers: Redis has forgotten."""
    live: int
    """Worker processes that send to it."""
    rank: int
    """This process's place among them, from 0."""
    sent: int
    """In the breaker's window, by all."""
    failed: int


class ClockStore:
    """The scripts and the channel on one Redis, for one worker process. `None` from a call: Redis is away."""

    def __init__(self, url: str, process: str, *, timeout: float = 1.0) -> None:
        """`process` names this worker process among all; `timeout`: the seconds that Redis may take for one answer."""
        self._redis = Redis(
            **parse_redis_url(url).options,
            decode_responses=True,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            health_check_interval=round(_LISTEN_SECONDS),
            retry=Retry(NoBackoff(), 0),
        )
        self._process = process
        self.up = True
        """Whether the last call was answered. While it is not, only `sync` asks."""
        scripts = (_SYNC, _TRIP, _PROBE, _SETTLE, _RESERVE)
        self._sync, self._trip, self._probe, self._settle, self._reserve = map(self._redis.register_script, scripts)

    async def sync(
        self, feed: str, *, lease: float, hold: float, sent: int, failed: int, bucket: float, buckets: int
    ) -> Shared | None:
        """Say what this process knows, be counted as alive for `lease` seconds, and hear what all know.

        `hold`: seconds that remain of a hold known here. `sent`, `failed`: results since the last time, for the
        breaker's window of `buckets` buckets of `bucket` seconds. Asks even while Redis is away.
        """
        counts = [sent, failed, *_micros(bucket), buckets]
        arguments: list[str | int] = [self._process, *_micros(lease, hold), *counts, *_micros(_HOLD_SLACK_SECONDS)]
        answer = await self._ask(self._sync(self._keys(feed, "clock", "live", "counts"), self._with(feed, arguments)))
        if answer is None:
            return None
        return Shared(answer[0] / _MICRO, answer[1] / _MICRO, *answer[2:])

    async def trip(self, feed: str, generation: int, open_for: float) -> int | None:
        """Open the breaker unless another was faster: then 0. `generation`: the one that failed; 0 when closed."""
        keys = self._keys(feed, "clock", "counts")
        return await self._one(self._trip, keys, self._with(feed, [generation, *_micros(open_for)]))

    async def probe(self, feed: str, generation: int, probes: int, patience: float) -> int | None:
        """Ask for a probe: 1 granted, 0 not now, -1 the breaker has moved on.

        Probes that have not succeeded `patience` seconds after the last was granted are taken for lost.
        """
        return await self._one(
            self._probe, self._keys(feed, "clock"), self._with(feed, [generation, probes, *_micros(patience)])
        )

    async def settle(self, feed: str, generation: int, succeeded: int, needed: int) -> int | None:
        """Count probes that succeeded. 1: they were the last that it needed, and the breaker is closed."""
        return await self._one(
            self._settle, self._keys(feed, "clock"), self._with(feed, [generation, succeeded, needed])
        )

    async def reserve(
        self, feed: str, *, interval: float, saved: float, count: int, longest: float, floor: float
    ) -> tuple[float, float] | None:
        """Reserve `count` slots (see `rate.py`), none sooner than `floor` seconds from now, which this process knows.

        Returns the seconds until the first, and until the next that is free.
        """
        micros = _micros(interval, saved)
        arguments = [*micros, count, *_micros(longest, floor)]
        answer = await self._asked(self._reserve, self._keys(feed, "clock"), self._with(feed, arguments))
        return None if answer is None else (answer[0] / _MICRO, answer[1] / _MICRO)

    async def leave(self, feeds: Sequence[str]) -> None:
        """Be counted no more: the others take this process's part at once."""
        for feed in feeds:
            if self.up:
                await self._ask(cast("Awaitable[Any]", self._redis.zrem(self._keys(feed, "live")[0], self._process)))
                await self._ask(cast("Awaitable[Any]", self._redis.publish(CHANNEL, f"{feed} live 0")))

    async def messages(self) -> AsyncGenerator[tuple[str, str, float] | None]:
        """What the others tell: (feed, what, seconds that remain). `None`: connected anew, and some may be missed.

        Never ends by itself.
        """
        while True:
            try:
                async with aclosing(self._listen()) as heard:
                    async for message in heard:
                        yield message
            except (RedisError, OSError) as error:
                log.debug("endpoint_clock_listens_again", error=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()

    async def _listen(self) -> AsyncGenerator[tuple[str, str, float] | None]:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as listening:
            await listening.subscribe(CHANNEL)
            yield None
            while True:
                message = await listening.get_message(timeout=_LISTEN_SECONDS)
                if message is not None:
                    feed, what, remaining = str(message["data"]).split(" ")
                    yield feed, what, float(remaining) / _MICRO

    async def _one(self, script: Any, keys: list[str], arguments: list[str | int]) -> int | None:
        answer = await self._asked(script, keys, arguments)
        return None if answer is None else int(answer)

    async def _asked(self, script: Any, keys: list[str], arguments: list[str | int]) -> Any:
        """As `_ask`, but not while Redis is away: rows must not wait for a time limit each."""
        return await self._ask(script(keys, arguments)) if self.up else None

    async def _ask(self, question: Awaitable[Any]) -> Any:
        try:
            answer = await question
        except (RedisError, OSError) as error:
            self._lost(error)
            with suppress(RedisError, OSError):  # closing a TLS connection waits for the other side, and may fail too
                await self._redis.connection_pool.disconnect(inuse_connections=False)  # kept ones are likely dead too
            return None
        if not self.up:
            self.up = True
            log.info("endpoint_clock_shared_again")
        return answer

    def _lost(self, error: Exception) -> None:
        if self.up:
            self.up = False
            log.warning("endpoint_clock_alone", error=" ".join(str(error).split()), kind=type(error).__name__)

    def _keys(self, feed: str, *names: str) -> list[str]:
        return [f"rowrelay:{{{feed}}}:{name}" for name in names]

    def _with(self, feed: str, arguments: Sequence[str | int]) -> list[str | int]:
        return [KEPT_SECONDS, feed, *arguments]


def _micros(*seconds: float) -> list[int]:
    return [round(value * _MICRO) for value in seconds]
