"""Every query about refresh tokens and revoked access tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from app.console.schemas import MomentPlace
from app.console.store.changes import delete_some, rows_changed
from app.console.store.tables import RefreshToken, RevokedToken


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

    async def alive(self, family: str, now: datetime) -> RefreshToken | None:
        """The token of a family that can be used, with its user."""
        return await self._session.scalar(
            select(RefreshToken)
            .options(joinedload(RefreshToken.user))
            .where(RefreshToken.family == family, *_usable(now))
        )

    async def families(
        self, now: datetime, user_id: str | None, before: MomentPlace | None, limit: int
    ) -> Sequence[RefreshToken]:
        """The token that can be used of each family, with its user: the last refreshed first, from
        before that moment and family; of one user, or all."""
        statement = (
            select(RefreshToken)
            .options(joinedload(RefreshToken.user))
            .where(*_usable(now))
            .order_by(RefreshToken.created_at.desc(), RefreshToken.family.desc())
            .limit(limit)
        )
        if user_id is not None:
            statement = statement.where(RefreshToken.user_id == user_id)
        if before is not None:
            at, family = before
            same = and_(RefreshToken.created_at == at, RefreshToken.family < family)
            statement = statement.where(or_(RefreshToken.created_at < at, same))
        return (await self._session.scalars(statement)).all()

    async def end_family(self, family: str, now: datetime) -> bool:
        """End all tokens of a family, and refuse its access tokens that have not expired; `False`
        where it had ended."""
        return await self._end(RefreshToken.family == family, now)

    async def end_of_user(self, user_id: str, now: datetime) -> bool:
        """The same with all families of a user."""
        return await self._end(RefreshToken.user_id == user_id, now)

    async def _end(self, which: ColumnElement[bool], now: datetime) -> bool:
        """A refresh that is under way is waited for, and what it issued ended too: it was not there
        when the first update began."""
        update_all = (
            update(RefreshToken).where(which, RefreshToken.ended_at.is_(None)).values(ended_at=now)
        )
        ended = False
        while await rows_changed(self._session, update_all):
            ended = True
        issued = (
            select(RefreshToken.jti, RefreshToken.access_expires_at)
            .outerjoin(RevokedToken, RevokedToken.jti == RefreshToken.jti)
            .where(which, RefreshToken.access_expires_at > now, RevokedToken.jti.is_(None))
        )
        refused = [
            {"jti": jti, "expires_at": expires_at, "revoked_at": now}
            for jti, expires_at in (await self._session.execute(issued)).all()
        ]
        if refused:
            await self._session.execute(insert(RevokedToken), refused)
        return ended

    async def is_revoked(self, jti: str) -> bool:
        """Whether the access token is refused."""
        return (
            await self._session.scalar(select(RevokedToken.jti).where(RevokedToken.jti == jti))
        ) is not None

    async def prune(self, now: datetime, limit: int) -> int:
        """Delete what has expired, and is refused for that; at most `limit` of each kind. Returns how
        many."""
        revoked = await delete_some(
            self._session, RevokedToken.jti, RevokedToken.expires_at < now, limit
        )
        return revoked + await delete_some(
            self._session, RefreshToken.token_hash, RefreshToken.expires_at < now, limit
        )


def _usable(now: datetime) -> tuple[ColumnElement[bool], ...]:
    """A family has one such token at most: it was neither used nor ended, and has not expired."""
    return (
        RefreshToken.used_at.is_(None),
        RefreshToken.ended_at.is_(None),
        RefreshToken.expires_at > now,
    )
