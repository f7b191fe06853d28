"""Every query about requests that came with an `Idempotency-Key`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.console.store.changes import delete_some
from app.console.store.tables import IdempotentRequest


class IdempotencyRepository:
    """Such requests, in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, key_hash: str) -> IdempotentRequest | None:
        """The request of that key."""
        return await self._session.get(IdempotentRequest, key_hash)

    def add(self, request: IdempotentRequest) -> None:
        """Insert it with the transaction."""
        self._session.add(request)

    async def answered(self, key_hash: str, status: int, headers: str, body: str | None) -> None:
        """Note what was answered."""
        await self._session.execute(
            update(IdempotentRequest)
            .where(IdempotentRequest.key_hash == key_hash)
            .values(status=status, headers=headers, body=body)
        )

    async def forget(self, key_hash: str) -> None:
        """Let the key be used anew."""
        await self._session.execute(
            delete(IdempotentRequest).where(IdempotentRequest.key_hash == key_hash)
        )

    async def prune(self, before: datetime, limit: int) -> int:
        """Delete those of before that moment, at most `limit`; returns how many."""
        past = IdempotentRequest.created_at < before
        return await delete_some(self._session, IdempotentRequest.key_hash, past, limit)
