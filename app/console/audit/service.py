"""The audit log: written by every service that changes something, and verified by whoever doubts it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from app.console.audit.chain import fields_of
from app.console.audit.repository import AuditRepository
from app.console.audit.verification import AT_ONCE, Known, Verified, Walk
from app.console.schemas import cut
from app.console.security.roles import Permission, Principal
from app.console.store.store import Store
from app.console.store.tables import AuditEntry
from app.core.clock import Clock, utc_now

LONGEST = 20_000
"""Characters of `before`, `after` and `why` that an entry keeps."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which entries; `None`: all."""

    who: str | None = None
    action: str | None = None
    """As it is, or the part before its dot."""
    subject: str | None = None
    """A part of it."""
    since: datetime | None = None
    until: datetime | None = None


class Audit:
    """Writes and verifies the audit log."""

    def __init__(self, store: Store, now: Clock = utc_now) -> None:
        self._store = store
        self._now = now
        self._verifying = asyncio.Lock()  # who asks meanwhile waits, and no core is lost to a flood

    async def record(
        self,
        session: AsyncSession,
        actor: Principal,
        action: str,
        subject: str,
        *,
        why: str | None = None,
        before: object = None,
        after: object = None,
    ) -> None:
        """Write an entry in the transaction of what it tells. `before` and `after` become JSON; they
        hold no secret."""
        entry = AuditEntry(
            at=self._now(),
            who=actor.name[:100],
            means=actor.means.value,
            address=actor.address[:64],
            action=action,
            subject=subject[:600],
            why=why[:LONGEST] if why else None,
            before=_json(before),
            after=_json(after),
        )
        await AuditRepository(session).append(entry)

    async def require(
        self, actor: Principal, permission: Permission, action: str, subject: str, **told: Any
    ) -> None:
        """Require a permission, and have it on record where it is not given, as `<action>.refused`.
        Raises `Forbidden`."""
        if not actor.may(permission):
            await self.note(actor, f"{action}.refused", subject, **told)
        actor.require(permission)

    async def note(self, actor: Principal, action: str, subject: str, **told: Any) -> None:
        """Write an entry of what happens elsewhere, as in the ledger, in a transaction of its own."""
        async with self._store.writing() as session:
            await self.record(session, actor, action, subject, **told)

    async def verify(self, known: Known | None = None) -> Verified:
        """Go through the whole chain, a thousand entries at a time. `known`: an entry as somebody
        noted it elsewhere. Raises `StoreUnavailable`."""
        async with self._verifying, self._store.reading() as session:
            walk = Walk(AuditRepository(session), known)
            return await walk.verify()

    async def list(
        self, actor: Principal, asked: Asked, before: int | None, limit: int
    ) -> tuple[Sequence[AuditEntry], int | None]:
        """The newest entries that are asked for, before that number; and the number that the next
        page begins before. Raises `Forbidden`."""
        actor.require(Permission.AUDIT)
        async with self._store.reading() as session:
            found = await AuditRepository(session).page(
                before,
                limit + 1,
                who=asked.who,
                action=asked.action,
                subject=asked.subject,
                since=asked.since,
                until=asked.until,
            )
        return cut(found, limit, lambda last: last.number)

    async def verified(self, actor: Principal) -> Verified:
        """As `verify`, for who may read the log. Raises `Forbidden`, `StoreUnavailable`."""
        actor.require(Permission.AUDIT)
        return await self.verify()

    def export(self, actor: Principal) -> AsyncIterator[bytes]:
        """The whole log in order, an entry a line (NDJSON), as its hash is made of it. Raises
        `Forbidden` before the first line; `StoreUnavailable`.

        No transaction stays open while a slow client reads."""
        actor.require(Permission.AUDIT)
        return self._lines()

    async def _lines(self) -> AsyncIterator[bytes]:
        number = 0
        while True:
            async with self._store.reading() as session:
                entries = await AuditRepository(session).in_order(number + 1, AT_ONCE)
            if not entries:
                return
            number = entries[-1].number
            yield b"".join(orjson.dumps(fields_of(one)) + b"\n" for one in entries)


def _json(value: object) -> str | None:
    if value is None:
        return None
    return orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS).decode()[:LONGEST]
