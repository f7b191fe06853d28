"""Every query about allowed origins."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.console.store.tables import Origin


class OriginRepository:
    """Origins, in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def is_enabled(self, origin: str) -> bool:
        """Whether pages of that origin may call the API."""
        statement = select(Origin.id).where(Origin.origin == origin, Origin.enabled.is_(True))
        return await self._session.scalar(statement) is not None

    async def page(self, after: str | None, limit: int) -> Sequence[Origin]:
        """Origins by their text, those after that one."""
        statement = select(Origin).order_by(Origin.origin).limit(limit)
        if after is not None:
            statement = statement.where(Origin.origin > after)
        return (await self._session.scalars(statement)).all()

    async def of(self, origin: str) -> Origin | None:
        """The origin of that text."""
        return await self._session.scalar(select(Origin).where(Origin.origin == origin))

    async def get(self, origin_id: str) -> Origin | None:
        """The origin of that id."""
        return await self._session.get(Origin, origin_id)

    def add(self, origin: Origin) -> None:
        """Insert it with the transaction."""
        self._session.add(origin)

    async def delete(self, origin: Origin) -> None:
        """Delete it with the transaction."""
        await self._session.delete(origin)
