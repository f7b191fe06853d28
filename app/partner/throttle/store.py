"""Where the workers keep the throttles of their endpoints together: Redis, by its own time of day.

    rowrelay:{<feed>}:clock    hash: hold, open, due (µs); generation, tripped, reopened, probes, probed_at, succeeded;
                               in_a_row: failures since the last success, of whatever age
    rowrelay:{<feed>}:live     sorted set: worker process → until when it counts as alive (µs)
    rowrelay:{<feed>}:counts   hash: `<bucket>:sent`, `<bucket>:failed` of the breaker's window
    rowrelay:clock             channel: `<feed> <what> <remaining µs>`, so that the others need not ask

Each question is one script (`scripts.py`), so it is one step for all workers. Times go in and out
as what remains of them, for the workers' own clocks may differ. Everything here may be lost: each
process says again, with each beat, what it knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

import structlog

from app.core.shown import one_line
from app.partner.throttle.results import Results
from app.partner.throttle.scripts import PROBE, RESERVE, SETTLE, SYNC, TRIP
from app.redis.client import AWAY, drop_idle, open_redis

log = structlog.get_logger()

CHANNEL = "rowrelay:clock"
KEPT_SECONDS = 3 * 86400
"""How long keys outlive their last change: longer than any hold, and than a day's rate limit."""

_MICRO = 1_000_000
_HOLD_SLACK_SECONDS = 0.05
"""A hold said again is a little later each time, by the way to Redis: up to this it is the same."""
_RATE_SLACK_SECONDS = 60.0
"""A rate's next slot is never so much further away than ten times what could have been reserved."""
_MICROS_DIGITS = 18
_LISTEN_SECONDS = 5.0
_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Shared:
    """What all workers know of one endpoint together. Times in seconds that remain."""

    hold: float
    open: float
    tripped: int
    """The generation of the opened breaker; 0: it is closed."""
    generation: int
    """How often it has opened. Less than a process remembers: Redis has forgotten."""
    reopened: int
    """How often it has opened again since it was closed."""
    live: int
    """Worker processes that send to it."""
    rank: int
    """This process's place among them, from 0."""
    sent: int
    """In the breaker's window, by all."""
    failed: int
    in_a_row: int
    """Failures in a row, by all, of whatever age."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a process says of one endpoint. Times in seconds."""

    feed: str
    lease: float
    """For so long it counts as alive."""
    hold: float
    """What remains of a hold known here."""
    results: Results
    """Since the last time, for the breaker's window of `buckets` buckets of `bucket` seconds."""
    bucket: float
    buckets: int
    in_a_row: int
    """What was last heard of failures in a row, should Redis have forgotten."""
    unwanted: float
    """A half-open breaker closes where its probes succeeded and nobody has asked for another for so
    long.
    """


def endpoint_keys(feed: str, *names: str) -> list[str]:
    """The keys of an endpoint. The braces keep them on one node of a Redis Cluster."""
    return [f"rowrelay:{{{feed}}}:{name}" for name in names]


