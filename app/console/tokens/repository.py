"""Every query about refresh tokens, revoked access tokens and API keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from app.console.store.changes import rows_changed
from app.console.store.tables import ApiKey, RefreshToken, RevokedToken, User


class TokenRepository:
    """Refresh tokens, and access tokens that are refused; in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, token: RefreshToken) -> None:
        """Insert it with the transaction."""
        self._session.add(token)

    async def get(self, token_hash: str) -> RefreshToken | None:
        """The refresh token with its user, whatever became of it."""
        return await self._session.scalar(
            select(RefreshToken)
            .options(joinedload(RefreshToken.user))
            .where(RefreshToken.token_hash == token_hash)
        )

    async def use(self, token_hash: str, now: datetime) -> bool:
        """Mark it as used; `False` where it was used already, or its family has ended."""
        used = await rows_changed(
            self._session,
            update(RefreshToken)
            .where(
                RefreshToken.token_hash == token_hash,
                RefreshToken.used_at.is_(None),
                RefreshToken.ended_at.is_(None),
            )
            .values(used_at=now),
        )
        return bool(used)

    async def family_of(self, jti: str) -> str | None:
        """The family that the access token was issued in."""
        return await self._session.scalar(
            select(RefreshToken.family).where(RefreshToken.jti == jti)
        )

    async def end_family(self, family: str, now: datetime) -> None:
        """End all tokens of a family, and refuse its access tokens that have not expired."""
        alive = await self._session.execute(
            select(RefreshToken.jti, RefreshToken.access_expires_at).where(
                RefreshToken.family == family, RefreshToken.access_expires_at > now
            )
        )
        for jti, expires_at in alive.all():
            await self.revoke(jti, expires_at, now)
        await self._session.execute(
            update(RefreshToken)
            .where(RefreshToken.family == family, RefreshToken.ended_at.is_(None))
            .values(ended_at=now)
        )

    async def families_of_user(self, user_id: str, now: datetime) -> Sequence[RefreshToken]:
        """The newest token of each family of a user that has not ended."""
        statement = (
            select(RefreshToken)
            .where(
                RefreshToken.user_id == user_id,
                RefreshToken.used_at.is_(None),
                RefreshToken.ended_at.is_(None),
                RefreshToken.expires_at > now,
            )
            .order_by(RefreshToken.created_at.desc())
        )
        return (await self._session.scalars(statement)).all()

    async def revoke(self, jti: str, expires_at: datetime, now: datetime) -> None:
        """Refuse the access token until it would have expired."""
        if not await self.is_revoked(jti):
            self._session.add(RevokedToken(jti=jti, expires_at=expires_at, revoked_at=now))
            await self._session.flush()

    async def is_revoked(self, jti: str) -> bool:
        """Whether the access token is refused."""
        return (
            await self._session.scalar(select(RevokedToken.jti).where(RevokedToken.jti == jti))
        ) is not None

    async def prune(self, now: datetime) -> int:
        """Delete what has expired: it is refused for that. Returns how many."""
        revoked = delete(RevokedToken).where(RevokedToken.expires_at < now)
        refresh = delete(RefreshToken).where(RefreshToken.expires_at < now)
        return await rows_changed(self._session, revoked) + await rows_changed(
            self._session, refresh
        )


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

    async def all(self, limit: int) -> Sequence[ApiKey]:
        """Keys with their owners, the newest first."""
        statement = (
            select(ApiKey)
            .options(joinedload(ApiKey.owner))
            .order_by(ApiKey.created_at.desc(), ApiKey.id)
            .limit(limit)
        )
        return (await self._session.scalars(statement)).all()

    async def revoke(self, key_id: str, now: datetime) -> bool:
        """Refuse it from now on; `False` where it was revoked already."""
        revoked = await self._session.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
            .values(revoked_at=now)
        )
        return bool(revoked)
