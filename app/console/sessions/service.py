"""Logging in and out, of a browser and of a program alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.console.audit.service import Audit
from app.console.errors import NotAuthenticated, NotFound
from app.console.schemas import MomentPlace, cut
from app.console.security.login_limits import LoginLimits
from app.console.security.opaque import hash_of, new_secret
from app.console.security.passwords import Passwords
from app.console.security.roles import Means, Permission, Principal, Role
from app.console.sessions.repository import SessionRepository
from app.console.store.changes import PRUNED_AT_ONCE
from app.console.store.store import Store
from app.console.store.tables import Session, User
from app.console.users.repository import UserRepository
from app.core.clock import Clock, utc_now

log = structlog.get_logger()

WRONG = "the name or the password is wrong"
"""What is said of a name that is unknown, too: nobody learns which names there are."""
SHOWN = 200
"""Sessions that a list has at most."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a login comes from."""

    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Proved:
    """Somebody who gave the right password."""

    user: User
    rehashed: str | None
    """The hash by today's parameters, where the stored one was made by weaker ones."""


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
        idle: timedelta,
        now: Clock = utc_now,
    ) -> None:
        """`lasts`: how long a login lasts at most; `idle`: how long unused."""
        self._store = store
        self._audit = audit
        self._passwords = passwords
        self._limits = limits
        self._lasts = lasts
        self._idle = idle
        self._now = now

    async def authenticate(self, name: str, password: str, caller: Caller) -> Proved:
        """The user of that name and password. Raises `NotAuthenticated`, the same and after the same
        work for a name that is unknown; `TooMany` after too many that failed."""
        name = name.strip().casefold()[:100]
        await self._limits.take(name, caller.address)
        async with self._store.reading() as session:
            user = await UserRepository(session).named(name) if name.isprintable() else None
        stored = user.password_hash if user and not user.disabled_at else None
        verdict = await self._passwords.verify(password, stored)
        if user is None or not verdict.right:
            log.warning("login_failed", name=name, address=caller.address)
            raise NotAuthenticated(WRONG)
        await self._limits.right(name)
        return Proved(user, verdict.rehashed)

    async def note(self, work: AsyncSession, proved: Proved) -> None:
        """Note the login, in the transaction that begins what it is for. Raises `NotAuthenticated`
        where the user was disabled, or given another password, since it was proved: what ended their
        other logins has to end this one too."""
        user, now = proved.user, self._now()
        users = UserRepository(work)
        if not await users.note_login(user.id, user.password_hash, now, proved.rehashed):
            raise NotAuthenticated(WRONG)

    async def log_in(
        self, name: str, password: str, caller: Caller, old: str | None = None
    ) -> LoggedIn:
        """Begin a session, with a secret of its own. `old`: the cookie that came with the request,
        whose session ends. Raises as `authenticate`."""
        proved = await self.authenticate(name, password, caller)
        user, now, secret = proved.user, self._now(), new_secret()
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
            await self.note(work, proved)
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
        """One's own sessions, or everybody's, the newest first, at most `SHOWN`. Raises
        `Forbidden`."""
        page, _ = await self.page(actor, None, SHOWN, of_all=of_all)
        return [*page]

    async def page(
        self,
        actor: Principal,
        before: MomentPlace | None,
        limit: int,
        *,
        of_all: bool = False,
        user_id: str | None = None,
    ) -> tuple[Sequence[Session], MomentPlace | None]:
        """Sessions that can be used, the newest first: one's own, or as an admin all, or those of one
        user; and where the next page begins. Raises `Forbidden`."""
        own = not of_all and user_id in {None, actor.user_id}
        actor.require(Permission.OWN_PROFILE if own else Permission.MANAGE_USERS)
        of = None if of_all and user_id is None else user_id or actor.user_id
        now = self._now()
        async with self._store.reading() as work:
            sessions = SessionRepository(work)
            found = await sessions.open(now, now - self._idle, of, limit + 1, before)
        return cut(found, limit, lambda last: (last.created_at, last.id))

    async def end(self, actor: Principal, session_id: str) -> None:
        """End a session: one's own, or as an admin anybody's. Raises `NotFound`, also for another's
        where one may not know of it; `Forbidden`."""
        actor.require(Permission.OWN_PROFILE)
        async with self._store.writing() as work:
            sessions = SessionRepository(work)
            found = await sessions.get(session_id)
            theirs = found is not None and found.user_id != actor.user_id
            if found is None or (theirs and not actor.may(Permission.MANAGE_USERS)):
                raise NotFound("there is no such session")
            if await sessions.end(session_id, self._now()):
                await self._audit.record(work, actor, "session.ended", found.user.name)

    async def end_others(self, actor: Principal) -> int:
        """End all of one's own sessions but the one that asks; returns how many. Raises `Forbidden`."""
        actor.require(Permission.OWN_PROFILE)
        async with self._store.writing() as work:
            sessions = SessionRepository(work)
            ended = await sessions.end_of_user(actor.user_id, self._now(), but=actor.means_id)
            if ended:
                await self._audit.record(
                    work, actor, "session.others_ended", actor.name, after={"ended": ended}
                )
        return ended

    async def prune(self) -> int:
        """Delete sessions that expired a month ago, a bounded number at once; returns how many."""
        async with self._store.writing() as work:
            past = self._now() - timedelta(days=30)
            return await SessionRepository(work).prune(past, PRUNED_AT_ONCE)
