"""Deletes settled records and their attempts. The order of the steps, and why, is at the top of
`purge.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from datetime import timedelta

from app.core.clock import Clock
from app.core.position import Position
from app.ledger import Ledger
from app.ledger.archives import ArchivePart
from app.ledger.client import Document
from app.ledger.purge_watermarks import higher
from app.ledger.records import Record
from app.ledger.settled import Settled, settled
from app.retention.archive.archive import Archive
from app.retention.run import Run

_INSTANT = timedelta(milliseconds=1)
"""The shortest time that the ledger tells apart."""


class Deletion:
    """Deletes records for one process."""

    def __init__(self, ledger: Ledger, now: Clock) -> None:
        self._ledger = ledger
        self._now = now

    async def documents(self, run: Run, documents: Sequence[Document]) -> None:
        """Delete deliveries that are not archived. Their ids are noted first, so that their
        attempts can still be found when the run dies in between.
        """
        chunk = _all_settled(documents)
        await self._ledger.purges.note_chunk(run.claim, [one.id for one in chunk])
        begun = self._now()
        gone = await self._delete(run, chunk)
        run.purged.attempts += await self._ledger.retention.drop_attempts_of(sorted(gone), begun)

    async def archived(self, run: Run, archive: Archive, part: ArchivePart) -> int:
        """Delete what a verified file holds, as far as the ledger still holds the same. Returns how
        many records.
        """
        before = run.purged.records
        async with aclosing(archive.records(part, lambda: run.pace.size)) as chunks:
            async for records in chunks:
                run.lock.check()
                async with run.pace.chunk() as chunk:
                    chunk.count = len(records)
                    await self._records(run, records)
                run.tell(run.done, f"deleting {part.name}")
        await archive.done(part)
        deleted = run.purged.records - before
        if deleted:
            run.purged.files.append(part.name)
        return deleted

    async def interrupted(self, run: Run) -> None:
        """Delete the attempts of the deliveries that an earlier purge deleted just before it died."""
        ids = set(run.claim.chunk)
        if ids:
            begun = self._now()
            gone = ids - await self._ledger.retention.existing(ids)
            run.purged.attempts += await self._ledger.retention.drop_attempts_of(
                sorted(gone), begun
            )
            await self._ledger.purges.note_chunk(run.claim, [])

    async def _records(self, run: Run, records: Sequence[Record]) -> None:
        gone = await self._delete(run, _all_settled([record.delivery for record in records]))
        attempts = [
            attempt["_id"] for record in records if record.id in gone for attempt in record.attempts
        ]
        run.purged.attempts += await self._ledger.retention.drop_attempts(attempts)

    async def _delete(self, run: Run, chunk: Sequence[Settled]) -> set[str]:
        """Raise the purge watermark, then delete. Returns which of the chunk the ledger does not
        hold after that.
        """
        await self._raise_watermark(run, chunk)
        deleted = await self._ledger.retention.drop(chunk)
        run.purged.records += deleted
        ids = {one.id for one in chunk}
        return ids if deleted == len(ids) else ids - await self._ledger.retention.existing(ids)

    async def _raise_watermark(self, run: Run, chunk: Sequence[Settled]) -> None:
        logged_before = max(one.created_at for one in chunk) + _INSTANT
        position: Position = None
        for one in chunk:
            position = higher(position, one.position)
        known = run.watermark
        if (
            known
            and known.logged_before >= logged_before
            and higher(known.position, position) == known.position
        ):
            return
        run.watermark = await self._ledger.purge_watermarks.raise_to(
            run.feed.name, logged_before, position
        )


def _all_settled(documents: Sequence[Document]) -> list[Settled]:
    """As retention sees them. What was read, or an archive file holds, is settled."""
    return [one for document in documents if (one := settled(document))]
