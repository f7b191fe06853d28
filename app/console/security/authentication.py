"""From a request to who asks: a browser's session, an access token, or an API key."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from starlette.requests import HTTPConnection

from app.console.api_keys.repository import ApiKeyRepository
from app.console.errors import NotAuthenticated, StoreUnavailable
from app.console.security.access_tokens import AccessTokens
from app.console.security.opaque import KEY_PREFIX, hash_of
from app.console.security.roles import Means, Principal, Role
from app.console.sessions.repository import SessionRepository
from app.console.store.store import Store
from app.console.store.tables import User
from app.console.tokens.repository import TokenRepository
from app.console.users.repository import UserRepository
from app.core.clock import Clock, utc_now

SEEN_EVERY = timedelta(minutes=1)
"""How often it is noted that a session or key is in use."""


@dataclass(frozen=True, slots=True)
class CookieSettings:
    """The session's cookie."""

    name: str
    secure: bool


def cookie_settings(console_url: str) -> CookieSettings:
    """`__Host-` ties a cookie to the very host, over TLS (RFC 6265bis, 4.1.3.2); over plain HTTP, on
    this machine alone, browsers would refuse it."""
    secure = console_url.startswith("https://")
    return CookieSettings("__Host-rowrelay" if secure else "rowrelay", secure)


def address_of(connection: HTTPConnection) -> str:
    """Where a request comes from, as the server has it: a trusted proxy's client, else the peer."""
    return connection.client.host if connection.client else "unknown"


class Authentication:
    """Tells who asks."""

    def __init__(
        self,
        store: Store,
        tokens: AccessTokens,
        cookie: CookieSettings,
        idle: timedelta,
        now: Clock = utc_now,
    ) -> None:
        """`idle`: how long a session lasts unused."""
        self.cookie = cookie
        self._store = store
        self._tokens = tokens
        self._idle = idle
        self._now = now

    async def principal(self, connection: HTTPConnection, *, used: bool = True) -> Principal:
        """Who asks. `used`: a person or program does something; else it is only looked whether they
        are logged in, and a session's idle time goes on. Raises `NotAuthenticated`."""
        address = address_of(connection)
        kind, _, credential = connection.headers.get("authorization", "").partition(" ")
        if kind:
            if kind.lower() != "bearer" or not credential:
                raise NotAuthenticated("Authorization: takes `Bearer <access token or API key>`")
            if credential.startswith(KEY_PREFIX):
                return await self._of_key(credential, address)
            return await self._of_token(credential, address)
        if secret := connection.cookies.get(self.cookie.name):
            return await self._of_session(secret, address, used=used)
        raise NotAuthenticated("log in, or send an access token or API key")

    async def of_browser(self, connection: HTTPConnection) -> Principal:
        """Who asks for a page: tokens and keys are for the API. Raises `NotAuthenticated`."""
        if "authorization" in connection.headers:
            raise NotAuthenticated("pages take a browser's session alone")
        return await self.principal(connection)

    async def _of_session(self, secret: str, address: str, *, used: bool) -> Principal:
        now = self._now()
        async with self._store.reading() as work:
            session = await SessionRepository(work).alive(hash_of(secret), now, now - self._idle)
        if session is None:
            raise NotAuthenticated("the session has ended: log in again")
        if used and session.last_seen_at < now - SEEN_EVERY:
            with suppress(StoreUnavailable):  # whoever only reads need not wait for a writer
                async with self._store.writing() as work:
                    await SessionRepository(work).seen(session.id, now)
        return _principal(session.user, Means.SESSION, session.id, address)

    async def _of_token(self, text: str, address: str) -> Principal:
        token = self._tokens.read(text)
        async with self._store.reading() as work:
            if await TokenRepository(work).is_revoked(token.jti):
                raise NotAuthenticated("the access token was revoked: log in again")
            user = await UserRepository(work).active(token.user_id)
        if user is None:
            raise NotAuthenticated("the user of this access token may not log in any more")
        return _principal(user, Means.TOKEN, token.jti, address)

    async def _of_key(self, key: str, address: str) -> Principal:
        now = self._now()
        async with self._store.reading() as work:
            found = await ApiKeyRepository(work).alive(hash_of(key), now)
        if found is None:
            raise NotAuthenticated("the API key is unknown, expired or revoked")
        if found.last_used_at is None or found.last_used_at < now - SEEN_EVERY:
            with suppress(StoreUnavailable):  # as above
                async with self._store.writing() as work:
                    await ApiKeyRepository(work).used(found.id, now)
        return _principal(
            found.owner, Means.API_KEY, found.id, address, limit=Role(found.role), key=found.name
        )


def _principal(
    user: User,
    means: Means,
    means_id: str,
    address: str,
    *,
    limit: Role | None = None,
    key: str | None = None,
) -> Principal:
    """A user, who may do no more than `limit`. `key`: the API key's name."""
    role = Role(user.role)
    if limit and not limit.includes(role):
        role = limit
    return Principal(
        user_id=user.id,
        name=f"{user.name} (API key {key})" if key else user.name,
        role=role,
        means=means,
        means_id=means_id,
        address=address,
        language=user.language,
        time_zone=user.time_zone,
        theme=user.theme,
    )
