"""Every query about feedback."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from app.console.schemas import MomentPlace
from app.console.store.tables import Feedback


class FeedbackRepository:
    """Notes, each with its author, in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, note: Feedback) -> None:
        """Insert it with the transaction."""
        self._session.add(note)

    async def get(self, note_id: str) -> Feedback | None:
        """The note of that id."""
        return await self._session.scalar(
            select(Feedback).options(joinedload(Feedback.author)).where(Feedback.id == note_id)
        )

    async def page(
        self,
        before: MomentPlace | None,
        limit: int,
        *,
        subject_hash: str | None = None,
        open_only: bool = False,
    ) -> Sequence[Feedback]:
        """The latest notes before that moment and id: of one subject or all, open or all."""
        statement = (
            select(Feedback)
            .options(joinedload(Feedback.author))
            .order_by(Feedback.created_at.desc(), Feedback.id.desc())
            .limit(limit)
        )
        if subject_hash is not None:
            statement = statement.where(Feedback.subject_hash == subject_hash)
        if open_only:
            statement = statement.where(Feedback.resolved_at.is_(None))
        if before is not None:
            at, note_id = before
            same = and_(Feedback.created_at == at, Feedback.id < note_id)
            statement = statement.where(or_(Feedback.created_at < at, same))
        return (await self._session.scalars(statement)).all()
