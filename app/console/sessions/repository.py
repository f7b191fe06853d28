"""Every query about browsers that are logged in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from app.console.schemas import MomentPlace
from app.console.store.changes import delete_some, rows_changed
from app.console.store.tables import Session, User


class SessionRepository:
    """Sessions, in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, session: Session) -> None:
        """Insert it with the transaction."""
        self._session.add(session)

    async def alive(self, token_hash: str, now: datetime, seen_since: datetime) -> Session | None:
        """The session with its user, if it has not ended, was used since then, and the user may log
        in."""
        statement = (
            select(Session)
            .join(Session.user)
            .options(joinedload(Session.user))
            .where(
                Session.token_hash == token_hash,
                Session.ended_at.is_(None),
                Session.expires_at > now,
                Session.last_seen_at > seen_since,
                User.disabled_at.is_(None),
            )
        )
        return await self._session.scalar(statement)

    async def seen(self, session_id: str, now: datetime) -> None:
        """Note that it is in use."""
        await self._session.execute(
            update(Session).where(Session.id == session_id).values(last_seen_at=now)
        )

    async def get(self, session_id: str) -> Session | None:
        """The session of that id, with its user."""
        return await self._session.scalar(
            select(Session).options(joinedload(Session.user)).where(Session.id == session_id)
        )

    async def open(
        self,
        now: datetime,
        seen_since: datetime,
        user_id: str | None,
        limit: int,
        before: MomentPlace | None = None,
    ) -> Sequence[Session]:
        """Sessions that have not ended and were used since then, with their users, the newest first,
        from before that moment and id; of one user, or all."""
        statement = (
            select(Session)
            .options(joinedload(Session.user))
            .where(
                Session.ended_at.is_(None),
                Session.expires_at > now,
                Session.last_seen_at > seen_since,
            )
            .order_by(Session.created_at.desc(), Session.id.desc())
            .limit(limit)
        )
        if before is not None:
            at, session_id = before
            same = and_(Session.created_at == at, Session.id < session_id)
            statement = statement.where(or_(Session.created_at < at, same))
        if user_id is not None:
            statement = statement.where(Session.user_id == user_id)
        return (await self._session.scalars(statement)).all()

    async def count_open(self, now: datetime) -> int:
        """How many have not ended."""
        open_ones = select(func.count()).select_from(Session)
        wanted = open_ones.where(Session.ended_at.is_(None), Session.expires_at > now)
        return await self._session.scalar(wanted) or 0

    async def end(self, session_id: str, now: datetime) -> bool:
        """End it; `False` where it had ended."""
        ended = await rows_changed(
            self._session,
            update(Session)
            .where(Session.id == session_id, Session.ended_at.is_(None))
            .values(ended_at=now),
        )
        return bool(ended)

    async def end_of_user(self, user_id: str, now: datetime, but: str | None = None) -> int:
        """End all of a user's, `but` this one; returns how many."""
        statement = update(Session).where(Session.user_id == user_id, Session.ended_at.is_(None))
        if but is not None:
            statement = statement.where(Session.id != but)
        return await rows_changed(self._session, statement.values(ended_at=now))

    async def prune(self, before: datetime, limit: int) -> int:
        """Delete those that expired before that moment, at most `limit`; returns how many."""
        return await delete_some(self._session, Session.id, Session.expires_at < before, limit)
