"""Users: who may log in, and as what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.console.audit.service import Audit
from app.console.errors import Conflict, Invalid, NotFound, Stale
from app.console.schemas import cut
from app.console.security.login_limits import LoginLimits
from app.console.security.opaque import hash_of, new_secret
from app.console.security.passwords import Passwords
from app.console.security.roles import Means, Permission, Principal, Role
from app.console.sessions.repository import SessionRepository
from app.console.store.changes import PRUNED_AT_ONCE
from app.console.store.store import Store
from app.console.store.tables import OneTimeLink, User
from app.console.tokens.repository import TokenRepository
from app.console.users.repository import UserRepository
from app.console.users.schemas import NewUser, ProfileChange, UserChange
from app.core.clock import Clock, utc_now

LINK_LASTS = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Link:
    """A one-time link, which nobody can see again."""

    url: str
    expires_at: datetime


class Users:
    """Manages users, and one's own profile."""

    def __init__(
        self,
        store: Store,
        audit: Audit,
        passwords: Passwords,
        limits: LoginLimits,
        console_url: str,
        now: Clock = utc_now,
    ) -> None:
        self._store = store
        self._audit = audit
        self._passwords = passwords
        self._limits = limits
        self._url = console_url
        self._now = now

    async def create(self, actor: Principal, new: NewUser) -> tuple[User, Link]:
        """Make a user, and the link with which they set a password. Raises `Forbidden`; `Conflict`
        where the name is taken."""
        actor.require(Permission.MANAGE_USERS)
        async with self._store.writing() as session:
            users = UserRepository(session)
            if await users.named(new.name):
                raise Conflict(f"{new.name}: there is a user of that name")
            user = User(
                name=new.name,
                display_name=new.display_name or new.name,
                email=new.email,
                role=new.role.value,
                created_at=self._now(),
            )
            users.add(user)
            await session.flush()
            await self._audit.record(session, actor, "user.created", user.name, after=_told(user))
            return user, self._link(users, user)

    async def list(
        self, actor: Principal, after: str | None, limit: int
    ) -> tuple[Sequence[User], str | None]:
        """Users by name, and the name that the next page begins after. Raises `Forbidden`."""
        actor.require(Permission.MANAGE_USERS)
        async with self._store.reading() as session:
            found = await UserRepository(session).page(after, limit + 1)
        return cut(found, limit, lambda last: last.name)

    async def get(self, actor: Principal, user_id: str) -> User:
        """One user. Raises `Forbidden`, `NotFound`."""
        actor.require(Permission.MANAGE_USERS)
        async with self._store.reading() as session:
            return await _found(session, user_id)

    async def change(
        self, actor: Principal, user_id: str, change: UserChange, version: int
    ) -> User:
        """Change a user: with another role or disabled they are logged out everywhere.

        Raises `Forbidden`, `NotFound`; `Stale` for another version; `Conflict` where nobody who may
        manage users would be left.
        """
        actor.require(Permission.MANAGE_USERS)
        given = change.model_dump(exclude_unset=True)
        async with self._store.writing() as session:
            user = await _of_version(session, user_id, version)
            before = _told(user)
            admin = _manages(user)
            for name in ("display_name", "email"):
                if name in given and (given[name] is not None or name == "email"):
                    setattr(user, name, given[name])
            if change.role is not None:
                user.role = change.role.value
            if change.disabled is not None:
                user.disabled_at = (user.disabled_at or self._now()) if change.disabled else None
            await session.flush()
            if _rights(before) != _rights(_told(user)):
                await self._log_out(session, user.id)
            await self._audit.record(
                session, actor, "user.changed", user.name, before=before, after=_told(user)
            )
            # Last: whoever takes another admin away has waited, or waits, for this entry of the log.
            if admin and not await UserRepository(session).active_admins():
                raise Conflict(
                    "nobody would be left who may manage users: make another admin first"
                )
            return user

    async def new_link(self, actor: Principal, user_id: str) -> tuple[User, Link]:
        """A new link with which the user sets a password; those before are void. Raises `Forbidden`,
        `NotFound`; `Conflict` for one who is disabled."""
        actor.require(Permission.MANAGE_USERS)
        async with self._store.writing() as session:
            user = await _found(session, user_id)
            if user.disabled_at:
                raise Conflict(f"{user.name} may not log in: enable them first")
            users = UserRepository(session)
            await users.end_links(user.id, self._now())
            await self._audit.record(session, actor, "user.link_made", user.name)
            return user, self._link(users, user)

    async def set_password(self, link: str, password: str, address: str) -> User:
        """Use a one-time link. Raises `NotFound` for one that is unknown, used or expired; `Invalid`
        for the password."""
        now, token = self._now(), hash_of(link)
        async with self._store.reading() as session:
            if await UserRepository(session).link(token, now) is None:
                raise NotFound(_NO_LINK)
        hashed = await self._passwords.hash(password)
        async with self._store.writing() as session:
            users = UserRepository(session)
            found = await users.link(token, now)
            if found is None or found.user.disabled_at or not await users.use_link(token, now):
                raise NotFound(_NO_LINK)
            found.user.password_hash = hashed
            await session.flush()
            await self._log_out(session, found.user.id)
            await self._audit.record(
                session, self._self(found.user, address), "user.password_set", found.user.name
            )
            return found.user

    async def profile(self, actor: Principal) -> User:
        """One's own profile; an API key's owner's. Raises `Forbidden`, `NotFound`."""
        actor.require(Permission.LOOK)
        async with self._store.reading() as session:
            return await _found(session, actor.user_id)

    async def change_profile(self, actor: Principal, change: ProfileChange, version: int) -> User:
        """Change one's own profile. Raises `Forbidden`, `Stale`."""
        actor.require(Permission.OWN_PROFILE)
        given = change.model_dump(exclude_unset=True, mode="json")
        async with self._store.writing() as session:
            user = await _of_version(session, actor.user_id, version)
            before = _told(user)
            for name, value in given.items():
                if value is not None or name == "email":
                    setattr(user, name, value)
            await session.flush()
            await self._audit.record(
                session, actor, "user.profile_changed", user.name, before=before, after=_told(user)
            )
            return user

    async def change_password(self, actor: Principal, current: str, new: str) -> None:
        """Change one's own password; every other session of the user ends, and every program's.
        Raises `Invalid` where the current one is wrong, or the new one cannot be taken; `TooMany`
        after too many that were wrong, here and in logins together."""
        actor.require(Permission.OWN_PROFILE)
        user = await self.profile(actor)
        await self._limits.take(user.name, actor.address)
        if not (await self._passwords.verify(current, user.password_hash)).right:
            raise Invalid("not the current password", "current")
        await self._limits.right(user.name)
        hashed = await self._passwords.hash(new)
        async with self._store.writing() as session:
            user = await _found(session, actor.user_id)
            user.password_hash = hashed
            await session.flush()
            await self._log_out(session, user.id, but=actor.means_id)
            await self._audit.record(session, actor, "user.password_changed", user.name)

    async def prune_links(self) -> int:
        """Delete links that expired a month ago, a bounded number at once; returns how many."""
        async with self._store.writing() as session:
            past = self._now() - timedelta(days=30)
            return await UserRepository(session).prune_links(past, PRUNED_AT_ONCE)

    async def _log_out(self, session: AsyncSession, user_id: str, but: str | None = None) -> None:
        now = self._now()
        await SessionRepository(session).end_of_user(user_id, now, but)
        await TokenRepository(session).end_of_user(user_id, now)

    def _link(self, users: UserRepository, user: User) -> Link:
        secret, now = new_secret(), self._now()
        users.add_link(
            OneTimeLink(
                token_hash=hash_of(secret),
                user_id=user.id,
                created_at=now,
                expires_at=now + LINK_LASTS,
            )
        )
        return Link(f"{self._url}/welcome/{secret}", now + LINK_LASTS)

    def _self(self, user: User, address: str) -> Principal:
        return Principal(user.id, user.name, Role(user.role), Means.SESSION, "", address)


_NO_LINK = "the link is unknown, was used, or has expired: ask an admin for a new one"


async def _found(session: AsyncSession, user_id: str) -> User:
    user = await UserRepository(session).get(user_id)
    if user is None:
        raise NotFound(f"no user has the id {user_id[:40]}")
    return user


async def _of_version(session: AsyncSession, user_id: str, version: int) -> User:
    user = await _found(session, user_id)
    if user.version != version:
        raise Stale(f"{user.name} was changed meanwhile: read it again, then repeat your change")
    return user


def _manages(user: User) -> bool:
    return user.role == Role.ADMIN.value and user.disabled_at is None


def _told(user: User) -> dict[str, object]:
    """What the audit log says of a user."""
    fields = ("display_name", "email", "role", "language", "time_zone", "theme")
    return {name: getattr(user, name) for name in fields} | {"disabled": bool(user.disabled_at)}


def _rights(told: dict[str, object]) -> tuple[object, object]:
    return told["role"], told["disabled"]
