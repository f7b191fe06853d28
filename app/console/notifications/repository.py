"""Every query about notification settings, and about what users were told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from app.console.store.changes import rows_changed
from app.console.store.tables import NotificationSent, NotificationSettings, User

MOST = 1000
"""Users that are told, and events that one is told of."""


class NotificationRepository:
    """Settings and messages, in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def settings(self, user_id: str) -> NotificationSettings | None:
        """The user's settings; `None`: never changed."""
        return await self._session.get(NotificationSettings, user_id)

    def add(self, row: NotificationSettings | NotificationSent) -> None:
        """Insert it with the transaction."""
        self._session.add(row)

    async def told(self) -> Sequence[NotificationSettings]:
        """The settings, each with its user, of those who are told and may log in."""
        statement = (
            select(NotificationSettings)
            .join(NotificationSettings.user)
            .options(joinedload(NotificationSettings.user))
            .where(NotificationSettings.enabled.is_(True), User.disabled_at.is_(None))
            .order_by(NotificationSettings.user_id)
            .limit(MOST)
        )
        return (await self._session.scalars(statement)).all()

    async def unsealed(self, prefix: str) -> Sequence[NotificationSettings]:
        """Settings with a webhook's URL that does not begin so."""
        url = NotificationSettings.webhook_url
        statement = select(NotificationSettings).where(url.is_not(None), ~url.startswith(prefix))
        return (await self._session.scalars(statement)).all()

    async def sent(self, user_id: str) -> Sequence[NotificationSent]:
        """The events that the user is told of, or was."""
        statement = (
            select(NotificationSent)
            .where(NotificationSent.user_id == user_id)
            .order_by(NotificationSent.event_id)
            .limit(MOST)
        )
        return (await self._session.scalars(statement)).all()

    async def claim(self, row: NotificationSent, until: datetime) -> bool:
        """Take the message that is owed, until then; `False`: another console has."""
        claimed = update(NotificationSent).where(
            NotificationSent.user_id == row.user_id,
            NotificationSent.event_id == row.event_id,
            NotificationSent.number == row.number,
            NotificationSent.retry_at == row.retry_at,
        )
        return bool(await rows_changed(self._session, claimed.values(retry_at=until)))

    async def came_of(
        self,
        row: NotificationSent,
        until: datetime,
        *,
        error: str | None,
        told_at: datetime | None,
        retry_at: datetime | None,
    ) -> None:
        """Note what came of the message that was claimed until then."""
        await self._session.execute(
            update(NotificationSent)
            .where(
                NotificationSent.user_id == row.user_id,
                NotificationSent.event_id == row.event_id,
                NotificationSent.number == row.number,
                NotificationSent.retry_at == until,
            )
            .values(
                error=error[:500] if error else None,
                told_at=told_at,
                retry_at=retry_at,
                tries=row.tries + 1 if error else 0,
            )
        )

    async def forget(self, before: datetime) -> int:
        """Delete what was over by then; returns how many."""
        return await rows_changed(
            self._session, delete(NotificationSent).where(NotificationSent.over_at < before)
        )

    async def remove(self, row: NotificationSent) -> None:
        """Delete it with the transaction."""
        await self._session.delete(row)
