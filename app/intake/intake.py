"""Takes rows in: into the ledger, batches first, then to the workers. Polls and reconciliations
share it.

It may die between any two of its steps:

1. before the batches are inserted: nothing happened;
2. after the batches: they name no existing deliveries; the worker that claims them loads nothing
   and deletes them;
3. after some of the deliveries: those are in their batches and will be sent; logging the rows again
   leaves them as they are, and logs the rest;
4. after the deliveries, before the messages: the sweep finds the batches by `visible_at` and sends
   them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

import structlog

from app.broker.queue import HINTS_A_FEED, Queue
from app.core.batches import NewBatch
from app.core.budget import BATCH, cost, text_bytes
from app.core.certificates import Discrepancy
from app.core.clock import Clock, whole_ms
from app.core.errors import BrokerUnavailable
from app.core.parts import in_parts
from app.core.rows import LoggedRows, SourceRow
from app.feeds.feed import Feed
from app.feeds.filter import sift
from app.intake.compare import clashes
from app.ledger import Ledger
from app.ledger.audit import Fact
from app.ledger.batches import IDS_BYTES, id_bytes, new_batch
from app.ledger.delivery_documents import delivery_id
from app.ledger.stats import Taken

log = structlog.get_logger()

_NEVER_TOO_MUCH = 700_000
"""Characters of payloads and keys: a page with no more needs no check of its batches' bytes."""


Take: TypeAlias = Callable[[NewBatch, LoggedRows | None], bool]
"""Takes a batch up in this process at once, if it can; `False`: it is to be published. With its rows,
where all of them were new."""


def to_the_queue(batch: NewBatch, rows: LoggedRows | None) -> bool:
    """Of a process that delivers nothing itself."""
    del batch, rows
    return False


@dataclass(frozen=True, slots=True)
class Logged:
    """What became of rows that were logged."""

    batches: tuple[NewBatch, ...]
    """In the ledger; their messages are yet to be published."""
    new: int
    """Rows that the ledger did not have."""
    taken: Taken
    rows: Mapping[str, LoggedRows] = field(default_factory=dict)
    """Of the batches, by their ids, whose rows were all new."""
    clashes: tuple[Discrepancy, ...] = ()
    """Rows whose id was in the ledger already, with other content."""
    moved: tuple[str, ...] = ()
    """Keys of rows that were logged at another position: updated ones, or others that share the
    key.
    """


class Intake:
    """Takes rows in for one worker process."""

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        *,
        message_wait: timedelta,
        now: Clock,
        take: Take = to_the_queue,
    ) -> None:
        """`message_wait`: after this long without a claim, the sweep treats a batch's message as
        lost.
        """
        self._ledger = ledger
        self._queue = queue
        self._message_wait = message_wait
        self._now = now
        self._take = take

    async def log(self, feed: Feed, rows: Sequence[SourceRow]) -> Logged:
        """Log rows; those in the ledger already stay as they are. Call `send` and `count` with what
        this returns.
        """
        now = self._now()
        sifted = sift(feed.filter, rows)
        filled = [(_batch_for(feed, part), part) for part in _parts(feed, sifted.sent)]
        batches = tuple(batch for batch, _ in filled)
        await self._ledger.batches.insert(batches, now + self._message_wait)
        deliveries = self._ledger.deliveries
        queued_before = await deliveries.log(filled, now)
        skipped_before = await deliveries.log_skipped(feed.name, sifted.skipped, now)
        dead_before = await deliveries.log_unreadable(feed.name, sifted.unreadable, now)
        before = [*queued_before, *skipped_before, *dead_before]
        known = set(before)
        facts = (
            await self._ledger.audit.facts_of(list(known)) if known else {}
        )  # before they are noted as seen again
        again = [row for row in rows if known and delivery_id(feed.name, row) in known]
        if again and _rows_move(feed):
            await deliveries.note_seen(feed.name, again, now)
        unreadable = ((delivery_id(feed.name, row), row.error or "") for row in sifted.unreadable)
        dead = [(name, error) for name, error in unreadable if name not in known]
        skipped = len(sifted.skipped) - len(skipped_before)
        found = tuple(clashes(feed.name, again, facts, moving=_rows_move(feed)))
        moved = tuple(
            row.key for row in again if _moved(row, facts.get(delivery_id(feed.name, row)))
        )
        at = whole_ms(now)
        new = {
            batch.id: LoggedRows(part, at)
            for batch, part in filled
            if known.isdisjoint(batch.delivery_ids)
        }
        taken = Taken(len(rows), skipped, dead)
        return Logged(batches, len(rows) - len(before), taken, new, found, moved)

    async def send(self, feed: Feed, logged: Logged) -> None:
        """Publish the batches' messages. The sweep publishes what the broker does not take.

        Of many batches only the first get a message; the others are due at once, for any worker
        with room. Those that this process takes up itself get none: should it die, the sweep finds
        them as if their messages had been lost.
        """
        hints = logged.batches[:HINTS_A_FEED]
        if len(hints) < len(logged.batches):
            await self._ledger.batches.show([batch.id for batch in logged.batches], self._now())
        hints = tuple(batch for batch in hints if not self._take(batch, logged.rows.get(batch.id)))
        try:
            if hints:
                await self._queue.publish(hints)
        except BrokerUnavailable as error:
            log.warning(
                "publish_failed", feed=feed.name, batches=len(logged.batches), error=str(error)
            )

    async def count(self, feed: Feed, logged: Logged) -> None:
        """Count the rows in the statistics."""
        await self._ledger.stats.add_logged(feed.name, logged.new, self._now(), logged.taken)


def _moved(row: SourceRow, fact: Fact | None) -> bool:
    return fact is not None and not row.error and row.position != fact.position


def _rows_move(feed: Feed) -> bool:
    """Whether an updated row moves in the cursor's order, and stays the same delivery."""
    return feed.capture == "inserts" and feed.cursor.unseen_updates is None


def _batch_for(feed: Feed, rows: Sequence[SourceRow]) -> NewBatch:
    content_bytes = sum(text_bytes(row.payload) for row in rows)
    return new_batch(feed.name, (delivery_id(feed.name, row) for row in rows), content_bytes)


def _parts(feed: Feed, rows: Sequence[SourceRow]) -> Iterable[Sequence[SourceRow]]:
    """The rows of each batch. A worker loads a batch together, so it ends where it would take too
    much memory.

    The usual page takes the short way: the long one counts each row.
    """
    if sum(len(row.payload) + len(row.key) for row in rows) < _NEVER_TOO_MUCH:
        return in_parts(rows, feed.batch_size)
    ids = (lambda row: id_bytes(delivery_id(feed.name, row)), IDS_BYTES)
    return in_parts(rows, feed.batch_size, ids, (lambda row: cost(text_bytes(row.payload)), BATCH))
