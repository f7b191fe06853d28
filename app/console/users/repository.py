"""Every query about users and their one-time links."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from app.console.security.roles import Role
from app.console.store.changes import delete_some, rows_changed
from app.console.store.tables import OneTimeLink, User


class UserRepository:
    """Users, in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, user_id: str) -> User | None:
        """The user of that id."""
        return await self._session.get(User, user_id)

    async def named(self, name: str) -> User | None:
        """The user of that name, in any letter case."""
        return await self._session.scalar(select(User).where(User.name == name.casefold()))

    async def active(self, user_id: str) -> User | None:
        """The user of that id, if they may log in."""
        return await self._session.scalar(
            select(User).where(User.id == user_id, User.disabled_at.is_(None))
        )

    async def page(self, after: str | None, limit: int) -> Sequence[User]:
        """Users by name, those after that name."""
        statement = select(User).order_by(User.name).limit(limit)
        if after is not None:
            statement = statement.where(User.name > after)
        return (await self._session.scalars(statement)).all()

    async def active_admins(self) -> int:
        """How many may manage users, and log in."""
        statement = select(func.count()).where(
            User.role == Role.ADMIN.value, User.disabled_at.is_(None)
        )
        return await self._session.scalar(statement) or 0

    def add(self, user: User) -> None:
        """Insert it with the transaction."""
        self._session.add(user)

    async def note_login(
        self, user_id: str, password_hash: str | None, now: datetime, rehashed: str | None
    ) -> bool:
        """Note that the user logged in by the password of that hash, and its hash by today's
        parameters, if there is one; `False` where they may not any more, or have another password."""
        values: dict[str, object] = {"last_login_at": now}
        if rehashed:
            values["password_hash"] = rehashed
        noted = await rows_changed(
            self._session,
            update(User)
            .where(
                User.id == user_id,
                User.password_hash == password_hash,
                User.disabled_at.is_(None),
            )
            .values(values),
        )
        return bool(noted)

    def add_link(self, link: OneTimeLink) -> None:
        """Insert it with the transaction."""
        self._session.add(link)

    async def link(self, token_hash: str, now: datetime) -> OneTimeLink | None:
        """The link with its user, if it was not used, nor has expired."""
        statement = (
            select(OneTimeLink)
            .options(joinedload(OneTimeLink.user))
            .where(
                OneTimeLink.token_hash == token_hash,
                OneTimeLink.used_at.is_(None),
                OneTimeLink.expires_at > now,
            )
        )
        return await self._session.scalar(statement)

    async def use_link(self, token_hash: str, now: datetime) -> bool:
        """Mark it as used; `False` where somebody was faster."""
        used = await rows_changed(
            self._session,
            update(OneTimeLink)
            .where(OneTimeLink.token_hash == token_hash, OneTimeLink.used_at.is_(None))
            .values(used_at=now),
        )
        return bool(used)

    async def end_links(self, user_id: str, now: datetime) -> None:
        """Let no link of the user be used any more."""
        await self._session.execute(
            update(OneTimeLink)
            .where(OneTimeLink.user_id == user_id, OneTimeLink.used_at.is_(None))
            .values(used_at=now)
        )

    async def prune_links(self, before: datetime, limit: int) -> int:
        """Delete links that expired before that moment, at most `limit`; returns how many."""
        return await delete_some(
            self._session, OneTimeLink.token_hash, OneTimeLink.expires_at < before, limit
        )
