"""Stand-ins for what surrounds the ledger, each told what to do: a clock, a source, a queue, a
partner.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from app.core.attempts import Answer
from app.core.batches import NewBatch
from app.core.budget import Budget, Reservation
from app.core.cursors import Cursor
from app.core.deliveries import Delivery
from app.core.errors import BrokerUnavailable
from app.core.rows import Columns, Page, SourceRow
from app.feeds.feed import Feed
from app.sending.outgoing import NotSent, Outgoing
from app.source.cursors.gaps import missing, subtract


class VirtualClock:
    """A time of day that moves only when told to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self._passed = timedelta()

    def __call__(self) -> datetime:
        return self.time

    def advance(self, by: timedelta) -> None:
        self.time += by
        self._passed += by

    def steady(self) -> float:
        """Seconds that it was told to advance by: setting `time` changes nothing here."""
        return self._passed.total_seconds()


class Wheel:
    """A clock that is turned by hand."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


class Post:
    """A way out that does as it is told, and keeps what it was given."""

    name = "post"

    def __init__(self, failures: int = 0) -> None:
        """`failures`: how many tries it does not take, before it does."""
        self.failures = failures
        self.sent: list[Any] = []
        self.tried = 0

    @property
    def subjects(self) -> list[str]:
        return [outgoing.subject for outgoing in self.sent]

    async def send(self, outgoing: Outgoing) -> None:
        self.tried += 1
        if self.tried <= self.failures:
            raise NotSent("post: the office is closed")
        self.sent.append(outgoing)


class MemorySource:
    """A table with an identity column: ids are handed out in order, and commit in any order, or
    never.
    """

    def __init__(self) -> None:
        self._next = 1
        self.open: list[int] = []
        """Ids handed out, and not committed yet."""
        self.committed: set[int] = set()
        self.unreadable: set[int] = set()
        self._budget = Budget()

    def room(self, feed: Feed) -> Reservation:
        """Memory for a page."""
        return self._budget.reading(feed.name)

    def begin(self, count: int) -> list[int]:
        """Hand out ids to transactions that have not committed yet."""
        ids = list(range(self._next, self._next + count))
        self._next += count
        self.open += ids
        return ids

    def commit(self, ids: Iterable[int]) -> None:
        for row_id in list(ids):
            self.open.remove(row_id)
            self.committed.add(row_id)

    def add(self, count: int) -> list[int]:
        """Insert rows and commit them."""
        ids = self.begin(count)
        self.commit(ids)
        return ids

    async def read_page(
        self, feed: Feed, cursor: Cursor, now: datetime, room: Reservation | None = None
    ) -> Page:
        """Rows found in the cursor's gaps, then the next ones, at most `feed.page_size` in all."""
        del room
        position = cursor.position if isinstance(cursor.position, int) else None
        ids = sorted(self.committed)
        late = [i for i in ids if any((gap.low or 0) <= i <= gap.high for gap in cursor.gaps)][
            : feed.page_size
        ]
        beyond = [i for i in ids if i > (position or 0)]
        fresh = beyond[: feed.page_size - len(late)]
        return Page(
            rows=tuple(self._row(row_id) for row_id in [*late, *fresh]),
            position=fresh[-1] if fresh else position,
            gaps=subtract(cursor.gaps, late) + missing(position, fresh, now),
            full=len(beyond) > len(fresh),
        )

    async def find_all(
        self, feed: Feed, keys: Sequence[str], agreed: Columns = ()
    ) -> tuple[SourceRow, ...]:
        """The rows of these keys."""
        del feed, agreed
        return tuple(self._row(row_id) for row_id in sorted(self.committed) if str(row_id) in keys)

    def _row(self, row_id: int) -> SourceRow:
        if row_id in self.unreadable:
            return SourceRow(str(row_id), row_id, "", error="column note: no JSON form")
        return SourceRow(str(row_id), row_id, json.dumps({"id": row_id}))


class MemoryQueue:
    """A queue that keeps nothing safe: it can be flushed, and it can be away."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []
        """(feed, batch id), oldest first."""
        self.knocks: list[str] = []
        """Tasks of periodic jobs."""
        self.takes: int | None = None
        """How many messages it takes before it is away; `None`: it stays."""

    async def publish(self, batches: Sequence[NewBatch]) -> None:
        for batch in batches:
            self._be_there()
            self.messages.append((batch.feed, batch.id))

    async def knock(self, task: str) -> None:
        self._be_there()
        self.knocks.append(task)

    async def depth(self) -> int:
        if self.takes == 0:
            raise BrokerUnavailable("no broker")
        return len(self.messages)

    async def sift(self, existing: Callable[[Iterable[str]], Awaitable[set[str]]]) -> None:
        self._be_there()
        there = await existing([batch for _, batch in self.messages])
        self.messages = [
            *dict.fromkeys(message for message in self.messages if message[1] in there)
        ]

    def _be_there(self) -> None:
        if self.takes == 0:
            raise BrokerUnavailable("no broker")
        if self.takes:
            self.takes -= 1


class Mood(StrEnum):
    """How the partner meets a request."""

    ACCEPTS = "accepts"
    FAILS = "fails"
    THROTTLES = "throttles"
    REFUSES = "refuses"
    DENIES = "denies"
    LOSES_ANSWER = "loses answer"
    """Accepts the row; the connection breaks before the answer is out."""


_STATUS = {
    Mood.ACCEPTS: 200,
    Mood.FAILS: 500,
    Mood.THROTTLES: 429,
    Mood.REFUSES: 400,
    Mood.DENIES: 401,
}


@dataclass
class ScriptedPartner:
    """A partner that answers by its moods, one after the other, over and over."""

    now: VirtualClock
    moods: list[Mood] = field(default_factory=lambda: [Mood.ACCEPTS])
    accepted: set[str] = field(default_factory=set)
    """Ids of deliveries that the partner has."""
    payloads: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Delivery id → the payload of each request, in order."""
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    """Delivery id → the answer waits for this."""
    requests: int = 0
    feeds: list[Feed] = field(default_factory=list)
    """The feed that each request was made for, in order."""

    def forget_token(self, feed: str) -> None:
        """There is none."""

    async def send(self, feed: Feed, delivery: Delivery) -> Answer:
        self.feeds.append(feed)
        mood = self.moods[self.requests % len(self.moods)]
        self.requests += 1
        self.payloads[delivery.id].append(delivery.payload)
        at = self.now()
        if delivery.id in self.held:
            await self.held[delivery.id].wait()
        if mood in (Mood.ACCEPTS, Mood.LOSES_ANSWER):
            self.accepted.add(delivery.id)
        if mood is Mood.LOSES_ANSWER:
            return Answer(at, 1, error="ReadError: connection closed")
        return Answer(at, 1, _STATUS[mood], {"retry-after": "7"} if mood is Mood.THROTTLES else {})
