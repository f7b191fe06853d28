"""Logins of programs: an access token of ten minutes, and refresh tokens that are used once each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.console.audit.service import Audit
from app.console.errors import Conflict, NotAuthenticated, NotFound
from app.console.schemas import MomentPlace, cut
from app.console.security.access_tokens import AccessTokens
from app.console.security.opaque import hash_of, new_secret
from app.console.security.roles import Means, Permission, Principal, Role
from app.console.sessions.service import Caller, Sessions
from app.console.store.base import new_id
from app.console.store.changes import PRUNED_AT_ONCE
from app.console.store.store import Store
from app.console.store.tables import RefreshToken, User
from app.console.tokens.repository import TokenRepository
from app.core.clock import Clock, utc_now

REFRESH_LASTS = timedelta(days=14)
"""How long a program stays logged in without a refresh."""

_ENDED = "the refresh token is unknown, expired or ended: log in again"
_USED_TWICE = "the refresh token was used before, so somebody has a copy of it: this login was ended, log in again"


@dataclass(frozen=True, slots=True)
class Issued:
    """What a program is given. The secrets are kept nowhere."""

    access: str
    access_expires_at: datetime
    refresh: str
    refresh_expires_at: datetime
    family: str


class Tokens:
    """Logs programs in and out."""

    def __init__(
        self,
        store: Store,
        audit: Audit,
        sessions: Sessions,
        access_tokens: AccessTokens,
        now: Clock = utc_now,
    ) -> None:
        self._store = store
        self._audit = audit
        self._sessions = sessions
        self._access_tokens = access_tokens
        self._now = now

    async def log_in(self, name: str, password: str, caller: Caller) -> Issued:
        """Begin a family of tokens. Raises `NotAuthenticated`, the same for an unknown name and a
        wrong password; `TooMany`."""
        proved = await self._sessions.authenticate(name, password, caller)
        async with self._store.writing() as work:
            await self._sessions.note(work, proved)
            issued = self._issue(work, proved.user, caller, new_id(), self._now())
            actor = _actor(proved.user, issued.family, caller)
            await self._audit.record(work, actor, "token.family_begun", proved.user.name)
        return issued

    async def refresh(self, secret: str, caller: Caller) -> Issued:
        """Use a refresh token: the next access and refresh token of its family.

        Raises `NotAuthenticated`. A token that is used a second time ends its family, with the access
        tokens that are still valid: either the program or a thief has used it (RFC 9700, 4.14.2).
        """
        now = self._now()
        async with self._store.writing() as work:
            tokens = TokenRepository(work)
            old = await tokens.get(hash_of(secret))
            if old is None or old.ended_at or old.expires_at <= now or old.user.disabled_at:
                raise NotAuthenticated(_ENDED)
            if await tokens.use(old.token_hash, now):
                return self._issue(work, old.user, caller, old.family, old.begun_at)
            await work.refresh(old, ["used_at"])
            if old.used_at and await tokens.end_family(old.family, now):
                actor = _actor(old.user, old.family, caller)
                await self._audit.record(work, actor, "token.used_twice", old.user.name)
        raise NotAuthenticated(_USED_TWICE)

    async def log_out(self, actor: Principal) -> None:
        """End the family of the access token that asks. Raises `Conflict` for who came in otherwise."""
        if actor.means is not Means.TOKEN:
            raise Conflict(f"ends a login of a program; you came in by {actor.means}")
        async with self._store.writing() as work:
            family = await TokenRepository(work).family_of(actor.means_id)
            if family:
                await self._end(work, actor, family, actor.name)

    async def log_out_by_refresh(self, secret: str, caller: Caller) -> None:
        """End the family of a refresh token, also a used one. One that is unknown says nothing
        (RFC 7009, 2.2)."""
        async with self._store.writing() as work:
            found = await TokenRepository(work).get(hash_of(secret))
            if found:
                actor = _actor(found.user, found.family, caller)
                await self._end(work, actor, found.family, found.user.name)

    async def list(
        self,
        actor: Principal,
        before: MomentPlace | None,
        limit: int,
        *,
        of_all: bool = False,
        user_id: str | None = None,
    ) -> tuple[Sequence[RefreshToken], MomentPlace | None]:
        """Families that have not ended, the last refreshed first: one's own, or as an admin all, or
        those of one user. Each by its newest token; and where the next page begins. Raises
        `Forbidden`."""
        own = not of_all and user_id in {None, actor.user_id}
        actor.require(Permission.OWN_PROFILE if own else Permission.MANAGE_TOKENS)
        of = None if of_all and user_id is None else user_id or actor.user_id
        async with self._store.reading() as work:
            found = await TokenRepository(work).families(self._now(), of, before, limit + 1)
        return cut(found, limit, lambda last: (last.created_at, last.family))

    async def family_of(self, actor: Principal) -> str | None:
        """The family of the token that asks; `None` for who came in otherwise."""
        if actor.means is not Means.TOKEN:
            return None
        async with self._store.reading() as work:
            return await TokenRepository(work).family_of(actor.means_id)

    async def end(self, actor: Principal, family: str) -> None:
        """End a family: one's own, or as an admin anybody's. Raises `Forbidden`; `NotFound`, also for
        another's where one may not know of it."""
        actor.require(Permission.OWN_PROFILE)
        async with self._store.writing() as work:
            found = await TokenRepository(work).alive(family, self._now())
            theirs = found is not None and found.user_id != actor.user_id
            if found is None or (theirs and not actor.may(Permission.MANAGE_TOKENS)):
                raise NotFound("there is no such login of a program, or it has ended")
            await self._end(work, actor, family, found.user.name)

    async def prune(self) -> int:
        """Delete what has expired, a bounded number at once; returns how many."""
        async with self._store.writing() as work:
            return await TokenRepository(work).prune(self._now(), PRUNED_AT_ONCE)

    def _issue(
        self, work: AsyncSession, user: User, caller: Caller, family: str, begun_at: datetime
    ) -> Issued:
        access, token = self._access_tokens.issue(user.id)
        secret, now = new_secret(), self._now()
        expires_at = now + REFRESH_LASTS
        TokenRepository(work).add(
            RefreshToken(
                token_hash=hash_of(secret),
                family=family,
                user_id=user.id,
                jti=token.jti,
                access_expires_at=token.expires_at,
                begun_at=begun_at,
                created_at=now,
                expires_at=expires_at,
                address=caller.address[:64],
                user_agent=caller.user_agent[:300],
            )
        )
        return Issued(access, token.expires_at, secret, expires_at, family)

    async def _end(self, work: AsyncSession, actor: Principal, family: str, user_name: str) -> None:
        if await TokenRepository(work).end_family(family, self._now()):
            await self._audit.record(work, actor, "token.family_ended", user_name)


def _actor(user: User, family: str, caller: Caller) -> Principal:
    return Principal(user.id, user.name, Role(user.role), Means.TOKEN, family, caller.address)
