"""`purges`: one document a feed: its purge lock, how far its purge has come, and what that is about
to delete.

    {_id: feed, lease {token, until, holder}, stripped_before, purged_before, stats_before, chunk
    [delivery id]}

`stripped_before` and `purged_before` only save rereading what was done. `stats_before` is noted
before statistics are deleted, so that no report is compiled from the rest of a period. `chunk`
finds the attempts of deliveries that a purge deleted before it died.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.errors import LeaseLost
from app.ledger.client import Collection, Database, Document, query
from app.ledger.leases import lapsed


@dataclass(frozen=True, slots=True)
class Claim:
    """The purge lock of a feed, under a token."""

    feed: str
    token: str
    stripped_before: datetime | None
    """Payloads of what settled before this moment are gone; `None`: nothing was ever stripped."""
    purged_before: datetime | None
    """What settled before this moment is gone; `None`: nothing was ever purged."""
    chunk: tuple[str, ...]
    """Deliveries whose deletion a purge before this one began."""


class Purges:
    """Every query on `purges`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["purges"]

    async def claim(self, feed: str, holder: str, now: datetime, lease: timedelta) -> Claim | None:
        """Take the feed's purge lock for `lease`; `None` where another holds it."""
        return await self._claim(feed, holder, now, lease, secrets.token_hex(8))

    @query
    async def _claim(
        self, feed: str, holder: str, now: datetime, lease: timedelta, token: str
    ) -> Claim | None:
        """When repeated, it finds its own lease."""
        await self._collection.update_one(
            {"_id": feed}, {"$setOnInsert": {"lease": None}}, upsert=True
        )
        document = await self._collection.find_one_and_update(
            {"_id": feed, "$or": [{"lease": None}, *lapsed(now), {"lease.token": token}]},
            {"$set": {"lease": {"token": token, "until": now + lease, "holder": holder}}},
            return_document=True,
        )
        return _claim(document, token) if document else None

    @query
    async def progress(self, feed: str) -> tuple[datetime | None, datetime | None]:
        """Up to when payloads, and records, have been purged; `None` where nothing ever was."""
        document = await self._collection.find_one({"_id": feed}, {"chunk": 0}) or {}
        return document.get("stripped_before"), document.get("purged_before")

    @query
    async def stats_deleted_before(self, feed: str) -> datetime | None:
        """Before which moment the feed's statistics are deleted, or about to be; `None`: they are
        all there.
        """
        document = await self._collection.find_one({"_id": feed}, {"stats_before": 1}) or {}
        found: datetime | None = document.get("stats_before")
        return found

    @query
    async def holder(self, feed: str) -> str | None:
        """Who holds the feed's purge lock, or held it last without releasing it."""
        document = await self._collection.find_one({"_id": feed}, {"lease": 1})
        lease = (document or {}).get("lease") or {}
        return lease.get("holder")

    @query
    async def renew(self, claim: Claim, until: datetime) -> None:
        """Extend the lease. Raises `LeaseLost` where it is no longer ours."""
        await self._update_held(claim, {"$set": {"lease.until": until}})

    @query
    async def release(self, claim: Claim) -> None:
        """Release the feed's purge lock; a no-op where it is no longer ours."""
        await self._collection.update_one(_held(claim), {"$set": {"lease": None}})

    @query
    async def note_stripped(self, claim: Claim, before: datetime) -> None:
        """Record how far payloads are gone. Raises `LeaseLost` where the lease is no longer ours."""
        await self._update_held(claim, {"$set": {"stripped_before": before}})

    @query
    async def note_purged(self, claim: Claim, before: datetime) -> None:
        """Record how far records are gone. Raises `LeaseLost` where the lease is no longer ours."""
        await self._update_held(claim, {"$set": {"purged_before": before}})

    @query
    async def note_stats(self, claim: Claim, before: datetime) -> None:
        """Record before which moment statistics are about to be deleted. Raises `LeaseLost`, as the
        others.
        """
        await self._update_held(claim, {"$max": {"stats_before": before}})

    @query
    async def note_chunk(self, claim: Claim, delivery_ids: Iterable[str]) -> None:
        """Record what is about to be deleted. Raises `LeaseLost` where the lease is no longer ours."""
        await self._update_held(claim, {"$set": {"chunk": list(delivery_ids)}})

    async def _update_held(self, claim: Claim, update: Document) -> None:
        result = await self._collection.update_one(_held(claim), update)
        if not result.matched_count:
            raise LeaseLost(f"feed {claim.feed}: another purge took over")


def _held(claim: Claim) -> Document:
    return {"_id": claim.feed, "lease.token": claim.token}


def _claim(document: Document, token: str) -> Claim:
    return Claim(
        feed=document["_id"],
        token=token,
        stripped_before=document.get("stripped_before"),
        purged_before=document.get("purged_before"),
        chunk=tuple(document.get("chunk", ())),
    )
