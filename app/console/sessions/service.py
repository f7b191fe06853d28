"""Logging in and out, of a browser and of a program alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from app.console.audit.service import Audit
from app.console.errors import NotAuthenticated, NotFound
from app.console.security.login_limits import LoginLimits
from app.console.security.opaque import hash_of, new_secret
from app.console.security.passwords import Passwords
from app.console.security.roles import Means, Permission, Principal, Role
from app.console.sessions.repository import SessionRepository
from app.console.store.store import Store
from app.console.store.tables import Session, User
from app.console.users.repository import UserRepository
from app.core.clock import Clock, utc_now

log = structlog.get_logger()

SHOWN = 200
"""Sessions that a list has at most."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a login comes from."""

    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A browser's session, and what its cookie holds."""

    secret: str
    expires_at: datetime
    user: User


class Sessions:
    """Logs browsers in and out."""

    def __init__(
        self,
        store: Store,
        audit: Audit,
        passwords: Passwords,
        limits: LoginLimits,
        lasts: timedelta,
        now: Clock = utc_now,
    ) -> None:
        """`lasts`: how long a login lasts at most."""
        self._store = store
        self._audit = audit
        self._passwords = passwords
        self._limits = limits
        self._lasts = lasts
        self._now = now

    async def authenticate(self, name: str, password: str, caller: Caller) -> User:
        """The user of that name and password. Raises `NotAuthenticated`, the same and after the same
        time for a name that is unknown; `TooMany` after too many that failed."""
        name = name.strip().casefold()[:100]
        await self._limits.require(name, caller.address)
        async with self._store.reading() as session:
            user = await UserRepository(session).named(name)
        stored = user.password_hash if user and not user.disabled_at else None
        verdict = await self._passwords.verify(password, stored)
        if user is None or not verdict.right:
            await self._limits.failed(name, caller.address)
            log.warning("login_failed", name=name, address=caller.address)
            raise NotAuthenticated("the name or the password is wrong")
        now = self._now()
        async with self._store.writing() as session:
            known = await UserRepository(session).note_login(user.id, now, verdict.rehashed)
        if not known:
            raise NotAuthenticated("the name or the password is wrong")
        return user

    async def log_in(
        self, name: str, password: str, caller: Caller, old: str | None = None
    ) -> LoggedIn:
        """Begin a session, with a secret of its own. `old`: the cookie that came with the request,
        whose session ends. Raises as `authenticate`."""
        user = await self.authenticate(name, password, caller)
        now, secret = self._now(), new_secret()
        begun = Session(
            token_hash=hash_of(secret),
            user_id=user.id,
            created_at=now,
            last_seen_at=now,
            expires_at=now + self._lasts,
            address=caller.address[:64],
            user_agent=caller.user_agent[:300],
        )
        async with self._store.writing() as work:
            sessions = SessionRepository(work)
            if old and (before := await sessions.alive(hash_of(old), now, now - self._lasts)):
                await sessions.end(before.id, now)
            sessions.add(begun)
            await work.flush()
            actor = Principal(
                user.id, user.name, Role(user.role), Means.SESSION, begun.id, caller.address
            )
            await self._audit.record(work, actor, "session.begun", user.name)
        return LoggedIn(secret, begun.expires_at, user)

    async def log_out(self, actor: Principal) -> None:
        """End the session that asks."""
        async with self._store.writing() as work:
            if await SessionRepository(work).end(actor.means_id, self._now()):
                await self._audit.record(work, actor, "session.ended", actor.name)

    async def list(self, actor: Principal, *, of_all: bool = False) -> list[Session]:
        """One's own sessions, or everybody's, the last used first, at most `SHOWN`. Raises
        `Forbidden`."""
        actor.require(Permission.MANAGE_USERS if of_all else Permission.OWN_PROFILE)
        async with self._store.reading() as work:
            user = None if of_all else actor.user_id
            return [*await SessionRepository(work).open(self._now(), user, SHOWN)]

    async def end(self, actor: Principal, session_id: str) -> None:
        """End a session: one's own, or as an admin anybody's. Raises `NotFound`, also for another's
        where one may not know of it."""
        async with self._store.writing() as work:
            sessions = SessionRepository(work)
            found = await sessions.get(session_id)
            theirs = found is not None and found.user_id != actor.user_id
            if found is None or (theirs and not actor.may(Permission.MANAGE_USERS)):
                raise NotFound("there is no such session")
            if await sessions.end(session_id, self._now()):
                await self._audit.record(work, actor, "session.ended", found.user.name)

    async def prune(self) -> int:
        """Delete sessions that expired a month ago; returns how many."""
        async with self._store.writing() as work:
            return await SessionRepository(work).prune(self._now() - timedelta(days=30))
