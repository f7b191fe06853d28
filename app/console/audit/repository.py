"""Every query about the audit log. Nothing here changes or deletes an entry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.console.audit.chain import link_of
from app.console.store.tables import AuditEntry, AuditHead

HEAD = 1
"""The id of the one row of `audit_head`."""


class AuditRepository:
    """The audit log, in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def append(self, entry: AuditEntry) -> None:
        """Number the entry, chain it to the last, and insert it.

        Writers wait here for each other until they commit: the update of the head takes its row's lock
        on every product, so numbers have no gaps.
        """
        await self._session.execute(
            update(AuditHead).where(AuditHead.id == HEAD).values(number=AuditHead.number + 1)
        )
        head = await self._session.get_one(AuditHead, HEAD, populate_existing=True)
        entry.number, entry.previous_hash = head.number, head.hash
        entry.hash = head.hash = link_of(entry)
        self._session.add(entry)
        await self._session.flush()

    async def head(self) -> AuditHead | None:
        """Where the chain stands. Its row is made with the table; `None`: somebody deleted it."""
        return await self._session.get(AuditHead, HEAD, populate_existing=True)

    async def outermost(self) -> tuple[int | None, int | None]:
        """The least and the greatest number that an entry has."""
        found = await self._session.execute(
            select(func.min(AuditEntry.number), func.max(AuditEntry.number))
        )
        least, greatest = found.one()
        return least, greatest

    async def in_order(self, from_number: int, limit: int) -> Sequence[AuditEntry]:
        """Entries in order, from that number on."""
        statement = (
            select(AuditEntry)
            .where(AuditEntry.number >= from_number)
            .order_by(AuditEntry.number)
            .limit(limit)
        )
        return (await self._session.scalars(statement)).all()

    async def page(
        self,
        before: int | None,
        limit: int,
        *,
        who: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Sequence[AuditEntry]:
        """The newest entries before that number. `who` as it is, `action` too or the part before its
        dot, `subject` a part of it."""
        statement = select(AuditEntry).order_by(AuditEntry.number.desc()).limit(limit)
        if before is not None:
            statement = statement.where(AuditEntry.number < before)
        if who:
            statement = statement.where(AuditEntry.who == who)
        if action:
            of_that_kind = AuditEntry.action.startswith(f"{action}.", autoescape=True)
            statement = statement.where(or_(AuditEntry.action == action, of_that_kind))
        if subject:
            statement = statement.where(AuditEntry.subject.contains(subject, autoescape=True))
        if since:
            statement = statement.where(AuditEntry.at >= since)
        if until:
            statement = statement.where(AuditEntry.at < until)
        return (await self._session.scalars(statement)).all()
