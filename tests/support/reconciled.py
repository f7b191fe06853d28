"""A feed over a real table, polled and reconciled over a real ledger, and no worker: nothing is
delivered by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.core.certificates import Certificate
from app.core.clock import utc_now
from app.core.cursors import Cursor
from app.core.position import Position
from app.core.states import State
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.ledger import Ledger
from app.ledger.client import Document
from app.reconcile import Reconciling
from app.source.reader import Source
from tests.support.doubles import MemoryQueue
from tests.support.sources import SourceTables, source_feed, source_tables

COLUMNS = {"identity": "id", "rowversion": "rv", "timestamp": "at"}
WAIT = timedelta(minutes=1)


@dataclass
class Shop:
    """An application's table `orders`, and the feed that reads it."""

    tables: SourceTables
    source: Source
    ledger: Ledger
    queue: MemoryQueue = field(default_factory=MemoryQueue)
    feed: Feed = field(init=False)

    def feed_by(self, strategy: str, *, table: str = "orders", **fields: Any) -> Feed:
        """Read the table by that strategy from now on."""
        self.feed = source_feed(
            self.tables.named(table), strategy, COLUMNS[strategy], **{"page_size": 7} | fields
        )
        return self.feed

    async def write(self, *ids: int, note: str = "new", at: str = "2026-01-01 10:00:00") -> None:
        await self.tables.write(
            "orders", [{"id": number, "note": note, "at": at} for number in ids]
        )

    async def delete_rows(self, *ids: int) -> None:
        listed = ", ".join(map(str, ids))
        await self.tables.run(f"DELETE FROM {self.tables.named('orders')} WHERE id IN ({listed})")  # noqa: S608 - names of ours

    async def poll(self) -> None:
        polling = Polling(self.source, self.ledger, self.queue, message_wait=WAIT)
        await polling.poll(self.feed)

    def reconciling(
        self, ledger: Ledger | None = None, source: Source | None = None, **options: Any
    ) -> Reconciling:
        return Reconciling(
            source or self.source,
            ledger or self.ledger,
            self.queue,
            message_wait=WAIT,
            sleep=_no_sleep,
            **options,
        )

    async def reconcile(self, **options: Any) -> Certificate:
        return await self.reconciling().reconcile(self.feed, **options)

    async def deliver(self, *ids: int, state: State = State.DELIVERED) -> None:
        """Settle these rows; without ids, every one that is queued."""
        wanted: Document = (
            {"_id": {"$in": self.ids(*ids)}} if ids else {"state": State.QUEUED.value}
        )
        settled = {
            "$set": {"state": state.value, "finished_at": utc_now()},
            "$unset": {"batch": ""},
        }
        await self.deliveries.update_many(wanted, settled)

    async def lose(self, *ids: int) -> None:
        """Delete these deliveries behind the system's back."""
        await self.deliveries.delete_many({"_id": {"$in": self.ids(*ids)}})

    async def put_cursor(self, position: Position) -> None:
        """Move the cursor behind the system's back."""
        await self.ledger._database["cursors"].update_one(
            {"_id": self.feed.name}, {"$set": {"position": position}}
        )

    async def cursor(self) -> Cursor:
        return await self.ledger.cursors.get(self.feed.name)

    async def logged(self) -> set[int]:
        return {int(document["key"]) for document in await self.deliveries.find().to_list()}

    async def queued_once(self) -> list[str]:
        """The ids of the queued deliveries; each is named by the batch that it names, whose message
        was sent.
        """
        batches = {
            d["_id"]: d["ids"] for d in await self.ledger._database["batches"].find().to_list()
        }
        messages = {batch for _, batch in self.queue.messages}
        queued = await self.deliveries.find({"state": State.QUEUED.value}).to_list()
        assert all(d["_id"] in batches[d["batch"]] and d["batch"] in messages for d in queued)
        return sorted(d["_id"] for d in queued)

    def ids(self, *ids: int) -> list[str]:
        return [f"orders:{number}" for number in ids]

    @property
    def deliveries(self) -> Any:
        return self.ledger._database["deliveries"]


def counted(certificate: Certificate) -> dict[str, int]:
    """The states that some row is in."""
    return {state.value: count for state, count in certificate.states.items() if count}


def sums(certificate: Certificate) -> Sequence[int]:
    """Rows, missing and healed."""
    return certificate.source_rows, certificate.missing, certificate.healed


async def _no_sleep(seconds: float) -> None:
    del seconds


@asynccontextmanager
async def open_shop(
    product: str, directory: Path, ledger: Ledger, **more: str
) -> AsyncIterator[Shop]:
    """A shop without an order, on a source of that kind. `more`: columns, as for `SourceTables.make`."""
    async with source_tables(product, directory) as tables:
        columns = {
            "id": "BIGINT PRIMARY KEY",
            "note": "NVARCHAR",
            "at": "MOMENT",
            "rv": "ROWVERSION",
        }
        await tables.make("orders", **columns, **more)
        source = tables.source()
        yield Shop(tables, source, ledger)
        await source.close()
