"""Origins: whose pages may call the API from a browser."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.console.audit.service import Audit
from app.console.errors import Conflict, NotFound, Stale
from app.console.origins.repository import OriginRepository
from app.console.origins.schemas import NewOrigin, OriginChange
from app.console.schemas import cut
from app.console.security.roles import Permission, Principal
from app.console.store.store import Store
from app.console.store.tables import Origin
from app.core.clock import Clock, utc_now


class Origins:
    """Answers for every request, and is managed by admins."""

    def __init__(self, store: Store, audit: Audit, now: Clock = utc_now) -> None:
        self._store = store
        self._audit = audit
        self._now = now

    async def is_known(self, origin: str) -> bool:
        """Whether pages of that origin may call the API."""
        if len(origin) > 300 or not origin.isascii() or not origin.isprintable():
            return False
        async with self._store.reading() as session:
            return await OriginRepository(session).is_enabled(origin)

    async def list(
        self, actor: Principal, after: str | None, limit: int
    ) -> tuple[Sequence[Origin], str | None]:
        """Origins by their text, and that which the next page begins after. Raises `Forbidden`."""
        actor.require(Permission.MANAGE_ORIGINS)
        async with self._store.reading() as session:
            found = await OriginRepository(session).page(after, limit + 1)
        return cut(found, limit, lambda last: last.origin)

    async def get(self, actor: Principal, origin_id: str) -> Origin:
        """One origin. Raises `Forbidden`, `NotFound`."""
        actor.require(Permission.MANAGE_ORIGINS)
        async with self._store.reading() as session:
            return await _found(session, origin_id)

    async def create(self, actor: Principal, new: NewOrigin) -> Origin:
        """Let an origin in. Raises `Forbidden`; `Conflict` where it is there already."""
        actor.require(Permission.MANAGE_ORIGINS)
        async with self._store.writing() as session:
            await _free(session, new.origin)
            origin = Origin(
                origin=new.origin,
                note=new.note,
                enabled=new.enabled,
                created_at=self._now(),
                created_by=actor.name[:100],
            )
            OriginRepository(session).add(origin)
            await session.flush()
            await self._audit.record(
                session, actor, "origin.created", origin.origin, after=_told(origin)
            )
        return origin

    async def change(
        self, actor: Principal, origin_id: str, change: OriginChange, version: int
    ) -> Origin:
        """Change an origin. Raises `Forbidden`, `NotFound`; `Stale` for another version; `Conflict`
        where another has that text."""
        actor.require(Permission.MANAGE_ORIGINS)
        given = change.model_dump(exclude_none=True)
        async with self._store.writing() as session:
            origin = await _of_version(session, origin_id, version)
            before = _told(origin)
            if given.get("origin", origin.origin) != origin.origin:
                await _free(session, given["origin"])
            for name, value in given.items():
                setattr(origin, name, value)
            await session.flush()
            await self._audit.record(
                session, actor, "origin.changed", origin.origin, before=before, after=_told(origin)
            )
        return origin

    async def delete(self, actor: Principal, origin_id: str, version: int) -> None:
        """Let an origin in no more. Raises `Forbidden`, `NotFound`; `Stale` for another version."""
        actor.require(Permission.MANAGE_ORIGINS)
        async with self._store.writing() as session:
            origin = await _of_version(session, origin_id, version)
            await OriginRepository(session).delete(origin)
            await session.flush()
            await self._audit.record(
                session, actor, "origin.deleted", origin.origin, before=_told(origin)
            )


async def _free(session: AsyncSession, origin: str) -> None:
    if await OriginRepository(session).of(origin):
        raise Conflict(f"{origin} is there already")


async def _found(session: AsyncSession, origin_id: str) -> Origin:
    origin = await OriginRepository(session).get(origin_id)
    if origin is None:
        raise NotFound(f"no origin has the id {origin_id[:40]}")
    return origin


async def _of_version(session: AsyncSession, origin_id: str, version: int) -> Origin:
    origin = await _found(session, origin_id)
    if origin.version != version:
        raise Stale(f"{origin.origin} was changed meanwhile: read it again, then repeat")
    return origin


def _told(origin: Origin) -> dict[str, object]:
    """What the audit log says of an origin."""
    return {name: getattr(origin, name) for name in ("origin", "note", "enabled")}