class ThrottleStore:
    """The scripts and the channel on one Redis, for one worker process. `None` from a call: Redis
    is away.
    """

    def __init__(self, url: str, process: str, *, timeout: float = 1.0) -> None:
        """`process` names this worker process among all; `timeout`: the seconds that Redis may take
        for one answer.
        """
        self._redis = open_redis(url, timeout, health_check_interval=round(_LISTEN_SECONDS))
        self._process = process
        self.up = True
        """Whether the last call was answered. While it is not, only `sync` asks."""
        scripts = (SYNC, TRIP, PROBE, SETTLE, RESERVE)
        self._sync, self._trip, self._probe, self._settle, self._reserve = map(
            self._redis.register_script, scripts
        )

    async def sync(self, said: Said) -> Shared | None:
        """Say what this process knows, be counted as alive, and hear what all know. Asks even while
        Redis is away.
        """
        found = await self.sync_all([said])
        return found[0] if found else None

    async def sync_all(self, said: Sequence[Said]) -> Sequence[Shared] | None:
        """The same for several endpoints, with one trip."""
        async with self._redis.pipeline(transaction=False) as asking:
            for one in said:
                keys = endpoint_keys(one.feed, "clock", "live", "counts")
                await self._sync(keys, self._with(one.feed, self._said(one)), client=asking)
            answers = await self._ask(asking.execute())
        if answers is None:
            return None
        return [_heard(one.feed, answer) for one, answer in zip(said, answers, strict=True)]

    def _said(self, one: Said) -> list[str | int]:
        results = one.results
        counts = [results.sent, results.failed, *_micros(one.bucket), one.buckets]
        return [
            self._process,
            *_micros(one.lease, one.hold),
            *counts,
            *_micros(_HOLD_SLACK_SECONDS),
            results.trailing,
            one.in_a_row,
            *_micros(one.unwanted),
        ]

    async def trip(self, feed: str, generation: int, open_for: float, reopened: int) -> int | None:
        """Open the breaker unless another was faster: then 0. `generation`: the one that failed; 0
        when closed. `reopened`: how often it has opened again in a row."""
        keys = endpoint_keys(feed, "clock", "counts")
        return await self._one(
            self._trip, keys, self._with(feed, [generation, *_micros(open_for), reopened])
        )

    async def probe(
        self, feed: str, generation: int, probes: int, patience: float, open_for: float
    ) -> int | None:
        """Ask for a probe: 1 granted, 0 not now, -1 the breaker has moved on. `open_for`: it is
        open for no longer.

        Probes that have not succeeded `patience` seconds after the last was granted are taken for
        lost.
        """
        return await self._one(
            self._probe,
            endpoint_keys(feed, "clock"),
            self._with(feed, [generation, probes, *_micros(patience, open_for)]),
        )

    async def settle(self, feed: str, generation: int, succeeded: int, needed: int) -> int | None:
        """Count probes that succeeded. 1: they were the last that it needed, and the breaker is
        closed.
        """
        return await self._one(
            self._settle,
            endpoint_keys(feed, "clock"),
            self._with(feed, [generation, succeeded, needed]),
        )

    async def reserve(
        self, feed: str, *, interval: float, saved: float, count: int, longest: float, floor: float
    ) -> tuple[float, float] | None:
        """Reserve `count` slots (see `rate.py`), none sooner than `floor` seconds from now, which
        this process knows.

        Returns the seconds until the first, and until the next that is free.
        """
        micros = _micros(interval, saved)
        arguments = [*micros, count, *_micros(longest, floor, _RATE_SLACK_SECONDS)]
        answer = await self._asked(
            self._reserve, endpoint_keys(feed, "clock"), self._with(feed, arguments)
        )
        return None if answer is None else (answer[0] / _MICRO, answer[1] / _MICRO)

    async def leave(self, feeds: Sequence[str]) -> None:
        """Be counted no more: the others take this process's part at once."""
        for feed in feeds:
            if self.up:
                await self._ask(
                    cast(
                        "Awaitable[Any]",
                        self._redis.zrem(endpoint_keys(feed, "live")[0], self._process),
                    )
                )
                await self._ask(
                    cast("Awaitable[Any]", self._redis.publish(CHANNEL, f"{feed} live 0"))
                )

    async def messages(self) -> AsyncGenerator[tuple[str, str, float] | None]:
        """What the others tell: (feed, what, seconds that remain). `None`: connected anew, and some
        may be missed.

        Never ends by itself.
        """
        while True:
            try:
                async with aclosing(self._listen()) as heard:
                    async for message in heard:
                        yield message
            except (*AWAY, UnicodeDecodeError) as error:
                log.debug("throttle_listens_again", error=str(error))
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
                if message is not None and (told := _told(str(message["data"]))) is not None:
                    yield told

    async def _one(self, script: Any, keys: list[str], arguments: list[str | int]) -> int | None:
        answer = await self._asked(script, keys, arguments)
        return None if answer is None else int(answer)

    async def _asked(self, script: Any, keys: list[str], arguments: list[str | int]) -> Any:
        """As `_ask`, but not while Redis is away: rows must not wait for a time limit each."""
        return await self._ask(script(keys, arguments)) if self.up else None

    async def _ask(self, question: Awaitable[Any]) -> Any:
        try:
            answer = await question
        except AWAY as error:
            self._lost(error)
            await drop_idle(self._redis)
            return None
        if not self.up:
            self.up = True
            log.info("throttle_shared_again")
        return answer

    def _lost(self, error: Exception) -> None:
        if self.up:
            self.up = False
            log.warning("throttle_alone", error=one_line(error), kind=type(error).__name__)

    def _with(self, feed: str, arguments: Sequence[str | int]) -> list[str | int]:
        return [KEPT_SECONDS, feed, *arguments]


def _told(text: str) -> tuple[str, str, float] | None:
    """What a message says; `None` for one that is not of our making."""
    feed, _, rest = text.partition(" ")
    what, _, remaining = rest.partition(" ")
    if not remaining.isdecimal() or len(remaining) > _MICROS_DIGITS:
        return None
    return feed, what, min(int(remaining) / _MICRO, KEPT_SECONDS)


def _heard(feed: str, answer: Sequence[int]) -> Shared:
    hold_left, open_left, *counted, junk = answer
    if junk:
        log.warning(
            "throttle_junk", feed=feed, keys=junk, done="deleted: no hash or sorted set of ours"
        )
    return Shared(hold_left / _MICRO, open_left / _MICRO, *counted)


def _micros(*seconds: float) -> list[int]:
    return [round(value * _MICRO) for value in seconds]
