"""The audit log: written by every service that changes something, and verified by whoever doubts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from app.console.audit.chain import FIRST, link_of
from app.console.audit.repository import AuditRepository, all_entries
from app.console.security.roles import Principal
from app.console.store.store import Store
from app.console.store.tables import AuditEntry
from app.core.clock import Clock, utc_now

LONGEST = 20_000
"""Characters of `before`, `after` and `why` that an entry keeps."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of verifying the chain."""

    entries: int
    """That were looked at."""
    wrong: int | None
    """The number of the first entry that is not what was written, or is missing; `None`: none is."""
    said: str


class Audit:
    """Writes and verifies the audit log."""

    def __init__(self, store: Store, now: Clock = utc_now) -> None:
        self._store = store
        self._now = now

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

    async def note(self, actor: Principal, action: str, subject: str, **told: Any) -> None:
        """Write an entry of what happens elsewhere, as in the ledger, in a transaction of its own."""
        async with self._store.writing() as session:
            await self.record(session, actor, action, subject, **told)

    async def verify(self) -> Verified:
        """Go through the whole chain. Raises `StoreUnavailable`."""
        number, previous = 0, FIRST
        async with self._store.reading() as session:
            head = await AuditRepository(session).head()
            last = (head.number, head.hash)
            async for entry in all_entries(session):
                number += 1
                if entry.number != number:
                    return Verified(number - 1, number, f"entry {number} is missing")
                if entry.previous_hash != previous or entry.hash != link_of(entry):
                    return Verified(number, number, f"entry {number} is not what was written")
                previous = entry.hash
                if number == last[0]:
                    break
        if (number, previous) != last:
            return Verified(
                number, number + 1, f"the log ends at {number}, and {last[0]} were written"
            )
        return Verified(number, None, f"{number} entries, each as it was written")


def _json(value: object) -> str | None:
    if value is None:
        return None
    return orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS).decode()[:LONGEST]
