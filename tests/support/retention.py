"""Ledgers full of settled records, and what a purge of them must leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from app.core.states import State
from app.feeds.feed import Feed, Retention
from app.ledger import Ledger
from app.ledger.attempts import insert_ignoring_duplicates
from app.ledger.client import Document
from app.ledger.records import Record
from app.retention.archive import file
from app.retention.archive.restore import checked
from app.retention.purge import Purging
from app.retention.run import PurgeSettings
from tests.support.doubles import VirtualClock
from tests.support.feeds import make_feed
from tests.support.steps import Steps, stepped_ledger

LEASE = timedelta(minutes=1)
KEPT = Retention(payload_days=7, days=30)


async def at_once(_: float) -> None:
    """Sleep not at all."""


def kept_feed(name: str = "orders", **kept: Any) -> Feed:
    """A feed with payloads for 7 days and records for 30, or as told."""
    return make_feed(name, retention=KEPT.model_copy(update=kept))


@dataclass(slots=True)
class Shelf:
    """A ledger, its archive, and the time of day."""

    ledger: Ledger
    clock: VirtualClock
    archive_dir: Path | None = None
    feeds: dict[str, Feed] = field(default_factory=dict)

    def purging(self, steps: Steps | None = None, **changes: Any) -> Purging:
        """A process that purges; with `steps` each query, and each piece of work on a file, is one."""
        terms = PurgeSettings("w:1", LEASE, share=0.5, archive_dir=self.archive_dir)
        ledger = self.ledger
        if steps:
            ledger = stepped_ledger(self.ledger, steps)
            changes["in_thread"] = _stepped_threads(steps)
        return Purging(ledger, self.feeds, terms, now=self.clock, sleep=at_once, **changes)

    def ago(self, **length: float) -> datetime:
        return self.clock() - timedelta(**length)

    async def add(
        self,
        key: object,
        at: datetime,
        state: State = State.DELIVERED,
        feed: str = "orders",
        **fields: Any,
    ) -> str:
        """Put a record into the ledger that was logged and settled at that moment, with two
        attempts.
        """
        document: Document = {
            "_id": f"{feed}:{key}", "feed": feed, "key": str(key), "position": key if isinstance(key, int) else None,
            "payload": '{"name":"Zoë"}', "created_at": at, "attempts": 2, "state": state.value,
        }  # fmt: skip
        if state not in (State.QUEUED, State.RETRYING):
            document["finished_at"] = at
        if "acknowledged" in fields:
            document["kept_from"] = fields["acknowledged"]["at"]
        if "restored_at" in fields:
            document["kept_from"] = fields["restored_at"]
        attempts = [
            {
                "_id": f"{feed}:{key}#{token}",
                "feed": feed,
                "at": at,
                "outcome": "retry",
                "duration_ms": 7,
            }
            for token in ("aa", "bb")
        ]
        await insert_ignoring_duplicates(self.ledger._database["attempts"], attempts)
        await insert_ignoring_duplicates(self.ledger._database["deliveries"], [document | fields])
        return str(document["_id"])

    async def ids(self, feed: str = "orders") -> set[str]:
        return set(await self.ledger.deliveries.ids(feed))

    async def attempts_left(self, feed: str = "orders") -> set[str]:
        """The ids of deliveries that attempts are left of."""
        found = self.ledger._database["attempts"].find({"feed": feed}, {"_id": 1})
        return {document["_id"].partition("#")[0] for document in await found.to_list()}

    async def get(self, key: object, feed: str = "orders") -> Document | None:
        return await self.ledger.deliveries.get(f"{feed}:{key}")

    async def change(self, key: object, feed: str = "orders", **fields: object) -> None:
        """Write fields of a delivery as they are."""
        await self.ledger._database["deliveries"].update_one(
            {"_id": f"{feed}:{key}"}, {"$set": fields}
        )

    def files(self, feed: str = "orders") -> list[Path]:
        """The feed's archive files, by name. Nothing else lies there but their manifests."""
        assert self.archive_dir
        found = (
            sorted((self.archive_dir / feed).glob("*"))
            if (self.archive_dir / feed).exists()
            else []
        )
        files = [path for path in found if path.name.endswith(".zst")]
        assert set(found) == {*files, *map(file.manifest_path, files)}, (
            "something unfinished was left"
        )
        return files

    def archived(self, feed: str = "orders") -> dict[str, Record]:
        """Every record in the feed's archive: each file verified, no record in two of them."""
        records: dict[str, Record] = {}
        for path in self.files(feed):
            contents, _ = checked(path)
            found = list(file.read(path))
            assert len(found) == contents.count
            for record in found:
                assert record.id not in records, f"{record.id} is in two files"
                records[record.id] = record
        return records


def _stepped_threads(steps: Steps) -> Callable[..., Any]:
    async def in_thread(work: Callable[..., Any], *args: Any) -> Any:
        return await steps.take(
            work.__name__, lambda *given: asyncio.to_thread(work, *given), args, None
        )

    return in_thread


def attempt_ids(records: Iterable[Record]) -> set[str]:
    """Of all of them."""
    return {attempt["_id"] for record in records for attempt in record.attempts}
