"""Every query about API keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from app.console.schemas import MomentPlace
from app.console.store.changes import delete_some, rows_changed
from app.console.store.tables import ApiKey, User


class ApiKeyRepository:
    """API keys, in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, key: ApiKey) -> None:
        """Insert it with the transaction."""
        self._session.add(key)

    async def alive(self, key_hash: str, now: datetime) -> ApiKey | None:
        """The key with its owner, if neither is revoked or disabled, and it has not expired."""
        statement = (
            select(ApiKey)
            .join(ApiKey.owner)
            .options(joinedload(ApiKey.owner))
            .where(
                ApiKey.key_hash == key_hash,
                ApiKey.revoked_at.is_(None),
                (ApiKey.expires_at.is_(None)) | (ApiKey.expires_at > now),
                User.disabled_at.is_(None),
            )
        )
        return await self._session.scalar(statement)

    async def used(self, key_id: str, now: datetime) -> None:
        """Note that it is in use."""
        await self._session.execute(
            update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now)
        )

    async def get(self, key_id: str) -> ApiKey | None:
        """The key of that id, with its owner."""
        return await self._session.scalar(
            select(ApiKey).options(joinedload(ApiKey.owner)).where(ApiKey.id == key_id)
        )

    async def page(self, before: MomentPlace | None, limit: int) -> Sequence[ApiKey]:
        """Keys with their owners, the newest first, from before that moment and id; also those that
        were revoked."""
        statement = (
            select(ApiKey)
            .options(joinedload(ApiKey.owner))
            .order_by(ApiKey.created_at.desc(), ApiKey.id.desc())
            .limit(limit)
        )
        if before is not None:
            at, key_id = before
            same = and_(ApiKey.created_at == at, ApiKey.id < key_id)
            statement = statement.where(or_(ApiKey.created_at < at, same))
        return (await self._session.scalars(statement)).all()

    async def revoke(self, key_id: str, now: datetime) -> bool:
        """Refuse it from now on; `False` where it was revoked already."""
        revoked = await rows_changed(
            self._session,
            update(ApiKey)
            .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
            .values(revoked_at=now),
        )
        return bool(revoked)

    async def prune(self, before: datetime, limit: int) -> int:
        """Delete those that were revoked or expired before that moment, at most `limit`. Returns how
        many."""
        past = or_(ApiKey.revoked_at < before, ApiKey.expires_at < before)
        return await delete_some(self._session, ApiKey.id, past, limit)
